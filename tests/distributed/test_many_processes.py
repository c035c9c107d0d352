"""Two processes come to what one with the same batch comes to, and so do two that hold half of each weight (FSDP2)."""

from pathlib import Path

import pytest
import torch
from everywhere import CASES, SAMPLED, difference, outcome, save_model
from processes import run_on_two_processes


WORKER = str(Path(__file__).with_name("everywhere_worker.py"))

# Gradients of one process are sums over rows, those of two are sums of sums: float32 rounds differently.
ROUNDING = 2e-6

# What every run of the tests compares; `-m slow` compares all.
SHARDED = ("CPRS", "SoLoPO, DPO", "PhasedGRPO, shared prefixes", "sampled, one prompt of one token")
REPLICATED = ("PhasedGRPO, shared prefixes", "sampled, one prompt of one token")


def compare(folder: Path, modes: dict[str, tuple[str, ...]]) -> list[tuple[str, str, float, float]]:
    """Trains on one process what does not sample, and in each mode on two; the differences of weights and losses."""
    save_model(folder)
    tasks = [f"{mode}/{name}" for mode, names in modes.items() for name in names]
    done = run_on_two_processes([WORKER, str(folder), *tasks], timeout=880).stdout  # the test's own limit comes first
    said = [line for line in done.splitlines() if line.startswith(("done", "resumed"))]
    assert said == [*(f"done {task}" for task in tasks), *(["resumed"] if "sharded" in modes else [])]
    table = []
    for name in dict.fromkeys(name for names in modes.values() for name in names):
        found = {
            mode: torch.load(folder / f"{name} {mode}.pt", weights_only=True)
            for mode, names in modes.items()
            if name in names
        }
        if name in CASES:
            make, settings = CASES[name]
            expected = outcome(make(folder, 1, **settings))
        else:
            expected = found.pop("replicated")
        table += [(name, mode, *difference(result, expected)) for mode, result in found.items()]
    for name, mode, weights, losses in table:
        print(f"{name:36} {mode:11} {weights:9.1e} {losses:9.1e}")
    return table


def check(table) -> None:
    for name, mode, weights, losses in table:
        assert weights <= ROUNDING, (name, mode, weights)
        assert losses <= ROUNDING, (name, mode, losses)


def test_two_processes_and_half_of_each_weight(tmp_path):
    check(compare(tmp_path, {"replicated": REPLICATED, "sharded": SHARDED}))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_trainings_on_two_processes(tmp_path):
    check(compare(tmp_path, {"replicated": tuple(CASES)}))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_trainings_with_half_of_each_weight(tmp_path):
    check(compare(tmp_path, {"replicated": tuple(SAMPLED), "sharded": (*CASES, *SAMPLED)}))
