import sys
from types import SimpleNamespace

import numpy as np
import pytest
from cprs_tiny import tiny_critic_tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from qwenlong_trl.loong.retrieval import TokenizedText, bm25_scores, sentence_transformers_retriever, words


TOKENIZER = tiny_critic_tokenizer()
# Words, lines, tables, CJK without spaces, an emoji of several code points, a combining mark, a marker of the model.
PIECES = [
    "Net income",
    " rose. ",
    "\n",
    "|1,432,023,304.19|",
    "营业收入",
    "增长了。",
    "👩‍🔬",
    "e\u0301",
    "<|im_start|>",
    "  ",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=60).map(
    lambda pieces: "".join(pieces).encode("utf-8", "ignore").decode()
)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Net Income of Auddia, Inc.", ["net", "income", "of", "auddia", "inc"]),
        ("营业收入（元）", ["营业", "业收", "收入", "元"]),
        ("|1,193.4|(0.04)|2024|", ["1,193.4", "0.04", "2024"]),
        ("2024年一季度, 10-Q", ["2024", "年一", "一季", "季度", "10", "q"]),
        ("ends in 1,193. Then 5.", ["ends", "in", "1,193", "then", "5"]),
        ("ＡＢＣ１，１９３．４万", ["abc", "1,193.4", "万"]),
        ("RMB1,193.4m", ["rmb", "1,193.4", "m"]),
        ("東京タワー tower", ["東京", "京タ", "タワ", "ワー", "tower"]),
        ("snake_case Été", ["snake", "case", "été"]),
        ("—…|", []),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_words_in_linear_time():
    assert words("7" * 200_000 + "," + "7" * 200_000 + "x" * 200_000)[-1] == "x" * 200_000


def test_bm25_is_lucenes():
    chunks = ["cash cash flow", "cash of the company", "revenue"]
    scores = bm25_scores("Cash?", chunks)
    lengths, frequency = [3, 4, 1], [2, 1, 0]
    mean, idf = sum(lengths) / 3, np.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    norm = [1.5 * (1 - 0.75 + 0.75 * length / mean) for length in lengths]
    expected = [idf * f / (f + n) for f, n in zip(frequency, norm, strict=True)]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_bm25_finds_chinese_without_spaces():
    chunks = ["公司概况与主要产品", "报告期内营业收入为八百万元", "净利润与每股收益"]
    assert bm25_scores("请问营业收入是多少？", chunks).argmax() == 1


@pytest.mark.parametrize("query", ["", "  ", "??", "unknown"])
def test_bm25_without_a_known_word(query):
    assert bm25_scores(query, ["some text", "", "|"]).tolist() == [0, 0, 0]
    assert bm25_scores(query, []).tolist() == []


def test_bm25_with_an_empty_chunk():
    scores = bm25_scores("text", ["", "some text", "|"])
    assert scores[1] > 0 and scores[0] == scores[2] == 0


def test_bm25_needs_bm25s(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(ImportError, match=r'pip install "qwenlong-trl\[evaluation\]"'):
        bm25_scores("a", ["a"])


@settings(max_examples=150, deadline=None)
@example("", 3)
@example("👩‍🔬" * 4, 1)
@given(TEXTS, st.integers(1, 40))
def test_chunks_make_up_the_text(text, chunk_tokens):
    cut = TokenizedText(text, TOKENIZER)
    assert len(cut) == len(TOKENIZER(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    chunks = cut.chunks(chunk_tokens)
    assert "".join(cut.text(first, last) for first, last in chunks) == text
    assert chunks[0][0] == 0 and chunks[-1][1] == len(cut)
    for (_, last), (first, _) in zip(chunks, chunks[1:], strict=False):
        assert last == first
    for first, last in chunks:
        if last - first > chunk_tokens:  # one character
            assert not any(cut.text(first, middle) for middle in range(first + 1, last))
        assert text == "" or cut.text(first, last)


def test_chunks_end_with_lines_and_sentences():
    lines = [f"| row {i} | {i * 37},{i % 10}00 |\n" for i in range(200)]
    cut = TokenizedText("".join(lines), TOKENIZER)
    pieces = [cut.text(first, last) for first, last in cut.chunks(128)]
    assert len(pieces) > 10 and all(piece.endswith("\n") for piece in pieces)

    text = "".join(f"It rose by {i} percent. " for i in range(200)).strip()
    cut = TokenizedText(text, TOKENIZER)
    pieces = [cut.text(first, last) for first, last in cut.chunks(128)]
    assert len(pieces) > 10 and all(piece.rstrip().endswith(".") for piece in pieces)

    text = "".join(f"营业收入增长百分之{i}。" for i in range(100))
    cut = TokenizedText(text, TOKENIZER)
    pieces = [cut.text(first, last) for first, last in cut.chunks(256)]
    assert len(pieces) > 10 and all(piece.endswith("。") for piece in pieces)


def test_chunks_end_with_sentences_where_spaces_belong_to_the_word_before():
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    text = "".join(f"It rose by {i} percent. " for i in range(100))
    cut = TokenizedText(text, PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"))
    pieces = [cut.text(first, last) for first, last in cut.chunks(32)]
    assert len(cut) == 500 and len(pieces) == 17 and all(piece.endswith("percent. ") for piece in pieces)


def test_chunks_of_one_line_end_at_white_space():
    text = " ".join(f"{i * 1237}" for i in range(500))
    cut = TokenizedText(text, TOKENIZER)
    pieces = [cut.text(first, last) for first, last in cut.chunks(64)]
    numbers = [number for piece in pieces for number in piece.split()]
    assert len(pieces) > 10 and numbers == text.split()


def test_chunks_are_as_long_as_allowed():
    cut = TokenizedText("x" * 5000, TOKENIZER)
    sizes = [last - first for first, last in cut.chunks(100)]
    assert set(sizes[:-1]) == {100}


def test_before_and_after_are_mirror_images():
    cut = TokenizedText("one two\nthree four\nfive six\n", TOKENIZER)
    total = len(cut)
    for limit in range(total + 1):
        place = cut.before(0, limit)
        assert 0 <= place <= limit
        place = cut.after(limit, total)
        assert limit <= place <= total
    newline = next(t for t in range(total) if cut.text(0, t).endswith("two\n"))
    assert cut.before(0, newline + 1) == newline
    assert cut.after(newline - 1, total) == newline


class Encoder:
    """Stands for a model of sentence-transformers, which is not installed: letters counted, unless it was prompted."""

    def __init__(self, name, prompts=None, device=None):
        self.prompts, self.device, self.asked = prompts or {}, device, []

    def encode(self, texts, normalize_embeddings, convert_to_numpy, show_progress_bar, prompt_name=None):
        assert normalize_embeddings and convert_to_numpy and not show_progress_bar
        self.asked.append(prompt_name)
        found = np.array([[text.count(c) + 0.01 for c in "abc"] for text in texts], dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("prompts, asked", [({}, [None, None]), ({"query": "q: "}, ["query", None])])
def test_sentence_transformers_retriever(monkeypatch, prompts, asked):
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Encoder))
    retriever = sentence_transformers_retriever("ns/encoder", prompts=prompts, device="cpu")
    scores = retriever("aa", ["abc", "aaa", "cc"])
    assert retriever.name == "ns/encoder"
    assert scores.shape == (3,) and scores.argmax() == 1 and scores[1] == pytest.approx(1, abs=1e-4)
    assert retriever._model.asked == asked and retriever._model.device == "cpu"


def test_sentence_transformers_retriever_needs_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match=r"qwenlong-trl\[dense\]"):
        sentence_transformers_retriever("ns/encoder")
