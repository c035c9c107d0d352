"""The quickstart's data, reader and stages, the latter at a size that trains in seconds."""

import json
import random

import pytest
import torch

from qwenlong_trl.quickstart.cards import (
    NAMES,
    TEMPLATE,
    THINGS,
    card_index,
    card_indexes,
    card_tokenizer,
    prompt_tokens,
)
from qwenlong_trl.quickstart.reader import look_up_batch, pretrain, tiny_reader
from qwenlong_trl.quickstart.run import QuickstartArguments, quickstart
from qwenlong_trl.quickstart.stages import Plan, evaluate


PLAN = Plan(
    eval_questions=16,
    sft_records=128,
    phase_cards=(6, 8, 10),
    phase_steps=(3, 2, 2),
    sft_cards=(2, 4),
    prompts_per_step=4,
    num_generations=4,
)


def test_a_card_index_has_one_answer():
    from qwenlong_trl.data import render_prompt

    tokenizer = card_tokenizer()
    for cards in (2, 16, 96):
        record = card_index(cards, "s").validate()
        titles = [document.title for document in record.documents]
        assert len(set(titles)) == cards and set(titles) <= set(NAMES)
        assert record.answers == (dict(zip(titles, (d.text for d in record.documents), strict=True))[record.question],)
        assert record.evidence_text(record.evidence[0]) == record.answers[0]
        ids = tokenizer(render_prompt(record, TEMPLATE))["input_ids"]
        assert len(ids) == prompt_tokens(cards) and tokenizer.unk_token_id not in ids
    assert card_index(16, "s") == card_index(16, "s") != card_index(16, "t")


def test_card_indexes_cover_the_range_and_have_unique_ids():
    records = list(card_indexes(30, 5, 9, "s"))
    assert [len(r.documents) for r in records] == sorted(len(r.documents) for r in records)
    assert {len(r.documents) for r in records} == {5, 6, 7, 8, 9}
    assert len({r.id for r in records}) == 30


def test_look_up_batches_label_the_repeated_things():
    tokenizer = card_tokenizer()
    ids, labels = look_up_batch(random.Random(0), tokenizer, names=10, cards=5, size=8)
    assert ids.shape == labels.shape == (8, 20)
    for row, targets in zip(ids.tolist(), labels.tolist(), strict=True):
        cards = dict(zip(row[0:10:2], row[1:10:2], strict=True))
        asked = [i for i, label in enumerate(targets) if label != -100]
        assert asked == [11, 13, 15, 17, 19]
        assert all(targets[i] == row[i] == cards[row[i - 1]] for i in asked)
        words = tokenizer.convert_ids_to_tokens(row)
        assert set(words[0::2]) <= set(NAMES[:10]) and set(words[1::2]) <= set(THINGS)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    args = QuickstartArguments(output_dir=str(folder), eval_questions=PLAN.eval_questions)
    return folder, args, quickstart(args, PLAN)


@pytest.mark.slow
def test_pretraining_teaches_short_indexes():
    tokenizer = card_tokenizer()
    model = tiny_reader(tokenizer, seed=0)
    steps = pretrain(model, tokenizer, seed=0, progress=False)
    assert steps < 600
    right = 0
    for i in range(100):
        record = card_index(3, f"test-{i}")
        ids = [t for d in record.documents for t in tokenizer.convert_tokens_to_ids([d.title, d.text])]
        ids += tokenizer.convert_tokens_to_ids([record.question])
        answer = model(torch.tensor([ids])).logits[0, -1].argmax()
        right += tokenizer.convert_ids_to_tokens([int(answer)])[0] == record.answers[0]
    assert right >= 80  # chance is 33


def test_the_results_hold_what_the_report_needs(run, tmp_path):
    from qwenlong_trl.quickstart.report import write_report

    folder, _, results = run
    assert [phase["max_steps"] for phase in results["runs"]["phased"]["phases"]] == [3, 2, 2]
    assert results["runs"]["single_stage"]["phases"][0]["max_steps"] == 7
    assert results["runs"]["single_stage"]["phases"][0]["prompts"] == sum(PLAN.phase_steps) * PLAN.prompts_per_step
    assert results["buckets"] == [{"cards": n, "tokens": 2 * n + 1} for n in (4, 6, 8, 10)]
    assert results["runs"]["phased"]["tokens"] > 0
    assert all(0 <= value <= 1 for values in results["accuracy"].values() for value in values)
    assert all(len(values) == 4 for values in results["accuracy"].values())
    assert {row["phase"] for row in results["carried"]} <= {"phase_2", "phase_3"}
    assert "<html" in write_report(json.loads(json.dumps(results)), tmp_path / "report.html").read_text()
    assert evaluate(folder / "phased", PLAN) == results["accuracy"]["phased"]  # the saved model is the trained one


def test_a_second_call_keeps_the_stages_and_other_settings_are_refused(run, capsys):
    folder, args, results = run
    again = quickstart(args, PLAN)
    assert again == results
    assert capsys.readouterr().out.count("kept from before") == 7
    with pytest.raises(ValueError, match="--overwrite"):
        quickstart(args, Plan(seed=1))


def test_an_interrupted_stage_is_continued(run, tmp_path, monkeypatch):
    """Stopped in the second phase and called again: the same model as without the stop."""
    import shutil

    from transformers import AutoModelForCausalLM

    from qwenlong_trl.phased_grpo import PhasedGRPOTrainer

    folder, _, _ = run
    for stage in ("data", "reader"):
        shutil.copytree(folder / stage, tmp_path / stage)
    args = QuickstartArguments(output_dir=str(tmp_path), skip_single_stage=True)
    roll_out = PhasedGRPOTrainer._roll_out

    def stop(self, rows):
        if self.state.global_step == 4:
            raise KeyboardInterrupt
        return roll_out(self, rows)

    monkeypatch.setattr(PhasedGRPOTrainer, "_roll_out", stop)
    with pytest.raises(KeyboardInterrupt):
        quickstart(args, PLAN)
    monkeypatch.undo()
    quickstart(args, PLAN)
    models = [AutoModelForCausalLM.from_pretrained(root / "phased").state_dict() for root in (folder, tmp_path)]
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())
