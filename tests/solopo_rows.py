"""Preference rows with a short and a long prompt, for tiny models."""

import random

from datasets import Dataset
from tiny import WORDS


def twins(count: int = 8, short: int = 6, long: int = 20, seed: int = 0, unequal: bool = True) -> Dataset:
    """Rows whose long prompt is the short one with words before it; answers of different lengths."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        prompt = rng.choices(WORDS, k=short + (i % 3 if unequal else 0))
        distractors = rng.choices(WORDS, k=long - short + (i % 4 if unequal else 0))
        rows.append(
            {
                "id": f"r{i}",
                "prompt": " ".join(prompt) + " ",
                "long_prompt": " ".join([*distractors, *prompt]) + " ",
                "chosen": " ".join(rng.choices(WORDS, k=2 + (i % 3 if unequal else 0))) + " ",
                "rejected": " ".join(rng.choices(WORDS, k=3 + (i % 2 if unequal else 0))) + " ",
            }
        )
    return Dataset.from_list(rows)
