"""The rule scorers as TRL reward functions.

```bash
trl grpo --reward_funcs qwenlong_trl.rewards.rule_reward ...
```
```python
>>> from trl.rewards import get_soft_overlong_punishment
>>> from qwenlong_trl.rewards import get_rule_reward
>>> reward_funcs = [get_rule_reward(require_delimiter=True), get_soft_overlong_punishment(10_000, 1_000)]
```

The dataset has a column `answers` (the accepted answers of a row) and, where a run mixes tasks, a column `task` with
`"docqa"`, `"docmath"` or `"multiple_choice"`. The prediction of every completion goes to the completions table, and
the share of completions with a readable answer to the metric `rule/parse_rate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .rules import Mode, RuleScore, check_scale_factors, score_docmath, score_docqa, score_multiple_choice


TASKS = ("docqa", "docmath", "multiple_choice")


def get_rule_reward(
    mode: Mode = "strict",
    delimiter: str | None = "</think>",
    require_delimiter: bool = False,
    scale_factors: Sequence[float] = (),
    task: str | None = None,
) -> Callable:
    """A reward function for TRL trainers: 1.0 where the answer of a completion is among the row's `answers`, else 0.0.

    Args:
        mode (`str`, *optional*, defaults to `"strict"`):
            `"strict"`, or `"l1_compat"` for the verdicts of the released code of QwenLong-L1.
        delimiter (`str`, *optional*, defaults to `"</think>"`):
            What ends the reasoning; `None` if completions hold no reasoning.
        require_delimiter (`bool`, *optional*, defaults to `False`):
            Whether a completion without the delimiter scores 0. Set it for reasoning models whose chat template opens
            the reasoning in the prompt: otherwise the last "the answer is" of reasoning that was cut off counts as an
            answer.
        scale_factors (`Sequence[float]`, *optional*, defaults to `()`):
            Factors by which a `"docmath"` answer may be off, see [`~qwenlong_trl.rewards.score_docmath`].
        task (`str`, *optional*):
            Score rows of this task only, for one reward function per task: other rows get `None`, and a dataset needs
            no `task` column. By default the column `task` decides row by row.

    Returns:
        `Callable`: picklable, as asynchronous trainers send it to another process.

    Raises:
        `ValueError`: for an unknown mode or task, or options that the mode `"l1_compat"` has no use for.

    Example:
    ```python
    >>> reward = get_rule_reward(scale_factors=(100,))
    >>> reward(completions=["The answer is 0.324."], answers=[["32.4"]], task=["docmath"])
    [1.0]
    ```
    """
    return RuleReward(mode, delimiter, require_delimiter, tuple(scale_factors), task)


class RuleReward:
    """What [`get_rule_reward`] returns."""

    # A class and not a closure, so that it can be pickled; `__name__` is what TRL shows in its metrics.
    __name__ = "rule_reward"

    def __init__(
        self,
        mode: Mode,
        delimiter: str | None,
        require_delimiter: bool,
        scale_factors: tuple[float, ...],
        task: str | None,
    ):
        if mode not in ("strict", "l1_compat"):
            raise ValueError(f"mode must be 'strict' or 'l1_compat', got {mode!r}")
        if task is not None and task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, or None for the column `task`, got {task!r}")
        if delimiter == "":
            raise ValueError("delimiter must not be empty; pass None if completions hold no reasoning")
        if mode == "l1_compat" and (delimiter != "</think>" or require_delimiter or scale_factors):
            raise ValueError(
                "mode 'l1_compat' always asks for '</think>' and has scale factors of its own; leave `delimiter`, "
                "`require_delimiter` and `scale_factors` at their defaults, or use mode 'strict'"
            )
        check_scale_factors(scale_factors)
        self.mode = mode
        self.delimiter = delimiter
        self.require_delimiter = require_delimiter
        self.scale_factors = scale_factors
        self.task = task
        if task is not None:
            self.__name__ = f"{task}_reward"

    def __call__(
        self,
        completions: list[str] | list[list[dict[str, Any]]],
        answers: list[list[str]] | None = None,
        task: list[str] | None = None,
        log_extra: Callable[[str, list], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **kwargs,
    ) -> list[float | None]:
        scores = self.scores(completions, answers, task, **kwargs)
        predictions = [None if score is None else score.prediction for score in scores]
        scored = sum(score is not None for score in scores)
        if log_extra is not None:
            # Two functions that write the same column would make it twice as long as the table.
            log_extra("prediction" if self.task is None else f"{self.task}/prediction", predictions)
        if log_metric is not None and scored:
            log_metric("rule/parse_rate", sum(prediction is not None for prediction in predictions) / scored)
        return [None if score is None else score.score for score in scores]

    def scores(self, completions, answers, task=None, **columns) -> list[RuleScore | None]:
        """The verdict on every row, `None` for the rows of another task than ours."""
        tasks = self.tasks(task, len(completions))
        if answers is None:
            raise ValueError(_missing_column("answers", columns))
        scores: list[RuleScore | None] = []
        for row, (completion, golds, name) in enumerate(zip(completions, answers, tasks, strict=True)):
            if self.task is not None and name != self.task:
                scores.append(None)
                continue
            try:
                scores.append(self._score(name, completion_text(completion), golds))
            except (ValueError, TypeError) as error:
                raise ValueError(f"row {row} of the batch, task {name!r}, `answers` {golds!r}: {error}") from error
        return scores

    def tasks(self, task: list[str] | None, rows: int) -> list[str]:
        """The task of every row: the column `task`, or ours."""
        if task is None:
            if self.task is None:
                raise ValueError(
                    f"{self.__name__}: the dataset has no column `task`, which says how to score each row. Add one "
                    f"with values {', '.join(TASKS)}, or use docqa_reward, docmath_reward or multiple_choice_reward."
                )
            return [self.task] * rows
        for row, name in enumerate(task):
            if name not in TASKS:
                raise ValueError(f"row {row} of the batch: `task` is {name!r}, expected one of {', '.join(TASKS)}")
        return task

    def _score(self, task: str, completion: str, golds: list[str]):
        options = {"mode": self.mode, "delimiter": self.delimiter, "require_delimiter": self.require_delimiter}
        if task == "docqa":
            return score_docqa(completion, golds, **options)
        if task == "docmath":
            return score_docmath(completion, golds, scale_factors=self.scale_factors, **options)
        return score_multiple_choice(completion, golds, **options)


_DEFAULTS = {name: get_rule_reward(task=name) for name in TASKS} | {None: get_rule_reward()}


def rule_reward(completions, answers=None, task=None, log_extra=None, log_metric=None, **kwargs) -> list[float]:
    """TRL reward function: [`get_rule_reward`] with its defaults; the column `task` says how each row is scored."""
    return _DEFAULTS[None](completions, answers, task, log_extra, log_metric, **kwargs)


def docqa_reward(
    completions, answers=None, task=None, log_extra=None, log_metric=None, **kwargs
) -> list[float | None]:
    """TRL reward function: [`~qwenlong_trl.rewards.score_docqa`]. Rows of another `task` get `None`."""
    return _DEFAULTS["docqa"](completions, answers, task, log_extra, log_metric, **kwargs)


def docmath_reward(
    completions, answers=None, task=None, log_extra=None, log_metric=None, **kwargs
) -> list[float | None]:
    """TRL reward function: [`~qwenlong_trl.rewards.score_docmath`]. Rows of another `task` get `None`."""
    return _DEFAULTS["docmath"](completions, answers, task, log_extra, log_metric, **kwargs)


def multiple_choice_reward(
    completions, answers=None, task=None, log_extra=None, log_metric=None, **kwargs
) -> list[float | None]:
    """TRL reward function: [`~qwenlong_trl.rewards.score_multiple_choice`]. Rows of another `task` get `None`."""
    return _DEFAULTS["multiple_choice"](completions, answers, task, log_extra, log_metric, **kwargs)


def completion_text(completion: str | list[dict[str, Any]]) -> str:
    """The completion itself, or the text of its last assistant message; empty if no message is the assistant's."""
    if isinstance(completion, str):
        return completion
    content = next(
        (message.get("content") for message in reversed(completion) if message.get("role") == "assistant"), None
    )
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if part.get("type") == "text")
    return content or ""


def _missing_column(name: str, columns: dict[str, Any]) -> str:
    ours = {"prompts", "completion_ids", "trainer_state", "environments"}
    present = sorted(column for column in columns if column not in ours)
    old = next((column for column in present if column in ("answer", "solution", "ground_truth", "gold")), "old_name")
    return (
        f"the dataset has no column `{name}` with the accepted answers of each row (its other columns: {present}). "
        f'Rename the column that holds them, a list of strings per row: dataset.rename_column("{old}", "{name}").'
    )
