"""Fixtures shared by all tests. Everything here is made on the spot: no network, no hub."""

import gc
import os
import sys
from pathlib import Path

import pytest


sys.path.insert(0, str(Path(__file__).parent))  # shared helpers, such as `tiny`
from vllm_engines import engine_model, engines, packed_weights, server, start_engine  # noqa: E402, F401


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# For the tests marked `vllm`, before anything imports it: engines run in this process, where tests can look at them.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GB
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


def pytest_collection_finish():
    """
    Each training ends with a collection of garbage, which looks at every object there is: in the end half a second's
    work. Most objects are modules and tests, which stay, so these are taken out of its sight.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    gc.unfreeze()  # or libraries that count what is left at the end complain


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real public data that lies beside a checkout, where there is one."""
    folder = Path(os.environ.get("QWENLONG_TRL_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set QWENLONG_TRL_SHARED_DATA)")
    return folder


@pytest.fixture
def transformers_log(caplog):
    """`caplog` with what is logged through transformers, which does not propagate otherwise."""
    from transformers.utils import logging

    logging.enable_propagation()
    yield caplog
    logging.disable_propagation()
