"""All prompts of an evaluation completed: in chunks, with a progress bar, into a store that a killed run goes on from.

```python
>>> with SampleStore("predictions.jsonl", settings) as store:
...     failed = complete(ids, prompt_of, lambda: sampler, Sampling(temperature=0), store)
...     texts = {id: store.completions(id)[0].text for id in store.ids()}
```
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from .sampling import GenerationError, Prompt, PromptsRefusedError, Sampler, Sampling
from .store import SampleStore


logger = logging.getLogger(__name__)

# Prompts that batches are formed of, and that are in memory at the same time.
_CHUNK = 256


def complete(
    ids: Sequence[str],
    prompt_of: Callable[[str], Prompt],
    make_sampler: Callable[[], Sampler],
    sampling: Sampling,
    store: SampleStore,
    desc: str = "Generating",
    about_of: Callable[[str], dict[str, Any]] | None = None,
) -> dict[str, str]:
    """
    Samples what the store lacks; each prompt is in the store as soon as it has its completions.

    Args:
        ids (`Sequence[str]`):
            Of all prompts, each once.
        prompt_of (`Callable`):
            Makes the prompt of an id; called in the order of `ids` when its turn comes. For a sampler that forms
            batches (it has a method `batches`) also for some that are not missing, as the batches are those of a run
            that was never interrupted; else for the first one, to see that it is what it was.
        make_sampler (`Callable`):
            Makes the sampler; called when something is missing.
        sampling ([`Sampling`]):
            How completions are drawn.
        store ([`SampleStore`]):
            Open.
        desc (`str`, *optional*, defaults to `"Generating"`):
            In front of the progress bar.
        about_of (`Callable`, *optional*):
            What is to be kept of a prompt beside its completions; called after `prompt_of`.

    Returns:
        `dict[str, str]`: why, for the ids that got no completions. They are not in the store, so that another run
        asks for them again.

    Raises:
        `ValueError`: ids are not unique.
        [`GenerationError`]: the store is empty in the end.
        [`SettingsMismatchError`]: the prompt of an id is not the one that the store has completions of, as far as it
            was made again.
    """
    from tqdm import tqdm

    if len(set(ids)) < len(ids):
        raise ValueError("the ids of the prompts must differ")
    failed: dict[str, str] = {}
    if all(id in store for id in ids):
        return failed
    sampler = make_sampler()
    if callable(getattr(sampler, "batches", None)):
        parts = [ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK)]
    else:
        parts = [[id for id in ids if id not in store]]
        if ids[0] in store:  # a sample of those that are kept: whatever else prompts are made of is what it was
            store.get(ids[0], _Prompts(ids[:1], prompt_of, about_of)[0])
    last: GenerationError | None = None
    with tqdm(total=len(ids), initial=sum(id in store for id in ids), desc=desc, unit=" prompts") as bar:
        for part in parts:
            if all(id in store for id in part):
                continue
            prompts = _Prompts(part, prompt_of, about_of)
            try:
                sample_missing(sampler, prompts, part, sampling, store, prompts.about, bar.update)
            except GenerationError as error:  # the other parts may fare better
                failed |= {id: error.reasons.get(id, "not asked for") for id in part if id not in store}
                last = error
    if last is not None and not len(store):
        raise last
    if failed:
        id, reason = next(iter(failed.items()))
        logger.warning(
            f"{len(failed)} of {len(ids)} prompts got no completions; the first: {id!r} ({reason}). They count as "
            "unanswered; the same command asks for them again"
        )
    return failed


class _Prompts(Sequence):
    """Prompts that are made when they are asked for, in order, and let go when their completions are stored."""

    def __init__(self, ids: Sequence[str], prompt_of: Callable[[str], Prompt], about_of: Callable | None):
        self.ids, self.prompt_of, self.about_of = ids, prompt_of, about_of
        self.made: dict[int, tuple[Prompt, dict[str, Any] | None]] = {}
        self.next = 0

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> Prompt:
        while self.next <= i:
            id = self.ids[self.next]
            prompt = self.prompt_of(id)
            self.made[self.next] = prompt, None if self.about_of is None else self.about_of(id)
            self.next += 1
        return self.made[i][0]

    def about(self, i: int) -> dict[str, Any] | None:
        """What is to be kept of a prompt, which is not needed any more."""
        return self.made.pop(i)[1]


def sample_missing(
    sampler: Sampler,
    prompts: Sequence[Prompt],
    ids: Sequence[str],
    sampling: Sampling,
    store: SampleStore,
    about: Callable[[int], dict[str, Any] | None] = lambda i: None,
    done: Callable[[], Any] = lambda: None,
) -> None:
    """
    Samples those prompts that the store lacks. Where rounding depends on what else is in a batch (a sampler with the
    method `batches`), all of a batch is computed again, so that an interruption changes nothing.

    Args:
        sampler, prompts, ids, sampling:
            As for [`Sampler`]; the prompts may include some that the store has.
        store ([`SampleStore`]):
            Open.
        about (`Callable`, *optional*):
            What is to be kept of a prompt, by its place; called once it has completions.
        done (`Callable`, *optional*):
            Called after each prompt.

    Raises:
        [`GenerationError`]: some got no completions; the others are in the store.
        [`SettingsMismatchError`]: the store has completions of another prompt of the same id.
    """
    missing = [i for i, id in enumerate(ids) if id not in store]
    if not missing:
        return
    if not callable(getattr(sampler, "batches", None)):
        groups: list[Sequence[int]] = [missing]
    else:
        batches = sampler.batches(prompts, ids, sampling)
        groups = [batch for batch in batches if any(ids[i] not in store for i in batch)]
        for i in set(range(len(ids))) - set(missing):
            store.get(ids[i], prompts[i])  # of this prompt, or it raises
    failures: list[GenerationError] = []
    for group in groups:
        chosen = prompts if len(group) == len(ids) else [prompts[i] for i in group]
        places = range(len(ids)) if len(group) == len(ids) else group
        try:
            for index, completions in sampler.sample(chosen, [ids[i] for i in places], sampling):
                i = places[index]
                if ids[i] not in store:
                    store.add(ids[i], prompts[i], completions, about(i))
                    done()
        except GenerationError as error:
            failures.append(error)
    if failures:
        reasons = {id: reason for error in failures for id, reason in error.reasons.items()}
        refused = all(isinstance(error, PromptsRefusedError) for error in failures)
        raise (PromptsRefusedError if refused else GenerationError)(str(failures[0]), reasons)
