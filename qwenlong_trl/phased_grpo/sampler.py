"""Which prompts a generation window holds: a pure function of the seed, the phase's pool and the window's number.

TRL's own [`~trl.trainer.utils.RepeatSampler`] is read one window ahead by the data loader, so a choice made in it
could not see the rewards of a phase's last window. Here the loader only counts: [`WindowClock`] yields window
numbers, and the prompts are chosen by [`window_rows`] at the moment when a window is generated. Resuming then needs
no replay.

```txt
 generation_batch_size = 8, num_generations = 2, steps_per_generation = 2, num_iterations = 1, phases of 4 and 2
 micro-steps

 phase                 1           1          2
 window                0           1          2
 clock    0000 0000 0000 0000 1111 1111 1111 1111 2222 2222 2222 2222    <- what the loader yields, 8 per micro-batch
 prompts  a a b b c c d d     e e f f g g h h     p p q q r r a a        <- rows(window): generated once, trained twice
```
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class WindowClock(Sampler[int]):
    """Yields each window's number as often as the data loader asks for rows of it."""

    def __init__(self, windows: int, rows_per_window: int):
        self.windows, self.rows_per_window = windows, rows_per_window

    def __iter__(self) -> Iterator[int]:
        for window in range(self.windows):
            for _ in range(self.rows_per_window):
                yield window

    def __len__(self) -> int:
        return self.windows * self.rows_per_window


def window_rows(pool: Sequence[int], window: int, size: int, seed: int, shuffle: bool = True) -> list[int]:
    """
    The `size` different rows of the `window`-th window over a pool.

    Passes over the pool follow one another, each in a new order; the rows that do not fill a window at the end of a
    pass are left out of that pass. This is the order of TRL's `RepeatSampler` with the same seed.

    Raises:
        `ValueError`: if the pool has fewer than `size` rows.
    """
    per_pass = len(pool) // size
    if per_pass == 0:
        raise ValueError(f"a window needs {size} different prompts, the pool has {len(pool)}")
    passes, within = divmod(window, per_pass)
    if shuffle:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(passes + 1):
            order = torch.randperm(len(pool), generator=generator)
        order = order.tolist()
    else:
        order = range(len(pool))
    return [pool[i] for i in order[within * size : (within + 1) * size]]


def reserve_rows(
    pool: Sequence[int], taken: Sequence[int], count: int, seed: int, window: int, draw: int
) -> list[int]:
    """
    `count` rows to replace groups of a window, in an order that depends on the seed, the window and the draw alone.
    Rows that the window has not seen come first, then those it has (`taken`), then all again.
    """
    seen = set(taken)
    generator = torch.Generator().manual_seed((seed * 1_000_003 + window) * 1_009 + draw + 1)
    order = [pool[i] for i in torch.randperm(len(pool), generator=generator).tolist()]
    order = [row for row in order if row not in seen] + [row for row in order if row in seen]
    return [order[i % len(order)] for i in range(count)]
