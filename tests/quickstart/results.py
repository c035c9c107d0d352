"""Made-up results, and a reader of the page that is made from them."""

import json
import random
from itertools import combinations
from pathlib import Path

import numpy as np
from html_page import Page
from hypothesis import strategies as st

from qwenlong_trl.quickstart import report


CARDS = (4, 8, 16, 32, 64, 128)
MARKUP = "<script>alert('1')</script> & <b>\"$x$\"</b>"
# What a text field may hold; HTML itself rewrites carriage returns and drops control characters.
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1).filter(lambda text: text == text.strip())
NAME = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)


def make_run(rng: random.Random, bounds: tuple[int, ...], steps: tuple[int, ...]) -> dict:
    phases = []
    for k, (bound, n) in enumerate(zip(bounds, steps, strict=True), start=1):
        phase = {"name": f"phase_{k}", "max_prompt_length": bound, "max_steps": n}
        phases.append(phase | {"prompts": rng.randint(9, 2000), "carried": 0})
    log, tokens, seconds = [], 0, 0.0
    for step in range(5, sum(steps) + 1, 5):
        tokens, seconds = tokens + rng.randint(10_000, 90_000), seconds + rng.uniform(1, 9)
        shares = {key: rng.random() for key in ("reward", "accuracy", "zero_variance")}
        log.append({"step": step, **shares, "entropy": rng.uniform(0, 3), "tokens": tokens, "seconds": seconds})
    return {"phases": phases, "log": log, "tokens": tokens, "seconds": seconds}


def make_results(seed=0, bounds=(33, 129, 257), steps=(60, 60, 60), carried=40, single=True, met=True) -> dict:
    """Random, plausible results: `carried` prompts for every pair of an earlier and a later phase."""
    rng = random.Random(seed)
    questions = rng.choice([64, 256, 1000])

    def accuracies(first: float, last: float) -> list[float]:
        return [round(rng.uniform(x - 0.02, x) * questions) / questions for x in np.linspace(first, last, len(CARDS))]

    accuracy = {"after_sft": accuracies(0.95, 0.1), "phased": accuracies(1.0, 0.85 if met else 0.5)}
    runs = {"phased": make_run(rng, bounds, steps)}
    if single:
        accuracy["single_stage"] = accuracies(0.4, 0.08)
        runs["single_stage"] = make_run(rng, bounds[-1:], (sum(steps),))
    prompts = []
    for source, target in combinations(runs["phased"]["phases"], 2):
        target["carried"] += carried
        for _ in range(carried):
            length = rng.randrange(source["max_prompt_length"] // 2, source["max_prompt_length"]) | 1
            prompt = {"id": f"cards-{rng.random()}", "phase": target["name"], "from_phase": source["name"]}
            prompt |= {"prompt_length": length, "weight": rng.uniform(1, 16), "mean_accuracy": rng.random()}
            prompts.append(prompt)
    return {
        "seed": seed,
        "versions": {"qwenlong-trl": "0.1.0", "trl": "1.16.0"},
        "settings": {"learning rate": 1e-6, "retrospective": "hard_zero", "resample": True, "range": [0.2, 0.28]},
        "eval_questions": questions,
        "buckets": [{"cards": cards, "tokens": 2 * cards + 1} for cards in CARDS],
        "accuracy": accuracy,
        "goal": {"longest_before_at_most": 0.15, "longest_after_at_least": 0.7, "met": met},
        "runs": runs,
        "carried": prompts,
        "warm_up": {"pretrain_steps": 190, "pretrain_seconds": 12.0, "sft_steps": 40, "sft_seconds": 3.0},
        "seconds": 400.0,
    }


VARIANTS = {
    "whole": {},
    "no carried prompts": {"seed": 1, "carried": 0},
    "no single stage": {"seed": 2, "single": False},
    "goal missed": {"seed": 3, "met": False},
    "one phase": {"seed": 4, "bounds": (257,), "steps": (30,), "carried": 0},
    "one carried prompt each": {"seed": 5, "carried": 1},
    "many uneven phases": {"seed": 6, "bounds": (17, 33, 65, 129, 257, 400), "steps": (20, 20, 60, 60, 10, 10)},
}


def write(results: dict, folder: Path) -> Page:
    path = report.write_report(json.loads(json.dumps(results)), folder / "new" / "report.html")
    assert path == folder / "new" / "report.html"
    return Page(path.read_text(encoding="utf-8"))
