"""Where rewards and completions come in, as far as `qwenlong_trl` checks them there.

When a new version fails one, its docstring says what we need and what to change in our code.
"""

import pytest
from observed import Observed, make, parameters_of
from tiny import parity_reward, tiny_model, tiny_prompts, tiny_tokenizer
from trl import GRPOTrainer


def test_reward_funcs(trained):
    """`checked_rewards` replaces `reward_funcs` while `_calculate_rewards` runs; their names are in
    `reward_func_names`, one for each.

    If they are read from elsewhere: replace them there.
    """
    assert len(trained.reward_funcs) == len(trained.reward_func_names) == 2
    assert all(callable(function) for function in trained.reward_funcs)


def test_generate_single_turn(tmp_path):
    """It returns the completions' tokens and their log-probabilities; we look whether all have tokens.

    If it returns something else, or what is generated without tools comes from elsewhere: look there.
    """
    names = ["self", "prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images"]
    assert parameters_of(GRPOTrainer._generate_single_turn) == names
    trainer = make(tmp_path, save_strategy="no", max_steps=1)
    generate, seen = trainer._generate_single_turn, []
    trainer._generate_single_turn = lambda *args, **kwargs: seen.append(generate(*args, **kwargs)) or seen[-1]
    trainer.train()
    ((completion_ids, logprobs),) = seen
    assert len(completion_ids) == 8 and all(completion_ids)
    assert logprobs is None


def test_completions_without_tokens_fail_in_trl(tmp_path):
    """TRL looks at the last token of every completion. `rollout_func` is called with the prompts and the trainer.

    If a completion without tokens trains: delete `require_tokens` and `checked_rollout_func`.
    """

    def rollout(prompts, trainer):
        ids = [trainer.processing_class(prompt)["input_ids"] for prompt in prompts]
        return {"prompt_ids": ids, "completion_ids": [[] for _ in prompts], "logprobs": [[] for _ in prompts]}

    trainer = Observed(
        tiny_model(),
        parity_reward,
        make(tmp_path, save_strategy="no").args,
        tiny_prompts([5] * 16),
        processing_class=tiny_tokenizer(),
        rollout_func=rollout,
    )
    with pytest.raises(IndexError):
        trainer.train()
