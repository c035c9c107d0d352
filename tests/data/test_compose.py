"""Composing to a token budget and shortening to the evidence."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from qwenlong_trl.data import (
    ContextBudgetError,
    Document,
    DocumentPool,
    Evidence,
    LongContextExample,
    compose,
    read_records,
    render_context,
    shorten,
    synthesize,
)
from qwenlong_trl.data.compose import count_tokens, normalize_text


# How Qwen2 and Qwen3 cut text before byte-pair encoding.
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts):
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=1_500, initial_alphabet=alphabet, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe)


class CountingTokenizer:
    """Passes calls on and keeps the texts that it was asked to tokenise."""

    def __init__(self, tokenizer):
        self.tokenizer, self.texts = tokenizer, []

    def __call__(self, texts, **kwargs):
        self.texts.extend(texts)
        return self.tokenizer(texts, **kwargs)


@pytest.fixture(scope="module")
def sources():
    return list(synthesize("chain_of_reasoning", 2_000, seed=0, count=40))


@pytest.fixture(scope="module")
def tokenizer(sources):
    # With doubled line feeds, so that merges across line feeds would be learnt if they were allowed.
    return train_tokenizer([render_context(example.documents) + "\n\n" for example in sources])


@pytest.fixture(scope="module")
def pool(sources, tokenizer):
    return DocumentPool((document for example in sources for document in example.documents), tokenizer)


def context_tokens(example, tokenizer):
    """Tokens of the context as one string, the way the template shows it: a line feed follows."""
    return len(tokenizer(render_context(example.documents) + "\n", add_special_tokens=False)["input_ids"])


def shortest_remaining(pool, example, long):
    """Tokens of the shortest document that could have been added and was not."""
    used = {normalize_text(document.text) for document in long.documents}
    eligible = np.flatnonzero(pool.eligible(example))
    return min(pool.tokens[i] for i in eligible if normalize_text(pool.documents[i].text) not in used)


def evidence_texts(example):
    return [(example.documents[span.document], example.evidence_text(span)) for span in example.evidence]


# --- counting


@given(st.lists(st.tuples(st.text(max_size=30), st.text(min_size=1, max_size=200)), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_counts_add_up_to_the_joined_context(tokenizer, pairs):
    documents = tuple(Document(title, text) for title, text in pairs if text.strip())
    joined = tokenizer(render_context(documents) + "\n", add_special_tokens=False)["input_ids"] if documents else []
    assert sum(count_tokens(documents, tokenizer)) == len(joined)


@pytest.mark.parametrize(
    "text", ["Ends with a stop.", "ends with dots ...", "!", "\u0301accent first", "'s", "1", "\x1c\x85x\u2028"]
)
def test_counts_add_up_at_awkward_borders(tokenizer, text):
    documents = [Document("", text), Document("", text), Document(" t ", f"  {text}\n\n")]
    joined = tokenizer(render_context(documents) + "\n", add_special_tokens=False)["input_ids"]
    assert sum(count_tokens(documents, tokenizer)) == len(joined)


def test_each_document_is_tokenised_once(sources, tokenizer):
    counting = CountingTokenizer(tokenizer)
    documents = [document for example in sources[:10] for document in example.documents]
    pool = DocumentPool(documents * 2, counting)
    outsider = replace(sources[20], id="outsider")
    for seed in range(3):
        for example in [*sources[:10], outsider]:
            compose(example, pool, 4_000, seed=seed)
    assert len(counting.texts) == len(set(counting.texts))
    assert len(counting.texts) == len({*documents, *outsider.documents})


# --- the budget


@pytest.mark.parametrize("target", [2_400, 2_401, 3_333, 16_000])
@pytest.mark.parametrize("depth", [None, 0.3])
def test_budget_is_met_to_within_the_shortest_remaining_document(sources, pool, tokenizer, target, depth):
    for example in sources[:8]:
        long = compose(example, pool, target, seed=1, depth=depth).validate()
        tokens = context_tokens(long, tokenizer)
        assert target - shortest_remaining(pool, example, long) < tokens <= target


def test_exact_fill_and_full_record(pool, sources, tokenizer):
    example = sources[0]
    own = int(pool.count(example.documents).sum())
    assert sorted(compose(example, pool, own).documents, key=repr) == sorted(example.documents, key=repr)
    assert compose(example, pool, own + 10**9, allow_short=True) != example
    with pytest.raises(
        ContextBudgetError, match=f"already takes {own:,} tokens, 1 more than target_tokens={own - 1:,}"
    ):
        compose(example, pool, own - 1)


def test_pool_too_small_says_how_many_tokens_are_missing(tokenizer):
    example = LongContextExample("x", "Who?", ("Ada",), (Document("", "It was Ada."),), (Evidence(0, 7, 10),))
    others = [Document("", "It was somebody else."), Document("", "Nobody knows.")]
    pool = DocumentPool([*others, Document("", "Ada again.")], tokenizer)
    full = sum(count_tokens([*others, *example.documents], tokenizer))
    with pytest.raises(
        ContextBudgetError, match=r"25 tokens too small for record 'x' .* all 2 eligible of 3 documents"
    ):
        compose(example, pool, full + 25)
    short = compose(example, pool, full + 25, allow_short=True)
    assert sorted(d.text for d in short.documents) == sorted(d.text for d in [*others, *example.documents])
    assert len(compose(example, pool, full).documents) == 3


# --- which documents


def test_no_duplicates_and_own_documents_kept(sources, pool):
    for example in sources[:10]:
        documents = compose(example, pool, 8_000).documents
        assert len({normalize_text(document.text) for document in documents}) == len(documents)
        assert set(example.documents) <= set(documents)


@pytest.mark.parametrize(
    ("answer", "text", "contains"),
    [
        ("art", "The party started early.", False),
        ("art", "They love ART!", True),
        ("Marie Curie", "Marie-Curie (1867) was here.", True),
        ("Marie Curie", "Marie. Pierre Curie.", False),
        ("1,250", "It cost 1250 francs.", True),
        ("1250", "It cost 1,250 francs.", True),
        ("12", "In 1250 and 3120.", False),
        ("\uff21\uff22\uff23", "full-width abc here", True),
        ("%", "a growth of 5 %", True),
        ("%", "no growth", False),
        ("\u5317\u4eac", "\u4ed6\u51fa\u751f\u5728\u5317\u4eac\u5e02\u3002", True),
        ("\u5317\u4eac", "\u4ed6\u51fa\u751f\u5728\u5357\u4eac\u5e02\u3002", False),
        ("\u5317 \u4eac", "\u5728\u5317\u4eac", True),
        ("\uc11c\uc6b8", "\uc11c\uc6b8\uc740 \ud06c\ub2e4", True),
        ("the cat", "cat the", False),
        # No spaces around what is written in another script.
        ("1998", "\u516c\u53f8\u6210\u7acb\u4e8e1998\u5e74\u3002", True),
        ("19", "\u516c\u53f8\u6210\u7acb\u4e8e1998\u5e74\u3002", False),
        ("1,250", "\u4ed8\u4e861,250\u5143", True),
        ("Tesla", "\u300c\u30c6\u30b9\u30e9\u306f\uff34\uff25\uff33\uff2c\uff21\u306e\u3053\u3068\u300d", True),
        ("Zo\u00eb", "\uc870\uc774\uac00Zo\u00eb\ub77c\uace0 \ud588\ub2e4", True),
        ("Marie Curie", "\u5c45\u91ccMarie Curie\u592b\u4eba", True),
    ],
)
def test_distractors_contain_no_answer(tokenizer, answer, text, contains):
    example = LongContextExample("x", "Q?", ("zzz", answer), (Document("", "own words"),))
    for document in (Document("", text), Document(text, "nothing to see")):
        pool = DocumentPool([document, Document("", "padding")], tokenizer)
        assert pool.eligible(example).tolist() == [not contains, True]


def test_option_labels_are_not_looked_for(tokenizer):
    pool = DocumentPool([Document("", "Such a day."), Document("", "B is here")], tokenizer)
    example = LongContextExample("x", "Q?", ("A",), (Document("", "own"),), task="multiple_choice")
    assert pool.eligible(example).all()
    assert pool.eligible(replace(example, task="docqa")).tolist() == [False, True]


def test_own_document_in_another_spelling_is_left_out(tokenizer):
    pool = DocumentPool(
        [Document("A", "Some  TEXT, here."), Document("B", "other"), Document("C", "Other!")], tokenizer
    )
    assert len(pool) == 2  # "other" and "Other!" are one
    example = LongContextExample("x", "Q?", ("zzz",), (Document("", "some text here"),))
    assert pool.eligible(example).tolist() == [False, True]


def test_excluded_documents_are_not_drawn(sources, pool):
    """A shortened record does not get back what it had before."""
    example = sources[0]
    short = shorten(example)
    had = {normalize_text(document.text) for document in example.documents}
    evidence = {normalize_text(document.text) for document in short.documents}
    assert had & {normalize_text(d.text) for d in compose(short, pool, 40_000).documents} > evidence
    long = compose(short, pool, 40_000, exclude=example.documents)
    assert had & {normalize_text(document.text) for document in long.documents} == evidence


@given(
    st.text(alphabet="ab1,. \u5317", min_size=1, max_size=6),
    st.lists(st.text(alphabet="ab1,. \u5317\n", max_size=12), max_size=6),
)
@settings(max_examples=200, deadline=None)
def test_index_agrees_with_a_plain_scan(tokenizer, answer, texts):
    """The inverted index finds what a scan over all normalised texts finds."""
    if not answer.strip():
        return
    pool = DocumentPool([Document("", text) for text in texts], tokenizer)
    example = LongContextExample("x", "Q?", (answer,), (Document("", "unrelated"),))
    words = normalize_text(answer)
    for document, free in zip(pool.documents, pool.eligible(example), strict=True):
        text = normalize_text(document.text)
        if not words:
            found = answer.strip() in document.text
        elif "\u5317" in words:
            found = words.replace(" ", "") in text.replace(" ", "")
        else:
            found = f" {words} " in f" {text} "
        assert free == (not found)


def test_choice_is_fair(tokenizer):
    """Each of 20 documents of one length is chosen about equally often: 5 at a time, 400 draws, 100 expected each."""
    documents = [Document("", f"word {10 + i} end") for i in range(20)]
    pool = DocumentPool(documents, tokenizer)
    assert len(set(pool.tokens.tolist())) == 1
    example = LongContextExample("x", "Q?", ("zzz",), (Document("", "own"),))
    budget = int(pool.count(example.documents).sum() + 5 * pool.tokens[0])
    chosen = [d for seed in range(400) for d in compose(example, pool, budget, seed=seed).documents[:]]
    counts = np.array([chosen.count(document) for document in documents])
    assert counts.sum() == 2_000
    assert ((counts - 100) ** 2 / 100).sum() < 45.3  # chi-squared, 19 degrees of freedom, p = 0.0006; seeds are fixed


# --- the order


def test_evidence_points_at_the_same_text(sources, pool):
    for example in sources:
        for depth in (None, 0.0, 0.5, 1.0):
            assert evidence_texts(compose(example, pool, 6_000, depth=depth)) == evidence_texts(example)


@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_depth_places_the_evidence_together(sources, pool, depth):
    for example in sources[:10]:
        long = compose(example, pool, 12_000, depth=depth)
        places = long.evidence_documents
        assert places == tuple(range(places[0], places[-1] + 1))
        assert [long.documents[i] for i in places] == [example.documents[i] for i in example.evidence_documents]
        tokens = pool.count(long.documents)
        before, after = tokens[: places[0]].sum(), tokens[places[-1] + 1 :].sum()
        assert abs(before - depth * (before + after)) <= tokens.max() / 2


def test_without_depth_the_evidence_is_anywhere(sources, pool):
    example = sources[0]
    firsts = [compose(example, pool, 8_000, seed=s).evidence[0].document for s in range(30)]
    size = len(compose(example, pool, 8_000).documents)
    assert min(firsts) < size / 3 and max(firsts) > 2 * size / 3


def test_depth_needs_evidence_and_a_share(sources, pool):
    with pytest.raises(ValueError, match="depth must lie between 0 and 1, got 1.5"):
        compose(sources[0], pool, 8_000, depth=1.5)
    with pytest.raises(ValueError, match="no evidence to place at depth 0.5"):
        compose(replace(sources[0], evidence=()), pool, 8_000, depth=0.5)


def test_result_depends_on_seed_and_id_alone(sources, pool):
    first = compose(sources[0], pool, 8_000, seed=3)
    compose(sources[1], pool, 8_000, seed=3)
    assert compose(sources[0], pool, 8_000, seed=3) == first
    assert compose(sources[0], pool, 8_000, seed=4).documents != first.documents
    assert set(compose(replace(sources[0], id="other"), pool, 8_000, seed=3).documents) != set(first.documents)


def test_seed_does_not_depend_on_string_hashing():
    """Python's `hash` of a string differs between processes; a pinned choice does not pass with it."""
    documents = tuple(Document("", str(i)) for i in range(50))
    example = LongContextExample("x", "Q?", ("a",), documents, (Evidence(0, 0, 1),))
    assert [document.text for document in shorten(example, 5).documents] == ["0", "4", "24", "30", "35", "36"]


# --- shortening


@given(st.integers(0, 40), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_shorten_keeps_evidence_and_order(sources, keep, seed):
    example = sources[seed]
    short = shorten(example, keep_distractors=keep, seed=seed).validate()
    needed = len(example.evidence_documents)
    assert len(short.documents) == min(len(example.documents), needed + keep)
    assert [d for d in example.documents if d in set(short.documents)] == list(short.documents)
    assert evidence_texts(short) == evidence_texts(example)


def test_shorten_undoes_compose(sources, pool):
    example = shorten(sources[0])
    deep = compose(example, pool, 8_000, depth=0.4)
    assert shorten(deep) == example


def test_shorten_refuses(sources):
    with pytest.raises(ValueError, match="has no evidence"):
        shorten(replace(sources[0], evidence=()))
    with pytest.raises(ValueError, match="keep_distractors must be at least 0, got -1"):
        shorten(sources[0], keep_distractors=-1)


# --- real data


def test_natural_questions_at_4k_tokens(shared_data, tokenizer):
    examples = list(read_records(shared_data / "nq-open-oracle.jsonl.gz"))
    pool = DocumentPool((d for example in examples for d in example.documents), tokenizer)
    for example in examples[:40]:
        long = compose(example, pool, 4_096, seed=0).validate()
        assert 4_096 - shortest_remaining(pool, example, long) < context_tokens(long, tokenizer) <= 4_096
        added = [d for d in long.documents if d not in example.documents]
        for answer in example.answers:
            assert not any(f" {normalize_text(answer)} " in f" {normalize_text(d.text)} " for d in added)


def test_chinese_at_4k_tokens(shared_data, tokenizer):
    examples = list(read_records(shared_data / "xquad.zh.json"))
    pool = DocumentPool((d for example in examples for d in example.documents), tokenizer)
    for example in examples[::100]:
        long = compose(example, pool, 8_000, seed=0, depth=1.0).validate()
        assert context_tokens(long, tokenizer) <= 8_000
        added = [d.text for d in long.documents if d not in example.documents]
        assert added and not any(answer in text for answer in example.answers for text in added)
