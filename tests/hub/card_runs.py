"""Real runs of a few steps, their measurements, and the numbers of cards and of files."""

import json
import math
import re
import sys
from pathlib import Path

from huggingface_hub import ModelCard


TESTS = Path(__file__).parents[1]
# What cards say although no file of a run says it: the papers' numbers, the level of intervals, the example budget.
CONSTANTS = {"2505.17667", "2505.11166", "2505.18092", "2025", "95", "2048"}
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)*(?:e[+-]?\d+)?")


def helpers(folder: str, name: str):
    """A module of another folder's tests: several folders have modules of the same name."""
    sys.path.insert(0, str(TESTS / folder))
    try:
        sys.modules.pop(name, None)
        return __import__(name)
    finally:
        sys.path.remove(str(TESTS / folder))


def phased(folder: Path) -> Path:
    runs = helpers("phased_grpo", "runs")
    phases = [
        {"max_prompt_length": 8, "max_steps": 2},
        {"max_prompt_length": 16, "max_steps": 1, "learning_rate": 3e-3},
    ]
    trainer = runs.make_trainer(runs.make_args(folder, phases=phases, retrospective="hard_zero", save_strategy="no"))
    trainer.train()
    trainer.save_model()
    trainer.create_model_card(dataset_name="ns/prompts")
    return folder


def solopo(folder: Path) -> Path:
    runs = helpers("solopo", "solopo_runs")
    trainer = runs.make_trainer(runs.make_args(folder, max_steps=2))
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    return folder


def cprs(folder: Path) -> Path:
    runs = helpers("cprs", "critic_runs")
    args = runs.make_args(folder, max_steps=2, eval_strategy="steps", eval_steps=2, eval_budgets=[0.5])
    trainer = runs.make_trainer(args, eval_dataset=[runs.example(i) for i in range(16, 20)])
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    return folder


def long_sft(folder: Path) -> Path:
    runs = helpers("sft", "sft_runs")
    trainer = runs.make_trainer(runs.make_args(folder, max_steps=2))
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    return folder


RUNS = {"phased_grpo": phased, "solopo": solopo, "cprs": cprs, "long_sft": long_sft}


def evaluation_report() -> dict:
    """What `qwenlong-trl eval` writes, of made-up answers."""
    from qwenlong_trl.evaluation import report_data

    docqa = helpers("evaluation", "test_docqa_report")
    records = docqa.country_records(12)
    texts = {r.id: [docqa.RIGHT, docqa.RIGHT if i % 3 else docqa.WRONG] for i, r in enumerate(records)}
    answers, records, about = docqa.run(records, texts, tokens={r.id: 100 * i for i, r in enumerate(records)})
    return json.loads(json.dumps(report_data(answers, records, about)))


def loong_report(judged: bool = True) -> dict:
    """What `qwenlong-trl loong` writes, of made-up scores."""
    from qwenlong_trl.loong.tables import report_json, summarize

    rows = helpers("loong", "scored_rows")
    about = rows.ABOUT if judged else rows.NO_JUDGE
    return json.loads(json.dumps(report_json(summarize(rows.many(judged=judged), about, "fixed", samples=50))))


# ---- numbers ----------------------------------------------------------------------------------------------------


def numbers_in(text: str) -> list[str]:
    """All that reads as a number in a text; not what is part of a word, such as a name."""
    return [found.rstrip(",").rstrip(".") for found in _NUMBER.findall(text)]


def values_in(value) -> tuple[set[float], set[str]]:
    """The numbers in the content of a JSON file, and those that stand in its texts."""
    numbers, words = set(), set()
    if isinstance(value, dict):
        parts = [*value.values(), *map(str, value)]
    elif isinstance(value, list):
        parts = value
    else:
        if isinstance(value, int | float) and not isinstance(value, bool):
            numbers.add(float(value))
        elif isinstance(value, str):
            words.update(numbers_in(value))
        return numbers, words
    for part in parts:
        more, texts = values_in(part)
        numbers |= more
        words |= texts
    return numbers, words


def files_of(folder: Path) -> list:
    files = [*folder.glob("*.json"), *folder.glob("evaluation/*.json")]
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


def unexplained(card: str, folder: Path) -> set[str]:
    """Numbers of a card that are in no file of its folder: not as they are, and not when rounded as they are."""
    numbers, words = values_in(files_of(folder))
    found = set()
    for token in numbers_in(card):
        if token in CONSTANTS or token in words:
            continue
        try:
            value = float(token.replace(",", ""))
        except ValueError:  # of a version, which has several dots
            found.add(token)
            continue
        digits = len(token.partition("e")[0].partition(".")[2])
        exponent = math.floor(math.log10(abs(value))) if "e" in token and value else 0
        slack = 0.5000001 * 10.0 ** (exponent - digits) if "." in token or "e" in token else 0
        if not any(abs(value - number) <= slack for number in numbers):
            found.add(token)
    return found


def read_card(folder: Path) -> ModelCard:
    return ModelCard((folder / "README.md").read_text(encoding="utf-8"))
