import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_tables import byte_tokens, character_tokens, tables, texts, word_tokens
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from qwenlong_trl.cprs.units import sentences
from qwenlong_trl.cprs.windows import batch_by_length, cut_windows, owned


ENGLISH = "Dr. Ito came at 3.15 p.m. and sat down. It rained, so he stayed. Why not? He had tea, bread and time. " * 30
CHINESE = "伊藤医生下午三点来了，坐了下来。下雨了，所以他留下了。为什么不呢？他有茶、面包和时间。" * 30


def pieces(text, windows, starts, ends):
    """The text of each window."""
    return [text[starts[first] : ends[last - 1]] for first, last in windows]


def test_a_window_begins_where_it_reaches_behind_the_next_character():
    starts, ends = byte_tokens("0𐀀ࠀ𐀀")  # 1, 4, 3 and 4 tokens
    assert cut_windows("0𐀀ࠀ𐀀", starts, ends, sentences("0𐀀ࠀ𐀀"), 10, 4).tolist() == [[0, 8], [5, 12]]


@settings(max_examples=500, deadline=None)
@given(texts, tables, st.data())
def test_windows_hold_all_tokens_in_order(text, table, data):
    starts, ends = table(text)
    capacity = data.draw(st.integers(1, 30))
    overlap = data.draw(st.integers(0, max(0, capacity // 2 - 1)))
    windows = cut_windows(text, starts, ends, sentences(text), capacity, overlap)
    assert windows.dtype == np.int64 and windows.shape == (len(windows), 2)
    if not len(starts):
        assert len(windows) == 0
        return
    lengths = windows[:, 1] - windows[:, 0]
    assert windows[0, 0] == 0 and windows[-1, 1] == len(starts)
    assert (lengths >= 1).all() and (lengths <= capacity).all()
    assert (lengths[:-1] >= (capacity + 1) // 2).all()
    assert (windows[1:, 0] <= windows[:-1, 1]).all()
    assert (np.diff(windows, axis=0) > 0).all()
    if not overlap:
        assert (windows[1:, 0] == windows[:-1, 1]).all()
    if capacity >= 8:  # room for any character in half a window
        for edge in [*windows[1:, 0], *windows[:-1, 1]]:
            assert starts[edge] >= ends[edge - 1]
        assert (windows[:-1, 1] - windows[1:, 0] >= overlap - 3).all()
        assert (windows[:-1, 1] - windows[1:, 0] <= overlap + 3).all()

    own = owned(windows)
    assert own[0, 0] == 0 and own[-1, 1] == len(starts)
    assert (own[1:, 0] == own[:-1, 1]).all() and (own[:, 0] < own[:, 1]).all()
    assert (own[:, 0] >= windows[:, 0]).all() and (own[:, 1] <= windows[:, 1]).all()


@settings(max_examples=200, deadline=None)
@given(texts, tables, st.integers(2, 40))
def test_a_window_ends_with_the_last_sentence_that_its_second_half_holds(text, table, capacity):
    starts, ends = table(text)
    ranges = sentences(text)
    windows = cut_windows(text, starts, ends, ranges, capacity)
    own_ends = [(a + len(text[a:b].rstrip()), b) for a, b in ranges]

    def complete(boundary):
        between = any(done <= starts[boundary] <= next_one for done, next_one in own_ends)
        return between and starts[boundary] >= ends[boundary - 1]

    for first, last in windows[:-1]:
        fitting = [t for t in range(first + (capacity + 1) // 2, first + capacity + 1) if complete(t)]
        if fitting:
            assert last == fitting[-1]


@pytest.mark.parametrize("overlap", [0, 9])
@pytest.mark.parametrize(
    ("text", "table"), [(ENGLISH, word_tokens), (CHINESE, byte_tokens), (CHINESE, character_tokens)]
)
def test_no_window_ends_in_a_sentence(text, table, overlap):
    starts, ends = table(text)
    capacity = 200 if table is byte_tokens else 60
    windows = cut_windows(text, starts, ends, sentences(text), capacity, overlap)
    assert len(windows) > 5
    sentence_ends = {text[:end].rstrip() for _, end in sentences(text)}
    for last in windows[:, 1]:
        assert text[: ends[last - 1]].rstrip() in sentence_ends
    assert not any(piece.endswith(("Dr.", "3.", "p.")) for piece in pieces(text, windows, starts, ends))


def test_windows_of_a_byte_level_tokenizer():
    text = "It rains 😀😀. 下雨了。 " * 40
    alphabet = {piece: i for i, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    encoded = tokenizer.encode(text)
    starts, ends = np.array(encoded.offsets).T
    windows = cut_windows(text, starts, ends, sentences(text), capacity=100, overlap=10)
    for first, last in windows:
        decoded = tokenizer.decode(encoded.ids[first:last])
        assert decoded == text[starts[first] : ends[last - 1]]  # no character is divided
        assert decoded.rstrip()[-1] in ".。"


def test_without_a_sentence_end_a_window_ends_at_white_space():
    text = "abc " * 100
    starts, ends = character_tokens(text)
    windows = cut_windows(text, starts, ends, sentences(text), capacity=30)
    assert all(last - first in (29, 30, 28, 27) for first, last in windows[:-1])
    assert all(not piece.strip("abc ") and piece.split()[-1] == "abc" for piece in pieces(text, windows, starts, ends))


def test_a_sentence_end_before_the_middle_is_not_worth_a_short_window():
    text = "No. " + "word " * 40
    starts, ends = word_tokens(text)
    assert cut_windows(text, starts, ends, sentences(text), capacity=20)[0].tolist() == [0, 20]


@pytest.mark.parametrize("monster", ["x" * 3000, "下" * 3000, "😀" * 1000, '{"a":1},' * 400])
def test_a_monster_is_cut_hard_and_the_text_around_it_is_not(monster):
    text = "It rains. " + monster + ". It stops. He leaves."
    starts, ends = byte_tokens(text)
    windows = cut_windows(text, starts, ends, sentences(text), capacity=101)
    assert "".join(pieces(text, windows, starts, ends)) == text
    lengths = windows[:-1, 1] - windows[:-1, 0]
    assert (lengths[:-1] >= 98).all()  # all but what divides a character


def test_a_character_of_more_tokens_than_a_window_is_divided():
    starts, ends = np.zeros(10, dtype=np.int64), np.ones(10, dtype=np.int64)
    windows = cut_windows("😀", starts, ends, np.array([(0, 1)]), capacity=4, overlap=1)
    assert windows.tolist() == [[0, 4], [4, 8], [8, 10]]


@pytest.mark.parametrize(("capacity", "overlap"), [(10, 5), (10, -1), (1, 1), (3, 1), (10, 20)])
def test_overlap_must_leave_room(capacity, overlap):
    with pytest.raises(ValueError, match=f"less than half of the capacity of a window \\({capacity} tokens\\)"):
        cut_windows("a", *word_tokens("a"), sentences("a"), capacity, overlap)


def test_capacity_must_hold_a_token():
    with pytest.raises(ValueError, match="capacity must be at least 1 token, got 0"):
        cut_windows("a", *word_tokens("a"), sentences("a"), 0)


@pytest.mark.parametrize(("text", "windows"), [("", []), ("a", [[0, 1]])])
def test_small_contexts(text, windows):
    assert cut_windows(text, *word_tokens(text), sentences(text), capacity=1).tolist() == windows


def test_text_without_tokens_has_no_windows():
    none = np.zeros(0, dtype=np.int64)
    assert cut_windows("\u0301 \n", none, none, sentences("\u0301 \n"), capacity=4).shape == (0, 2)


def test_owned_divides_an_overlap_at_its_middle():
    assert owned(np.array([(0, 10), (6, 16), (13, 20)])).tolist() == [[0, 8], [8, 14], [14, 20]]
    assert owned(np.zeros((0, 2), dtype=np.int64)).shape == (0, 2)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=12, unique=True), st.integers(5, 60))
def test_owned_gives_each_token_the_window_with_more_context(steps, length):
    begins = np.cumsum([0, *[min(step, length) for step in steps]])
    windows = np.stack([begins, begins + length], axis=1)
    own = owned(windows)
    assert own[:, 0].tolist() == [0, *own[:-1, 1]]
    tokens = np.arange(windows[-1, 1])
    margin = np.minimum(tokens - windows[:, :1], windows[:, 1:] - 1 - tokens)  # to the nearer edge; negative outside
    owner = np.searchsorted(own[:, 1], tokens, side="right")
    inner = (tokens >= length // 2) & (tokens < windows[-1, 1] - length // 2)  # the outermost edges are not cuts
    assert (margin[owner, tokens] == margin.max(axis=0))[inner].all()


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 120))
def test_batches_fit_and_are_sorted(lengths, max_tokens):
    batches = batch_by_length(lengths, max_tokens)
    order = [i for batch in batches for i in batch]
    assert order == sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for batch, following in zip(batches, [*batches[1:], None], strict=False):
        longest = lengths[batch[0]]
        assert len(batch) == 1 or len(batch) * longest <= max_tokens
        assert all(4 * lengths[row] >= 3 * longest for row in batch)  # at most a quarter is padding
        if following is not None:  # no batch is smaller than it must be
            assert (len(batch) + 1) * max(1, longest) > max_tokens or 4 * lengths[following[0]] < 3 * longest


def test_batches_of_no_rows():
    assert batch_by_length([], 100) == []
    assert batch_by_length(np.array([500, 20, 30, 20]), 60) == [[0], [2], [1, 3]]


def test_an_overlap_is_not_lost_for_a_character_of_many_tokens():
    text = "\u0800\u0800\uff01\u0801\u0801\u0801"  # three tokens each; the sentence ends behind the ninth
    starts, ends = byte_tokens(text)
    assert cut_windows(text, starts, ends, sentences(text), 16, 7)[:2].tolist() == [[0, 9], [3, 18]]
