"""PhasedGRPO with an engine in the same process, over a phase switch, an evaluation and a resume."""

import sys
from pathlib import Path

import pytest
from tiny import parity_reward, tiny_prompts, tiny_tokenizer

from qwenlong_trl import Phase


sys.path.insert(0, str(Path(__file__).parents[1] / "phased_grpo"))

from runs import RecordingTrainer, make_args  # noqa: E402


pytestmark = pytest.mark.vllm

PHASES = [Phase(8, 4, max_completion_length=4), Phase(16, 4, max_completion_length=12)]


def settings(**overrides) -> dict:
    return {
        "phases": PHASES,
        "num_generations": 4,
        "gradient_accumulation_steps": 1,
        "retrospective": "hard_zero",
        "use_vllm": True,
        "vllm_mode": "colocate",
        **overrides,
    }


def make(folder, model, **overrides):
    return RecordingTrainer(
        model,
        parity_reward,
        make_args(folder, **settings(**overrides)),
        tiny_prompts([5] * 20 + [12] * 20),
        eval_dataset=tiny_prompts([7] * 4),
        processing_class=tiny_tokenizer(),
    )


@pytest.fixture(scope="module")
def compiled(start_engine):
    """The engine as TRL starts it: compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "trl.generation.vllm_generation.LLM", lambda **options: start_engine(**options, enforce_eager=False)
        )
        yield


@pytest.fixture(scope="module")
def whole(compiled, engine_model, tmp_path_factory):
    trainer = make(tmp_path_factory.mktemp("whole"), engine_model)
    trainer.train()
    return trainer


def test_the_engine_has_the_weights_of_the_policy_after_every_update(whole):
    """A stale copy of any weight would show: the embedding, which is the LM head too, moves by 1e-2 a step."""
    steps = [entry for entry in whole.state.log_history if "loss" in entry]
    assert len(steps) == 8
    assert all(entry["sampling/sampling_logp_difference/mean"] < 0.01 for entry in steps), steps


def test_the_length_of_completions_changes_in_the_engine(whole):
    longest = [entry["completions/max_length"] for entry in whole.state.log_history if "loss" in entry]
    assert max(longest[:4]) == 4 and 4 < max(longest[4:]) <= 12


def test_prefixes_are_shared_in_scoring(whole):
    ratios = [entry["prefix_sharing/token_ratio"] for entry in whole.state.log_history if "loss" in entry]
    # Rows of 5 and up to 4 tokens, a batch of two groups of four: (8 * 9) / (2 * 5 + 8 * 4) if none ends early.
    assert len(ratios) == 8 and min(ratios) > 1.5


def test_evaluation_uses_the_engine(whole):
    metrics = whole.evaluate()
    assert 0 <= metrics["eval_reward"] <= 1
    assert metrics["eval_sampling/sampling_logp_difference/mean"] < 0.01


@pytest.mark.parametrize("step", [2, 6])
def test_resuming_has_the_same_prompts_in_the_same_order(whole, compiled, engine_model, tmp_path, step):
    """In the first phase and in the second; what is sampled differs, as the engine's random state is not saved."""
    resumed = make(tmp_path, engine_model, save_strategy="no")
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-{step}")
    if step == 2:  # what is carried into the second phase depends on the rewards
        assert resumed.batches[:2] == whole.batches[2:4]
    else:
        assert resumed.curriculum.carried == whole.curriculum.carried
        assert resumed.batches == whole.batches[6:]
    steps = [entry for entry in resumed.state.log_history if "loss" in entry]
    differences = [entry["sampling/sampling_logp_difference/mean"] for entry in steps[step:]]
    assert len(differences) == 8 - step and max(differences) < 0.01
