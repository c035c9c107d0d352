"""`qwenlong-trl phased-grpo` from records to a saved model: resume, rewards, reports."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from runs_cli import save_records, train
from tiny import save_tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from qwenlong_trl.cli.phased_grpo import RewardArguments, load_reward_funcs
from qwenlong_trl.phased_grpo import Phase


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    # Two files with the same ids, as when the same questions are composed to two lengths.
    short = save_records(folder / "short.jsonl", [5] * 10)
    long = save_records(folder / "long.parquet", [12] * 10, seed=1)
    return SimpleNamespace(model=save_tiny(folder / "model"), records=[short, long])


def phased(files, out, *argv) -> int:
    return train(
        "phased-grpo", "--model_name_or_path", files.model, "--records", *files.records, "--output_dir", out, *argv
    )


def weights(folder) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    assert phased(files, out, "--retrospective", "hard_zero") == 0
    return out


def test_trains_both_phases_and_saves(files, tmp_path, capsys, whole):
    assert phased(files, tmp_path, "--retrospective", "hard_zero") == 0
    out = capsys.readouterr().out
    assert "phase_1: 2 steps on 10 prompts of up to 8 tokens and 0 carried; mean accuracy " in out
    assert "phase_2: 2 steps on 10 prompts of up to 16 tokens and " in out
    assert f"model and tokenizer saved to {tmp_path}" in out
    assert AutoTokenizer.from_pretrained(tmp_path)("w1 w2")["input_ids"] == [4, 5]
    before, after, again = weights(files.model), weights(tmp_path), weights(whole)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(after[name], again[name]) for name in after)
    state = json.loads((tmp_path / "checkpoint-4" / "curriculum_state.json").read_text())
    assert {f"r{i}" for i in range(10)} | {f"long/r{i}" for i in range(10)} >= set(state["difficulty"])


def test_resume_true_continues_the_newest_complete_checkpoint(files, tmp_path, capsys, whole):
    flags = ["--retrospective", "hard_zero", "--resume_from_checkpoint", "true"]
    assert phased(files, tmp_path, *flags) == 0
    assert f"no checkpoint in {tmp_path}: starting anew" in capsys.readouterr().out
    # As if the process had been killed while it wrote the third checkpoint.
    shutil.rmtree(tmp_path / "checkpoint-4")
    (tmp_path / "checkpoint-3" / "trainer_state.json").unlink()
    (tmp_path / "model.safetensors").unlink()
    assert phased(files, tmp_path, *flags) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'checkpoint-3'} was cut short" in out
    assert f"resuming from {tmp_path / 'checkpoint-2'}" in out
    assert "phase_1: 2 steps on 10 prompts" in out and "not logged" not in out  # known from the first run
    expected = weights(whole)
    for name, value in weights(tmp_path).items():
        assert torch.equal(value, expected[name]), name


def test_resume_of_another_plan_is_refused(files, tmp_path, capsys, whole):
    checkpoint = whole / "checkpoint-2"
    assert phased(files, tmp_path, "--resume_from_checkpoint", checkpoint, "--seed", 7) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "seed: 42 in the checkpoint, 7 now" in last
    assert "retrospective: 'hard_zero' in the checkpoint, 'none' now" in last
    assert phased(files, tmp_path, "--resume_from_checkpoint", tmp_path / "nowhere") == 1
    assert "resume_from_checkpoint: no folder" in capsys.readouterr().err.splitlines()[-1]


def test_trackio_offline(files, tmp_path, capsys, monkeypatch):
    trackio = pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "trackio")
    flags = ["--report_to", "trackio", "--project", "phases", "--run_name", "tiny", "--save_strategy", "no"]
    assert phased(files, tmp_path / "out", *flags) == 0
    runs = trackio.Api().runs("phases")
    assert [run.name for run in runs] == ["tiny"]


def test_lora_adapter(files, tmp_path):
    flags = ["--use_peft", "true", "--lora_target_modules", "q_proj", "v_proj", "--save_strategy", "no"]
    assert phased(files, tmp_path, *flags) == 0
    assert (tmp_path / "adapter_model.safetensors").is_file()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)  # the model, with the adapter on it
    assert any("lora_B" in name and value.abs().sum() > 0 for name, value in loaded.named_parameters())


def test_a_data_set_from_a_file(files, tmp_path, capsys):
    rows = [{"prompt": " ".join(["w1"] * n), "answers": ["w2"], "task": "docqa"} for n in [5] * 10 + [12] * 10]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    flags = ["--model_name_or_path", files.model, "--dataset_name", path, "--output_dir", tmp_path / "out"]
    flags += ["--save_strategy", "no", "--reward_funcs", "rule_reward", "docqa_reward", "soft_overlong_punishment"]
    flags += ["--eval_strategy", "steps", "--eval_steps", 2, "--dataset_test_split", "train[:4]"]
    flags += ["--per_device_eval_batch_size", 4]
    assert train("phased-grpo", *flags) == 0
    out = capsys.readouterr().out
    assert "rewards/rule_reward/mean" in out and "rewards/soft_overlong_punishment_reward/mean" in out
    assert "eval_reward" in out


def test_chat_follows_the_template_of_the_tokenizer(tmp_path, capsys):
    template = "{% for m in messages %}{{ m['content'] }} {% endfor %}{% if add_generation_prompt %}w0{% endif %}"
    model = save_tiny(tmp_path / "model", template)
    # 7 words and the generation prompt are 8 tokens, 15 and it are 16; without the template one less.
    records = save_records(tmp_path / "records.jsonl", [7] * 8 + [15] * 8)
    flags = ["--model_name_or_path", model, "--records", records, "--save_strategy", "no"]
    phases = '[{"max_prompt_length": 7, "max_steps": 2}, {"max_prompt_length": 16, "max_steps": 2}]'
    assert train("phased-grpo", *flags, "--output_dir", tmp_path / "a", "--phases", phases) == 1
    assert "phase_1 has 0 prompts of 1 to 7 tokens" in capsys.readouterr().err
    flags += ["--phases", phases, "--chat", "false"]
    assert train("phased-grpo", *flags, "--output_dir", tmp_path / "b") == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--reward_funcs", "exact"], "'exact' is none of rule_reward, docqa_reward"),
        (["--reward_funcs", "nowhere.exact"], "cannot import nowhere.exact"),
        (["--reward_funcs", "tiny.missing"], "cannot import tiny.missing"),
        (["--reward_funcs", "tiny.WORDS"], "is not a function"),
        (["--reward_funcs", "soft_overlong_punishment"], "put soft_overlong_punishment after it"),
        (
            ["--reward_funcs", "rule_reward", "soft_overlong_punishment", "--overlong_cache", "5"],
            "overlong_cache must be from 1 to the completion length 4, got 5",
        ),
        (["--eval_strategy", "steps", "--eval_steps", "1"], "eval_strategy is 'steps': give --eval_records"),
        (["--records_format", "musique"], "short.jsonl"),
        (["--accuracy_reward", "exact"], "accuracy_reward='exact' is none of the reward functions"),
    ],
)
def test_mistakes_end_in_one_line(files, tmp_path, capsys, argv, message):
    assert phased(files, tmp_path, *argv) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("qwenlong-trl phased-grpo: error: ") and message in last


def test_a_data_set_without_answers_is_refused(files, tmp_path, capsys):
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "w1"}) + "\n")
    flags = ["--model_name_or_path", files.model, "--dataset_name", path, "--reward_funcs", "rule_reward"]
    assert train("phased-grpo", *flags, "--output_dir", tmp_path / "out") == 1
    assert "rule_reward needs the columns ['answers', 'task']" in capsys.readouterr().err


def test_no_model_is_an_error(files, capsys):
    assert train("phased-grpo", "--records", *files.records) == 1
    assert "give --model_name_or_path" in capsys.readouterr().err


def test_malformed_rows_are_skipped_and_listed(files, tmp_path, capsys):
    path = tmp_path / "records.jsonl"
    good = open(files.records[0], encoding="utf-8").read()
    path.write_text(good + '{"id": "bad", "question": 3}\n')
    flags = ["--model_name_or_path", files.model, "--records", path, *files.records[1:], "--save_strategy", "no"]
    assert train("phased-grpo", *flags, "--output_dir", tmp_path / "a") == 1
    assert "row 11" in capsys.readouterr().err.splitlines()[-1]
    assert train("phased-grpo", *flags, "--output_dir", tmp_path / "b", "--skip_invalid") == 0
    assert "skipped 1 malformed rows\n  " in capsys.readouterr().out


def settings(**overrides):
    phases = [Phase(10, 1), Phase(20, 1)]
    return SimpleNamespace(
        **({"phases": phases, "max_completion_length": 10_000, "accuracy_reward": None} | overrides)
    )


def test_reward_functions_by_name(tmp_path, monkeypatch):
    names = ["rule_reward", "docqa_reward", "docmath_reward", "multiple_choice_reward", "soft_overlong_punishment"]
    functions = load_reward_funcs(RewardArguments(reward_funcs=names), settings())
    assert [f.__name__ for f in functions] == [*names[:4], "soft_overlong_punishment_reward"]
    assert (functions[-1].max_completion_len, functions[-1].soft_punish_cache) == (10_000, 1_000)
    assert (
        RewardArguments().reward_funcs == RewardArguments(reward_funcs="rule_reward").reward_funcs == ["rule_reward"]
    )
    # A module in the working directory, which a console script does not search.
    (tmp_path / "my_rewards_of_this_test.py").write_text("def short(completions, **kwargs): return [1.0]\n")
    monkeypatch.chdir(tmp_path)
    (function,) = load_reward_funcs(RewardArguments(reward_funcs="my_rewards_of_this_test.short"), settings())
    assert function([]) == [1.0]


@pytest.mark.parametrize(
    ("length", "given", "cache"), [(10_000, None, 1_000), (50, None, 5), (4, None, 1), (50, 50, 50)]
)
def test_overlong_cache(length, given, cache):
    args = RewardArguments(reward_funcs=["rule_reward", "soft_overlong_punishment"], overlong_cache=given)
    assert load_reward_funcs(args, settings(max_completion_length=length))[1].soft_punish_cache == cache


def test_overlong_penalty_needs_one_completion_length():
    args = RewardArguments(reward_funcs=["rule_reward", "soft_overlong_punishment"])
    phases = [Phase(10, 1, max_completion_length=5), Phase(20, 1)]
    with pytest.raises(ValueError, match="up to 5, 10000 tokens"):
        load_reward_funcs(args, settings(phases=phases))
    same = [Phase(10, 1, max_completion_length=50), Phase(20, 1, max_completion_length=50)]
    assert load_reward_funcs(args, settings(phases=same))[1].max_completion_len == 50


def test_require_delimiter():
    completion = {"completions": ["the answer is Norway."], "answers": [["Norway"]]}
    for required, reward in ((False, 1.0), (True, 0.0)):
        args = RewardArguments(reward_funcs="docqa_reward", require_delimiter=required)
        assert load_reward_funcs(args, settings())[0](**completion) == [reward]
