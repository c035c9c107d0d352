"""Loong: browse the benchmark, see a prompt and its gold answer, ask a model, and compare results.

python app.py                     # with a small invented set
LOONG_DATA=loong python app.py    # with the benchmark: loong.jsonl and doc/ (or doc.zip)
LOONG_RUNS=runs python app.py     # and with the results of `qwenlong-trl loong` below that folder
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import gradio as gr
from benchmark import PROMPT_LIMIT, RULES, Benchmark, board, details, name_of, outcome

from qwenlong_trl.loong.leaderboard import Result, leaderboard, published_results, read_result
from qwenlong_trl.loong.records import DOMAINS, SETS, TASKS
from qwenlong_trl.loong.report_parts import shown
from qwenlong_trl.spaces.limits import read_json_upload
from qwenlong_trl.spaces.look import launch, told
from qwenlong_trl.spaces.reader import hub_reader


MODEL_BYTES = 3 * 10**9  # what two cores and 16 GB bear
MOST_PROMPT, ANSWER_TOKENS = 8_192, 256
MOST_BYTES, MOST_RESULTS = 5_000_000, 100
ALL = "all"
SET_CHOICES = [ALL, *((f"{number} ({tokens})", number) for number, tokens in SETS.items())]
TASK_CHOICES = [ALL, *((f"{i} · {name}", i) for i, name in enumerate(TASKS, start=1))]
DOMAIN_CHOICES = [ALL, *DOMAINS]
BENCHMARK = Benchmark.find()
INTRO = """
# Loong: questions over many documents at once

[Loong](https://huggingface.co/papers/2406.17419) asks 1,600 questions over 2 to 54 documents each, in English and
Chinese, and every document matters for the answer.
"""
MADE_UP = """
**What you see here is a small invented set** in the benchmark's layout, as Loong's documents have rights of their own.
No score on it says anything about a model. Start the page with `LOONG_DATA` set to the benchmark's folder to see the
real one.
"""
RESULTS = """
Published figures are the authors' own (arXiv 2406.17419, official code and judge, no intervals). Add the `report.json`
of your runs, which `qwenlong-trl loong run` writes. Scores of another judge or on a part of the benchmark are not
comparable with published ones; such rows say why.
"""


def found_results() -> list[Result]:
    """Those below `LOONG_RUNS`; a file that is no report stops the start, with its name."""
    root = os.environ.get("LOONG_RUNS")
    paths = sorted(Path(root).glob("**/report.json"))[:MOST_RESULTS] if root else []
    return [read_result(json.loads(path.read_text(encoding="utf-8")), str(path)) for path in paths]


LOCAL = found_results()


def list_records(*filters: int | str) -> gr.Dropdown:
    """The records of a set, a task and a domain."""
    records = BENCHMARK.choose(*(None if value == ALL else value for value in filters))
    label = f"Record ({len(records):,} of {len(BENCHMARK.records):,})"
    choices = [(name_of(record), record.id) for record in records]
    return gr.Dropdown(choices, value=records[0].id if records else None, label=label, interactive=True)


@told
def show_record(id: str | None) -> tuple[str, str]:
    """The record, and its prompt."""
    record = _record(id)
    made = BENCHMARK.prompt(record)
    return details(record, made.tokens), shown(made.prompt, PROMPT_LIMIT)


@told
def ask(id: str | None, model_id: str, policy: str) -> str:
    record = _record(id)
    model_id = model_id or ""  # a text box that nobody has touched has no value
    if not model_id.strip():
        raise ValueError("Name a model of the Hub that is to answer, such as HuggingFaceTB/SmolLM2-135M-Instruct.")
    reader = hub_reader(model_id.strip(), MODEL_BYTES, MOST_PROMPT, ANSWER_TOKENS)
    return outcome(record, *BENCHMARK.answer(record, reader, policy))


def _record(id: str | None):
    if id not in BENCHMARK.records:
        raise ValueError("There is no record of this set, task and domain: choose others.")
    return BENCHMARK.records[id]


@told
def show_board(uploads: list[str] | None, kinds: list[str], set: int | str, level: int | str) -> str:
    """The leaderboard of uploads, of local runs and of the published table."""
    set, level = (None if value == ALL else value for value in (set, level))
    uploads = uploads or []
    if len(uploads) > MOST_RESULTS:
        raise ValueError(f"There are {len(uploads)} files; this page takes up to {MOST_RESULTS}.")
    results = [read_result(read_json_upload(path, MOST_BYTES), Path(path).name) for path in uploads] + LOCAL
    results = results if "runs" in kinds else []
    results += published_results() if "published" in kinds else []
    return board(leaderboard(results, set, level), level, set)


def build() -> gr.Blocks:
    with gr.Blocks(title="Loong", analytics_enabled=False) as demo:
        gr.Markdown(INTRO)
        with gr.Tab("Browse"):
            if BENCHMARK.is_made_up:
                gr.Markdown(MADE_UP)
            with gr.Row():
                filters = [
                    gr.Dropdown(SET_CHOICES, value=ALL, label="Set (tokens)", elem_id="set"),
                    gr.Dropdown(TASK_CHOICES, value=ALL, label="Task", elem_id="task"),
                    gr.Dropdown(DOMAIN_CHOICES, value=ALL, label="Domain", elem_id="domain"),
                ]
            record = list_records(ALL, ALL, ALL)
            with gr.Row():
                with gr.Column(min_width=320):
                    about = gr.HTML(elem_id="about")
                with gr.Column(min_width=320):
                    prompt = gr.Textbox(
                        label="Prompt, as the official code puts it together", lines=14, max_lines=24,
                        interactive=False, buttons=["copy"], elem_id="prompt",
                        placeholder="The prompt of the record",  # its name for screen readers, too
                    )  # fmt: skip
            gr.Markdown("### Ask a model")
            with gr.Row():
                model = gr.Textbox(
                    label="Model on the Hub", placeholder="HuggingFaceTB/SmolLM2-135M-Instruct", elem_id="model",
                    min_width=280,
                    info=f"Up to 3 GB in safetensors. Prompts are fitted to {MOST_PROMPT:,} tokens, or to fewer.",
                )  # fmt: skip
                policy = gr.Radio(
                    [("cut the middle of documents", "middle"), ("leave whole documents out", "skip")],
                    value="middle", label="Where the documents do not fit", min_width=280,
                )  # fmt: skip
            asked = gr.Button("Ask", variant="primary", elem_id="ask")
            answered = gr.HTML(elem_id="answered")
        with gr.Tab("Leaderboard"):
            gr.Markdown(RESULTS)
            with gr.Row():
                kinds = gr.CheckboxGroup(["published", "runs"], value=["published", "runs"], label="Show")
                in_set = gr.Dropdown(SET_CHOICES, value=ALL, label="Set", elem_id="board-set")
                in_task = gr.Dropdown(TASK_CHOICES, value=ALL, label="Task", elem_id="board-task")
            uploads = gr.File(
                label="report.json files of your runs", file_count="multiple", file_types=[".json"], height=150,
                elem_id="uploads",
            )  # fmt: skip
            table = gr.HTML(elem_id="board")
        for one in filters:
            one.change(list_records, filters, record, show_progress="hidden", concurrency_limit=None)
        gr.on([record.change, demo.load], show_record, record, [about, prompt], show_progress="hidden")
        gr.on([asked.click, model.submit], ask, [record, model, policy], answered, show_progress="minimal")
        inputs = [uploads, kinds, in_set, in_task]
        gr.on(
            [demo.load, *(one.change for one in inputs)], show_board, inputs, table, show_progress="hidden",
            concurrency_limit=None,
        )  # fmt: skip
    return demo


if __name__ == "__main__":
    launch(build(), RULES, most_upload="5mb")
