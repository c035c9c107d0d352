"""Processes of their own for tests: how they are started, and how workers under `torchrun` end."""

import os
import subprocess
import sys


def run_python(arguments: list[str], timeout: float = 280, **variables: str) -> subprocess.CompletedProcess:
    """Another Python process, which must succeed. One thread each, so that two do not compete for the cores."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", **variables}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=timeout, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def run_on_two_processes(arguments: list[str], timeout: float = 280, **variables: str) -> subprocess.CompletedProcess:
    """A script on two processes that talk over gloo. The script must end with [`leave`]."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return run_python([*launch, *arguments], timeout, **variables)


def leave() -> None:
    """
    Ends a worker that has done its work. The threads of gloo that trainers leave behind can abort a process that
    takes itself apart (torch 2.13: "terminate called without an active exception"), which says nothing of the work.
    """
    import torch

    torch.distributed.barrier()
    sys.stdout.flush()
    os._exit(0)
