"""Every variant of made-up results, with its page."""

import pytest
from results import VARIANTS, Page, make_results, write


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS)
def case(request, tmp_path_factory) -> tuple[dict, Page]:
    results = make_results(**request.param)
    return results, write(results, tmp_path_factory.mktemp("page"))
