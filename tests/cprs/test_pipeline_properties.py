"""Whatever the text: every span is where it says it is, the budget holds, and nothing breaks.

`QWENLONG_TRL_EXAMPLES` sets how many texts are tried.
"""

import os

import pytest
from cprs_tiny import tiny_critic_tokenizer, tiny_pipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


EXAMPLES = int(os.environ.get("QWENLONG_TRL_EXAMPLES", 300))
pytestmark = pytest.mark.timeout(max(300, EXAMPLES // 5))
COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}

TOKENIZER = tiny_critic_tokenizer()
PIECES = [
    *[
        "The station was built. ",
        "Dr. Ito paid $3.14 to the U.S. crew! ",
        "fact",
        " needle",
        "outside\n",
        "\n\n",
        "\r\n",
        " ",
    ],
    *["👩‍👩‍👧‍👦", "🧑🏽‍🚀", "🇳🇴", "\u200d", "\ufe0f", "e\u0301", "\u0301", "क्षि", "각", "ﬁ", "Å", "\u1e9b\u0323"],
    *["外面有一只猫。", "「引用！」", "東京", "ไทย", "שלום עולם. ", "مرحبا بالعالم؟ ", "\u202e", "\u200f", "\ufeff"],
    *["\x00", "\x1c", "\x85", "\u2028", "\u3000", "\ud83d", "\ude00", "\udfff", "\U0010ffff"],
    *[
        "<|im_start|>",
        "<|im_end|>\n",
        "<|endoftext|>",
        "<|im_start|>context\n",
        "## tagging rule",
        "```\ncode\n\n```\n",
    ],
    *["a" * 300, "0" * 90, "| a | b |\n", '{"k":[1,2,{"x":null}]},' * 20, "\t" * 40, "word " * 60],
]
texts = st.one_of(
    st.text(), st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=12).map("".join)
)
options = st.fixed_dictionaries(
    {
        "granularity": st.sampled_from(["token", "sentence", "paragraph", "document"]),
        "window_tokens": st.sampled_from([64, 96, 512]),
        "overlap": st.sampled_from([0, 3]),
        "threshold": st.sampled_from([0.05, 0.5, 0.95, 0.9999]),
        "max_gap": st.sampled_from([0, 4]),
        "fallback": st.sampled_from(["none", "top_span", "head", "full"]),
        "min_spans": st.sampled_from([0, 2]),
        "min_tokens": st.sampled_from([1, 3]),
    },
    optional={"separator": st.sampled_from(["", " ", " … "]), "tags": st.just(["needle", "fact"])},
)
budgets = st.one_of(
    st.just({}),
    st.builds(lambda n: {"target_tokens": n}, st.one_of(st.integers(0, 12), st.integers(0, 400))),
    st.builds(lambda rate: {"rate": rate}, st.floats(0.01, 1)),
)
# Half a region is no error: what a region would leave of a text is cut to it.
fractions = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=2)


def count(text: str) -> int:
    """Not by the pipeline's own function; a lone half of a character counts as the replacement character."""
    text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    return len(TOKENIZER.backend_tokenizer.encode(text, add_special_tokens=False).ids)


TOKENIZER.backend_tokenizer.encode_special_tokens = True  # what is written in a text is text


def regions(fractions, length: int) -> list[tuple[int, int]]:
    return [tuple(sorted(round(part * length) for part in pair)) for pair in fractions]


def compress(seed, example, options, budget):
    try:
        return tiny_pipeline(seed)({"instruction": "Keep facts.", **example}, **options, **budget, progress=False)
    except ValueError as error:
        # Protected regions that are larger than the budget are the caller's mistake, and said so.
        assert "protected regions alone" in str(error) and budget and example["keep"]
        return None


def check(result, sources: list[str], keep, budget) -> None:
    """`keep` and spans as (document, start, end); one document for a text."""
    spans = [(span.get("document", 0), span["start"], span["end"]) for span in result["spans"]]
    for span, (document, start, end) in zip(result["spans"], spans, strict=True):
        assert sources[document][start:end] == span["text"] != ""
        assert 0 <= span["score"] <= 1 + 1e-9
    for (document, _, end), (following, start, _) in zip(spans, spans[1:], strict=False):
        assert (document, end) <= (following, start)
    for document, start, end in keep:
        kept = [(s, e) for d, s, e in spans if d == document and s < end and e > start]
        assert all(any(s <= at < e for s, e in kept) for at in range(start, end))
    assert result["compressed_tokens"] == count(result["compressed"])
    if "target_tokens" in budget:
        assert result["compressed_tokens"] <= budget["target_tokens"]
    if "rate" in budget:
        assert result["compressed_tokens"] <= budget["rate"] * result["input_tokens"] + 1e-6
    assert (result["ratio"] is None) == (result["compressed_tokens"] == 0)


@settings(max_examples=EXAMPLES * 2 // 3, **COMMON)
@given(texts, st.text(max_size=4), options, budgets, fractions, st.integers(0, 2))
def test_texts(text, query, options, budget, keep, seed):
    keep = regions(keep, len(text))
    result = compress(seed, {"context": text, "query": query, "keep": keep}, options, budget)
    if result is None:
        return
    blank = not text.strip()
    check(result, [text], [] if blank else [(0, *region) for region in keep], budget)
    assert result["input_tokens"] == count(text)
    if not budget:
        assert result["compressed_tokens"] <= result["input_tokens"]
    assert (result["windows"] == 0) == blank
    rest = result["compressed"]
    for span in result["spans"]:  # verbatim and in order
        assert span["text"] in rest
        rest = rest[rest.index(span["text"]) + len(span["text"]) :]


@settings(max_examples=EXAMPLES // 3, **COMMON)
@given(
    st.lists(
        st.one_of(texts, st.builds(lambda a, b: {"title": a, "text": b}, st.text(max_size=9), texts)), max_size=5
    ),
    options,
    budgets,
    fractions,
    st.integers(0, 2),
)
def test_documents(documents, options, budget, keep, seed):
    sources = [document if isinstance(document, str) else document["text"] for document in documents]
    blank = not any(text.strip() for text in sources)
    keep = [(i, *region) for i, text in enumerate(sources[:2]) for region in regions(keep, len(text))]
    result = compress(seed, {"context": documents, "query": "Who?", "keep": keep}, options, budget)
    if result is None:
        return
    check(result, sources, [] if blank else keep, budget)
    assert [document["index"] for document in result["documents"]] == list(range(len(documents)))
    assert sorted(document["rank"] for document in result["documents"]) == list(range(1, len(documents) + 1))
    ranked = sorted(result["documents"], key=lambda document: document["rank"])
    assert [d["score"] for d in ranked] == sorted((d["score"] for d in ranked), reverse=True)
    assert [span for document in result["documents"] for span in document["spans"]] == result["spans"]
    assert "\n\n".join(d["compressed"] for d in result["documents"] if d["spans"]) == result["compressed"]
