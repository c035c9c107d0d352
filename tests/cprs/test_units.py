import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_tables import byte_tokens, character_tokens, tables, texts, word_tokens

from qwenlong_trl.cprs import units
from qwenlong_trl.cprs.units import last_true, paragraphs, sentences, split_long, token_boundaries, white_space


def cut(text: str, ranges: np.ndarray) -> list[str]:
    return [text[start:end] for start, end in ranges]


def assert_partition(ranges: np.ndarray, text: str) -> None:
    assert ranges.dtype == np.int64 and ranges.shape == (len(ranges), 2)
    assert "".join(cut(text, ranges)) == text
    assert (ranges[:, 0] < ranges[:, 1]).all()
    assert (ranges[1:, 0] == ranges[:-1, 1]).all()


@settings(max_examples=400, deadline=None)
@given(texts, st.sampled_from(["en", "zh", "de", "he"]), st.sampled_from([8, 32, 2048]))
def test_units_partition_any_text(text, language, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "_PIECE", piece)
        found = sentences(text, language)
    for ranges in (found, paragraphs(text)):
        assert_partition(ranges, text)
        if text.strip():
            assert all(unit.strip() for unit in cut(text, ranges))  # no unit of white space alone
        else:
            assert len(ranges) == bool(text)
    assert not any(unit[0].isspace() for unit in cut(text, found)[1:])  # it belongs to the sentence before


@given(st.text(alphabet=st.characters(), max_size=40))
def test_white_space_is_that_of_str(text):
    assert white_space(text).tolist() == [character.isspace() for character in text]


def test_white_space_of_every_code_point():
    every = "".join(map(chr, range(0x110000)))
    assert np.flatnonzero(white_space(every)).tolist() == [i for i, c in enumerate(every) if c.isspace()]


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", ["It rains. ", "Dr. Ito pays $3.50 for tea.  ", "Why?\n\n", "Who knows!"]),
        ("en", ["  他说下雨了。", "伊藤喝茶。", "为什么？\n\n", "谁知道！"]),
        ("zh", ["他说下雨了。", "伊藤喝茶。 ", "为什么？"]),
        ("en", ["A title without a stop\n\n", "Then a text.\n"]),
        ("en", ["Half a character \ud83d here. ", "NUL \x00 there. ", "😀 e\u0301."]),
    ],
)
def test_sentences(language, expected):
    text = "".join(expected)
    assert cut(text, sentences(text, language)) == expected


@pytest.mark.parametrize("piece", [64, 100, 333])
def test_sentences_do_not_depend_on_the_pieces_that_are_read(monkeypatch, piece):
    text = (
        "Dr. Ito said: “It rains.” He left at 3.15 p.m. today. 他说下雨了。伊藤喝茶。\n\nWhy? Who knows, said he.\n"
        * 40
    )
    whole = cut(text, sentences(text))
    monkeypatch.setattr(units, "_PIECE", 10**9)
    at_once = cut(text, sentences(text))
    monkeypatch.setattr(units, "_PIECE", piece)
    assert cut(text, sentences(text)) == at_once == whole


@pytest.mark.parametrize("monster", ["x" * 5000, "wet " * 1500, "下" * 5000, "x" * 2047, "x" * 2048, "x" * 2049])
def test_a_sentence_longer_than_a_piece_stays_whole_and_its_end_is_found(monster):
    parts = ["It rains. ", monster.strip() + ". ", "It stops. "]
    assert cut("".join(parts), sentences("".join(parts))) == parts


@pytest.mark.parametrize(
    "text", ["他说。" * 20_000, "It rains. " * 20_000, "x" * 200_000, " " * 200_000, "é“" * 100_000]
)
def test_sentencex_reads_each_character_few_times_and_little_at_once(monkeypatch, text):
    read = []

    def counted(language, piece):
        read.append(len(piece))
        return real(language, piece)

    real = units.get_sentence_boundaries
    monkeypatch.setattr(units, "get_sentence_boundaries", counted)
    sentences(text)
    assert max(read) <= 2048 and sum(read) <= 2.5 * len(text)


@pytest.mark.parametrize(
    "expected",
    [
        ["One\nline and another.\n\n", "  Indented.\n \t\n\n", "End."],
        ["\n\n \nBlank lines first.\n\n", "Then text.\n\n\n"],
        ["Windows\r\nlines.\r\n\r\n", "Next.\r\n"],
        ["Table:\n\n", "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\n", "After."],
        ["Code:\n```python\na = 1\n\n\nb = 2\n```\n\n", "After.\n\n", "End."],
        ["~~~\na\n\n```\n\nb\n~~~\n\n", "After."],
        ["````\na\n\n```\n\nb\n````\n\n", "After."],  # a shorter fence does not close it
        ["```\na\n\n", "never closed\n\n", "After."],
        ["~~~~\na\n\n", "```\nb\n\nc\n```\n\n", "After."],  # the first never closes, the second does
        ["```\na\n\n", "``` not a close\n\n", "After."],
        ["Inline ```a\n\n", "b``` is no fence."],
    ],
)
def test_paragraphs(expected):
    text = "".join(expected)
    assert cut(text, paragraphs(text)) == expected


def test_paragraphs_of_many_fences_that_never_close():
    text = "".join(f"{'`' * (3 + i % 2)}python\na\n\n" for i in range(20_000))
    assert len(paragraphs(text)) == 20_000


@given(st.lists(st.booleans()))
def test_last_true(mask):
    expected = [max((j for j in range(i + 1) if mask[j]), default=-1) for i in range(len(mask))]
    assert last_true(np.array(mask, dtype=bool)).tolist() == expected


def test_token_boundaries():
    text = "a 😀b c"
    whole, spaced = token_boundaries(text, *byte_tokens(text))
    assert whole.tolist() == [True, True, True, False, False, False, True, True, True, True]
    assert spaced.tolist() == [True, True, True, False, False, False, False, True, True, True]


@settings(max_examples=300, deadline=None)
@given(texts, tables, st.integers(1, 12))
def test_split_long_keeps_the_partition_and_the_limit(text, table, max_tokens):
    starts, ends = table(text)
    ranges = split_long(sentences(text), text, starts, ends, max_tokens)
    assert_partition(ranges, text)
    assert set(sentences(text)[:, 0]) <= set(ranges[:, 0])
    for start, end in ranges:
        tokens = np.count_nonzero((starts < end) & (ends > start))
        assert tokens <= max_tokens or end - start == 1


def test_split_long_cuts_at_white_space_and_leaves_the_rest_alone():
    text = "Short. " + "ab " * 20 + "x" * 50 + ". Short."
    starts, ends = character_tokens(text)
    ranges = np.array([(0, 7), (7, 119), (119, 125)])
    pieces = cut(text, split_long(ranges, text, starts, ends, 20))
    assert pieces[0] == "Short. " and pieces[-1] == "Short."
    assert pieces[1:4] == ["ab ab ab ab ab ab ab", " ab ab ab ab ab ab ", "ab ab ab ab ab ab ab"]
    assert pieces[4:] == [" " + "x" * 19, "x" * 20, "x" * 11 + ". ", "Short."]
    assert split_long(ranges, text, starts, ends, 112).tolist() == ranges.tolist()


def test_split_long_ranges_need_not_touch():
    text = "a b c d e f. (left out) g h i j k l."
    starts, ends = word_tokens(text)
    ranges = np.array([(0, 12), (24, 36)])
    assert cut(text, split_long(ranges, text, starts, ends, 4)) == ["a b c d", " e f.", "g h i j", " k l."]


def test_split_long_needs_a_limit():
    with pytest.raises(ValueError, match="max_tokens must be at least 1, got 0"):
        split_long(np.array([(0, 1)]), "a", *word_tokens("a"), 0)


def test_lines_of_a_long_sentence_are_sentences():
    log = "".join(f"row {i}; value {i * i}\n" for i in range(200))
    found = [log[start:end] for start, end in sentences(log).tolist()]
    assert found == log.splitlines(keepends=True)
    short = "| a | b |\n|---|---|\n| 1 | 2 |"
    assert len(sentences(short)) == 1


def test_an_open_bracket_at_the_seam_of_two_pieces():
    text = "It was fine (see Fig. 3. for more). " * 400
    found = [text[start:end] for start, end in sentences(text).tolist()]
    assert set(found) == {"It was fine (see Fig. 3. for more). "}
