"""A phased run of the quickstart's tiny reader in a process of its own, which can be stopped at any moment.

    python live.py FOLDER '{"cards": [16, 40, 88], "steps": [12, 12, 12]}'

It writes `log.jsonl`, a line for each logged step as `trainer_state.json` would list it; a page reads what is there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


READER = Path(__file__).with_name("reader")  # made by `qwenlong-trl quickstart`
LOG = "log.jsonl"
MOST_STEPS, MOST_CARDS, FEWEST_CARDS = 60, 120, 6
PROMPTS, GENERATIONS = 8, 8  # of a step


def check_plan(cards: Sequence[float], steps: Sequence[float]) -> dict[str, list[int]]:
    """
    The plan of the sliders. A phase without steps is left out.

    Raises:
        `ValueError`: no phase has steps, all together have too many, or the lengths do not grow.
    """
    phases = [(int(n), int(s)) for n, s in zip(cards, steps, strict=True) if int(s) > 0]
    if not phases:
        raise ValueError("No phase has any step: move one of the sliders of steps.")
    if (total := sum(s for _, s in phases)) > MOST_STEPS:
        raise ValueError(f"The phases have {total} steps together; this page takes up to {MOST_STEPS}.")
    lengths = [n for n, _ in phases]
    if any(a >= b for a, b in zip([FEWEST_CARDS - 1, *lengths], lengths, strict=False)) or lengths[-1] > MOST_CARDS:
        raise ValueError(
            f"The cards have to grow from phase to phase, from {FEWEST_CARDS} to {MOST_CARDS}: got "
            f"{', '.join(map(str, lengths))}."
        )
    return {"cards": lengths, "steps": [s for _, s in phases]}


def start(folder: Path, plan: dict[str, list[int]]) -> subprocess.Popen:
    """Starts the run; what it prints goes to `output.txt`."""
    with open(folder / "output.txt", "wb") as output:
        command = [sys.executable, __file__, str(folder), json.dumps(plan)]
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def stop(process: subprocess.Popen) -> None:
    """Ends the run and waits for its end; one that has ended is left alone."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def read_log(folder: Path) -> list[dict]:
    """The lines that are complete."""
    path = folder / LOG
    if not path.is_file():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines]


def run(folder: Path, plan: dict[str, list[int]]) -> None:
    from transformers import TrainerCallback

    from qwenlong_trl.quickstart import stages

    class Lines(TrainerCallback):
        """Appends each entry of the log as it is made."""

        def on_log(self, args, state, control, logs=None, **kwargs):
            with open(folder / LOG, "a", encoding="utf-8") as file:
                file.write(json.dumps({**(logs or {}), "step": state.global_step}) + "\n")

    plan = stages.Plan(
        phase_cards=tuple(plan["cards"]),
        phase_steps=tuple(plan["steps"]),
        prompts_per_step=PROMPTS,
        num_generations=GENERATIONS,
    )
    for name in ("data", "phased"):
        (folder / name).mkdir()
    shutil.copytree(READER, folder / "reader")
    stages.make_data(folder / "data", plan)
    stages.reinforce(folder / "phased", folder, plan, logging_steps=1, callbacks=[Lines()])


if __name__ == "__main__":
    run(Path(sys.argv[1]), json.loads(sys.argv[2]))
