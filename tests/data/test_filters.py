import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenlong_trl.data import (
    Document,
    Dropped,
    LongContextExample,
    drop_contaminated,
    drop_duplicates,
    filter_length,
    prompt_view,
)


def record(id, question, *texts):
    return LongContextExample(id, question, ("a",), tuple(Document("", text) for text in texts))


def rows(*lengths):
    return [{"id": str(i), "prompt": "p", "prompt_length": length} for i, length in enumerate(lengths)]


def test_window_is_left_open_and_right_closed():
    kept, dropped = filter_length(rows(10, 11, 20, 21), 10, 20)
    assert [row["id"] for row in kept] == ["1", "2"]
    assert dropped == [Dropped("0", "10 tokens, not more than 10"), Dropped("3", "21 tokens, more than 20")]


def test_window_of_a_dataset():
    from datasets import Dataset

    dataset = Dataset.from_list(rows(1, 5, 9)).with_format("numpy")
    kept, dropped = filter_length(dataset, 0, 5)
    assert isinstance(kept, Dataset)
    assert list(kept["id"]) == ["0", "1"]
    assert [drop.id for drop in dropped] == ["2"]
    with pytest.raises(ValueError, match=r"expected a column prompt_length .* got \['id'\]"):
        filter_length(dataset.select_columns(["id"]), 0, 5)


@given(st.lists(st.integers(1, 60)), st.lists(st.integers(1, 50), min_size=1, max_size=3, unique=True))
def test_windows_are_disjoint_and_lose_only_what_is_longer(lengths, ends):
    ends = [0, *sorted(ends)]
    found = [row["id"] for a, b in zip(ends, ends[1:], strict=False) for row in filter_length(rows(*lengths), a, b)[0]]
    assert sorted(found) == sorted(str(i) for i, length in enumerate(lengths) if length <= ends[-1])


def test_length_errors():
    with pytest.raises(ValueError, match="minimum=5 and maximum=5"):
        filter_length(rows(1), 5, 5)
    with pytest.raises(
        ValueError, match=r"row '1' has no prompt_length: make it with prompt_view\(example, tokenizer\)"
    ):
        filter_length([prompt_view(record("1", "Q", "x"))], 0, 5)


def test_duplicates():
    first = record("1", "Who is  it?", "Some text.", "More")
    same = record("2", "who is it? ", "some\ntext.", "ＭＯＲＥ")  # case, white space, full-width letters
    other_order, other_question = (
        record("3", "Who is it?", "More", "Some text."),
        record("4", "Who?", "Some text.", "More"),
    )
    kept, dropped = drop_duplicates(iter([first, same, other_order, other_question, first]))
    assert kept == [first, other_order, other_question]
    assert dropped == [
        Dropped("2", "same question and context as '1'"),
        Dropped("1", "same question and context as '1'"),
    ]


def test_question_and_context_do_not_run_together():
    kept, _ = drop_duplicates([record("1", "a b", "c"), record("2", "a", "b c")])
    assert len(kept) == 2


def test_contamination():
    evaluation = [record("e1", "Who is it?", "Context"), record("e2", "Where?", "Context")]
    clean, same, elsewhere = (
        record("1", "When?", "Context"),
        record("2", "WHERE?", "context"),
        record("3", "Who is it?", "No"),
    )
    kept, dropped = drop_contaminated(iter([clean, same, elsewhere]), iter(evaluation))
    assert kept == [clean]
    assert dropped == [
        Dropped("2", "same question and context as evaluation record 'e2'"),
        Dropped("3", "same question as evaluation record 'e1', over another context"),
    ]
    assert drop_contaminated([], evaluation) == ([], [])
    assert drop_contaminated([clean], []) == ([clean], [])
