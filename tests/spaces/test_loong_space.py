"""The Loong Space: its tables and records without a browser, and its main path and failures in one."""

import json

import pytest
from browsing import WIDTHS, check_layout, close_message, keep_picture, message, page_of, running
from cached_models import make_cache

from qwenlong_trl.loong.made_up import made_up


pytest.importorskip("gradio", reason="the Spaces need gradio")
REPORT = {
    "about": {"model": "<b>mine</b>", "judge": None, "assembly": {"mode": "fixed", "policy": {"name": "bm25"}}},
    "mode": "fixed",
    "not_comparable_with_published": ["no judge was asked"],
    "official": [
        {"set": None, "level": None, "total": 40, "structured": 61.25, "structured_interval": [50.0, 70.5]},
        {"set": 1, "level": 2, "total": 4, "structured": 25.0, "structured_interval": None},
    ],
}


@pytest.fixture(scope="module")
def space(tmp_path_factory, chromium):
    folder = tmp_path_factory.mktemp("loong-space")
    made_up(folder / "data")
    (folder / "runs" / "mine").mkdir(parents=True)
    (folder / "runs" / "mine" / "report.json").write_text(json.dumps(REPORT))
    paths = {"LOONG_DATA": str(folder / "data"), "LOONG_RUNS": str(folder / "runs")}
    with running("loong", **paths, **make_cache(folder / "cache")) as address:
        yield address


def choose(page, id: str, option: str) -> None:
    page.locator(f"#{id} input").click()
    page.get_by_role("option", name=option).click()


@pytest.mark.browser
def test_browse_ask_and_compare(space, chromium):
    with page_of(chromium, space) as page:
        page.locator("#about").get_by_text("$412,350").wait_for()
        choose(page, "task", "4 · Chain of Reasoning")
        choose(page, "domain", "paper")
        page.locator("#about").get_by_text("Counting Tokens at Dawn").wait_for()
        assert "#Papers Provided" in page.locator("#prompt textarea").input_value()
        page.get_by_label("Model on the Hub").fill("tiny/reader")
        page.get_by_role("button", name="Ask", exact=True).click()
        page.locator("#answered").get_by_text("Structured score").wait_for()
        assert "3 of 3" in page.locator("#answered").inner_text()
        check_layout(page)
        page.get_by_role("tab", name="Leaderboard").click()
        rows = page.locator("#board tbody tr")
        rows.nth(11).wait_for()
        assert rows.count() == 12
        assert "Gemini-1.5-pro" in rows.first.inner_text() and "published" in rows.first.inner_text()
        assert "<b>mine</b>" in rows.last.inner_text() and "50.0–70.5" in rows.last.inner_text()
        choose(page, "board-set", "1 (10-50K)")
        page.locator("#board").get_by_text("set 1 (10-50K), all tasks").wait_for()
        assert "GPT-4o" in rows.first.inner_text() and "85" not in rows.first.inner_text()


@pytest.mark.browser
def test_failures_are_messages(space, chromium, tmp_path):
    with page_of(chromium, space) as page:
        page.locator("#about").get_by_text("Gold answer").wait_for()
        page.get_by_role("button", name="Ask", exact=True).click()
        assert "Name a model" in message(page)
        close_message(page)
        page.get_by_label("Model on the Hub").fill("no/such-model")
        page.get_by_role("button", name="Ask", exact=True).click()
        assert "no/such-model is not on this machine" in message(page)
        close_message(page)
        page.get_by_role("tab", name="Leaderboard").click()
        (tmp_path / "report.json").write_text('{"official": 3}')
        page.locator("#uploads input[type=file]").set_input_files(tmp_path / "report.json")
        assert "no report.json of `qwenlong-trl loong`" in message(page)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_layout(space, chromium, width, theme):
    with page_of(chromium, space, width, theme) as page:
        page.locator("#about").get_by_text("Gold answer").wait_for()
        check_layout(page)
        keep_picture(page, f"loong-{width}-{theme}")
        page.get_by_role("tab", name="Leaderboard").click()
        page.locator("#board tbody tr").nth(11).wait_for()
        check_layout(page)
        keep_picture(page, f"loong-board-{width}-{theme}")
