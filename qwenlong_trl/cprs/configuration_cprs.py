"""Configuration of the token critic of QwenLong-CPRS (arXiv 2505.18092, section 2.2).

```python
>>> from qwenlong_trl.cprs import CPRSConfig
>>> config = CPRSConfig.from_pretrained("Qwen/Qwen3-0.6B")  # also from the config of a backbone
>>> config.backbone_type, config.num_hidden_layers, config.bidirectional_start_layer
('qwen3', 28, 21)
```
"""

from __future__ import annotations

import os
from typing import Any

from transformers import LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config


# How a saved critic says that it brings a pipeline of its own.
CUSTOM_PIPELINES = {
    "context-compression": {
        "impl": "pipeline_cprs.ContextCompressionPipeline",
        "pt": ["AutoModel"],
        "type": "text",
    }
}
BACKBONE_CONFIGS = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}

# The prompt for question answering of the paper's release; a critic that was trained with another one should say so.
QA_INSTRUCTION = (
    "You are an expert for information extraction, your task is to extract some sentences from the documents as the "
    "supporting facts of the user's question.\n## tagging rule:\n- tag the supporting facts with 'fact'"
)


class CPRSConfig(PreTrainedConfig):
    """
    Configuration of [`CPRSForTokenCritic`]: the fields of a Qwen2, Qwen3 or Llama configuration, and those below.

    Args:
        backbone_type (`str`, *optional*, defaults to `"qwen2"`):
            Whose layers: `"qwen2"` (the paper's), `"qwen3"` or `"llama"`. Fields that are not given have the defaults
            of that configuration.
        bidirectional_start_layer (`int`, *optional*):
            Layers from this one on attend in both directions, those below causally; between 0 (all bidirectional) and
            `num_hidden_layers` (all causal). Defaults to three quarters of the depth: 21 of 28 as in the paper.
        window_tokens (`int`, *optional*):
            Tokens of a window that the critic reads at once, with instruction and question. Defaults to 8,192
            (section 3.1), or to the positions of the backbone if they are fewer.
        instruction (`str`, *optional*):
            What the critic is asked for when the caller does not say. Defaults to the release's prompt for question
            answering.
        position_loss (`str`, *optional*, defaults to `"cross_entropy"`):
            Loss of the position head, `"cross_entropy"` or `"focal"`. The release has both and does not say which one
            its checkpoint was trained with.
        focal_gamma (`float`, *optional*, defaults to `2.0`):
            Exponent of the focal loss (arXiv 1708.02002).
        position_weights (`list[float]`, *optional*):
            Class weights of the position loss for Begin, Inside, Outside, End. All 1 by default.
        outside_tag_weight (`float`, *optional*, defaults to `1.0`):
            Class weight of the word `outside` in the loss of the tag critic.
        tag_loss_weight (`float`, *optional*, defaults to `1.0`):
            Weight of the loss of the tag critic beside that of the position head. With 0 the position head alone is
            trained, and alone is used.
    """

    model_type = "cprs"
    keys_to_ignore_at_inference = ["tag_logits", "hidden_states", "attentions"]

    backbone_type: str = "qwen2"
    bidirectional_start_layer: int | None = None
    window_tokens: int | None = None
    instruction: str = QA_INSTRUCTION
    position_loss: str = "cross_entropy"
    focal_gamma: float = 2.0
    position_weights: list[float] | None = None
    outside_tag_weight: float = 1.0
    tag_loss_weight: float = 1.0

    def __post_init__(self, **kwargs):
        if self.backbone_type not in BACKBONE_CONFIGS:
            names = ", ".join(BACKBONE_CONFIGS)
            raise ValueError(f"`backbone_type` must be one of {names}, got {self.backbone_type!r}")
        # All fields of the backbone, with its defaults, become fields of this configuration: whatever looks for
        # `hidden_size` or `vocab_size` finds it where it looks.
        given = {name: value for name, value in kwargs.items() if name not in _OWN_NAMES}
        backbone = BACKBONE_CONFIGS[self.backbone_type](**given).to_dict()
        kwargs = {name: value for name, value in backbone.items() if name not in _OWN_NAMES} | kwargs
        kwargs["rope_parameters"] = backbone["rope_parameters"]
        kwargs.pop("rope_scaling", None)
        kwargs.pop("rope_theta", None)
        self.id2label = {0: "B", 1: "I", 2: "O", 3: "E"}
        super().__post_init__(**kwargs)
        self.use_cache = False  # a layer that looks ahead has nothing to cache
        if self.bidirectional_start_layer is None:
            self.bidirectional_start_layer = self.num_hidden_layers * 3 // 4
        if self.window_tokens is None:
            self.window_tokens = min(8192, self.max_position_embeddings)
        self.check()

    def check(self) -> None:
        """Raises `ValueError` for fields that cannot be; also called when a model is made, since fields may be set."""
        if any(kind != "full_attention" for kind in getattr(self, "layer_types", None) or []):
            raise ValueError("layers with sliding-window attention are not supported: set use_sliding_window=False")
        if not 0 <= self.bidirectional_start_layer <= self.num_hidden_layers:
            raise ValueError(
                f"`bidirectional_start_layer` must lie between 0 and num_hidden_layers={self.num_hidden_layers}, got "
                f"{self.bidirectional_start_layer}"
            )
        if self.window_tokens < 2:
            raise ValueError(f"`window_tokens` must be at least 2, got {self.window_tokens}")
        if self.position_loss not in ("cross_entropy", "focal"):
            raise ValueError(f"`position_loss` must be 'cross_entropy' or 'focal', got {self.position_loss!r}")
        if self.tag_loss_weight < 0:
            raise ValueError(f"`tag_loss_weight` must not be negative, got {self.tag_loss_weight}")
        if self.position_weights is not None and len(self.position_weights) != 4:
            raise ValueError(f"`position_weights` needs 4 numbers (B, I, O, E), got {self.position_weights!r}")

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reads a configuration of this kind, or one of a backbone (as the paper's release has it) as its base."""
        config, unused = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        kind = config.get("model_type", cls.model_type)
        if kind in BACKBONE_CONFIGS:
            about_others = ("architectures", "auto_map", "model_type", "id2label", "label2id")
            config = {name: value for name, value in config.items() if name not in about_others}
            config["backbone_type"] = kind
        elif kind != cls.model_type:
            raise ValueError(
                f"{pretrained_model_name_or_path} holds a model of type {kind!r}; a token critic is of type 'cprs', "
                f"or is made from one of {', '.join(BACKBONE_CONFIGS)}"
            )
        return config, unused


# Of PreTrainedConfig itself, or of this class: not taken from the backbone.
_OWN_NAMES = frozenset(PreTrainedConfig().to_dict()) - {"dtype"} | {"model_type", "_attn_implementation"}

__all__ = ["CPRSConfig"]
