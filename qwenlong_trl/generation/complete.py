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

from .sampling import GenerationError, Prompt, Sampler, Sampling
from .store import SampleStore


logger = logging.getLogger(__name__)

# Prompts in memory at the same time: those of long contexts may have a megabyte each.
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
            Makes the prompt of an id; called in the order of `ids` when their turn comes, also for some that are not
            missing, as batches are those of a run that was never interrupted.
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
        [`GenerationError`]: none of the prompts that were missing got any.
    """
    from tqdm import tqdm

    if len(set(ids)) < len(ids):
        raise ValueError("the ids of the prompts must differ")
    failed: dict[str, str] = {}
    if all(id in store for id in ids):
        return failed
    sampler = make_sampler()
    with tqdm(total=len(ids), initial=sum(id in store for id in ids), desc=desc, unit=" prompts") as bar:
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            if all(id in store for id in chunk):
                continue
            prompts = [prompt_of(id) for id in chunk]
            about = [None if about_of is None else about_of(id) for id in chunk]
            before = len(store)
            try:
                sample_missing(sampler, prompts, chunk, sampling, store, about, bar.update)
            except GenerationError as error:
                failed |= {id: error.reasons.get(id, "not asked for") for id in chunk if id not in store}
                if len(store) == before:  # of a whole chunk none: the rest would fare no better
                    if before == 0:
                        raise
                    left = ids[start + len(chunk) :]
                    failed |= {id: "not asked for" for id in left if id not in store}
                    break
    if failed:
        id, reason = next(iter(failed.items()))
        logger.warning(
            f"{len(failed)} of {len(ids)} prompts got no completions; the first: {id!r} ({reason}). They count as "
            "unanswered; the same command asks for them again"
        )
    return failed


def sample_missing(
    sampler: Sampler,
    prompts: Sequence[Prompt],
    ids: Sequence[str],
    sampling: Sampling,
    store: SampleStore,
    about: Sequence[dict[str, Any] | None] | None = None,
    done: Callable[[], Any] = lambda: None,
) -> None:
    """
    Samples those prompts that the store lacks. Where rounding depends on what else is in a batch (a sampler with the
    method `batches`), all of a batch is computed again, so that an interruption changes nothing.

    Args:
        sampler, prompts, ids, sampling:
            As for [`Sampler`]; the prompts include those that the store has.
        store ([`SampleStore`]):
            Open.
        about (`Sequence`, *optional*):
            What is to be kept of each prompt.
        done (`Callable`, *optional*):
            Called after each prompt.

    Raises:
        [`GenerationError`]: some got no completions; the others are in the store.
    """
    missing = [i for i, id in enumerate(ids) if id not in store]
    groups = [missing]
    if missing and callable(getattr(sampler, "batches", None)):
        batches = sampler.batches(prompts, ids, sampling)
        groups = [batch for batch in batches if any(ids[i] not in store for i in batch)]
    for group in filter(None, groups):
        for index, completions in sampler.sample([prompts[i] for i in group], [ids[i] for i in group], sampling):
            i = group[index]
            if ids[i] not in store:
                store.add(ids[i], prompts[i], completions, None if about is None else about[i])
                done()
