"""`examples/soak.py`: killed again and again, a run ends where an undisturbed one ends."""

import re
from pathlib import Path

import pytest
from processes import run_python


SOAK = str(Path(__file__).parents[2] / "examples" / "soak.py")


def check(printed: str, kills: int, least_in_saves: int) -> None:
    (found,) = re.findall(r"^(\d+) kills, (\d+) of them in saves", printed, re.MULTILINE)
    assert int(found[0]) == kills and int(found[1]) >= least_in_saves
    assert "weights equal: True; difficulties and carried prompts equal: True" in printed
    assert "checkpoints cut short that are left: 0; temporary files: none" in printed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_soak():
    check(run_python([SOAK, "--steps", "200", "--kills", "25", "--seed", "1"], timeout=1700).stdout, 25, 5)
