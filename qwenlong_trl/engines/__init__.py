"""Rollouts from vLLM: what is checked when a trainer starts, and what upstream does not do right yet.

[`PhasedGRPOTrainer`] does all of this by itself. For a plain [`~trl.GRPOTrainer`]:

```python
>>> from qwenlong_trl.engines import prepare_engine
>>> trainer = GRPOTrainer(..., args=GRPOConfig(use_vllm=True, vllm_mode="colocate"))
>>> prepare_engine(trainer)
>>> trainer.train()
```

What differs between the engines that a trainer can roll out with:

| | transformers | vLLM, `colocate` | vLLM, `server` |
| --- | --- | --- | --- |
| starts from | the model object | the folder or Hub name of the model, so that one made in memory must be saved first | whatever the server was started with |
| limit of a sequence | none but the model's | `vllm_max_model_length`, else the model's | `max_model_len` of the server |
| a prompt beyond it | goes on, without meaning | an error on its own process, while the others wait | an error on the first process, while the others wait |
| equal prompts are read once | by [`~prefix_sharing.generate_shared`] | by vLLM's prefix cache, in whole blocks (16 tokens on a GPU, 128 on a CPU) | the same, in the server |
| after an optimizer step | nothing to do | weights are loaded into the engine, the prefix cache is emptied | weights are sent through NCCL, so that both sides need CUDA |
| random numbers | torch's, which a checkpoint holds | the engine's, which it does not | the server's |
| precision | the model's | the model's, but bfloat16 for a float32 model: log-probabilities differ by some thousandths | the server's |

Therefore [`check_limits`] compares every prompt and the longest completion of its phase with the engine's limit before
the first step, on all processes, and names the first prompt that does not fit; and [`prepare_engine`] warns where the
engine has no prefix cache.

Server mode, on a GPU of its own:

```bash
VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --weight-transfer-config '{"backend": "nccl"}' \
    --logprobs-mode processed_logprobs --max-logprobs -1 --max-model-len 70000
```

The development mode is what opens the routes for weights and for emptying the cache, so the port must be out of reach
of others. Without CUDA, TRL stops when it opens the group for the weights (`VLLMClient.init_communicator`); everything
else works on a CPU, and our tests go as far.

# Shims for upstream defects

| what | versions | why | delete when |
| --- | --- | --- | --- |
| [`~engines.cpu_weights.mend_weight_sync`] | vLLM 0.22 to 0.31 on a CPU, `colocate`, TRL 1.16 | On CPUs for which vLLM packs the weights of linear layers once they are loaded (oneDNN, AMX, zentorch), the parameters that TRL's `sync_weights` writes to are gone: `'Parameter' object has no attribute 'weight_loader'`. vLLM's own reload brings them back, but packs a tied LM head before its weights have arrived. | `tests/contract/test_vllm_surface.py::test_weights_cannot_be_loaded_twice_on_a_cpu` fails |

Nothing of a shim runs on a GPU. Importing this package imports neither torch nor trl nor vllm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


_MODULE_OF = {
    "check_limits": "limits",
    "engine_limit": "limits",
    "prepare_engine": "prepare",
}

__all__ = sorted(_MODULE_OF)

if TYPE_CHECKING:
    from .limits import check_limits as check_limits
    from .limits import engine_limit as engine_limit
    from .prepare import prepare_engine as prepare_engine

__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
