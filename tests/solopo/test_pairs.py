"""From records and samples to a preference set: which pairs, what is counted, what an interruption changes."""

from collections import Counter
from dataclasses import replace

import pytest
from datasets import load_dataset
from pair_records import ANSWERS, TEMPLATE, numbers, pair_examples
from tiny import WORDS, tiny_tokenizer

from qwenlong_trl.data import Document, DocumentPool, Evidence
from qwenlong_trl.generation import (
    Completion,
    PromptsRefusedError,
    SampleStore,
    Sampling,
    SettingsMismatchError,
    example_seed,
)
from qwenlong_trl.hub.preference_sets import preference_set_card
from qwenlong_trl.solopo.pair_statistics import PairStatistics, describe_pairs, save_pairs
from qwenlong_trl.solopo.pairs import build_pairs, choose_pair
from qwenlong_trl.solopo.scoring import ScoredCompletion


class Scripted:
    """A sampler whose samples are drawn from a seed; it counts what it is asked, and may break down."""

    def __init__(self, breaks_after: int | None = None, texts=None):
        self.asked: list[str] = []
        self.breaks_after = breaks_after
        self.texts = texts

    def sample(self, prompts, ids, sampling):
        for index, id in enumerate(ids):
            if len(self.asked) == self.breaks_after:
                raise KeyboardInterrupt
            self.asked.append(id)
            yield index, self.texts(id) if self.texts else [self._draw(id, i, sampling.seed) for i in range(8)]

    def _draw(self, id, i, seed):
        number = example_seed(seed, id, i)
        if number % 8 < 2:
            return Completion("" if number % 8 else "The answer is", ("length", "stop")[number % 8])
        return Completion(f"It is near. The answer is {ANSWERS[number // 8 % 12]}.", "stop")


def build(folder, sampler, examples=None, chat=False, seed=0, **options):
    """The set, the statistics, and how often a sampler was made."""
    examples = pair_examples(40) if examples is None else examples
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}w3" if chat else None
    pool = DocumentPool((document for e in pair_examples(40) for document in e.documents), tokenizer)
    made = []

    def make_sampler():
        made.append(sampler)
        return sampler

    sampling = Sampling(8, 0.85, max_tokens=5, seed=seed)
    settings = {"template": TEMPLATE, "chat": chat, "short_tokens": 20, "long_tokens": 60, **options}
    with SampleStore(folder / "samples.jsonl", {"seed": seed}) as store:
        dataset, statistics = build_pairs(examples, pool, tokenizer, make_sampler, sampling, store, **settings)
    return dataset, statistics, len(made)


def subfolder(tmp_path, name):
    (tmp_path / name).mkdir(exist_ok=True)
    return tmp_path / name


def content(value):
    return value if isinstance(value, str) else "".join(message["content"] for message in value)


@pytest.mark.parametrize("chat", [False, True])
def test_rows(tmp_path, chat):
    dataset, statistics, _ = build(tmp_path, Scripted(), chat=chat)
    answers = {example.id: example.answers for example in pair_examples(40)}
    assert 20 < len(dataset) == statistics.pairs
    assert dataset["id"] == sorted(dataset["id"], key=lambda id: int(id[1:]))
    tokenizer = tiny_tokenizer()
    for row in dataset:
        assert row["answers"] == list(answers[row["id"]])
        assert row["chosen_answer"] in row["answers"] and row["rejected_answer"] not in row["answers"]
        for name in ("chosen", "rejected"):
            assert content(row[name]) == f"It is near. The answer is {row[f'{name}_answer']}."
        short, long = content(row["prompt"]), content(row["long_prompt"])
        few, many = (prompt.removesuffix(f" {row['question']}").split("\n") for prompt in (short, long))
        assert {*few} < {*many} and len(few) < len(many) and row["question"] not in many[-1]
        assert row["prompt_length"] == len(tokenizer(short)["input_ids"]) + chat <= 20 + 2 + chat
        assert row["prompt_length"] < row["long_prompt_length"] <= 60 + 2 + chat
        assert 0 < row["pass_rate"] < 1
        if chat:
            roles = [[message["role"] for message in row[name]] for name in ("prompt", "long_prompt", "chosen")]
            assert roles == [["user"], ["user"], ["assistant"]]


def test_statistics_add_up(tmp_path):
    examples = pair_examples(40)
    odd = [
        replace(examples[0], id="none", evidence=()),
        replace(examples[1], id="much", documents=(Document("", "w20 " * 30),), evidence=(Evidence(0, 0, 3),)),
        replace(examples[2], id="full", answers=tuple(WORDS)),  # no document is free of all answers
    ]
    dataset, statistics, _ = build(tmp_path, Scripted(), [*odd, *examples])
    assert statistics.dropped == {"no evidence": 1, "evidence longer than short_tokens": 1, "pool too small": 1}
    assert statistics.prompts.total() == 40 and statistics.prompts["pair"] == len(dataset)
    assert statistics.samples.total() == 320 and {"truncated", "empty", "duplicate"} < {*statistics.samples}
    drawn = [Scripted()._draw(example.id, i, 0) for example in examples for i in range(8)]
    ends = Counter((completion.finish_reason, completion.text == "") for completion in drawn)
    assert statistics.samples["truncated"] == ends["length", False] > 0
    assert statistics.samples["empty"] == ends["stop", True] > 0
    right = sum(
        completion.text.removesuffix(".").split()[-1] in example.answers
        for example in examples
        for completion in (Scripted()._draw(example.id, i, 0) for i in range(8))
        if completion.finish_reason == "stop" and completion.text
    )
    assert sum(statistics.pass_rates) * 8 == pytest.approx(right)
    lines = statistics.lines()
    records, prompts, samples = (numbers(line) for line in lines[:3])
    assert records[0] == 43 == sum(records[1:]) and prompts[0] == 40 == sum(prompts[1:])
    assert samples[0] == 320 == sum(samples[1:])
    assert {name: len(values) for name, values in statistics.lengths.items()} == dict.fromkeys(
        ("prompt", "long prompt", "chosen", "rejected"), len(dataset)
    )


@pytest.mark.parametrize(
    ("texts", "outcome"),
    [
        (["w1", "w1", "w1"], "all right"),
        (["w5", "w6", "w5"], "all wrong"),
        (["", " ", "\n"], "no usable sample"),
        (["w1", "w5", ""], "pair"),
    ],
)
def test_outcomes_of_a_prompt(texts, outcome):
    statistics = PairStatistics()
    scored = [ScoredCompletion(t, t, t == "w1", texts.count(t)) for t in dict.fromkeys(texts) if t.strip()]
    statistics.add_prompt([Completion(text, "stop") for text in texts], scored)
    assert statistics.prompts == {outcome: 1} and statistics.samples.total() == 3
    assert statistics.pass_rates == [texts.count("w1") / 3]


def test_answers_to_the_long_prompts_for_the_baseline(tmp_path):
    asked = {}

    class Noting(Scripted):
        def sample(self, prompts, ids, sampling):
            asked.update(zip(ids, prompts, strict=True))
            return super().sample(prompts, ids, sampling)

    dataset, statistics, _ = build(tmp_path, Noting(), sample_from="long")
    assert statistics.pairs == len(dataset) > 0
    for row in dataset:
        assert asked[row["id"]] == row["long_prompt"] != row["prompt"]
    card = str(preference_set_card(describe_pairs(statistics, {"sample_from": "long"})))
    assert "to the long prompt: `chosen`" in card


def test_prompts_that_a_server_refuses_are_dropped_and_the_others_go_on(tmp_path, monkeypatch, caplog):
    class Refusing(Scripted):
        def sample(self, prompts, ids, sampling):
            kept = [i for i, id in enumerate(ids) if id not in REFUSED]
            for index, completions in super().sample([prompts[i] for i in kept], [ids[i] for i in kept], sampling):
                yield kept[index], completions
            if len(kept) < len(ids):
                left_out = [id for id in ids if id in REFUSED]
                raise PromptsRefusedError(
                    f"{len(left_out)} prompts got no completions", dict.fromkeys(left_out, "400")
                )

    REFUSED = ("q3", "q30")
    monkeypatch.setattr("qwenlong_trl.solopo.pairs._BLOCK", 16)
    examples = [replace(example, id=f"q{i}") for i, example in enumerate(pair_examples(40))]
    dataset, statistics, _ = build(tmp_path, Refusing(), examples)
    assert statistics.dropped == {"refused by the server": 2}
    assert caplog.text.count("1 prompts got no completions. They are left out") == 2
    whole, _, _ = build(subfolder(tmp_path, "whole"), Scripted(), examples)
    assert dataset.to_list() == [row for row in whole.to_list() if row["id"] not in REFUSED]


def test_the_trainer_gets_the_arguments_of_the_chat_template(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    kwargs = {"enable_thinking": False, "level": "low"}
    dataset, statistics, _ = build(tmp_path, Scripted(), chat=True, chat_template_kwargs=kwargs)
    save_pairs(dataset, tmp_path, describe_pairs(statistics, {}))
    loaded = load_dataset(str(tmp_path), split="train")
    assert loaded["chat_template_kwargs"][:] == [kwargs] * len(dataset)
    plain, _, _ = build(subfolder(tmp_path, "plain"), Scripted(), chat=True)
    assert "chat_template_kwargs" not in plain.column_names


def test_an_interrupted_run_gives_the_same_set_and_samples_nothing_twice(tmp_path):
    whole, statistics, _ = build(subfolder(tmp_path, "whole"), Scripted())
    folder, asked = subfolder(tmp_path, "parts"), []
    for breaks_after in (0, 5, 1, None):
        sampler = Scripted(breaks_after)
        if breaks_after is None:
            dataset, again, _ = build(folder, sampler)
        else:
            with pytest.raises(KeyboardInterrupt):
                build(folder, sampler)
        asked += sampler.asked
    assert dataset.to_list() == whole.to_list() and again == statistics
    assert sorted(asked) == sorted(f"r{i}" for i in range(40))
    dataset, again, made = build(folder, Scripted(0))  # all is there: not even a model is loaded
    assert made == 0 and dataset.to_list() == whole.to_list() and again == statistics


def test_records_do_not_depend_on_one_another(tmp_path):
    whole = {row["id"]: row for row in build(subfolder(tmp_path, "a"), Scripted())[0]}
    some = build(subfolder(tmp_path, "b"), Scripted(), pair_examples(40)[30:20:-1])[0]
    assert len(some) > 3 and all(whole[row["id"]] == row for row in some)
    other = build(subfolder(tmp_path, "c"), Scripted(), seed=1)[0]
    assert all(row["prompt"] != whole[row["id"]]["prompt"] for row in other if row["id"] in whole)


def test_enough_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr("qwenlong_trl.solopo.pairs._BLOCK", 4)
    whole, *_ = build(subfolder(tmp_path, "whole"), Scripted())
    sampler = Scripted()
    some, statistics, _ = build(subfolder(tmp_path, "some"), sampler, max_pairs=5)
    assert some.to_list() == whole.to_list()[:5] and statistics.pairs == 5
    assert len(sampler.asked) < 16
    last = int(some["id"][-1][1:])
    assert statistics.prompts.total() + statistics.dropped.total() == last + 1  # none after the fifth pair


def test_records_that_changed_are_noticed(tmp_path):
    build(tmp_path, Scripted())
    with pytest.raises(SettingsMismatchError, match="samples of 'r0' belong to another prompt than it has now"):
        build(tmp_path, Scripted(), pair_examples(40, seed=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "poetry"}, "record 'r1' cannot be scored: .*'poetry', expected one of docqa, docmath"),
        ({"task": "multiple_choice"}, "record 'r1' cannot be scored: .*none of the gold answers"),
        ({"id": "r0"}, "the ids of the records must differ"),
    ],
)
def test_records_that_cannot_be_used_are_refused_before_sampling(tmp_path, changes, message):
    examples = pair_examples(3)
    sampler = Scripted()
    with pytest.raises(ValueError, match=message):
        build(tmp_path, sampler, [examples[0], replace(examples[1], **changes), examples[2]])
    assert not sampler.asked


def test_choice():
    scored = [
        ScoredCompletion(text, None, right)
        for text, right in [("aaa", True), ("b", False), ("cc", True), ("dd", True), ("eeee", False), ("f", None)]
    ]
    shortest = choose_pair(scored, 0, "shortest")
    assert [one.text for one in shortest] == ["cc", "b"]
    drawn = Counter(tuple(one.text for one in choose_pair(scored, seed)) for seed in range(600))
    assert {pair: 60 < n < 140 for pair, n in drawn.items()} == {
        (chosen, rejected): True for chosen in ("aaa", "cc", "dd") for rejected in ("b", "eeee")
    }
    assert choose_pair(scored[:1], 0) is None and choose_pair(scored[1:2], 0) is None and choose_pair([], 0) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tie_break": "longest"}, "tie_break must be one of random, shortest, got 'longest'"),
        ({"sample_from": "both"}, "sample_from must be one of short, long, got 'both'"),
        ({"max_pairs": 0}, "max_pairs must be at least 1, got 0"),
        ({"short_tokens": 60}, "got short_tokens=60 and long_tokens=60"),
        ({"template": "$DOC$"}, r"exactly one \$DOC\$ and one \$Q\$"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, Scripted(), **options)


@pytest.mark.parametrize("chat", [False, True])
def test_a_saved_set_loads(tmp_path, chat, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    dataset, statistics, _ = build(tmp_path, Scripted(), chat=chat)
    for _ in range(2):  # and is replaced
        save_pairs(dataset, tmp_path, describe_pairs(statistics, {"template": "a | b\n$Q$", "seed": 0}))
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"train.parquet"}
    loaded = load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert {*loaded} == {"train"}
    assert loaded["train"].to_list() == dataset.to_list() and loaded["train"].features == dataset.features
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert all(f"- {line}" in card for line in statistics.lines())
    assert '| `template` | `"a \\| b\\n$Q$"` |' in card and "sub-EM" in card and "No licence is stated" in card
    assert "license:" not in card
    assert "the judge some-judge" in str(preference_set_card(describe_pairs(statistics, {}, "some-judge")))
