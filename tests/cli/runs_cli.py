"""A tiny model with its tokenizer in a folder, records for it, and the command line that trains on them."""

import random
import socket
from pathlib import Path

import yaml
from tiny import WORDS

from qwenlong_trl.cli.main import main
from qwenlong_trl.data import Document, LongContextExample, write_records


TEMPLATE = "$DOC$ $Q$"  # prompts of few words: the tiny tokenizer has one token a word
PHASES = '[{"max_prompt_length": 8, "max_steps": 2}, {"max_prompt_length": 16, "max_steps": 2}]'


def save_records(path: Path, lengths, seed: int = 0) -> str:
    """Records whose prompts have these numbers of tokens with `TEMPLATE`."""
    rng = random.Random(seed)
    examples = [
        LongContextExample(
            id=f"r{i}",
            question=rng.choice(WORDS),
            answers=(rng.choice(WORDS),),
            documents=(Document("", " ".join(rng.choices(WORDS, k=n - 1))),),
        )
        for i, n in enumerate(lengths)
    ]
    write_records(examples, path)
    return str(path)


def plain_processes(path: Path) -> str:
    """A configuration of accelerate for several processes without GPUs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # On a machine without GPUs, MULTI_CPU would ask for MPI; this starts plain processes, which then find no GPU.
    settings = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "use_cpu": False}
    settings |= {"num_machines": 1, "machine_rank": 0, "main_process_port": port, "mixed_precision": "no"}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return str(path)


def train(command: str, *argv) -> int:
    """Runs the command on the CPU with settings that fit a tiny model; later flags win."""
    settings = {
        "use_cpu": "true",
        "bf16": "false",
        "report_to": "none",
        "disable_tqdm": "true",
        "logging_steps": 1,
        "gradient_checkpointing": "false",
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
    }
    if command not in ("solopo", "cprs-train"):  # which make no prompts of records
        settings["prompt_template"] = TEMPLATE
    if command == "phased-grpo":
        settings |= {"num_generations": 2, "max_completion_length": 4, "phases": PHASES, "save_steps": 1}
        settings |= {"reward_funcs": "tiny.parity_reward"}
    flags = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
    return main([command, *flags, *map(str, argv)])
