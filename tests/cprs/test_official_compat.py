"""`compat="official"`: each measured behaviour of the released server, and a plain version of its rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from qwenlong_trl.cprs.context import read_context
from qwenlong_trl.cprs.official import official_spans, official_windows, repair_gaps, tag_spans


STATES = "BIOE"
STOPS = '.。：？！"”?!\n'

# Runs of 17 to 20 are there because the longest gap that is repaired is 18.
states = st.lists(
    st.tuples(st.sampled_from("BIOOE"), st.sampled_from([1, 1, 1, 2, 5, 17, 18, 19, 20])), max_size=12
).map(lambda runs: "".join(state * length for state, length in runs))
chinese_text = st.text("中文ab 。！？”.\n|,", max_size=80)


def encode(tags: str) -> np.ndarray:
    return np.array([STATES.index(tag) for tag in tags], dtype=np.int8)


def decode(tags: np.ndarray) -> str:
    return "".join(STATES[tag] for tag in tags)


def each_character(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of a tokenizer that makes one token of each character."""
    return np.arange(len(text)), np.arange(1, len(text) + 1)


def plain_repair(tags: str) -> str:
    tags = list(tags)
    for begin in [i for i, tag in enumerate(tags) if tag == "B"]:
        here = begin
        while True:
            there = next((i for i in range(here + 1, len(tags)) if tags[i] != "O"), None)
            if there is None or there - here >= 20:
                break
            for i in range(here + 1, there):
                tags[i] = "I"
            if tags[there] in "BE":
                break
            here = there
    return "".join(tags)


def plain_token_spans(tags: str) -> list[list[int]]:
    spans, is_open = [], False
    for i, tag in enumerate(tags):
        if tag == "O":
            is_open = False
        elif tag == "B" or not is_open:
            spans.append([i, i + 1])
            is_open = True
        else:
            spans[-1][1] = i + 1
    return spans


def plain_texts(tags: str, starts: list[int], text: str, min_keyword_len: int, complete_sentence: bool) -> list[str]:
    texts, previous_end = [], -1
    for first, last in plain_token_spans(plain_repair(tags)):
        start = starts[first]
        end = starts[last] if last < len(starts) else len(text)
        if last - first > min_keyword_len:
            if complete_sentence:
                while start > 0 and start > previous_end and text[start - 1] not in STOPS:
                    start -= 1
                while end < len(text) - 1 and (end == 0 or text[end - 1] not in STOPS):
                    end += 1
            found = text[start:end].strip()
            if found and found not in "（），。！":
                texts.append(found)
        previous_end = end
    return texts


def plain_windows(text: str, ends: list[int], capacity: int) -> list[tuple[int, int]]:
    """Sentences one after the other, each as its number of tokens."""
    sentences, rest, position = [], text, 0
    while rest:
        length = 1
        while rest[length - 1] not in ".\n”。！？|" and length < len(rest):
            length += 1
        if rest[length - 1] in "。！？" and rest[length : length + 1] == "”":
            length += 1
        if rest[length - 1] in ".\n”。！？|":
            length = len(rest) - len(rest[length:].lstrip("\n "))
        sentences.append(sum(position < end <= position + length for end in ends))
        rest, position = rest[length:], position + length
    windows, first, last = [], 0, 0
    for tokens in sentences:
        if last + tokens - first > capacity:
            windows += [(i, min(i + capacity, last)) for i in range(first, last, capacity)]
            first = last
        last += tokens
    return windows + [(i, min(i + capacity, last)) for i in range(first, last, capacity)]


@pytest.mark.parametrize(
    ("tags", "repaired"),
    [
        ("BOOE", "BIIE"),
        ("BOOBO", "BIIBO"),  # what lies between two one-token spans goes along
        ("B" + 18 * "O" + "E", "B" + 18 * "I" + "E"),
        ("B" + 19 * "O" + "E", "B" + 19 * "O" + "E"),
        ("OIOOOE", "OIOOOE"),  # no B leads here; the pass from E leftwards never runs
        ("BOIOEOOI", "BIIIEOOI"),  # E ends the walk
        ("B" + 19 * "O" + "IOE", "B" + 19 * "O" + "IOE"),  # so does a long gap
        ("", ""),
        ("OOO", "OOO"),
        ("OOB", "OOB"),
    ],
)
def test_gap_repair(tags, repaired):
    given_tags = encode(tags)
    assert decode(repair_gaps(given_tags)) == repaired
    assert decode(given_tags) == tags


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("OBIEIIO", [[1, 6]]),  # E does not close
        ("BIEBIE", [[0, 3], [3, 6]]),
        ("OIIOEOO", [[1, 3], [4, 5]]),  # I and E open
        ("BB", [[0, 1], [1, 2]]),
        ("OO", []),
        ("", []),
    ],
)
def test_token_spans(tags, spans):
    assert tag_spans(encode(tags)).tolist() == spans


@pytest.mark.parametrize(
    ("min_keyword_len", "lengths"), [(4, [5]), (1, [2, 4, 5]), (0, [1, 2, 4, 5])], ids=["server", "client", "all"]
)
def test_min_keyword_len_is_strict(min_keyword_len, lengths):
    tags = "E".ljust(25, "O") + "IE".ljust(25, "O") + "IIIE".ljust(25, "O") + "IIIIE"
    spans = official_spans(encode(tags), np.arange(len(tags)), "x" * len(tags), min_keyword_len)
    assert [end - start for start, end in spans] == lengths


def test_five_tokens_unless_told():
    text = "abcdefghi"
    assert official_spans(encode("IIIIOIIII"), np.arange(9), text) == []
    assert official_spans(encode("IIIIIOIII"), np.arange(9), text) == [(0, 5)]


def spans_of_words(text: str, tags: str, **kwargs) -> list[str]:
    """One token per word, a word begins with the blank before it."""
    starts = [0] + [i for i, character in enumerate(text) if character == " "]
    spans = official_spans(encode(tags), np.array(starts), text, min_keyword_len=0, **kwargs)
    return [text[start:end] for start, end in spans]


def test_span_ends_where_the_next_token_starts():
    assert spans_of_words("one  two three", "OBOO") == []  # the token between the two blanks is blank
    assert spans_of_words("one two three", "BOO") == ["one"]
    assert spans_of_words("one two three ", "OOBO") == ["three"]
    assert spans_of_words("one two three", "OBI") == ["two three"]


@pytest.mark.parametrize(
    ("text", "tags", "plain", "completed"),
    [
        ("We saw it. Foo bar baz. The end", "OOOOBOOO", ["bar"], ["Foo bar baz."]),
        ("About 3.14 is pi. The end", "OOOBOO", ["pi."], ["14 is pi."]),
        ("In U.S. law it holds. The end", "OOBOOOO", ["law"], ["law it holds."]),
        ("Foo bar baz. The end of it", "BIBOOOO", ["Foo bar", "baz."], ["Foo bar baz.", "baz."]),
    ],
    ids=["widened", "decimal", "abbreviation", "twice"],
)
def test_complete_sentence(text, tags, plain, completed):
    assert spans_of_words(text, tags) == plain
    assert spans_of_words(text, tags, complete_sentence=True) == completed


@pytest.mark.parametrize("dropped", ["，", "。！", "（）", "（），。！", " \n", "，。 "])
def test_punctuation_alone_is_dropped(dropped):
    text = f"a{dropped}b"
    tags = "O" + "B".ljust(len(dropped), "I") + "O"
    assert official_spans(encode(tags), np.arange(len(text)), text, min_keyword_len=0) == []


@pytest.mark.parametrize("kept", [".", "（。", "a，", "！。"])
def test_other_punctuation_stays(kept):
    text = f"a{kept}b"
    tags = "O" + "B".ljust(len(kept), "I") + "O"
    spans = official_spans(encode(tags), np.arange(len(text)), text, min_keyword_len=0)
    assert [text[start:end] for start, end in spans] == [kept]


def test_same_span_text_is_returned_twice():
    text = "ab" + 20 * "." + "ab"
    assert official_spans(encode("BI" + 20 * "O" + "BI"), np.arange(24), text, 1) == [(0, 2), (22, 24)]


def test_repair_crosses_window_borders():
    text = "abcdefgh"
    starts, ends = each_character(text)
    first, second = official_windows(text, starts, ends, capacity=4).tolist()
    tags = np.concatenate([encode("OOBI")[: first[1]], encode("IEOO")[: second[1] - second[0]]])
    assert official_spans(tags, starts, text, min_keyword_len=0) == [(2, 6)]


@given(states)
def test_repair_and_spans_are_those_of_the_plain_version(tags):
    repaired = plain_repair(tags)
    assert decode(repair_gaps(encode(tags))) == repaired
    assert tag_spans(encode(repaired)).tolist() == plain_token_spans(repaired)


@given(states, st.data(), st.sampled_from([0, 1, 4]), st.booleans())
def test_texts_are_those_of_the_plain_version(tags, data, min_keyword_len, complete_sentence):
    # A step of 0: the next token is another byte of the same character.
    steps = data.draw(st.lists(st.sampled_from([0, 1, 1, 2]), min_size=len(tags), max_size=len(tags)))
    starts = (np.cumsum([0, *steps])[:-1]).tolist()
    characters = data.draw(st.sampled_from(["ab ", "ab .", "a，。（）\n", "é中😀. \u2028"]))
    length = (starts[-1] + 1 if starts else 0) + data.draw(st.integers(0, 3))
    text = data.draw(st.text(characters, min_size=length, max_size=length))

    spans = official_spans(encode(tags), np.array(starts, dtype=np.int64), text, min_keyword_len, complete_sentence)

    found = [text[start:end] for start, end in spans]
    assert found == plain_texts(tags, starts, text, min_keyword_len, complete_sentence)
    assert found == [part.strip() for part in found]


def test_latin_text_is_cut_every_capacity_tokens():
    text = "Aa. bb. cc. dd"
    windows = official_windows(text, *each_character(text), capacity=5)
    assert windows.tolist() == [[0, 5], [5, 10], [10, 14]]


def test_one_chinese_character_turns_sentences_on():
    text = "Aa. bb. cc. 中"
    windows = official_windows(text, *each_character(text), capacity=9)
    assert [text[start:end] for start, end in windows] == ["Aa. bb. ", "cc. 中"]


def test_closing_quotes_and_line_ends_stay_with_the_sentence():
    text = "他说：“好。” \n\n走吧！”|再见"
    windows = official_windows(text, *each_character(text), capacity=1)
    assert [b - a for a, b in windows] == [1] * len(text)
    windows = official_windows(text, *each_character(text), capacity=10)
    assert [text[start:end] for start, end in windows] == ["他说：“好。” \n\n", "走吧！”|再见"]


def test_sentence_longer_than_the_window_is_cut_and_shifts_nothing():
    text = "中。" + "文" * 10 + "。短。完"
    windows = official_windows(text, *each_character(text), capacity=4)
    assert [text[start:end] for start, end in windows] == ["中。", "文文文文", "文文文文", "文文。", "短。完"]
    first = official_windows(text[2:], *each_character(text[2:]), capacity=4)
    assert first[0].tolist() == [0, 4]  # no empty window in front


def test_token_over_a_sentence_end_goes_with_its_last_character():
    text = "中。 好。 是"
    starts, ends = np.array([0, 1, 2, 4, 5]), np.array([1, 2, 4, 5, 7])  # "中", "。", " 好", "。", " 是"
    assert official_windows(text, starts, ends, capacity=2).tolist() == [[0, 2], [2, 4], [4, 5]]


@given(chinese_text, st.integers(1, 20), st.data())
def test_windows_are_those_of_the_plain_version(text, capacity, data):
    text = "中" + text
    borders = sorted(data.draw(st.sets(st.integers(1, len(text)))) | {len(text)})
    starts, ends = [0, *borders[:-1]], borders
    windows = official_windows(text, np.array(starts), np.array(ends), capacity)
    assert [tuple(window) for window in windows.tolist()] == plain_windows(text, ends, capacity)


def test_windows_partition_the_tokens_of_a_byte_level_tokenizer():
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    text = "Grüße. 我们去公园。 😀👍🏽 是吗？”好！\n\n" * 20
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator([text], trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    context = read_context(text, PreTrainedTokenizerFast(tokenizer_object=core))
    for capacity in (1, 7, 64, 10_000):
        windows = official_windows(text, context.starts, context.ends, capacity)
        assert windows[0, 0] == 0
        assert windows[-1, 1] == len(context.ids)
        assert (windows[1:, 0] == windows[:-1, 1]).all()
        assert (np.diff(windows) > 0).all()
        assert (np.diff(windows) <= capacity).all()
    tags = np.full(len(context.ids), 1)
    assert official_spans(tags, context.starts, text) == [(0, len(text.rstrip()))]


def test_empty_text():
    nothing = np.empty(0, dtype=np.int64)
    assert official_windows("", nothing, nothing, capacity=8).shape == (0, 2)
    assert official_spans(nothing, nothing, "", complete_sentence=True) == []


def test_errors():
    starts, ends = each_character("abc")
    with pytest.raises(ValueError, match="capacity must be 1 token or more, got 0"):
        official_windows("abc", starts, ends, capacity=0)
    with pytest.raises(ValueError, match="starts and ends must be of one length, got 3 and 2"):
        official_windows("abc", starts, ends[:2], capacity=2)
    with pytest.raises(ValueError, match="tags and starts must be of one length, got 2 and 3"):
        official_spans(encode("BI"), starts, "abc")
