"""Token ids of both sides, rows that are dropped, and rows that are refused by name."""

import pytest
from datasets import Dataset
from solopo_rows import twins
from solopo_runs import make_args, make_trainer
from tiny import tiny_tokenizer

from qwenlong_trl.solopo.prepare import prepare_twins


CHAT = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def prepared(tmp_path, rows, **settings):
    return make_trainer(make_args(tmp_path, **settings), rows).train_dataset


def changed(row: int, **values) -> Dataset:
    rows = twins(4).to_list()
    rows[row] |= values
    return Dataset.from_list(rows)


def test_ids_of_both_sides(tmp_path):
    data = prepared(tmp_path, twins())
    tokenizer = tiny_tokenizer()
    for row, source in zip(data, twins(), strict=True):
        assert row["prompt_ids"] == tokenizer(source["prompt"])["input_ids"]
        assert row["long_prompt_ids"] == tokenizer(source["long_prompt"])["input_ids"]
        for answer in ("chosen", "rejected"):
            assert row[f"{answer}_ids"] == [*tokenizer(source[answer])["input_ids"], tokenizer.eos_token_id]


@pytest.mark.parametrize(
    ("settings", "pair", "more"),
    [
        ({"objective": "short_po"}, "prompt", None),
        ({"solo_align": "none"}, "prompt", None),
        ({"objective": "long_po"}, "long_prompt", None),
        ({"objective": "longpo"}, "long_prompt", "ref_prompt_ids"),
    ],
)
def test_ids_of_the_baselines(tmp_path, settings, pair, more):
    data = prepared(tmp_path, twins(), **settings)
    tokenizer = tiny_tokenizer()
    assert data[0]["prompt_ids"] == tokenizer(twins()[0][pair])["input_ids"]
    assert "long_prompt_ids" not in data.column_names
    assert ("ref_prompt_ids" in data.column_names) == (more is not None)
    if more:
        assert data[0][more] == tokenizer(twins()[0]["prompt"])["input_ids"]


def test_baselines_read_the_prompt_that_they_need_alone(tmp_path):
    assert len(prepared(tmp_path, twins().remove_columns("long_prompt"), objective="short_po")) == 8
    assert len(prepared(tmp_path, twins().remove_columns("prompt"), objective="long_po")) == 8


def test_messages(tmp_path):
    rows = [
        {name: [{"role": "user", "content": row[name]}] for name in ("prompt", "long_prompt")}
        | {name: [{"role": "assistant", "content": row[name]}] for name in ("chosen", "rejected")}
        for row in twins()
    ]
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT
    data = make_trainer(make_args(tmp_path), Dataset.from_list(rows), processing_class=tokenizer).train_dataset
    assert data[0]["chosen_ids"] == tokenizer(twins()[0]["chosen"])["input_ids"]
    assert len(data[0]["long_prompt_ids"]) - len(data[0]["prompt_ids"]) == 14
    assert data[0]["prompt_ids"][0] == data[0]["prompt_ids"][-1] == tokenizer.unk_token_id  # the roles


def test_long_rows_are_dropped_on_both_sides_and_counted(tmp_path, transformers_log):
    rows = changed(1, long_prompt="w1 " * 95)
    trainer = make_trainer(make_args(tmp_path, max_drop_fraction=0.5), rows)
    assert [row["id"] for row in trainer.train_dataset] == ["r0", "r2", "r3"]
    assert len(trainer.train_dataset) == 3
    said = transformers_log.text
    assert "1 of 4 rows of the train dataset are too long: 1 with more than max_long_length=96" in said


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_length": 11}, "max_length=11"),
        ({"max_long_length": 24, "max_length": 20}, "max_long_length=24"),
        ({"max_length": 1}, "max_length=1"),
        ({"max_length": 1, "max_drop_fraction": 1.0}, "max_length=1"),  # nothing is left
    ],
)
def test_too_many_drops_are_an_error_that_says_what_to_set(tmp_path, settings, named):
    with pytest.raises(ValueError, match="of 8 rows of the train dataset are too long") as error:
        prepared(tmp_path, twins(), **settings)
    assert named in str(error.value) and "the longest" in str(error.value) and "max_drop_fraction" in str(error.value)


def test_only_the_answers_that_run_on_a_side_count_there(tmp_path):
    rows = changed(0, rejected="w1 " * 80, long_prompt="w2 " * 70)  # 70 + 81 on the long side, if both ran there
    assert len(prepared(tmp_path, rows, max_length=96)) == 4
    with pytest.raises(ValueError, match="1 of 4 rows"):
        prepared(tmp_path, rows, max_length=96, solo_align="both")


def test_no_limit(tmp_path):
    assert len(prepared(tmp_path, changed(0, long_prompt="w1 " * 110), max_length=None, max_long_length=None)) == 4


@pytest.mark.parametrize("column", ["prompt", "long_prompt", "chosen", "rejected"])
def test_a_missing_column_is_named(tmp_path, column):
    with pytest.raises(ValueError, match=f"the train dataset has no column `{column}`"):
        prepared(tmp_path, twins().remove_columns(column))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"chosen": ""}, r"the train dataset, row 3 \(id 'r2'\): `chosen` is empty \(''\)"),
        ({"rejected": " \n"}, r"row 3 \(id 'r2'\): `rejected` is empty"),
        ({"long_prompt": None}, r"row 3 \(id 'r2'\): `long_prompt` is empty \(None\)"),
        ({"long_prompt": "w1 w2 "}, r"row 3 \(id 'r2'\): `long_prompt` has 2 tokens, fewer than the 8 of `prompt`"),
    ],
)
def test_a_bad_row_is_named(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path, changed(2, **values))


def test_a_row_without_id_is_named_by_its_place(tmp_path):
    with pytest.raises(ValueError, match="row 3: `chosen` is empty"):
        prepared(tmp_path, changed(2, chosen="").remove_columns("id"))


@pytest.mark.parametrize(
    "messages", [[], [{"role": "assistant", "content": " "}], [{"role": "assistant", "content": None}]]
)
def test_empty_messages(tmp_path, messages):
    user = [{"role": "user", "content": "w1 "}]
    rows = [{"prompt": user, "long_prompt": user, "chosen": user, "rejected": user} for _ in range(2)]
    rows.append(rows[0] | {"rejected": messages})
    with pytest.raises(ValueError, match="row 3: `rejected` is empty"):
        prepare_twins(Dataset.from_list(rows), None, make_args(tmp_path), "train")


def test_text_and_messages_do_not_mix(tmp_path):
    rows = [
        {"prompt": "w1 ", "long_prompt": "w1 ", "chosen": [{"role": "assistant", "content": "w2"}], "rejected": "w3"}
    ]
    with pytest.raises(
        ValueError, match="row 1: prompts and answers must all be text or all be messages, got prompt: text"
    ):
        prepare_twins(Dataset.from_list(rows), None, make_args(tmp_path), "train")


def test_answers_that_are_tokenised_differently(tmp_path):
    # The long prompt of row 2 ends in half a word, to which the answer is glued.
    rows = changed(1, long_prompt="w1 " * 30 + "w", chosen="2 w3 ")
    with pytest.raises(ValueError, match=r"row 2 \(id 'r1'\): `chosen` is other tokens after `prompt`"):
        prepared(tmp_path, rows)


def test_streams_are_refused(tmp_path):
    with pytest.raises(TypeError, match="the train dataset is a IterableDataset; SoLoPO compares"):
        prepared(tmp_path, twins().to_iterable_dataset())


def test_evaluation_sets_are_prepared_alike(tmp_path):
    trainer = make_trainer(make_args(tmp_path), eval_dataset={"a": twins(4), "b": twins(6, seed=1)})
    assert {name: len(rows) for name, rows in trainer.eval_dataset.items()} == {"a": 4, "b": 6}
    assert "long_prompt_ids" in trainer.eval_dataset["a"].column_names
    with pytest.raises(ValueError, match="the b dataset"):
        make_trainer(make_args(tmp_path), eval_dataset={"a": twins(4), "b": changed(1, chosen="")})


def test_rows_that_another_trainer_has_prepared_are_prepared_anew(tmp_path):
    before = make_trainer(make_args(tmp_path), twins()).train_dataset
    again = prepared(tmp_path, before, objective="long_po")
    expected = prepared(tmp_path, twins(), objective="long_po")
    assert again["prompt_ids"][:] == expected["prompt_ids"][:]
    assert "long_prompt_ids" not in again.column_names
    with pytest.raises(ValueError, match="no column `long_prompt`"):
        prepared(tmp_path, before.remove_columns("long_prompt"))


def test_an_answer_that_the_template_leaves_out(tmp_path):
    user = [{"role": "user", "content": "w1 "}]
    said = [{"role": "assistant", "content": "w2 ", "reasoning_content": None}]
    silent = [{"role": "assistant", "content": "", "reasoning_content": "w3"}]
    rows = [{"id": i, "prompt": user, "long_prompt": user, "chosen": said, "rejected": said} for i in range(3)]
    rows[1]["rejected"] = silent
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['content'] %}{{ m['content'] }} {% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{% endif %}"
    )
    with pytest.raises(ValueError, match=r"row 2 \(id 1\): `rejected` has no tokens"):
        make_trainer(make_args(tmp_path), Dataset.from_list(rows), processing_class=tokenizer)


@pytest.mark.parametrize("prompt", [["w1", "w2"], {"role": "user", "content": "w1"}, 5])
def test_a_prompt_of_another_kind(tmp_path, prompt):
    rows = [{"prompt": prompt, "long_prompt": "w1 ", "chosen": "w2 ", "rejected": "w3 "}]
    with pytest.raises(ValueError, match="row 1: `prompt` is neither text nor a list of messages"):
        prepare_twins(Dataset.from_list(rows), None, make_args(tmp_path), "train")


def test_no_rows(tmp_path):
    with pytest.raises(ValueError, match="`train_dataset` has no rows"):
        prepared(tmp_path, twins().select([]))
    with pytest.raises(ValueError, match="`eval_dataset` has no rows"):
        make_trainer(make_args(tmp_path), eval_dataset={"a": twins(4), "b": twins().select([])})
