"""Reward functions that fail are told by name, row and step, before TRL works with what they returned."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

from torch import nn
from trl.trainer.utils import is_async_callable


class RewardError(RuntimeError):
    """A reward function raised, or did not return a number or `None` for each completion."""


@contextmanager
def checked_rewards(trainer, inputs: list[dict[str, Any]]) -> Iterator[None]:
    """
    Within it, the reward functions of a [`~trl.GRPOTrainer`] raise [`RewardError`] for whatever is no reward. Reward
    models are left alone.

    What they may return is a sequence (a list, an array, a tensor) with a finite number, `None` or NaN for each
    completion; the last two mean that it cannot be scored.

    Args:
        trainer ([`PhasedGRPOTrainer`]):
            Whose `reward_funcs` are replaced meanwhile.
        inputs (`list[dict]`):
            The rows that are scored here. Their ids in the curriculum name them; in evaluation the column `id`, or
            their place in the batch.
    """
    if trainer._rollouts is None:
        ids = [str(row.get("id", f"number {i} of the batch")) for i, row in enumerate(inputs)]
    else:
        start = trainer.accelerator.process_index * len(inputs)
        ids = [trainer.curriculum.ids[row] for row in trainer._rollouts.rows[start : start + len(inputs)]]
    step = trainer.state.global_step + 1
    functions = trainer.reward_funcs
    trainer.reward_funcs = [
        function if isinstance(function, nn.Module) else _checked(function, name, ids, step)
        for function, name in zip(functions, trainer.reward_func_names, strict=True)
    ]
    try:
        yield
    finally:
        trainer.reward_funcs = functions


def _checked(function, name: str, ids: list[str], step: int):
    """The function with its checks, asynchronous where it is."""
    place = f"the reward function {name!r}, in step {step},"

    async def asynchronous(**columns):
        try:
            values = await function(**columns)
        except Exception as error:
            search, failed = _failing_row(len(ids)), None
            while (part := _advance(search, failed))[0]:
                try:
                    await function(**_of_rows(columns, part[1], len(ids)))
                    failed = False
                except Exception:
                    failed = True
            raise RewardError(_raised(place, ids, part[1], error)) from error
        return _numbers(values, ids, place)

    def synchronous(**columns):
        try:
            values = function(**columns)
        except Exception as error:
            search, failed = _failing_row(len(ids)), None
            while (part := _advance(search, failed))[0]:
                try:
                    function(**_of_rows(columns, part[1], len(ids)))
                    failed = False
                except Exception:
                    failed = True
            raise RewardError(_raised(place, ids, part[1], error)) from error
        return _numbers(values, ids, place)

    return asynchronous if is_async_callable(function) else synchronous


def _failing_row(rows: int) -> Generator[slice, bool, int | None]:
    """Yields the rows to try next, is told whether they fail, and returns one that fails by itself, if it finds one.
    By halves: all calls together cost about as much as the one that failed."""
    start, end = 0, rows
    while end - start > 1:
        middle = (start + end) // 2
        if (yield slice(start, middle)):
            end = middle
        else:
            start = middle
    return start if (yield slice(start, end)) else None


def _advance(search: Generator, failed: bool | None) -> tuple[bool, Any]:
    """Whether the search goes on, and with which rows, or its result."""
    try:
        return True, search.send(failed)
    except StopIteration as end:
        return False, end.value


def _of_rows(columns: dict[str, Any], part: slice, rows: int) -> dict[str, Any]:
    return {
        name: value[part] if isinstance(value, list) and len(value) == rows else value
        for name, value in columns.items()
    }


def _raised(place: str, ids: list[str], row: int | None, error: Exception) -> str:
    where = f"on row {ids[row]!r}" if row is not None else f"on {len(ids)} rows together, on none of them alone"
    return (
        f"{place} raised {type(error).__name__} {where}: {error}. Let it return None for what it cannot score. "
        "Nothing of this step was kept: repair it and resume from the last checkpoint."
    )


def _numbers(values: Any, ids: list[str], place: str) -> list[float | None]:
    """What was returned, as numbers for TRL."""
    if isinstance(values, str | bytes | dict) or not hasattr(values, "__iter__") or getattr(values, "ndim", 1) == 0:
        raise RewardError(
            f"{place} returned {values!r:.80}, a {type(values).__name__}; a list of {len(ids)} numbers was expected, "
            "one for each completion"
        )
    values = list(values)
    if len(values) != len(ids):
        raise RewardError(
            f"{place} returned {len(values)} rewards for {len(ids)} completions; it has to return one for each, None "
            "where it cannot score one"
        )
    return [_number(value, example, place) for value, example in zip(values, ids, strict=True)]


def _number(value: Any, example: str, place: str) -> float | None:
    plain = value.item() if getattr(value, "ndim", None) == 0 else value  # of an array or a tensor
    if plain is None:
        return None
    if not isinstance(plain, Real):
        raise RewardError(
            f"{place} returned {value!r:.80}, a {type(value).__name__}, for row {example!r}; a number or None was "
            "expected"
        )
    if math.isinf(plain):
        raise RewardError(
            f"{place} returned {value!r} for row {example!r}, which would make the advantages of its whole group NaN; "
            "return a finite number, or None where it cannot be scored"
        )
    return float(plain)
