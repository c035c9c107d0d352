import json
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest
from cprs_tiny import make_text, tiny_pipeline
from hypothesis import example, given, settings
from hypothesis import strategies as st
from loong_fits import BODIES, TOKENIZER, count, fit, make_documents, make_record
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from qwenlong_trl.loong.documents import LoongDocument
from qwenlong_trl.loong.fitting import MARKER, fit_to, water_level
from qwenlong_trl.loong.policies import BM25Policy, CPRSPolicy, DensePolicy, MiddlePolicy, SkipPolicy
from qwenlong_trl.loong.records import read_loong, select


def by_length(question, chunks):
    """A retriever that needs no model: the shorter, the better."""
    return [-len(chunk) for chunk in chunks]


POLICIES = {
    "skip": SkipPolicy(),
    "middle": MiddlePolicy(TOKENIZER),
    "bm25": BM25Policy(TOKENIZER, chunk_tokens=16),
    "bm25-top": BM25Policy(TOKENIZER, chunk_tokens=7, top_k=3),
    "dense": DensePolicy(TOKENIZER, by_length, chunk_tokens=5),
}


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=60, deadline=None)
@example(["", "\n\n"], 0, "")
@example(["👩‍🔬" * 20, "营业收入" * 30], 21, "营业收入")
@given(st.lists(BODIES, min_size=1, max_size=5), st.integers(0, 300), st.sampled_from(["", "Net income?", "营业收入"]))
def test_budget_headers_and_determinism(name, bodies, budget, question):
    documents = make_documents(bodies)
    texts = fit(POLICIES[name], documents, budget, question)
    assert texts == fit(POLICIES[name], documents, budget, question)


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "bm25-top"])
@settings(max_examples=40, deadline=None)
@given(st.lists(BODIES, min_size=1, max_size=5))
def test_what_fits_stays_as_it_is(name, bodies):
    documents = make_documents(bodies)
    rendered = [document.render() for document in documents]
    assert fit(POLICIES[name], documents, sum(map(count, rendered)) + 10 * len(bodies)) == rendered


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("budget", [-5, 0])
def test_no_budget(name, budget):
    assert fit(POLICIES[name], make_documents(["a", "b"]), budget) == ["", ""]


@pytest.mark.parametrize("name", POLICIES)
def test_joined_texts_that_take_more_than_their_parts(name):
    documents = make_documents([make_text(400, seed) for seed in range(4)])

    def superlinear(text):
        return count(text) + (count(text) // 50) ** 2

    for budget in (30, 100, 300):
        texts = fit(POLICIES[name], documents, budget, counted=superlinear)
        if budget == 300:
            assert any(texts)


def test_fit_to_shrinks_in_proportion():
    limits = []

    def make(limit):
        limits.append(limit)
        return ["x" * limit], limit

    fitted = fit_to(make, ["x"], 1000, lambda text: 3 * len(text))
    assert len(fitted.texts[0]) == 333 and limits == [1000, 333]


def test_skip_goes_on_behind_a_document_that_does_not_fit():
    documents = make_documents(["short", make_text(900), "short too", "the last"])
    rendered = [document.render() for document in documents]
    budget = count(rendered[0] + rendered[2] + rendered[3])
    assert fit(SkipPolicy(), documents, budget) == [rendered[0], "", rendered[2], rendered[3]]
    assert fit(SkipPolicy(), documents, budget - 1) == [rendered[0], "", rendered[2], ""]


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 300))
def test_water_level(sizes, budget):
    level = water_level(sizes, budget)
    assert sum(min(size, level) for size in sizes) <= budget
    if any(size > level for size in sizes):
        assert sum(min(size, level + 1) for size in sizes) > budget


def test_middle_keeps_short_documents_and_both_ends_of_long_ones():
    long = [make_text(4000, seed) for seed in (1, 2)]
    documents = make_documents([long[0], "Short.", long[1]])
    texts = fit(MiddlePolicy(TOKENIZER), documents, 400)
    assert texts[1] == documents[1].render()
    sizes = []
    for text, document in zip(texts[::2], documents[::2], strict=True):
        assert text.count(MARKER) == 1
        first, last = text.removeprefix(document.header + "\n").removesuffix("\n\n").split(MARKER)
        assert first and document.text.startswith(first) and last and document.text.endswith(last)
        assert abs(count(first) - count(last)) < 30
        sizes.append(count(text))
    assert min(sizes) > 150 and sum(map(count, texts)) > 340


def test_middle_divides_no_number():
    numbers = [f"{i * 7919 + 1_000_000:,}" for i in range(400)]
    documents = make_documents([" ".join(numbers)])
    for budget in (60, 111, 302, 507):
        (text,) = fit(MiddlePolicy(TOKENIZER), documents, budget)
        kept = re.findall(r"[\d,]+", text.removeprefix(documents[0].header))
        assert len(kept) > 2 and set(kept) <= set(numbers)


def test_middle_drops_the_last_documents_where_shares_are_too_small():
    documents = make_documents([make_text(500, seed) for seed in range(6)])
    whole = count(documents[0].header + "\n" + MARKER + "\n\n") + 2
    texts = fit(MiddlePolicy(TOKENIZER), documents, 3 * whole + 12)
    assert [bool(text) for text in texts] == [True] * 3 + [False] * 3


def test_bm25_keeps_the_chunks_that_answer_in_reading_order():
    filler = [make_text(600, seed) for seed in range(4)]
    first = filler[0] + "\nNet income was 4,711.\n" + filler[1] + "\nNet income rose.\n" + filler[2]
    documents = make_documents([first, filler[3], "Net income of the other company: 12."])
    texts = fit(BM25Policy(TOKENIZER, chunk_tokens=32), documents, 230)
    assert "4,711" in texts[0] and "rose" in texts[0] and "12." in texts[2]
    assert texts[0].index("4,711") < texts[0].index("rose") and MARKER in texts[0]
    for piece in texts[0].removeprefix("《0》\n").removesuffix("\n\n").split(MARKER):
        assert piece in first


def test_bm25_marks_gaps_only_between_chunks_that_are_no_neighbours():
    # One chunk a line, the lines that are wanted first named by the question.
    lines = [f"line{i} has words of its own w{i}.\n" for i in range(6)]
    size = max(map(count, lines))
    policy = BM25Policy(TOKENIZER, chunk_tokens=size, top_k=3)
    documents = make_documents(["".join(lines)])
    assert fit(policy, documents, 500, "w1 w2 w5") == ["《0》\n" + lines[1] + lines[2] + MARKER + lines[5] + "\n\n"]
    assert fit(policy, documents, 500, "w0 w1 w2") == ["《0》\n" + "".join(lines[:3]) + "\n\n"]


def test_bm25_counts_what_it_joins_once():
    documents = make_documents([make_text(500, seed) for seed in range(8)])
    joined = []

    def counted(text):
        if text.count("《") > 1:
            joined.append(text)
        return count(text)

    texts = fit(BM25Policy(TOKENIZER, 12), documents, 500, "station", counted)
    assert len(joined) == 2 and sum(text.count(MARKER) for text in texts) > 5  # once by the policy, once by `fit`
    assert count("".join(texts)) > 485


def test_top_k_is_of_the_record_and_not_of_a_document():
    lines = [[f"alpha beta {i} {j}.\n" for j in range(3)] for i in range(3)]
    documents = make_documents(["".join(three) for three in lines])
    size = max(count(line) for three in lines for line in three)
    for top_k in (1, 2, 5):
        texts = fit(DensePolicy(TOKENIZER, by_length, size, top_k), documents, 1000)
        assert sum(text.count("alpha") for text in texts) == top_k


def test_a_chunk_that_does_not_fit_is_skipped():
    lines = ["needle needle " + make_text(300).replace("\n", " ") + "\n", "needle here.\n", "nothing here.\n"]
    policy = BM25Policy(TOKENIZER, chunk_tokens=count(lines[0]))
    documents = make_documents(lines)
    texts = fit(policy, documents, 40, "needle")
    assert texts[0] == "" and texts[1] == documents[1].render()


def test_without_a_question_documents_are_read_in_turns():
    lines = [[f"document {i} line {j}.\n" for j in range(8)] for i in range(3)]
    documents = make_documents(["".join(eight) for eight in lines])
    asked = []

    def retriever(question, chunks):
        asked.append(question)
        return [0.0] * len(chunks)

    size = count(lines[0][0])
    for policy in (BM25Policy(TOKENIZER, size, 7), DensePolicy(TOKENIZER, retriever, size, 7)):
        texts = fit(policy, documents, 1000, "")
        kept = [3, 2, 2]
        assert texts == [f"《{i}》\n" + "".join(lines[i][:n]) + "\n\n" for i, n in enumerate(kept)]
    assert asked == []


@pytest.mark.parametrize("scores", [[1.0], [[1.0], [2.0]], [1.0, float("nan")]])
def test_scores_of_a_retriever_are_checked(scores):
    with pytest.raises(ValueError, match="a finite number for each of the 2 chunks"):
        fit(DensePolicy(TOKENIZER, lambda question, chunks: scores), make_documents(["a", "b"]), 100)


def test_scores_may_be_an_array():
    policy = DensePolicy(TOKENIZER, lambda question, chunks: np.arange(len(chunks), dtype=np.float32), 4, 1)
    assert fit(policy, make_documents(["first.", "second."]), 100)[0] == ""


def test_describe():
    assert SkipPolicy().describe() == {"name": "skip"}
    assert MiddlePolicy(TOKENIZER).describe() == {"name": "middle", "marker": MARKER}
    expected = {"name": "bm25", "chunk_tokens": 1024, "top_k": None, "marker": MARKER}
    assert BM25Policy(TOKENIZER).describe() == expected
    dense = DensePolicy(TOKENIZER, by_length, 512, 10).describe()
    assert dense == expected | {"name": "dense", "chunk_tokens": 512, "top_k": 10, "retriever": "by_length"}
    assert DensePolicy(TOKENIZER, by_length, name="mine").describe()["retriever"] == "mine"
    for policy in [*POLICIES.values(), CPRSPolicy(tiny_pipeline())]:
        assert json.loads(json.dumps(policy.describe()))["name"] == policy.name


def test_wrong_options():
    with pytest.raises(ValueError, match="at least 1, got 0 and None"):
        BM25Policy(TOKENIZER, 0)
    with pytest.raises(ValueError, match="at least 1, got 1024 and 0"):
        DensePolicy(TOKENIZER, by_length, top_k=0)
    for policy in (MiddlePolicy, BM25Policy):
        with pytest.raises(ValueError, match="a fast tokenizer is needed"):
            policy(object())


def test_text_of_another_document():
    (document,) = make_documents(["text"])
    with pytest.raises(ValueError, match="'d0' must be its header line"):
        MiddlePolicy(TOKENIZER).fit(make_record(), [document], ["text"], 10, count)


# The real reports


def trained_tokenizer(texts):
    """Byte-level BPE, as the tokenizers of most models."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8000, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def load(folder: Path, record):
    found = []
    for name in record.doc:
        path = next(path for path in sorted(folder.iterdir()) if f"2024-{name}" in path.name)
        found.append(LoongDocument(name, f"《{path.stem.split('-')[-1]}》", path.read_text(encoding="utf-8")))
    return found


def test_the_gold_number_in_real_reports(shared_data):
    folder = shared_data / "loong" / "doc" / "financial"
    records = select(read_loong(shared_data / "loong" / "loong.jsonl"), sets=[1], levels=[1], domains=["financial"])
    tokenizer = trained_tokenizer(path.read_text(encoding="utf-8")[:60_000] for path in sorted(folder.iterdir())[::12])

    def counted(text):
        return len(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    policies = [SkipPolicy(), MiddlePolicy(tokenizer), BM25Policy(tokenizer)]
    found = {(policy.name, language): 0 for policy in policies for language in ("zh", "en")}
    for record in records:
        number = max(re.findall(r"\d[\d,]*(?:\.\d+)?", record.answer), key=len)
        gold = re.compile(rf"(?<![\d,.]){re.escape(number)}(?!\d|[.,]\d)")
        documents = load(folder, record)
        for policy in policies:
            texts = fit(policy, documents, 4096, record.question, counted)
            found[policy.name, record.language] += any(map(gold.search, texts))
    languages = [record.language for record in records]
    assert (languages.count("zh"), languages.count("en")) == (20, 3)
    # 19 of the Chinese numbers and all English ones stand in the reports as they do in the answer.
    assert found["bm25", "zh"] >= 15 and found["bm25", "en"] == 3
    for name in ("skip", "middle"):
        assert found[name, "zh"] <= 5 and found[name, "en"] == 0


def test_speed_is_linear_in_the_text():
    rng = random.Random(0)
    vocabulary = ["".join(rng.choices("abcdefghij", k=rng.randint(3, 8))) for _ in range(3000)]

    def seconds(documents):
        bodies = [" ".join(rng.choices(vocabulary, k=1500)) for _ in range(documents)]
        documents = make_documents(bodies)
        best = float("inf")
        for _ in range(2):
            start = time.perf_counter()
            fit(BM25Policy(TOKENIZER, 64), documents, 2000, " ".join(vocabulary[:10]))
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(32) < 30 * seconds(4)  # 8 times the text; quadratic would be 64
