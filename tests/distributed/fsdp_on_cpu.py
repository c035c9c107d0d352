"""FSDP2 on CPUs, where PyTorch can do it and accelerate (1.15) does not ask for it.

`AcceleratorState` looks at its FSDP plugin for a list of kinds of devices in which CPUs are missing, so that on CPUs
the plugin is ignored without a word, and every process keeps the whole model. All that comes later works: the plugin
prepares the model, `torch.distributed.fsdp.fully_shard` shards it, gloo gathers and scatters. `assert_still_needed`
fails when that changes.
"""

import os

import accelerate.state
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType


# What a trainer is given: each decoder layer, the embeddings, the norm with the head, and the rest are sharded.
FSDP2 = {"fsdp": True, "fsdp_config": {"version": 2, "reshard_after_forward": True}}


def assert_still_needed() -> None:
    """When this fails, accelerate shards on CPUs by itself: delete this file and what calls it."""
    if AcceleratorState.__init__.__name__ == "with_plugin":
        return
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    state = Accelerator(cpu=True, fsdp_plugin=plugin).state
    assert (state.distributed_type, getattr(state, "fsdp_plugin", None)) == (DistributedType.MULTI_CPU, None), (
        "accelerate heeds an FSDP plugin on CPUs now: delete fsdp_on_cpu.py"
    )
    os.environ.pop("ACCELERATE_USE_FSDP")  # which accelerate sets for a plugin, and reads everywhere


def allow_fsdp_on_cpu() -> None:
    """From here on, accelerators of this process on CPUs heed their FSDP plugin."""
    initialize = AcceleratorState.__init__
    if initialize.__name__ == "with_plugin":
        return

    def with_plugin(self, *args, fsdp_plugin=None, **kwargs):
        initialize(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.fsdp_plugin, self.distributed_type = fsdp_plugin, DistributedType.FSDP
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    accelerate.state.AcceleratorState.__init__ = with_plugin
