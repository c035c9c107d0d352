"""How much memory a GRPO training takes on each GPU, before it is started.

Formulas are those of the code that runs (transformers 5.23, TRL 1.16, our packed rows), read off layer by layer in the
manner of Korthikanti et al. (arXiv 2205.05198, section 4), who did it for a GPT with a plain MLP, dropout and
attention scores in memory. Here the MLP is gated, keys and values have fewer heads, attention keeps no scores, and the
norms of transformers keep three tensors. For a token, with H the width, Q and K the widths of all query and of all key
heads, F that of the MLP, a bytes for each element in matrices and r for those between the layers, a decoder layer
keeps for the backward pass

```txt
 two norms           2 (4 + r + a) H the input in float32, what is scaled, the result, which the next matrices read
 norms of the heads  (4 + a) (Q + K) where a model has them (Qwen3)
 attention           a (2 Q + 2 K)   queries, keys, values, the result
 MLP                 4 a F           gate, silu(gate), up, their product
```

With activation checkpointing it keeps its input, r H, and one layer at a time has the rest. r is a, but 4 where
autocast alone (no FSDP2, no ZeRO-3) computes in bfloat16 over float32 weights: what the embeddings give stays in
float32, and all that is added to it; and each matrix casts its input for itself, 3 a H more. Loading the model in
bfloat16 avoids both. A packed row has P - 1 + G C tokens for G completions of C tokens of a prompt of P, rows by
themselves have G (P + C). `examples/benchmarks/plan_memory.py` compares a training step with measured peaks; what
`memory` says of rollouts was not measured.

```python
>>> from transformers import AutoConfig
>>> sizes = Sizes.of(AutoConfig.from_pretrained("Qwen/Qwen3-8B"))
>>> memory(sizes, Run(prompt=60_000, completion=10_000, gpus=8)).peak / 2**30
```
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from .sizes import Sizes


# TRL's fused LM head projects so many tokens on so many entries of the vocabulary at a time.
TILE_TOKENS, TILE_ENTRIES = 4096, 32768

# Tiles in float32 that its backward pass holds at once where there is no Triton.
_CPU_TILES = 8

# Gradients of the MLP's inner width that are there at once in the backward pass of a layer.
_INNER_GRADIENTS = 3


@dataclass(frozen=True)
class Run:
    """
    How a model is trained.

    Args:
        prompt, completion, group (`int`):
            Tokens of the longest prompt and completion, and completions of a prompt.
        rows (`int`, *optional*):
            Completions in a micro-batch, `per_device_train_batch_size`. Defaults to a group.
        rollout_rows (`int`, *optional*):
            Completions that a process samples at once. Defaults to `rows`.
        gpus (`int`, *optional*, defaults to `1`):
            Processes that hold a share of weights, gradients and optimizer each (FSDP2, ZeRO-3), with `sharded`.
        prefix_sharing, checkpointing, sharded (`bool`, *optional*, defaults to `True`):
            Whether prompts are computed once, activations recomputed, and the state of the model shared out.
        offload (`bool`, *optional*, defaults to `False`):
            Whether weights, gradients and optimizer wait in the memory of the host.
        offload_activations (`bool`, *optional*, defaults to `False`):
            Whether the inputs of layers that checkpointing keeps wait there, but for two.
        weight_bytes, compute_bytes (`int`, *optional*, defaults to `4` and `2`):
            Of an element of the trained weights, and in forward passes: `bf16=True` over float32 weights. What ZeRO-3
            holds, bfloat16 weights and gradients beside float32 ones of the optimizer, comes to the same 16 bytes.
        optimizer (`str`, *optional*, defaults to `"adamw"`):
            `"adamw"`, with two moments in the type of the weights, or `"adamw_8bit"` (bitsandbytes).
        lora_rank (`int`, *optional*, defaults to `0`):
            Of adapters on all matrices of the layers; the model itself is frozen, in the type of forward passes.
        reference (`bool`, *optional*, defaults to `False`):
            Whether there is a reference model (`beta` above 0), which LoRA needs no copy of.
        rollouts (`str`, *optional*, defaults to `"transformers"`):
            What samples: `"transformers"`, `"colocate"` (vLLM that sleeps while training) or `"server"`.
        vllm_share (`float`, *optional*, defaults to `0.3`):
            `vllm_gpu_memory_utilization`.
        padded (`bool`, *optional*, defaults to `False`):
            Whether rows by themselves are of unequal length under sdpa attention, which then has a mask of all pairs
            of tokens, and keys and values as wide as queries. Flash attention has neither.
        gpu_memory (`int`, *optional*, defaults to 80 GiB):
            Bytes of a GPU.
        cpu (`bool`, *optional*, defaults to `False`):
            Whether it runs without Triton, where TRL's LM head projects prompts as well and holds several tiles.
    """

    prompt: int
    completion: int
    group: int = 8
    rows: int | None = None
    rollout_rows: int | None = None
    gpus: int = 1
    prefix_sharing: bool = True
    checkpointing: bool = True
    sharded: bool = True
    offload: bool = False
    offload_activations: bool = False
    weight_bytes: int = 4
    compute_bytes: int = 2
    optimizer: str = "adamw"
    lora_rank: int = 0
    reference: bool = False
    rollouts: str = "transformers"
    vllm_share: float = 0.3
    padded: bool = False
    gpu_memory: int = 80 * 2**30
    cpu: bool = False

    def __post_init__(self):
        for name in ("prompt", "completion", "group", "gpus"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")

    @property
    def autocast(self) -> bool:
        """Whether matrices alone are cast: shards are, as a whole, when they are gathered."""
        shards = self.offload or (self.sharded and self.gpus > 1)
        return self.weight_bytes != self.compute_bytes and not shards and not self.lora_rank

    @property
    def between_layers(self) -> int:
        """Bytes of an element between layers, r."""
        return self.weight_bytes if self.autocast else self.compute_bytes

    @property
    def row_count(self) -> int:
        """Completions in a micro-batch."""
        return self.rows or self.group

    def tokens(self, rows: int) -> int:
        """Tokens that a forward pass over so many completions computes."""
        if not self.prefix_sharing:
            return rows * (self.prompt + self.completion)
        return math.ceil(rows / self.group) * (self.prompt - 1) + rows * self.completion


@dataclass
class Memory:
    """Bytes on each GPU, by what they are for: `state` all the time, then either `step` or `rollout`."""

    state: dict[str, int] = field(default_factory=dict)
    step: dict[str, int] = field(default_factory=dict)
    rollout: dict[str, int] = field(default_factory=dict)
    host: int = 0

    @property
    def peak(self) -> int:
        """The most at any time."""
        return sum(self.state.values()) + max(sum(self.step.values()), sum(self.rollout.values()))


def memory(sizes: Sizes, run: Run) -> Memory:
    """The memory of a training run on each GPU."""
    found = Memory(_state(sizes, run), _step(sizes, run), _rollout(sizes, run))
    if run.offload:
        found.host = run.gpus * sum(found.state.values())
        found.state = {}
    return found


def layer_bytes(sizes: Sizes, run: Run) -> int:
    """What a decoder layer keeps of a token, see the top of this file."""
    a = run.compute_bytes
    casts = 3 * a if run.autocast else 0
    norms = (2 * (4 + run.between_layers + a) + casts) * sizes.hidden
    head_norms = (4 + a) * (sizes.queries + sizes.keys) if sizes.head_norms else 0
    keys = sizes.queries if run.padded and not run.prefix_sharing else sizes.keys
    attention = a * (2 * sizes.queries + 2 * keys) + 4 * sizes.heads  # and a log-sum-exp of each head
    return norms + head_norms + attention + 4 * a * sizes.intermediate


def _state(sizes: Sizes, run: Run) -> dict[str, int]:
    share = run.gpus if run.sharded else 1
    adapters = run.lora_rank * sizes.adapter_ends
    trained, width = (adapters, 4) if run.lora_rank else (sizes.parameters, run.weight_bytes)
    moments = {"adamw": 2 * width, "adamw_8bit": 2 * (1 + 4 / 256)}[run.optimizer]
    state = {
        "weights": sizes.parameters * (run.compute_bytes if run.lora_rank else run.weight_bytes) // share,
        "gradients": trained * width // share,
        "optimizer": int(trained * moments) // share,
    }
    if run.lora_rank:
        state["weights"] += adapters * 4 // share
    if run.reference and not run.lora_rank:
        state["reference model"] = sizes.parameters * run.compute_bytes // share
    return state


def _gathered(sizes: Sizes, run: Run, training: bool) -> int:
    """Whole weights in the type of forward passes: of the layer at work and the next one, and of the LM head."""
    head = sizes.vocabulary * sizes.hidden * run.compute_bytes
    if run.autocast:
        return sizes.linear_parameters * run.compute_bytes + head  # autocast keeps a copy of each matrix
    if run.offload or (run.sharded and run.gpus > 1):
        layers = 2 * sizes.layer_parameters * run.compute_bytes
        return head + layers * (2 if training and not run.lora_rank else 1)  # with their gradients
    return 0


def _step(sizes: Sizes, run: Run) -> dict[str, int]:
    a, rows = run.compute_bytes, run.row_count
    tokens = run.tokens(rows)
    layer = tokens * layer_bytes(sizes, run)
    inner = _INNER_GRADIENTS * a * tokens * sizes.intermediate
    if run.checkpointing:
        inputs = min(2, sizes.layers) if run.offload_activations else sizes.layers
        kept = {"layer inputs": inputs * run.between_layers * tokens * sizes.hidden, "one layer": layer + inner}
    else:
        kept = {"activations": sizes.layers * layer, "gradients of one layer": inner}
    kept["last norm"] = tokens * (4 + run.between_layers + a) * sizes.hidden
    if run.padded and not run.prefix_sharing:
        kept["attention mask"] = rows * (run.prompt + run.completion) ** 2
    # The head's backward pass is over before that of the layers begins: there are its tiles, or gradients of a layer.
    head = _head(sizes, run, tokens)
    later = "one layer" if run.checkpointing else "gradients of one layer"
    if head > kept[later]:
        del kept[later]
        kept["LM head"] = head
    return {"gathered weights": _gathered(sizes, run, training=True), **kept}


def _head(sizes: Sizes, run: Run, tokens: int) -> int:
    """TRL's fused LM head in its backward pass: a tile, and gradients of its inputs and of the weights in float32."""
    scored = tokens if run.cpu else run.row_count * run.completion
    rows, entries = min(scored, TILE_TOKENS), min(sizes.vocabulary, TILE_ENTRIES)
    tiles = rows * entries * (run.compute_bytes + 4 * _CPU_TILES if run.cpu else run.compute_bytes)
    hidden = scored * sizes.hidden * (4 + 2 * run.compute_bytes)  # also what is scored, and the gradient as it leaves
    weights = 0 if run.lora_rank else sizes.vocabulary * sizes.hidden * 4
    return tiles + hidden + weights


def _rollout(sizes: Sizes, run: Run) -> dict[str, int]:
    if run.rollouts == "server":
        return {}
    if run.rollouts == "colocate":
        return {"vLLM": int(run.vllm_share * run.gpu_memory)}
    rows, a = run.rollout_rows or run.row_count, run.compute_bytes
    groups = math.ceil(rows / run.group)
    return {
        "gathered weights": _gathered(sizes, run, training=False),
        "key-value cache": cache_bytes(sizes, run, rows),
        # A layer at work on whole prompts, and the logits of the last tokens.
        "reading prompts": (groups if run.prefix_sharing else rows) * run.prompt * a * 3 * sizes.intermediate
        + rows * sizes.vocabulary * 4,
    }


def cache_bytes(sizes: Sizes, run: Run, rows: int) -> int:
    """The key-value cache of so many completions; vLLM shares prompts as well, in whole blocks."""
    tokens = run.tokens(rows) if run.prefix_sharing else rows * (run.prompt + run.completion)
    return tokens * sizes.layers * 2 * sizes.keys * run.compute_bytes


LEVERS: dict[str, dict] = {
    "activation checkpointing (gradient_checkpointing: true)": {"checkpointing": True},
    "prefix sharing (prefix_sharing: true)": {"prefix_sharing": True},
    "one completion in a micro-batch (per_device_train_batch_size: 1)": {"rows": 1},
    "activations on the host (activation_checkpointing_kwargs: {offload: true})": {"offload_activations": True},
    "weights in bfloat16 (dtype: bfloat16)": {"weight_bytes": 2},
    "sharded state (FSDP2 or ZeRO-3)": {"sharded": True},
    "state on the host (offloading)": {"offload": True},
    "8-bit AdamW (optim: adamw_bnb_8bit)": {"optimizer": "adamw_8bit"},
    "LoRA of rank 16 (use_peft: true)": {"lora_rank": 16},
    "no reference model (beta: 0)": {"reference": False},
    "rollouts on other GPUs (vllm_mode: server)": {"rollouts": "server"},
}


def levers(sizes: Sizes, run: Run) -> list[tuple[str, int]]:
    """What a single change of the run would save at the peak, in bytes, the most first; only what saves anything."""
    before = memory(sizes, run).peak
    saved = [(name, before - memory(sizes, replace(run, **change)).peak) for name, change in LEVERS.items()]
    return sorted(((name, by) for name, by in saved if by > 0), key=lambda pair: -pair[1])
