"""The Curriculum Space: plan and figures without a browser; a finished run, a live one and failures in one."""

import json
import re

import pytest
from browsing import ROOT, WIDTHS, check_layout, close_message, keep_picture, message, page_of, running


pytest.importorskip("gradio", reason="the Spaces need gradio")
EXAMPLE = ROOT / "spaces" / "curriculum" / "example"


@pytest.fixture(scope="module")
def space(chromium):
    with running("curriculum") as address:
        yield address


def test_the_plan_of_the_sliders():
    from live import MOST_STEPS, check_plan

    assert check_plan((16.0, 40, 88), (5, 0, 7)) == {"cards": [16, 88], "steps": [5, 7]}
    for cards, steps, said in (
        ((16, 40, 88), (0, 0, 0), "No phase has any step"),
        ((16, 40, 88), (MOST_STEPS, 1, 0), "together"),
        ((16, 16, 88), (1, 1, 1), "have to grow"),
        ((4, 16, 88), (1, 1, 1), "have to grow"),
        ((16, 40, 500), (1, 1, 1), "have to grow"),
    ):
        with pytest.raises(ValueError, match=said):
            check_plan(cards, steps)


def test_a_line_that_is_being_written_is_not_read(tmp_path):
    from live import LOG, read_log

    assert read_log(tmp_path) == []
    (tmp_path / LOG).write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_log(tmp_path) == [{"step": 1}, {"step": 2}]


def test_figures_say_in_words_what_they_show():
    from plots import figures

    from qwenlong_trl.phased_grpo.history import read_history

    history = read_history(EXAMPLE)
    page = figures(history)
    assert page.count("<svg") == 2
    assert f"A run of {len(history.phases)} phases and {history.last_step} steps." in page
    assert f"{history.series['reward'][-1][1]:.2f}" in page
    assert "#0067a4" not in page and "var(--bucket0)" in page


@pytest.mark.browser
def test_an_upload_and_a_live_run_that_is_stopped(space, chromium, tmp_path):
    state = json.loads((EXAMPLE / "trainer_state.json").read_text())
    state["log_history"] = [entry for entry in state["log_history"] if entry["step"] <= 20]
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    with page_of(chromium, space) as page:
        page.locator("#curves svg:visible").wait_for()
        assert page.locator("#table tbody tr").count() == 3
        page.locator("#uploads input[type=file]").set_input_files(tmp_path / "trainer_state.json")
        page.locator("#uploads").get_by_text("trainer_state").first.wait_for()
        page.get_by_role("button", name="Show the run").click()
        page.locator("#table tbody tr").nth(1).wait_for(state="detached")
        assert "1–20" in page.locator("#table tbody").inner_text()
        page.get_by_role("tab", name="Live").click()
        page.get_by_role("button", name="Start", exact=True).click()
        page.locator("#live-curves").get_by_text(re.compile(r"Step \d+ of")).wait_for()
        assert page.locator("#live-curves svg").count() == 2
        page.get_by_role("button", name="Stop", exact=True).click()
        page.locator("#live-curves").get_by_text("Stopped.").wait_for()
        check_layout(page)
        keep_picture(page, "curriculum-stopped-1280-light")


@pytest.mark.browser
def test_a_live_run_that_finishes(space, chromium):
    with page_of(chromium, space) as page:
        page.get_by_role("tab", name="Live").click()
        for name, steps in (("Phase 1", "7"), ("Phase 2", "3"), ("Phase 3", "0")):
            page.get_by_label(f"number input for {name} steps").fill(steps)
            page.keyboard.press("Tab")
        page.get_by_role("button", name="Start", exact=True).click()
        page.locator("#live-curves").get_by_text("Finished in").wait_for()
        assert page.locator("#live-table tbody").inner_text().split("\n")[0].startswith("phase 1")
        assert "1–7" in page.locator("#live-table").inner_text() and "8–10" in page.locator("#live-table").inner_text()
        keep_picture(page, "curriculum-finished-1280-light")


@pytest.mark.browser
def test_failures_are_messages(space, chromium, tmp_path):
    hostile = tmp_path / "trainer_state.json"
    hostile.write_text('{"log_history": [{"step": "<img src=x onerror=alert(1)>", "reward": 1}]}')
    with page_of(chromium, space) as page:
        page.locator("#curves svg:visible").wait_for()
        page.locator("#uploads input[type=file]").set_input_files(hostile)
        page.locator("#uploads").get_by_text("trainer_state").first.wait_for()
        page.get_by_role("button", name="Show the run").click()
        assert "no training step with a reward" in message(page)
        close_message(page)
        page.get_by_role("tab", name="Live").click()
        page.get_by_label("number input for Phase 1 cards").fill("90")
        page.keyboard.press("Tab")
        page.get_by_role("button", name="Start", exact=True).click()
        assert "have to grow" in message(page)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_layout(space, chromium, width, theme):
    with page_of(chromium, space, width, theme) as page:
        page.locator("#curves svg:visible").wait_for()
        check_layout(page)
        keep_picture(page, f"curriculum-{width}-{theme}")
        page.get_by_role("tab", name="Live").click()
        page.get_by_role("button", name="Start", exact=True).wait_for()
        check_layout(page)
        keep_picture(page, f"curriculum-live-{width}-{theme}")


def test_shipped_files_are_small():
    for space in ("compress", "curriculum", "loong"):
        sizes = [path.stat().st_size for path in (ROOT / "spaces" / space).rglob("*") if path.is_file()]
        assert sum(sizes) < 5_000_000, space
