"""Runs of `qwenlong-trl loong` with a server that answers and one that judges."""

import json
from pathlib import Path

from qwenlong_trl.cli.main import main


def rating(body) -> str:
    """A judge without a fixed opinion: what it says depends on the answer that it is shown."""
    score = 1 + sum(map(ord, body["messages"][-1]["content"])) % 100
    return "I cannot say." if score % 7 == 0 else f"Evaluation evidence: so so [1].\nRating: [[{score}]]"


def says(body) -> str:
    """A model whose answer depends on the prompt: sometimes JSON, sometimes a number, sometimes nothing."""
    number = sum(map(ord, body["messages"][-1]["content"]))
    return ["$412,350", '{"Reference": [], "Citation": []}', "<think>hm</think> RIVER MILL CORP", ""][number % 4]


def flags(loong, output, model, **options) -> list[str]:
    settings = {"data": loong, "output": output, "model_name_or_path": model, "max_tokens": 24, **options}
    return [str(part) for name, value in settings.items() for part in (f"--{name}", *([value] if value else []))]


def run(*args, **options) -> int:
    return main(["loong", "run", *flags(*args, **options)])


def report(folder: Path) -> tuple[bytes, ...]:
    return tuple((folder / f"report.{kind}").read_bytes() for kind in ("json", "md", "html"))


def lines_of(path: Path) -> list[dict]:
    """Without the settings."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def judged_by(server) -> dict:
    return {"judge": "openai", "judge_model": "j", "judge_base_url": server.base_url}
