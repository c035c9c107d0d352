"""The sizes of a model that its memory follows from, counted on the model itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig


@dataclass(frozen=True)
class Sizes:
    """
    What counts of a model.

    Args:
        parameters, layer_parameters, linear_parameters (`int`):
            Of the whole model, of one decoder layer, and of all matrices within the layers.
        layers, hidden, intermediate, queries, keys, heads, vocabulary (`int`):
            Layers, and the widths H, F, Q, K; `heads` are those of queries.
        head_norms (`bool`):
            Whether queries and keys are normed (Qwen3).
        tied (`bool`):
            Whether the LM head is the embedding.
        adapter_ends (`int`):
            Inputs and outputs of all matrices within the layers, which are the parameters of LoRA for each rank.
    """

    parameters: int
    layer_parameters: int
    linear_parameters: int
    layers: int
    hidden: int
    intermediate: int
    queries: int
    keys: int
    heads: int
    vocabulary: int
    head_norms: bool
    tied: bool
    adapter_ends: int

    @classmethod
    def of(cls, config: PreTrainedConfig) -> Sizes:
        """
        Counted on the model itself, made without weights.

        Raises:
            `ValueError`: for architectures that the formulas do not describe: other layers than attention over all
            tokens with a gated MLP.
        """
        text = config.get_text_config()
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(text)
        stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
        layer = stacks[0][0] if stacks else None
        names = {name for name, _ in layer.named_parameters()} if layer is not None else set()
        kinds = set(getattr(text, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
        gated = {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "mlp.gate_proj.weight"} <= names
        if not gated or kinds or len({sum(p.numel() for p in one.parameters()) for one in stacks[0]}) > 1:
            raise ValueError(
                "a plan is made for dense decoders whose layers are all attention and a gated MLP (Qwen2, Qwen3, "
                f"Llama and the like), and {text.model_type!r} is none: its memory has to be measured"
            )
        matrices = [m for m in layer.modules() if isinstance(m, torch.nn.Linear)]
        return cls(
            parameters=sum(p.numel() for p in model.parameters()),
            layer_parameters=sum(p.numel() for p in layer.parameters()),
            linear_parameters=len(stacks[0]) * sum(m.weight.numel() for m in matrices),
            layers=len(stacks[0]),
            hidden=text.hidden_size,
            intermediate=layer.mlp.gate_proj.out_features,
            queries=layer.self_attn.q_proj.out_features,
            keys=layer.self_attn.k_proj.out_features,
            heads=text.num_attention_heads,
            vocabulary=text.vocab_size,
            head_norms="self_attn.q_norm.weight" in names,
            tied=model.get_output_embeddings().weight is model.get_input_embeddings().weight,
            adapter_ends=len(stacks[0]) * sum(m.in_features + m.out_features for m in matrices),
        )
