"""Rows that share a prompt as one row in which the prompt stands once.

Three completions of one prompt `p0 … p4` become

```txt
 token     p0 p1 p2 p3 │ p4 a0 a1 a2 │ p4 b0 b1 │ p4 c0 c1
 position   0  1  2  3 │  4  5  6  7 │  4  5  6 │  4  5  6
 predicts              │ a0 a1 a2 a3 │ b0 b1 b2 │ c0 c1 c2
           └─ prefix ─┘ └──────── branches ─────────────┘

 sees       p0 p1 p2 p3  p4 a0 a1 a2  p4 b0 b1  p4 c0 c1
 prefix p0   ■
        p1   ■  ■
        p2   ■  ■  ■
        p3   ■  ■  ■  ■
 a      p4   ■  ■  ■  ■   ■
        a0   ■  ■  ■  ■   ■  ■
        a1   ■  ■  ■  ■   ■  ■  ■
        a2   ■  ■  ■  ■   ■  ■  ■  ■
 b      p4   ■  ■  ■  ■               ■
        b0   ■  ■  ■  ■               ■  ■
        b1   ■  ■  ■  ■               ■  ■  ■
 c      p4   ■  ■  ■  ■                         ■
        c0   ■  ■  ■  ■                         ■  ■
        c1   ■  ■  ■  ■                         ■  ■  ■
```

All see the prefix, each branch sees itself besides, and nothing sees what comes later.

The last token of the prompt opens every branch, since it has another token to predict in each; the last token of a
completion predicts nothing and is left out. Of several groups, all prefixes come first, then all branches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch


@dataclass(eq=False)
class SharedPrefixes:
    """
    Where the prefixes and the branches of a packed row lie, all that attention has to know.

    Args:
        prefixes (`list[int]`):
            Tokens of the prefix of each group, at least one.
        branches (`list[list[int]]`):
            Tokens of each branch of each group.
    """

    prefixes: list[int]
    branches: list[list[int]]
    _offsets: dict[torch.device, tuple[torch.Tensor, ...]] = field(default_factory=dict, repr=False)

    @cached_property
    def prefix_tokens(self) -> int:
        """Tokens of all prefixes, where the branches begin."""
        return sum(self.prefixes)

    @cached_property
    def branch_tokens(self) -> list[int]:
        """Tokens of all branches of each group."""
        return [sum(lengths) for lengths in self.branches]

    @property
    def tokens(self) -> int:
        """Tokens of the packed row."""
        return self.prefix_tokens + sum(self.branch_tokens)

    @cached_property
    def segments(self) -> list[int]:
        """Lengths of all pieces that attend to themselves, in order: prefixes, then branches."""
        return [*self.prefixes, *(length for lengths in self.branches for length in lengths)]

    def offsets(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Cumulative lengths, as variable-length kernels take them, of `segments`, `branch_tokens` and `prefixes`,
        each `int32` with a leading zero."""
        if device not in self._offsets:
            lists = (self.segments, self.branch_tokens, self.prefixes)
            self._offsets[device] = tuple(
                torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32, device=device) for lengths in lists
            )
        return self._offsets[device]

    def mask(self, device: torch.device) -> torch.Tensor:
        """Which token (row) sees which (column), `(tokens, tokens)`, bool: for attention that needs it spelled out."""
        group, branch = [], []
        for g, length in enumerate(self.prefixes):
            group += [g] * length
            branch += [-1] * length
        count = 0
        for g, lengths in enumerate(self.branches):
            for length in lengths:
                group += [g] * length
                branch += [count] * length
                count += 1
        group, branch = (torch.tensor(values, device=device) for values in (group, branch))
        order = torch.arange(len(group), device=device)
        own = (branch[:, None] == branch) | (branch == -1)
        return (order[:, None] >= order) & (group[:, None] == group) & own


@dataclass(frozen=True, eq=False)
class PackedRows:
    """
    A batch of rows as one row, with L tokens.

    Args:
        input_ids, position_ids, labels (`torch.Tensor` of shape `(1, L)`):
            `labels` are those of the next token, -100 where nothing is predicted.
        prefixes ([`SharedPrefixes`]):
            The layout.
        rows, columns, sources (`torch.Tensor`):
            The prediction at `sources[i]` is that of the token `[rows[i], columns[i]]` of the batch.
        row_tokens (`int`):
            Tokens of the batch without padding, each prompt as often as it stands there.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    prefixes: SharedPrefixes
    rows: torch.Tensor
    columns: torch.Tensor
    sources: torch.Tensor
    row_tokens: int

    def unpack(self, values: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        """What was computed for each position of the packed row, of shape `(1, L)`, as a batch of that shape, in which
        column j belongs to the prediction of token j + 1, as in causal language models; 0 elsewhere."""
        batch = values.new_zeros(shape)
        return batch.index_put((self.rows, self.columns - 1), values[0, self.sources])


def pack_rows(input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> PackedRows | None:
    """
    Packs the rows of a batch so that equal prompts stand there once, wherever in the batch they are.

    Args:
        input_ids, attention_mask, labels (`torch.Tensor` of shape `(B, W)`):
            A batch as a causal language model takes it: a prompt padded on the left, then a completion padded on the
            right (or both padded on one side). The first label that is not -100 begins the completion.

    Returns:
        [`PackedRows`], or `None` if there is nothing to gain or the batch is no such one: no two rows share a prompt,
        a row with a prompt of fewer than two tokens, padding in the middle of a prompt or a completion.
    """
    device = input_ids.device
    ids, mask, targets = (x.cpu().numpy() for x in (input_ids, attention_mask != 0, labels))
    height, width = ids.shape
    scored = (targets != -100) & mask
    # Without a label the whole row is a prompt: of what TRL masks as truncated, nothing is left but the prompt.
    starts = np.where(scored.any(axis=1), scored.argmax(axis=1), width)  # (B,)
    groups: dict[bytes, list[int]] = {}
    prompts, completions = [], []  # columns of each row
    for row in range(height):
        columns = np.flatnonzero(mask[row])
        prompt, completion = columns[columns < starts[row]], columns[columns >= starts[row]]
        for part in (prompt, completion):
            if len(part) and part[-1] - part[0] != len(part) - 1:
                return None
        if len(prompt) < 2:
            return None
        prompts.append(prompt)
        completions.append(completion)
        groups.setdefault(ids[row, prompt].tobytes(), []).append(row)
    if len(groups) == height:
        return None

    tokens, positions, next_tokens = [], [], []
    for first, *_ in groups.values():
        prefix = ids[first, prompts[first][:-1]]
        tokens.append(prefix)
        positions.append(np.arange(len(prefix)))
        next_tokens.append(np.full(len(prefix), -100))
    place = sum(map(len, tokens))
    branches, rows, columns, sources = [], [], [], []
    for members in groups.values():
        branches.append([])
        for row in members:
            prompt, completion = prompts[row], completions[row]
            # An empty completion keeps its opening token: a batch of nothing else still is a part of the graph.
            length = max(len(completion), 1)
            branches[-1].append(length)
            tokens.append(ids[row, [prompt[-1], *completion[:-1]]])
            positions.append(len(prompt) - 1 + np.arange(length))
            next_tokens.append(targets[row, completion] if len(completion) else np.array([-100]))
            rows.append(np.full(len(completion), row))
            columns.append(completion)
            sources.append(place + np.arange(len(completion)))
            place += length

    def tensor(parts: list) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device)

    return PackedRows(
        tensor(tokens)[None],
        tensor(positions)[None],
        tensor(next_tokens)[None],
        SharedPrefixes([len(prompts[first]) - 1 for first, *_ in groups.values()], branches),
        tensor(rows),
        tensor(columns),
        tensor(sources),
        int(mask.sum()),
    )
