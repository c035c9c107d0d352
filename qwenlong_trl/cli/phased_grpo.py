"""`qwenlong-trl phased-grpo`: reinforcement learning over phases of growing context length.

```bash
qwenlong-trl phased-grpo --model_name_or_path Qwen/Qwen3-4B --records train.parquet --reward_funcs rule_reward \\
    --phases '[{"max_prompt_length": 20000, "max_steps": 64}, {"max_prompt_length": 60000, "max_steps": 32}]'
```
"""

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from .judges import JudgeArguments, make_judge, try_judge
from .launch import launch, parse_arguments
from .training import (
    DataArguments,
    finish,
    load_data,
    load_processing_class,
    resume_checkpoint,
    run_training,
    say,
    set_model_options,
)


_OUR_REWARDS = {
    "rule_reward": None,
    "docqa_reward": "docqa",
    "docmath_reward": "docmath",
    "multiple_choice_reward": "multiple_choice",
}  # name -> the one task that it scores
_HYBRID = "hybrid_reward"
_OVERLONG = "soft_overlong_punishment"


@dataclass
class RewardArguments:
    """Reward functions; the first one is the accuracy unless accuracy_reward names another."""

    reward_funcs: list[str] | None = field(
        default=None,
        metadata={
            "help": f"Reward functions: {', '.join(_OUR_REWARDS)}, {_HYBRID} (rule or judge; give --judge), "
            f"{_OVERLONG} (DAPO), or the dotted path of a function. Defaults to rule_reward."
        },
    )
    require_delimiter: bool = field(
        default=False,
        metadata={
            "help": "Rule rewards give 0 to a completion without '</think>'. For models whose chat template opens the "
            "reasoning in the prompt."
        },
    )
    overlong_cache: int | None = field(
        default=None,
        metadata={
            "help": f"Tokens before max_completion_length in which {_OVERLONG} grows from 0 to -1. Defaults to 1000, "
            "or to a tenth of max_completion_length if that is less."
        },
    )

    def __post_init__(self):
        if isinstance(self.reward_funcs, str):  # one function in YAML
            self.reward_funcs = [self.reward_funcs]
        self.reward_funcs = self.reward_funcs or ["rule_reward"]


def main(argv: list[str]) -> int:
    """Trains as the command line and the recipe say; returns the exit code. Errors are the caller's business."""
    code = launch("phased-grpo", argv)
    if code is not None:
        return code
    from trl import ModelConfig, get_peft_config, get_quantization_config

    from ..data import prompt_dataset
    from ..phased_grpo import PhasedGRPOConfig, PhasedGRPOTrainer
    from ..rewards import HybridReward

    data_args, reward_args, judge_args, training_args, model_args = parse_arguments(
        "phased-grpo",
        argv,
        (DataArguments, RewardArguments, JudgeArguments, PhasedGRPOConfig, ModelConfig),
        "GRPO over phases of growing context length (QwenLong-L1, arXiv 2505.17667).",
        "qwenlong-trl phased-grpo --config examples/recipes/qwen3-4b-phased-grpo.yaml --num_processes 8",
    )
    reward_funcs = load_reward_funcs(reward_args, training_args, judge_args)
    data_args.check_files()
    for function in reward_funcs:
        if isinstance(function, HybridReward):
            try_judge(function.judge)
    checkpoint = resume_checkpoint(training_args)
    processing_class = load_processing_class(model_args, training_args)
    tokenizer = getattr(processing_class, "tokenizer", processing_class)

    def view(examples, chat):
        kwargs = training_args.chat_template_kwargs if chat else None
        return prompt_dataset(examples, tokenizer, data_args.prompt_template, chat, kwargs)

    train_dataset, eval_dataset = load_data(data_args, training_args, processing_class, view)
    _check_columns(reward_args.reward_funcs, train_dataset.column_names)
    set_model_options(model_args, training_args)
    trainer = PhasedGRPOTrainer(
        model=model_args.model_name_or_path,
        reward_funcs=reward_funcs,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=processing_class,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    if not run_training(trainer, training_args, checkpoint):
        return 0
    for line in summary(trainer):
        say(training_args, line)
    finish(trainer, training_args, data_args.dataset_name)
    return 0


def load_reward_funcs(
    args: RewardArguments, training_args, judge_args: JudgeArguments | None = None
) -> list[Callable]:
    """
    The functions that the names stand for.

    Raises:
        `ValueError`: for a name that is none, a judge without the hybrid reward or the other way round, or a length
        penalty that would be taken for the accuracy or does not fit the completion length.
    """
    from ..rewards import HybridReward, get_rule_reward

    judge = None if judge_args is None else judge_args.judge
    if (_HYBRID in args.reward_funcs) != (judge is not None):
        raise ValueError(f"{_HYBRID} and --judge go together; got reward_funcs {args.reward_funcs} and judge {judge}")
    functions = []
    for name in args.reward_funcs:
        if name in _OUR_REWARDS:
            task = _OUR_REWARDS[name]
            functions.append(get_rule_reward(require_delimiter=args.require_delimiter, task=task))
        elif name == _HYBRID:
            rule = get_rule_reward(require_delimiter=args.require_delimiter)
            functions.append(HybridReward(make_judge(judge_args), rule))
        elif name == _OVERLONG:
            functions.append(_overlong_punishment(args, training_args))
        elif "." in name:
            functions.append(_import_function(name))
        else:
            known = ", ".join([*_OUR_REWARDS, _HYBRID, _OVERLONG])
            raise ValueError(f"reward_funcs: {name!r} is none of {known}, nor a dotted path such as my_rewards.exact")
    if args.reward_funcs[0] == _OVERLONG and training_args.accuracy_reward is None:
        raise ValueError(
            f"reward_funcs: the first function is the accuracy, which decides difficulty and dynamic sampling; put "
            f"{_OVERLONG} after it, or name the accuracy with --accuracy_reward"
        )
    return functions


def _overlong_punishment(args: RewardArguments, training_args) -> Callable:
    from trl.rewards import get_soft_overlong_punishment

    lengths = {phase.max_completion_length or training_args.max_completion_length for phase in training_args.phases}
    if len(lengths) > 1:
        raise ValueError(
            f"{_OVERLONG} has one length for the whole run, but the phases have completions of up to "
            f"{', '.join(map(str, sorted(lengths)))} tokens; give them the same max_completion_length"
        )
    longest = lengths.pop()
    cache = max(1, min(1000, longest // 10)) if args.overlong_cache is None else args.overlong_cache
    if not 1 <= cache <= longest:
        raise ValueError(f"overlong_cache must be from 1 to the completion length {longest}, got {cache}")
    return get_soft_overlong_punishment(max_completion_len=longest, soft_punish_cache=cache)


def _import_function(path: str) -> Callable:
    module_name, name = path.rsplit(".", 1)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a console script does not look for modules in the working directory
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"reward_funcs: cannot import {path}: {error}") from error
    if not callable(function):
        raise ValueError(f"reward_funcs: {path} is not a function but {function!r}")
    return function


def _check_columns(names: list[str], columns: list[str]) -> None:
    for name in names:
        needed = {"answers"} if name in (*_OUR_REWARDS, _HYBRID) else set()
        needed |= {"rule_reward": {"task"}, _HYBRID: {"task", "question"}}.get(name, set())
        if missing := sorted(needed - set(columns)):
            raise ValueError(f"{name} needs the columns {missing}, the data set has {columns}")


def summary(trainer) -> list[str]:
    """A line for each phase: its steps, the mean accuracy first and last logged, and what was carried into it."""
    lines = []
    for k, phase in enumerate(trainer.args.phases):
        key = f"curriculum/{phase.name}/accuracy"
        logged = [log[key] for log in trainer.state.log_history if log.get(key) is not None]
        accuracy = f"{logged[0]:.3f} first, {logged[-1]:.3f} last" if logged else "not logged"
        carried = len(trainer.curriculum.carried.get(k, {}))
        own = len(trainer.curriculum.own_rows[k])
        lines.append(
            f"{phase.name}: {phase.max_steps} steps on {own} prompts of up to {phase.max_prompt_length} tokens and "
            f"{carried} carried; mean accuracy {accuracy}"
        )
    return lines
