"""What `ContextCompressionPipeline` keeps: units, budgets, protected regions, fallbacks, documents."""

import copy
import random
from types import MappingProxyType

import numpy as np
import pytest
from cprs_tiny import QUERY, TEXT, make_text, tiny_critic_tokenizer, tiny_pipeline
from tiny import WORDS, tiny_tokenizer

from qwenlong_trl.cprs.units import paragraphs, sentences


@pytest.mark.parametrize("granularity", ["sentence", "paragraph", "document"])
def test_units(granularity):
    documents = [{"title": "A", "text": make_text(600, 1)}, make_text(500, 2), {"text": make_text(300, 3)}]
    texts = [document if isinstance(document, str) else document["text"] for document in documents]
    split = {"sentence": sentences, "paragraph": paragraphs, "document": lambda text: np.array([[0, len(text)]])}
    out = tiny_pipeline()({"context": documents, "query": QUERY}, granularity=granularity, threshold=0.9, min_tokens=2)
    units = {(i, text[s:e].strip()) for i, text in enumerate(texts) for s, e in split[granularity](text)}
    found = [(span["document"], span["text"]) for span in out["spans"]]
    assert found and set(found) <= units
    spans = tiny_pipeline()({"context": documents, "query": QUERY}, threshold=0.9, min_tokens=2)["spans"]
    for span in spans:  # what the model decoded is what decides
        assert any(d == span["document"] and span["text"] in text for d, text in found)
    for document, text in found:
        assert any(d["document"] == document and d["text"] in text for d in spans)


def test_white_space_between_neighbours_stays():
    text = "One is here.  Two is here.\n\nThree is here. "
    out = tiny_pipeline()({"context": text, "query": QUERY}, granularity="sentence", threshold=1e-6)
    assert [span["text"] for span in out["spans"]] == ["One is here.", "Two is here.", "Three is here."]
    assert out["compressed"] == text.strip()
    assert out["ratio"] == out["input_tokens"] / out["compressed_tokens"]


def test_separators_never_make_a_text_longer():
    example = {"context": TEXT, "query": QUERY}
    assert tiny_pipeline()(example)["compressed"] != TEXT
    out = tiny_pipeline()(example, separator=" [here something has been left out] ")
    assert out["compressed"] == TEXT and out["ratio"] == 1 and out["fallback"] is None


@pytest.mark.parametrize(("granularity", "target"), [("sentence", 120), ("sentence", 300), ("paragraph", 400)])
def test_a_budget_is_filled_to_within_a_unit(granularity, target):
    cprs = tiny_pipeline()
    example = {"context": TEXT, "query": QUERY}
    every = cprs(example, granularity=granularity, threshold=1e-7)["spans"]  # all units with their scores
    out = cprs(example, granularity=granularity, target_tokens=target)
    assert out["compressed_tokens"] <= target

    def tokens(ranges):
        parts = []
        for i, (start, end) in enumerate(ranges):
            between = TEXT[ranges[i - 1][1] : start] if i else ""
            parts += [between if not between.strip() else "\n", TEXT[start:end]]
        return len(cprs.tokenizer("".join(parts))["input_ids"])

    kept = [(span["start"], span["end"]) for span in out["spans"]]
    assert tokens(kept) == out["compressed_tokens"]
    longest = max(tokens([(unit["start"], unit["end"])]) for unit in every)
    assert longest <= target / 2, "units are not cut, so that they can be compared"
    missing = sorted((u for u in every if (u["start"], u["end"]) not in kept), key=lambda u: -u["score"])
    assert missing and out["compressed_tokens"] > target - longest - 1
    assert tokens(sorted([*kept, (missing[0]["start"], missing[0]["end"])])) > target


def test_budgets_of_tokens_take_words_and_join_neighbours():
    example = {"context": TEXT, "query": QUERY}
    out = tiny_pipeline()(example, target_tokens=100, threshold=0.99999)
    assert 90 <= out["compressed_tokens"] <= 100
    for left, right in zip(out["spans"], out["spans"][1:], strict=False):
        assert TEXT[left["end"] : right["start"]].strip()
    few = tiny_pipeline()(example, threshold=0.99999)
    assert few["compressed_tokens"] < 90
    assert len(tiny_pipeline()(example, threshold=0.99999, min_spans=40)["spans"]) == 40 > len(few["spans"])


def test_the_best_score_comes_first_and_nothing_is_cut_that_fits():
    example = {"context": TEXT, "query": QUERY}
    one = tiny_pipeline()(example, granularity="sentence", target_tokens=60)
    every = tiny_pipeline()(example, granularity="sentence", threshold=1e-7)["spans"]
    fitting = max(
        (u for u in every if len(tiny_critic_tokenizer()(u["text"])["input_ids"]) <= 30), key=lambda u: u["score"]
    )
    assert fitting["text"] in one["compressed"]
    whole = tiny_pipeline()(example, target_tokens=10**6)
    assert whole["compressed"] == TEXT and whole["ratio"] == 1 and len(whole["spans"]) == 1
    none = tiny_pipeline()(example, target_tokens=0, fallback="head")
    assert (none["compressed"], none["fallback"]) == ("", None)  # a budget knows no fallback


def test_the_readers_tokens_count(tmp_path):
    reader = tiny_tokenizer()  # a token a word
    text = " ".join(random.Random(0).choices(WORDS, k=200)) + "."
    out = tiny_pipeline()({"context": text, "query": QUERY}, rate=0.25, reader_tokenizer=reader)
    assert out["input_tokens"] == 200 and out["compressed_tokens"] == len(out["compressed"].split()) == 50
    reader.save_pretrained(tmp_path)
    assert tiny_pipeline()({"context": text, "query": QUERY}, rate=0.25, reader_tokenizer=str(tmp_path)) == out


@pytest.mark.parametrize("granularity", ["token", "sentence"])
def test_protected_regions(granularity):
    cprs, options = tiny_pipeline(), {"granularity": granularity, "threshold": 0.999999}
    start = TEXT.index("glacier")
    keep = [(start + 2, start + 9), (0, 0), (len(TEXT) - 4, len(TEXT))]
    for budget in ({}, {"target_tokens": 60}):
        out = cprs({"context": TEXT, "query": QUERY, "keep": keep}, **options, **budget)
        assert any(s["start"] <= start + 2 and s["end"] >= start + 9 for s in out["spans"])
        assert out["spans"][-1]["end"] == len(TEXT) and out["fallback"] is None
        assert cprs({"context": TEXT, "query": QUERY}, keep=keep, **options, **budget) == out
    with pytest.raises(ValueError, match="protected regions alone have .* tokens"):
        cprs({"context": TEXT, "query": QUERY}, keep=[(0, 400)], target_tokens=20)
    out = cprs({"context": ["None.", TEXT], "query": QUERY, "keep": [(1, 0, 7)]}, **options)
    assert out["documents"][1]["spans"][0]["start"] == 0 and out["documents"][1]["spans"][0]["end"] >= 7


@pytest.mark.parametrize("granularity", ["token", "sentence"])
def test_fallbacks(granularity):
    cprs, example = tiny_pipeline(), {"context": TEXT, "query": QUERY}
    every = cprs(example, granularity="sentence", threshold=1e-7)["spans"]
    best = max(every, key=lambda span: span["score"])["text"]
    wanted = {"none": "", "top_span": best, "head": every[0]["text"], "full": TEXT}
    for fallback, text in wanted.items():
        # No span is long enough.
        out = cprs(example, granularity=granularity, min_tokens=10**6, fallback=fallback)
        assert (out["compressed"], out["fallback"]) == (text, fallback)
    assert cprs(example, granularity=granularity, fallback="full")["fallback"] is None


def test_documents_titles_and_ranks():
    documents = [
        {"title": "Ito", "text": make_text(300, 1), "url": "a", "meta": {"page": [1]}},
        MappingProxyType({"text": make_text(200, 2), "score": 0.3}),
        "",
        {"title": "Crew", "text": make_text(100, 3)},
    ]
    before = copy.deepcopy([dict(d) if not isinstance(d, str) else d for d in documents])
    example = {"context": documents, "query": QUERY, "id": 5, "answers": ["Ito"]}
    out = tiny_pipeline()(example, granularity="sentence", target_tokens=100)
    assert [dict(d) if not isinstance(d, str) else d for d in documents] == before
    assert out["id"] == 5 and out["answers"] is example["answers"]
    assert out["compressed"] == "\n\n".join(d["compressed"] for d in out["documents"] if d["compressed"])
    for i, title in ((0, "Ito\n"), (3, "Crew\n")):
        assert out["documents"][i]["compressed"].startswith(title) == bool(out["documents"][i]["spans"])
    plain = tiny_pipeline()(
        example, granularity="sentence", include_titles=False, document_separator=" | ", threshold=1e-7
    )
    assert plain["compressed"] == " | ".join(document["text"] for document in (*documents[:2], documents[3]))
    # The rank has nothing to do with what is kept.
    for options in ({"granularity": "token"}, {"granularity": "document"}, {"rate": 0.2}):
        other = tiny_pipeline()(example, **options)["documents"]
        assert [(d["score"], d["rank"]) for d in other] == [(d["score"], d["rank"]) for d in out["documents"]]
    assert [d["rank"] for d in out["documents"]][2] == 4
    best = min(out["documents"], key=lambda d: d["rank"])
    every = tiny_pipeline()(example, granularity="sentence", threshold=1e-7)["spans"]
    assert best["score"] == max(span["score"] for span in every)
    assert best["index"] == max(every, key=lambda span: span["score"])["document"]


def test_a_long_line_without_a_sentence():
    rng = random.Random(0)
    text = "".join(rng.choices("abcdef0123456789🧑é外", k=20_000))
    out = tiny_pipeline()({"context": text, "query": QUERY}, rate=0.1, granularity="sentence", progress=False)
    assert out["windows"] > 50 and 0.09 * out["input_tokens"] < out["compressed_tokens"] <= 0.1 * out["input_tokens"]
    assert all(text[span["start"] : span["end"]] == span["text"] for span in out["spans"])


def test_a_title_longer_than_the_budget_is_left_out():
    document = {
        "title": "A very long title " * 40,
        "text": "It rained in May. The station stood on the shore. Nobody came.",
    }
    out = tiny_pipeline()(
        {"context": [document], "query": QUERY}, target_tokens=60, granularity="sentence", fallback="top_span"
    )
    assert 0 < out["compressed_tokens"] <= 60 and "title" not in out["compressed"]
    assert out["fallback"] is None and out["spans"]


def test_what_only_fills_a_budget_has_no_tag():
    inputs = {"context": TEXT, "query": QUERY}
    kept = {(s["start"], s["end"]) for s in tiny_pipeline()(inputs, granularity="sentence", threshold=0.9)["spans"]}
    spans = tiny_pipeline()(inputs, granularity="sentence", threshold=0.9, rate=0.9)["spans"]
    whole = [s for s in spans if (s["start"], s["end"]) in kept]
    others = [s for s in spans if (s["start"], s["end"]) not in kept]
    assert whole and others
    assert all(s["tag"] == "fact" for s in whole)
    assert any(s["tag"] is None for s in others)
