"""From evidence to labels: which tokens, at which granularity, in which window."""

import re
from dataclasses import replace

import numpy as np
import pytest
from cprs_tiny import tiny_critic_tokenizer
from critic_runs import example
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenlong_trl.cprs.context import read_context
from qwenlong_trl.cprs.instructions import INSTRUCTIONS, NEEDLES
from qwenlong_trl.cprs.labels import documents_of, evidence_ranges, has_evidence, token_labels, window_rows
from qwenlong_trl.cprs.layout import Layout, split_documents
from qwenlong_trl.cprs.needles import insert_needles
from qwenlong_trl.cprs.options import CompressionOptions
from qwenlong_trl.cprs.prefix import declared_tags, prefix_ids, tag_token_ids
from qwenlong_trl.cprs.units import sentences
from qwenlong_trl.data import Document, Evidence, LongContextExample


TOKENIZER = tiny_critic_tokenizer()
B, I, O, E = range(4)  # noqa: E741


def record(*texts: str, evidence=(), **fields) -> LongContextExample:
    documents = tuple(Document("", text) for text in texts)
    spans = tuple(Evidence(*span) for span in evidence)
    return LongContextExample("r", "Who?", ("x",), documents, spans, **fields).validate()


def kept(example, granularity) -> list[str]:
    context = read_context(documents_of(example), TOKENIZER)
    return [context.text[a:b] for a, b in evidence_ranges(example, context, granularity).tolist()]


def test_evidence_is_widened_to_what_is_asked_for():
    text = "It rained. Marie Curie found radium in Paris. She won.\n\nAnother paragraph. With two sentences."
    start = text.index("radium")
    one = record("A first text.", text, evidence=[(1, start, start + 6)])
    assert kept(one, "token") == ["radium"]
    assert kept(one, "sentence") == ["Marie Curie found radium in Paris."]
    assert kept(one, "paragraph") == ["It rained. Marie Curie found radium in Paris. She won."]


def test_evidence_over_two_sentences_and_overlapping_evidence():
    text = "One is here. Two is there. Three is gone."
    both = record(text, evidence=[(0, 7, 16)])
    assert kept(both, "sentence") == ["One is here.", "Two is there."]
    assert kept(record(text, evidence=[(0, 0, 6), (0, 4, 11), (0, 13, 16)]), "token") == ["One is here", "Two"]
    assert kept(record(text), "sentence") == []


def test_white_space_around_evidence_belongs_to_nothing():
    text = "It rained. Marie found radium.\n\nShe won."
    assert kept(record(text, evidence=[(0, 10, 30)]), "sentence") == ["Marie found radium."]
    assert kept(record(text, evidence=[(0, 30, 40)]), "paragraph") == ["She won."]
    blank = record(text, evidence=[(0, 30, 32)])
    assert kept(blank, "token") == kept(blank, "sentence") == [] and not has_evidence(blank)
    assert has_evidence(record(text, evidence=[(0, 30, 32), (0, 0, 2)]))


def test_labels_and_pipeline_divide_a_text_alike():
    one = LongContextExample(
        "r", "Who?", ("x",), (Document("A title. With a stop", "Ends without one"), Document("", "Next. Last."))
    ).validate()
    context = read_context(documents_of(one), TOKENIZER)
    layout = Layout(context, True, CompressionOptions())
    assert [context.text[a:b] for a, b in split_documents(context, sentences)] == [
        "Ends without one",
        "Next. ",
        "Last.",
    ]
    assert layout.sentences[0].tolist() == [0, len("A title. With a stop\n")]
    assert (layout.sentences[1:, 0] == layout.sentences[:-1, 1]).all() and layout.sentences[-1, 1] == len(context.text)


def test_labels_of_tokens():
    text = "Ada was born in 1907. Ben was not."
    context = read_context(text, TOKENIZER)
    labels = token_labels(np.array([[0, 21]]), context)
    last = int(np.searchsorted(context.starts, 21)) - 1
    assert labels.tolist() == [B] + [I] * (last - 1) + [E] + [O] * (len(context.ids) - last - 1)
    single = token_labels(np.array([[int(context.starts[2]), int(context.ends[2])]]), context)
    assert single.tolist() == [O, O, B] + [O] * (len(context.ids) - 3)


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=4), st.data())
def test_labelled_tokens_cover_the_ranges(texts, data):
    context = read_context([{"text": text} for text in texts], TOKENIZER)
    length = len(context.text)
    cuts = sorted(data.draw(st.lists(st.integers(0, length), max_size=6, unique=True)))
    ranges = np.array([(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False)], dtype=np.int64).reshape(-1, 2)
    labels = token_labels(ranges, context)
    for i, label in enumerate(labels.tolist()):
        touches = any(max(a, context.starts[i]) < min(b, context.ends[i]) for a, b in ranges.tolist())
        assert touches == (label != O)


def test_a_row_is_prefix_and_window():
    one = example(0)
    rows = window_rows(one, TOKENIZER, window_tokens=512, instruction_variants=False)
    prefix = prefix_ids(INSTRUCTIONS["sentence"][0].text, one.question, TOKENIZER)
    context = read_context(documents_of(one), TOKENIZER)
    assert all(len(row["input_ids"]) <= 512 for row in rows)
    for row in rows:
        assert (row["input_ids"][: len(prefix)] == prefix).all()
        assert (row["labels"][: len(prefix)] == -100).all() and (row["tag_labels"][: len(prefix)] == -100).all()
    tokens = np.concatenate([row["input_ids"][len(prefix) :] for row in rows])
    labels = np.concatenate([row["labels"][len(prefix) :] for row in rows])
    tags = np.concatenate([row["tag_labels"][len(prefix) :] for row in rows])
    assert (tokens == context.ids).all()
    text = context.text
    marked = [text[a:b] for a, b, label in zip(context.starts, context.ends, labels, strict=True) if label != O]
    assert "".join(marked).strip() == "Ada was born in 1900."
    fact, outside = tag_token_ids(["fact"], TOKENIZER)
    assert (tags == np.where(labels == O, outside, fact)).all()
    assert window_rows(one, TOKENIZER, window_tokens=512, with_tags=False)[0].keys() == {"input_ids", "labels"}


def test_rows_depend_on_seed_and_id_alone():
    one = example(1, documents=20)
    rows = [window_rows(one, TOKENIZER, window_tokens=300, seed=seed) for seed in (0, 0, 1, 2, 3)]
    lengths = [[len(row["input_ids"]) for row in r] for r in rows]
    assert lengths[0] == lengths[1] and len({tuple(n) for n in lengths}) > 2
    assert all((a["input_ids"] == b["input_ids"]).all() for a, b in zip(rows[0], rows[1], strict=True))
    assert all(length <= 300 for n in lengths for length in n)


def test_granularities_and_wordings_are_drawn():
    seen = set()
    for i in range(60):
        row = window_rows(
            replace(example(i), id=f"x{i}"), TOKENIZER, window_tokens=512, granularities=tuple(INSTRUCTIONS)
        )
        seen.add(TOKENIZER.decode(row[0]["input_ids"]).split("<|im_end|>")[0])
    assert len(seen) == sum(map(len, INSTRUCTIONS.values()))


@pytest.mark.parametrize("kind", INSTRUCTIONS)
def test_instructions_name_their_tag(kind):
    for instruction in (*INSTRUCTIONS[kind], NEEDLES):
        assert declared_tags(instruction.text) in ((), (instruction.tag,))
    assert declared_tags(INSTRUCTIONS[kind][-1].text) == ()  # the last goes without a rule


def test_an_empty_record_has_no_row_and_a_long_question_is_refused():
    for rate in (0.0, 1.0):  # nowhere to hide a needle
        assert window_rows(record(), TOKENIZER, window_tokens=512, needle_rate=rate) == []
    assert window_rows(record("", " "), TOKENIZER, window_tokens=512, needle_rate=0.0) != []
    with pytest.raises(ValueError, match="record 'r': instruction and question take"):
        window_rows(replace(record("x"), question="why " * 400), TOKENIZER, window_tokens=512)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=4), st.integers(0, 10_000))
def test_needles_are_where_the_evidence_says(texts, seed):
    hidden, split = insert_needles(record(*texts), np.random.default_rng(seed))
    hidden.validate()
    key = re.search(r"for (\w+) mentioned", hidden.question)[1]
    assert 1 <= len(hidden.evidence) <= 3 and len(hidden.evidence) == len(hidden.answers)
    found = {hidden.evidence_text(span) for span in hidden.evidence}
    assert all(f"for {key} is: " in text and text.endswith(".") for text in found)
    assert {text.split(": ")[1].rstrip(".") for text in found} == set(hidden.answers)
    if split is not None:
        assert any(s.document == split[0] and s.start < split[1] < s.end for s in hidden.evidence)
    for document, text in enumerate(texts):  # the text itself is all there, in order
        rest = hidden.documents[document].text
        for character in text:
            at = rest.find(character)
            assert at >= 0
            rest = rest[at + 1 :]


def test_needles_are_cut_by_windows():
    """Half of them: one window ends inside a needle and the next begins there."""
    divided = 0
    for i in range(40):
        rows = window_rows(replace(example(i), id=f"n{i}"), TOKENIZER, window_tokens=512, needle_rate=1.0)
        assert "needle" in TOKENIZER.decode(rows[0]["input_ids"])
        labels = [row["labels"][row["labels"] != -100] for row in rows]
        for before, after in zip(labels, labels[1:], strict=False):
            divided += before[-1] in (B, I) and after[0] in (I, E)
    assert 10 <= divided <= 30
