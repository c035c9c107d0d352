import sys
from pathlib import Path

import pytest


sys.path.insert(0, str(Path(__file__).parent))
from browsing import ROOT, browser, missing  # noqa: E402


for name in ("compress", "curriculum", "loong"):  # their modules are imported as `app.py` does
    sys.path.append(str(ROOT / "spaces" / name))


@pytest.fixture(scope="session")
def chromium():
    if reason := missing():
        pytest.skip(reason)
    with browser() as one:
        yield one
