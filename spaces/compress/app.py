"""Compress: what a question needs of a long text, kept word for word by a token critic (QwenLong-CPRS).

python app.py
"""

from __future__ import annotations

import html
from collections.abc import Iterator

import gradio as gr
from documents import MOST_CHARACTERS, RULES, SUFFIXES, as_text, highlighted, join, read_documents
from engines import compress, examples, load_critic, load_reader, measured, prompt_of, unknown_share

from qwenlong_trl.cprs.configuration_cprs import QA_INSTRUCTION
from qwenlong_trl.data import LongContextExample
from qwenlong_trl.spaces.limits import check_length
from qwenlong_trl.spaces.look import launch, quiet, tiles, told
from qwenlong_trl.spaces.reader import Answer


MOST_QUESTION = 2_000  # characters
MOST_BUDGET, BUDGET = 4_096, 10
INTRO = f"""
# Compress a context to what a question needs

A **token critic** reads the text together with the question and keeps, word for word, what helps to answer it, within
a budget of tokens ([QwenLong-CPRS](https://huggingface.co/papers/2505.18092)). Then a **reader** answers twice: on the
full text and on what was kept. Up to {MOST_CHARACTERS:,} characters.
"""
ABOUT = """
Two models of less than half a million parameters each come with this page, trained on one CPU core. They know 128
invented names and 32 things, as in the examples: a question is a name, the answer its thing. The reader was taught
with 2 to 5 cards, and is lost in a long index:

{figures}

**On any other text the two are useless**: name better models here. Any public model of up to 3 GB in safetensors
works; no code of its repository runs.
"""
# Long texts scroll in their box: to the part with the highest score.
SHOW_BEST = """() => {
    const score = mark => Number(mark.style.getPropertyValue("--score"));
    const box = document.querySelector(".marked"), marks = [...document.querySelectorAll(".marked mark")];
    const best = marks.reduce((a, b) => score(b) > score(a) ? b : a, marks[0]);
    const top = one => one.getBoundingClientRect().top;
    if (best) box.scrollTop += top(best) - top(box) - box.clientHeight / 2;
}"""
MANY_UNKNOWN = 0.2  # share of words that the critic does not know, from which on the page says so


def about() -> str:
    """What the small models are, with what was measured of them."""
    found = measured()
    rows = ["| cards | full text | kept by the critic | random cards |", "| ---: | ---: | ---: | ---: |"]
    rows += [
        f"| {row['cards']} | {row['full']:.2f} | {row['compressed']:.2f} | {row['random']:.2f} |"
        for row in found["lengths"]
    ]
    count = found["lengths"][0]["records"]
    rows += ["", f"Share of right answers over {count} held-out questions; up to {found['budget']} tokens kept."]
    return ABOUT.format(figures="\n".join(rows))


@told
def run(
    text: str, files: list[str] | None, question: str, instruction: str, budget: float, granularity: str,
    critic_id: str, reader_id: str,
) -> Iterator[tuple[str, str, str, str]]:  # fmt: skip
    """Highlighted text, figures, prompt and answers, the last of which come when they are there."""
    # A text box that nobody has touched has no value.
    text, question, instruction, critic_id, reader_id = (
        value or "" for value in (text, question, instruction, critic_id, reader_id)
    )
    documents = read_documents(text, files)
    question = check_length("The question", question.strip(), MOST_QUESTION)
    instruction = check_length("The instruction", instruction.strip(), MOST_QUESTION)
    if not question:
        raise ValueError("Write a question: it decides what is kept.")
    yield "", quiet("Loading the models …"), "", ""
    critic, reader = load_critic(critic_id.strip()), load_reader(reader_id.strip())
    unknown = unknown_share(critic.tokenizer, join(documents))
    note = ""
    if unknown > MANY_UNKNOWN:
        note = quiet(
            f"{unknown:.0%} of this text are words that the critic does not know, so what it keeps means little. Name "
            "a critic of the Hub under “Instruction and models”."
        )
    yield "", quiet("The critic is reading …"), "", ""
    result, seconds = compress(critic, reader, documents, question, instruction, int(budget), granularity)
    shown = (
        highlighted(documents, result["spans"]),
        figures_of(result, seconds) + note,
        prompt_of(result["compressed"], question),
    )
    yield *shown, quiet("The reader is answering on the full text …")
    full = reader.answer(prompt_of(join(documents), question))
    yield *shown, answers(full, None)
    yield *shown, answers(full, reader.answer(prompt_of(result["compressed"], question)))


def figures_of(result: dict, seconds: float) -> str:
    """Tokens before and after."""
    return tiles(
        {
            "Tokens before": f"{result['input_tokens']:,}",
            "Tokens after": f"{result['compressed_tokens']:,}",
            "Shorter": f"{result['ratio']:.1f} ×" if result["ratio"] else "nothing kept",
            "Parts kept": f"{len(result['spans']):,}",
            "Critic took": f"{seconds:.1f} s",
        }
    )


def answers(full: Answer, compressed: Answer | None) -> str:
    """Both answers side by side."""

    def cell(answer: Answer | None, what: str) -> str:
        if answer is None:
            return quiet("The reader is answering …")
        if answer.refused:
            return quiet(answer.refused)
        if what == "Time":
            return f"{answer.seconds:.2f} s"
        return f"<strong>{html.escape(answer.text)}</strong>" if answer.text else quiet("(nothing)")

    def tokens(answer: Answer | None) -> str:
        return "" if answer is None else f"{answer.tokens:,}"

    rows = [("Prompt", f"{tokens(full)} tokens", f"{tokens(compressed)} tokens" if compressed else "")]
    rows += [(what, cell(full, what), cell(compressed, what)) for what in ("Answer", "Time")]
    body = "".join(f'<tr><th scope="row">{name}</th><td>{a}</td><td>{b}</td></tr>' for name, a, b in rows)
    head = '<tr><th></th><th scope="col">On the full text</th><th scope="col">On what was kept</th></tr>'
    return f'<div class="scroll"><table class="answers"><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def label_of(record: LongContextExample) -> str:
    """What an example asks, in how many cards, and the right answer."""
    cards = len(record.documents[0].text.split("\n\n"))
    return f"{record.question}, in {cards} cards (right: {', '.join(record.answers)})"


def build() -> gr.Blocks:
    with gr.Blocks(title="Compress a context", analytics_enabled=False) as demo:
        gr.Markdown(INTRO)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                text = gr.Textbox(
                    label="Text",
                    info="Several documents: a line of --- between them; a first line with # is a title.",
                    lines=10, max_lines=16, elem_id="text",
                )  # fmt: skip
                files = gr.File(
                    label="Or files (.txt, .md), one document each", file_count="multiple", file_types=[*SUFFIXES],
                    height=150, elem_id="files",
                )  # fmt: skip
                question = gr.Textbox(label="Question", lines=2, elem_id="question")
                budget = gr.Slider(4, MOST_BUDGET, value=BUDGET, step=2, label="Budget in tokens", elem_id="budget")
                granularity = gr.Radio(
                    ["sentence", "token", "paragraph", "document"], value="sentence", label="Kept as a whole"
                )
                with gr.Accordion("Instruction and models", open=False):
                    instruction = gr.Textbox(
                        label="Instruction", lines=3, placeholder=QA_INSTRUCTION,
                        info="What to extract; leave it empty for what the critic was trained with.",
                    )  # fmt: skip
                    critic_id = gr.Textbox(
                        label="Critic on the Hub", placeholder="namespace/name", elem_id="critic",
                        info="A model made by CPRSTrainer. Empty: the small one.",
                    )  # fmt: skip
                    reader_id = gr.Textbox(
                        label="Reader on the Hub", placeholder="Qwen/Qwen2.5-0.5B-Instruct", elem_id="reader",
                        info="A causal language model. Empty: the small one.",
                    )  # fmt: skip
                    gr.Markdown(about())
                button = gr.Button("Compress and answer", variant="primary", elem_id="run")
            with gr.Column(scale=3, min_width=320):
                figures = gr.HTML(quiet("Click an example below, then “Compress and answer”."), elem_id="figures")
                answered = gr.HTML(elem_id="answers")
                with gr.Tab("What was kept"):
                    marked = gr.HTML(elem_id="marked")
                with gr.Tab("Prompt to copy"):
                    prompt = gr.Textbox(
                        label="Compressed prompt", lines=8, max_lines=24, buttons=["copy"], interactive=False,
                        placeholder="The compressed prompt",  # its name for screen readers, too
                        elem_id="prompt",
                    )  # fmt: skip
        records = examples()
        gr.Examples(
            [[as_text(r.documents), r.question, BUDGET] for r in records], [text, question, budget],
            label="Examples (click one)", elem_id="examples",
            example_labels=[label_of(record) for record in records],
        )  # fmt: skip
        done = gr.on(
            [button.click, question.submit],
            run,
            [text, files, question, instruction, budget, granularity, critic_id, reader_id],
            [marked, figures, prompt, answered],
            show_progress="minimal",
            concurrency_limit=1,
        )
        done.then(js=SHOW_BEST, show_progress="hidden", queue=False)
    return demo


if __name__ == "__main__":
    launch(build(), RULES)
