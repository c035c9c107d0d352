"""Prompts that an engine in the same process does not take are refused before the first step, by name."""

import sys
from pathlib import Path

import pytest
from tiny import parity_reward, tiny_prompts, tiny_tokenizer

from qwenlong_trl import Phase, PhasedGRPOTrainer


sys.path.insert(0, str(Path(__file__).parents[1] / "phased_grpo"))

from runs import make_args  # noqa: E402


pytestmark = pytest.mark.vllm


def make(folder, model, phases, lengths, evaluated=(7,), **settings) -> PhasedGRPOTrainer:
    args = make_args(
        folder,
        phases=phases,
        num_generations=4,
        gradient_accumulation_steps=1,
        use_vllm=True,
        vllm_mode="colocate",
        save_strategy="no",
        **settings,
    )
    return PhasedGRPOTrainer(
        model,
        parity_reward,
        args,
        tiny_prompts(lengths),
        eval_dataset=tiny_prompts(list(evaluated)),
        processing_class=tiny_tokenizer(),
    )


def test_the_engines_own_limit(engines, engine_model, tmp_path):
    """512 positions; the second phase has longer completions, which its prompts must leave room for."""
    phases = [Phase(400, 1, max_completion_length=16), Phase(500, 1, max_completion_length=64)]
    with pytest.raises(ValueError) as error:
        make(tmp_path, engine_model, phases, [300, 400, 448, 450, 460])
    assert str(error.value).startswith(
        "phase_2: 2 prompts do not fit the vLLM engine, which takes 512 tokens of prompt and completion "
        "(max_model_len of the engine). The first is 'p3' with 450 tokens, and a completion may have 64. "
        "Start the engine with at least 524"
    )
    with pytest.raises(ValueError, match="evaluation set 'eval': 1 prompts .* The first is 'p1' with 460 tokens"):
        make(tmp_path, engine_model, phases, [300, 400, 440, 448], evaluated=(448, 460))

    trainer = make(tmp_path, engine_model, phases, [300, 400, 440, 448], evaluated=(448,))
    trainer.train()
    assert trainer.state.global_step == 2


def test_the_configured_limit_is_checked_before_a_model_is_loaded(engines, tmp_path):
    phases = [Phase(8, 1, max_completion_length=16), Phase(16, 1)]
    with pytest.raises(ValueError, match=r"phase_1: 1 prompts .* takes 23 tokens .*\(vllm_max_model_length\).* 'p1'"):
        make(tmp_path, "no such model", phases, [7, 8, 12, 12], vllm_max_model_length=23)
