"""Draws `prefix-sharing.png`: the rows of a group, the packed row, and who sees whom, from the layout itself.

python docs/prefix_sharing_figure.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle

from qwenlong_trl.prefix_sharing import pack_rows


PROMPT, COMPLETIONS = 8, (4, 3, 3)
COLOURS = ["#c9cfd6", "#4c78a8", "#e08b3e", "#5a9e6f"]  # the prefix, then the branches
INK, QUIET = "#24292f", "#57606a"


def batch() -> dict[str, torch.Tensor]:
    width = PROMPT + max(COMPLETIONS)
    ids = torch.zeros(len(COMPLETIONS), width, dtype=torch.long)
    for row, length in enumerate(COMPLETIONS):
        ids[row, : PROMPT + length] = torch.tensor(
            [*range(1, PROMPT + 1), *(100 * (row + 1) + i for i in range(length))]
        )
    mask = (ids > 0).long()
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :PROMPT] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def name(token: int) -> str:
    return f"$p_{{{token - 1}}}$" if token < 100 else f"${'abc'[token // 100 - 1]}_{{{token % 100}}}$"


def box(axes, x: float, y: float, colour: str, text: str, ink: str = INK) -> None:
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
    axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=8.5, color=ink)


def main():
    rows = batch()
    packed = pack_rows(**rows)
    owner = [0] * packed.prefixes.prefix_tokens
    for branch, length in enumerate(packed.prefixes.branches[0]):
        owner += [branch + 1] * length
    tokens, positions = packed.input_ids[0].tolist(), packed.position_ids[0].tolist()

    figure, (above, below) = plt.subplots(2, 1, figsize=(8.6, 10.4), height_ratios=(3.6, 8.4))
    above.text(0, 3.5, "As rows: the prompt is computed with every completion", fontsize=11, color=INK, va="center")
    for row, length in enumerate(COMPLETIONS):
        for column in range(PROMPT + length):
            token = int(rows["input_ids"][row, column])
            colour = COLOURS[0] if column < PROMPT else COLOURS[row + 1]
            box(above, column, 2 - row, colour, name(token), INK if column < PROMPT else "white")
    above.text(0, -0.75, "Packed: once", fontsize=11, color=INK, va="center")
    for column, (token, kind) in enumerate(zip(tokens, owner, strict=True)):
        box(above, column, -2.2, COLOURS[kind], name(token), INK if kind == 0 else "white")
        above.text(column + 0.5, -2.5, str(positions[column]), ha="center", va="center", fontsize=8, color=QUIET)
        label = int(packed.labels[0, column])
        if label != -100:
            above.text(column + 0.5, -3.1, name(label), ha="center", va="center", fontsize=8.5, color=COLOURS[kind])
    above.text(-0.3, -2.5, "position", ha="right", va="center", fontsize=8.5, color=QUIET)
    above.text(-0.3, -3.1, "predicts", ha="right", va="center", fontsize=8.5, color=QUIET)

    below.text(0, len(tokens) + 1.4, "Who sees whom", fontsize=11, color=INK, va="center")
    seen = packed.prefixes.mask(torch.device("cpu"))
    count = len(tokens)
    for i in range(count):
        for j in range(count):
            colour = COLOURS[owner[j]] if seen[i, j] else "#f4f5f7"
            below.add_patch(Rectangle((j, count - 1 - i), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
        below.text(-0.3, count - 0.5 - i, name(tokens[i]), ha="right", va="center", fontsize=8.5, color=INK)
        below.text(i + 0.5, count + 0.35, name(tokens[i]), ha="center", va="center", fontsize=8.5, color=INK)
    start = packed.prefixes.prefix_tokens
    for x, y, text, colour in (
        (start / 2, 4.4, "all branches on their prefix:\none call, no mask", COLOURS[0]),
        (count - 3.3, 11.6, "each piece on itself:\none call, causal", "#f4f5f7"),
    ):
        plain = {"facecolor": colour, "edgecolor": "none", "pad": 4}
        below.text(x, y, text, ha="center", va="center", fontsize=9, color=INK, bbox=plain)
    for axes, low in ((above, -3.6), (below, -0.2)):
        axes.set_xlim(-2.2, count + 0.2)
        axes.set_ylim(low, 3.9 if axes is above else count + 1.8)
        axes.set_aspect("equal")
        axes.axis("off")
    figure.tight_layout()
    figure.savefig(Path(__file__).with_name("prefix-sharing.png"), dpi=110, facecolor="white")


if __name__ == "__main__":
    main()
