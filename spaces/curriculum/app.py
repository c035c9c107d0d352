"""Curriculum: a run of PhasedGRPO, finished or live, with its phases, reward, entropy and accuracy by length.

python app.py                            # the run of this folder, uploads, and live runs
CURRICULUM_RUNS=outputs python app.py    # and the runs below a folder of yours
"""

from __future__ import annotations

import html
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import gradio as gr
import live
from plots import COLOURS, figures

from qwenlong_trl.phased_grpo.history import History, PhaseSpan, from_log, make_history, read_history
from qwenlong_trl.spaces.limits import read_json_upload
from qwenlong_trl.spaces.look import launch, quiet, tiles, told


logger = logging.getLogger(__name__)
EXAMPLE = Path(__file__).with_name("example")
MOST_BYTES = 20_000_000  # of an uploaded file
MOST_SECONDS = 900  # of a live run
MOST_RUNS = 200  # in the list
STATES = ("trainer_state.json", "curriculum_state.json")
SHOWN_PROMPTS = 12  # carried prompts of a phase that are named
SHOWN_STEPS = 5  # of which rewards are averaged at both ends of a phase
INTRO = """
# Watch a phased run

**PhasedGRPO** ([QwenLong-L1](https://huggingface.co/papers/2505.17667)) trains on growing prompt lengths, phase by
phase, and carries prompts that stayed unsolved into the next phase. Look at a finished run, or start a small one and
watch it learn. Every checkpoint of a run of yours has the two files that this page takes: `trainer_state.json`, and
`curriculum_state.json` with the names of the carried prompts.
"""
LIVE = f"""
A reader of 0.35 million parameters that has learnt to look names up in indexes of 2 to 5 cards goes on with longer
ones, on this machine's processor: {live.PROMPTS} prompts and {live.GENERATIONS} answers to each in a step. A card is
two tokens. A phase has indexes of up to so many cards, all longer than those of the phase before.
"""
_running: dict[str, subprocess.Popen] = {}  # by session: what the stop button ends


def found_runs() -> dict[str, Path]:
    """The run of this folder, and those below `CURRICULUM_RUNS`, by the name that the list shows."""
    runs = {"Example: the quickstart's reader": EXAMPLE}
    if root := os.environ.get("CURRICULUM_RUNS"):
        states = sorted({file.parent for file in Path(root).glob("**/trainer_state.json")})[:MOST_RUNS]
        runs |= {str(folder.relative_to(root)): folder for folder in states}
    return runs


RUNS = found_runs()


@told
def show_run(name: str, uploads: list[str] | None) -> tuple[str, str]:
    """Figures and tables of an upload, or of a run of the list."""
    if not uploads:
        return page(read_history(RUNS[name]))
    files = {Path(path).name: path for path in uploads}
    if "trainer_state.json" not in files:
        given = ", ".join(files)[:200]
        raise ValueError(f"Upload trainer_state.json, and curriculum_state.json beside it if you like; got {given}.")
    values = [read_json_upload(files[n], MOST_BYTES) if n in files else None for n in STATES]
    return page(make_history(*values))


def page(history: History) -> tuple[str, str]:
    """Tiles and curves; then the table of the phases."""
    shown = {
        "Phases": str(len(history.phases)),
        "Steps": f"{history.last_step:,}",
        "Longest prompts": f"{max(phase.max_prompt_length for phase in history.phases):,} tokens",
        "Carried": f"{sum(phase.carried for phase in history.phases):,} prompts",
    }
    return tiles(shown) + figures(history), phase_table(history)


def change(points: list[tuple[int, float]], phase: PhaseSpan) -> str:
    """The means of what was logged at the beginning and at the end of a phase; each phase is harder than the last."""
    values = [value for step, value in points if phase.first_step <= step <= phase.last_step]
    if len(values) < 2 * SHOWN_STEPS:
        return "–"
    return f"{fmean(values[:SHOWN_STEPS]):.2f} → {fmean(values[-SHOWN_STEPS:]):.2f}"


def phase_table(history: History) -> str:
    """The phases, how the reward changed, what was carried into each, and which prompts; ids are a stranger's text."""
    rows, lists = [], []
    for k, phase in enumerate(history.phases):
        ids = history.carried_prompts.get(k, [])
        named = ", ".join(map(html.escape, ids[:SHOWN_PROMPTS])) + (" …" if len(ids) > SHOWN_PROMPTS else "")
        cells = [f'<th scope="row">{html.escape(phase.name.replace("_", " "))}</th>']
        cells += [f'<td class="num">{phase.first_step:,}–{phase.last_step:,}</td>']
        cells += [f'<td class="num">{phase.max_prompt_length:,}</td><td class="num">{phase.carried:,}</td>']
        cells += [f'<td class="num">{change(history.series["reward"], phase)}</td>']
        if ids:
            name = html.escape(phase.name.replace("_", " "))
            lists.append(f'<p class="quiet"><strong>Carried into {name}</strong>: {named}</p>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = ("Phase", "Steps", "Tokens up to", "Carried", "Reward")
    head = "".join(f'<th scope="col"{" class=num" if i else ""}>{name}</th>' for i, name in enumerate(heads))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="The phases"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="quiet">Reward: means of the first and the last {SHOWN_STEPS} logged steps of the phase.</p>'
        f"{''.join(lists)}"
    )


@told
def train(a, b, c, x, y, z, request: gr.Request) -> Iterator[tuple[str, str]]:
    """A live run of up to three phases, cards then steps: figures after each step, until it ends or is stopped."""
    plan = live.check_plan((a, b, c), (x, y, z))
    with tempfile.TemporaryDirectory(prefix="curriculum-") as folder:
        process = _running[request.session_hash] = live.start(Path(folder), plan)
        try:
            yield from follow(process, Path(folder), sum(plan["steps"]))
        finally:
            live.stop(process)
            _running.pop(request.session_hash, None)


def follow(process: subprocess.Popen, folder: Path, steps: int) -> Iterator[tuple[str, str]]:
    """What a run has logged so far, whenever there is more of it."""
    started, seen, shown = time.monotonic(), 0, ("", "")
    yield quiet("Starting: making card indexes and loading the reader (some 15 seconds) …"), ""
    while True:
        ended = process.poll() is not None
        log = live.read_log(folder)
        if len(log) > seen and any("reward" in entry for entry in log):
            seen = len(log)
            shown = page(from_log(log))
            at = max(entry["step"] for entry in log)
            yield quiet(f"Step {at} of {steps}, {time.monotonic() - started:.0f} s") + shown[0], shown[1]
        if ended:
            break
        if time.monotonic() - started > MOST_SECONDS:
            live.stop(process)
            raise ValueError(f"The run was ended after {MOST_SECONDS // 60} minutes, the limit of this page.")
        time.sleep(0.3)
    if process.returncode < 0:
        yield quiet("Stopped.") + shown[0], shown[1]
    elif process.returncode:
        logger.error((folder / "output.txt").read_text(encoding="utf-8", errors="replace"))
        raise ValueError("The run ended with an error, which is in the log of this Space.")
    else:
        ran = page(read_history(folder / "phased" / "checkpoints"))
        yield quiet(f"Finished in {time.monotonic() - started:.0f} s.") + ran[0], ran[1]


def end_live(request: gr.Request) -> None:
    """Ends the run of this session, if there is one; its page says so."""
    if (process := _running.get(request.session_hash)) is not None:
        process.terminate()


def build() -> gr.Blocks:
    with gr.Blocks(title="Watch a phased run", analytics_enabled=False) as demo:
        gr.Markdown(INTRO)
        with gr.Tab("A finished run"):
            with gr.Row():
                run = gr.Dropdown(list(RUNS), value=next(iter(RUNS)), label="Run", elem_id="run", min_width=280)
                uploads = gr.File(
                    label="Or files of your run (.json)", file_count="multiple",
                    file_types=[".json"], height=150, min_width=280, elem_id="uploads",
                )  # fmt: skip
            show = gr.Button("Show the run", variant="primary", elem_id="show")
            curves, table = gr.HTML(elem_id="curves"), gr.HTML(elem_id="table")
        with gr.Tab("Live"):
            gr.Markdown(LIVE)
            with gr.Row():
                cards = [
                    gr.Slider(live.FEWEST_CARDS, live.MOST_CARDS, value=n, step=2, label=f"Phase {k} cards")
                    for k, n in enumerate((16, 40, 88), start=1)
                ]
            with gr.Row():
                steps = [
                    gr.Slider(0, live.MOST_STEPS, value=n, step=1, label=f"Phase {k} steps")
                    for k, n in enumerate((12, 12, 12), start=1)
                ]
            with gr.Row():
                begin = gr.Button("Start", variant="primary", elem_id="begin")
                end = gr.Button("Stop", variant="stop", elem_id="end")
            waiting = quiet("The first figures come some 15 seconds after “Start”.")
            live_curves = gr.HTML(waiting, elem_id="live-curves")
            live_table = gr.HTML(elem_id="live-table")
        show.click(show_run, [run, uploads], [curves, table], show_progress="minimal")
        demo.load(show_run, [run, uploads], [curves, table], show_progress="hidden")
        begin.click(train, [*cards, *steps], [live_curves, live_table], show_progress="hidden", concurrency_limit=1)
        end.click(end_live, concurrency_limit=None, queue=False)
        demo.unload(end_live)
    return demo


if __name__ == "__main__":
    launch(build(), colours=COLOURS, most_upload="20mb")
