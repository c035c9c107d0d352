"""`examples/benchmarks/gpu_smoke.py`, as far as a CPU goes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import run_python


SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "gpu_smoke.py"


def test_it_says_that_there_is_no_gpu_before_it_imports_vllm(tmp_path):
    (tmp_path / "vllm.py").write_text("raise SystemExit(99)")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("no GPU: ")


@pytest.mark.slow
def test_a_row_of_shared_prefixes_is_exact(tmp_path):
    sizes = ["--prompt_tokens", "64", "--completion_tokens", "8", "--steps", "1"]
    run_python([str(SCRIPT), "--cpu", "--rows", "float32", *sizes, "--json", str(tmp_path / "smoke.json")])
    (row,) = json.loads((tmp_path / "smoke.json").read_text())["rows"].values()
    assert row["steps"] == 2 and row["exact"] < 1e-5 and row["token_ratio"] > 2
