"""Rollouts from vLLM: what is checked when a trainer starts, and what upstream does not do right yet.

[`PhasedGRPOTrainer`] does all of this by itself. For a plain [`~trl.GRPOTrainer`]:

```python
>>> from qwenlong_trl.engines import prepare_engine
>>> trainer = GRPOTrainer(..., args=GRPOConfig(use_vllm=True, vllm_mode="colocate"))
>>> prepare_engine(trainer)
>>> trainer.train()
```

What differs between the engines that a trainer can roll out with, transformers, vLLM in the same process (`colocate`)
and a vLLM server:

- **Start.** transformers has the model object. `colocate` loads the model from its folder or Hub name, so that one
  made in memory must be saved first. A server has what it was started with.
- **Longest sequence.** transformers goes on beyond the model's positions, without meaning. `colocate` takes
  `vllm_max_model_length`, or else the model's positions, a server its `max_model_len`; a prompt beyond them is an
  error on one process, for which the others wait.
- **Equal prompts** are read once: by [`~prefix_sharing.generate_shared`], or by vLLM's prefix cache in whole blocks
  (on a CPU of 128 tokens), so that prompts shorter than a block are not shared.
- **After an optimizer step** transformers has nothing to do. The engine of `colocate` loads the weights and empties
  its prefix cache. A server is sent them through NCCL, for which both sides need CUDA.
- **Random numbers.** A checkpoint holds torch's. It does not hold an engine's, so a resumed run has the same prompts
  in the same order and other completions.
- **Type.** vLLM makes bfloat16 of a float32 model: log-probabilities then differ by some thousandths.

Therefore [`check_limits`] compares every prompt and the longest completion of its phase with the engine's limit before
the first step, on all processes, and names the first prompt that does not fit; and [`prepare_engine`] warns where the
engine has no prefix cache.

Server mode, on a GPU of its own:

```bash
VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --weight-transfer-config '{"backend": "nccl"}' \\
    --logprobs-mode processed_logprobs --max-logprobs -1 --max-model-len 70000
```

The development mode is what opens the routes for weights and for emptying the cache, so the port must be out of reach
of others. Without CUDA, TRL stops when it opens the group for the weights (`VLLMClient.init_communicator`); everything
else works on a CPU, and our tests go as far.

# Shims for upstream defects

[`~engines.cpu_weights.mend_weight_sync`], for vLLM up to 0.31 on a CPU, `colocate`, with TRL 1.16.

- Why: where vLLM packs the weights of linear layers once they are loaded (processors with AVX-512 or AMX), the
  parameters that TRL's `sync_weights` writes to are gone: `'Parameter' object has no attribute 'weight_loader'`.
  vLLM's own reload brings them back, but leaves an LM head that is tied to the embedding with its old packed copy.
- Delete it when `test_weights_cannot_be_loaded_twice_on_a_cpu` in `tests/contract/test_vllm_surface.py` fails.

Nothing of that shim runs on a GPU.

`activation_checkpointing.py` says of itself what it repairs. `plan.py` computes the memory of a training, `liger.py`
looks after Liger's kernels and losses. Importing this package imports neither torch nor trl nor vllm.
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
