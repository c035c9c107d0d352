"""Short and long twins: hygiene, containment, budgets, and what has no twins."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_tokenizer

from qwenlong_trl.data import Document, DocumentPool, Dropped, Evidence, LongContextExample, read_records
from qwenlong_trl.data.compose import count_tokens, normalize_text
from qwenlong_trl.solopo.twins import Twin, make_twin


WORDS = st.sampled_from([f"w{i}" for i in range(30)])
TEXTS = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)
DOCUMENTS = st.builds(Document, st.sampled_from(["", "w1", "w2 w3"]), TEXTS)


@st.composite
def records(draw):
    documents = draw(st.lists(DOCUMENTS, min_size=1, max_size=6))
    places = draw(st.sets(st.integers(0, len(documents) - 1), max_size=2))
    evidence = tuple(Evidence(i, 0, len(documents[i].text)) for i in sorted(places))
    answers = draw(st.lists(st.lists(WORDS, min_size=1, max_size=2).map(" ".join), min_size=1, max_size=2))
    return LongContextExample(draw(st.text(max_size=5)) + "x", "w0", tuple(answers), tuple(documents), evidence)


def texts(example):
    return {normalize_text(document.text) for document in example.documents}


@given(records(), st.lists(DOCUMENTS, max_size=60), st.integers(1, 20), st.integers(1, 60), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_hygiene_containment_and_budgets(example, others, short_tokens, more, seed):
    tokenizer = tiny_tokenizer()
    pool = DocumentPool([*others, *example.documents], tokenizer)
    twin = make_twin(example, pool, short_tokens, short_tokens + more, seed)
    proof = [example.documents[i] for i in example.evidence_documents]
    if isinstance(twin, Dropped):
        assert twin.id == example.id
        expected = "evidence longer than short_tokens" if example.evidence else "no evidence"
        if not proof or sum(count_tokens(proof, tokenizer)) > short_tokens:
            assert twin.reason == expected
        else:
            assert twin.reason in ("pool too small", "no document fits between short_tokens and long_tokens")
        return
    assert twin.id == example.id == twin.long.id
    assert sum(count_tokens(twin.short.documents, tokenizer)) <= short_tokens
    assert sum(count_tokens(twin.long.documents, tokenizer)) <= short_tokens + more
    remaining = list(twin.long.documents)
    for document in twin.short.documents:
        remaining.remove(document)  # with its number of times
    assert remaining
    for shown in (twin.short, twin.long):
        shown.validate()
        assert (shown.question, shown.answers) == (example.question, example.answers)
        assert sorted(shown.documents[span.document].text[span.start : span.end] for span in shown.evidence) == sorted(
            example.evidence_text(span) for span in example.evidence
        )
        distractors = [d for i, d in enumerate(shown.documents) if i not in shown.evidence_documents]
        for document in distractors:
            said = f" {normalize_text(document.title)} \n {normalize_text(document.text)} "
            assert not any(f" {answer} " in said for answer in example.answers)
            assert normalize_text(document.text) not in texts(example)
    assert make_twin(example, pool, short_tokens, short_tokens + more, seed) == twin


def test_order_is_the_seeds_alone():
    """It depends on neither what the answers are nor the other records."""
    tokenizer = tiny_tokenizer()
    own = tuple(Document("", f"w{i} w{i} w1") for i in range(5))
    pool = DocumentPool([Document("", f"w{i} w{j}") for i in range(10, 30) for j in range(10, 30)], tokenizer)
    example = LongContextExample("a", "w0", ("w1",), own, (Evidence(0, 0, 2), Evidence(3, 0, 2)))
    twin = make_twin(example, pool, 20, 60)
    other = make_twin(replace(example, answers=("w2", "w1")), pool, 20, 60)  # no document of the pool holds these
    assert (other.short.documents, other.long.documents) == (twin.short.documents, twin.long.documents)
    assert make_twin(example, pool, 20, 60, seed=1) != twin
    places = {make_twin(replace(example, id=f"r{i}"), pool, 20, 60).short.evidence_documents for i in range(40)}
    assert len(places) > 8


@pytest.mark.parametrize(("short", "long"), [(0, 10), (10, 10), (11, 10), (-1, 4)])
def test_wrong_budgets(short, long):
    example = LongContextExample("a", "w0", ("w1",), (Document("", "w1"),), (Evidence(0, 0, 2),))
    with pytest.raises(ValueError, match=f"got short_tokens={short} and long_tokens={long}"):
        make_twin(example, DocumentPool([], tiny_tokenizer()), short, long)


def test_musique(shared_data):
    """Real records: their own paragraphs without evidence, which resemble the evidence, are never drawn."""
    examples = list(read_records(shared_data / "musique.jsonl"))
    tokenizer = tiny_tokenizer()  # a word a token
    pool = DocumentPool((d for example in examples for d in example.documents), tokenizer)
    twins = [make_twin(example, pool, 500, 2_000) for example in examples]
    assert sum(isinstance(twin, Twin) for twin in twins) > 50
    for example, twin in zip(examples, twins, strict=True):
        if isinstance(twin, Twin):
            proof = {normalize_text(example.documents[i].text) for i in example.evidence_documents}
            assert texts(twin.long) & texts(example) == proof == texts(twin.short) & texts(example)
            assert 1_800 < sum(count_tokens(twin.long.documents, tokenizer)) <= 2_000
