"""The token critic of QwenLong-CPRS (arXiv 2505.18092, section 2.2): one pass over a window gives each token its tag.

```python
>>> from qwenlong_trl.cprs import CPRSForTokenCritic
>>> model = CPRSForTokenCritic.from_backbone("Qwen/Qwen3-0.6B")  # to be trained
>>> model = CPRSForTokenCritic.from_pretrained("Tongyi-Zhiwen/QwenLong-CPRS-7B", dtype="bfloat16")  # the release
```

The lower layers of a causal language model stay causal, the upper ones attend in both directions; the weights are the
same. A layer that looks ahead needs two things at once: a mask without the causal triangle, and `is_causal=False` on
its attention module. Without padding both masks are `None`, and the flag alone decides.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_causal_mask,
    find_packed_sequence_indices,
    packed_sequence_mask_function,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.llama import modeling_llama
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3
from transformers.utils import ModelOutput

from .configuration_cprs import CUSTOM_PIPELINES, CPRSConfig
from .decode import OUTSIDE


if TYPE_CHECKING:
    # Never run. Saving a model copies the files that its own one imports, so this puts the pipeline into the folder.
    from .pipeline_cprs import ContextCompressionPipeline  # noqa: F401


# Layer, norm, rotary embedding.
_PARTS = {
    "llama": (modeling_llama.LlamaDecoderLayer, modeling_llama.LlamaRMSNorm, modeling_llama.LlamaRotaryEmbedding),
    "qwen2": (modeling_qwen2.Qwen2DecoderLayer, modeling_qwen2.Qwen2RMSNorm, modeling_qwen2.Qwen2RotaryEmbedding),
    "qwen3": (modeling_qwen3.Qwen3DecoderLayer, modeling_qwen3.Qwen3RMSNorm, modeling_qwen3.Qwen3RotaryEmbedding),
}


@dataclass
class TokenCriticOutput(ModelOutput):
    """
    Output of [`CPRSForTokenCritic`].

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned with `labels`):
            Position loss plus, with `tag_labels`, tag loss.
        logits (`torch.FloatTensor` of shape `(batch_size, sequence_length, 4)`):
            Scores of Begin, Inside, Outside, End, in float32.
        tag_logits (`torch.FloatTensor` of shape `(batch_size, sequence_length, len(tag_ids))`, *optional*):
            Scores of the LM head for the given vocabulary entries, in float32; with `tag_ids` alone.
        hidden_states (`tuple[torch.FloatTensor]`, *optional*):
            The embeddings and the output of each layer, the last one after the norm, with `output_hidden_states`.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    tag_logits: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None


class CPRSPreTrainedModel(PreTrainedModel):
    config_class = CPRSConfig
    config: CPRSConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # Four rows cost nothing, and probabilities near 0 and 1 are what compression ranks by.
    _keep_in_fp32_modules_strict = {"cls_head"}


class CPRSModel(CPRSPreTrainedModel):
    """The layers of a Qwen2, Qwen3 or Llama model, causal below `config.bidirectional_start_layer` only."""

    def __init__(self, config: CPRSConfig):
        super().__init__(config)
        config.check()
        layer_class, norm_class, rotary_class = _PARTS[config.backbone_type]
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList([layer_class(config, i) for i in range(config.num_hidden_layers)])
        for i, layer in enumerate(self.layers):
            layer.self_attn.is_causal = i < config.bidirectional_start_layer
        self.norm = norm_class(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = rotary_class(config=config)
        self.gradient_checkpointing = False
        self._no_split_modules = [layer_class.__name__]  # of this model; FSDP refuses names that are not in it
        self.post_init()

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutput | tuple:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
                Instruction, question and window.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                0 for padding. Needed as soon as there is any: a layer that looks ahead would see it.
            position_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Where they start again within a row, several windows are packed into it, and none sees another.
                Packed rows have no `attention_mask`; with flash attention there is one of them.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        packed = None
        if position_ids is None:
            position_ids = torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)
        elif attention_mask is None:
            position_ids = position_ids.expand(hidden.shape[0], -1)
            packed = find_packed_sequence_indices(position_ids)  # (batch_size, sequence_length), or None
            if packed is not None and len(hidden) > 1 and "flash" in self.config._attn_implementation:
                raise ValueError("flash attention tells packed windows apart in a single row only: pack into one row")
        shared = {"config": self.config, "inputs_embeds": hidden}
        # A causal layer sees no padding that is on the right. Without a mask it is faster, and what it computes there
        # reaches no other token.
        unseen = attention_mask is not None and attention_mask.dim() == 2
        unseen = unseen and bool((attention_mask[:, 1:] <= attention_mask[:, :-1]).all())
        causal = create_causal_mask(
            **shared,
            attention_mask=None if unseen else attention_mask,
            past_key_values=None,
            position_ids=position_ids if attention_mask is None else None,  # where it looks for packed rows
        )
        # The causal mask finds packed rows by itself, the bidirectional one does not.
        apart = None if packed is None else packed_sequence_mask_function(packed)
        bidirectional = create_bidirectional_mask(**shared, attention_mask=attention_mask, and_mask_function=apart)
        rotary = self.rotary_emb(hidden, position_ids)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        states = []
        for i, layer in enumerate(self.layers):
            states.append(hidden)
            hidden = layer(
                hidden,
                attention_mask=causal if i < self.config.bidirectional_start_layer else bidirectional,
                position_ids=position_ids,
                position_embeddings=rotary,
                use_cache=False,
            )
        hidden = self.norm(hidden)
        output = BaseModelOutput(hidden, hidden_states=(*states, hidden) if output_hidden_states else None)
        return output if return_dict in (None, True) else output.to_tuple()


class TagHead(nn.Linear):
    """An LM head of which some rows may be asked for, within its `forward`, where offloaded weights are at hand."""

    def forward(self, hidden: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
        if rows is None:
            return super().forward(hidden)
        return F.linear(hidden, self.weight[rows.to(self.weight.device)])


class CPRSForTokenCritic(CPRSPreTrainedModel):
    """
    A backbone with two heads: `cls_head` says where a span begins, goes on and ends, `lm_head` names it with a word.

    The state dict has the names of the paper's release: `model.*`, `lm_head.weight`, `cls_head.weight`,
    `cls_head.bias`; [`~CPRSForTokenCritic.from_pretrained`] loads it as it is, with its configuration of type `qwen2`.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    accepts_loss_kwargs = True

    def __init__(self, config: CPRSConfig):
        super().__init__(config)
        self.model = CPRSModel(config)
        self.lm_head = TagHead(config.hidden_size, config.vocab_size, bias=False)
        self.cls_head = nn.Linear(config.hidden_size, 4)
        self._no_split_modules = self.model._no_split_modules
        self.post_init()

    @classmethod
    def from_backbone(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        untie: bool = True,
        **kwargs,
    ) -> CPRSForTokenCritic:
        """
        A critic that is to be trained, from a causal language model.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`):
                A base model of type Qwen2, Qwen3 or Llama. Base models were better than instruction-tuned ones for the
                authors (section 3.1).
            untie (`bool`, *optional*, defaults to `True`):
                Gives the LM head its own weights where it shares them with the embeddings, as in the paper's backbone.
                Otherwise learning tags would change what the critic reads.
            kwargs (*optional*):
                For [`~transformers.PreTrainedModel.from_pretrained`]; fields of [`CPRSConfig`] go there, too.
        """
        model, loading = cls.from_pretrained(pretrained_model_name_or_path, output_loading_info=True, **kwargs)
        missing = [name for name in loading["missing_keys"] if not name.startswith(("cls_head.", "lm_head."))]
        if missing:
            raise ValueError(f"{pretrained_model_name_or_path} is no backbone for a critic: it lacks {missing[:3]}")
        if untie and model.config.tie_word_embeddings:
            if is_deepspeed_zero3_enabled():
                raise ValueError(
                    "under ZeRO-3 each process holds a part of the embeddings, which cannot be copied to the LM head: "
                    "save what from_backbone returns in a process of its own, and train that folder"
                )
            model.lm_head.weight = nn.Parameter(model.model.embed_tokens.weight.detach().clone())
            model.config.tie_word_embeddings = False
            model.all_tied_weights_keys = {}
        return model

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """As every model, with the code of model and pipeline: both load where this package is not installed."""
        self.config.custom_pipelines = CUSTOM_PIPELINES
        super().save_pretrained(save_directory, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.embed_tokens = value

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.lm_head = value

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        tag_labels: torch.LongTensor | None = None,
        tag_ids: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TokenCriticOutput | tuple:
        """
        Args:
            labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                0 to 3 for Begin, Inside, Outside, End of this very token (nothing is shifted); -100 where nothing is
                to be learnt.
            tag_labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Vocabulary entry of the tag word, or of `outside`; -100 as in `labels`.
            tag_ids (`torch.LongTensor` of shape `(tags,)`, *optional*):
                Vocabulary entries to score with the LM head. Only these rows of it are used.
            num_items_in_batch (`torch.Tensor` or `int`, *optional*):
                Labelled tokens of the whole batch, over all accumulation steps and processes; the losses are divided
                by it. Defaults to those of `labels`.
        """
        output = self.model(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            output_hidden_states=output_hidden_states,
        )
        hidden = output.last_hidden_state
        with torch.autocast(hidden.device.type, enabled=False):
            logits = self.cls_head(hidden.to(self.cls_head.weight.dtype)).float()  # (batch_size, sequence_length, 4)
        tag_logits = None
        if tag_ids is not None:
            tag_logits = self.lm_head(hidden, tag_ids).float()  # (batch_size, sequence_length, tags)
        loss = None
        if labels is not None:
            labelled = labels.ne(-100)
            count = labelled.sum() if num_items_in_batch is None else num_items_in_batch
            loss = self._position_loss(logits[labelled], labels[labelled]) / count
            if tag_labels is not None and self.config.tag_loss_weight > 0:
                # Only labelled positions reach the LM head: the logits of a whole window would take gigabytes.
                outside = labels[labelled].eq(OUTSIDE)
                tag_loss = self._tag_loss(hidden[labelled], tag_labels[labelled], outside)
                loss = loss + self.config.tag_loss_weight * tag_loss / count
        result = TokenCriticOutput(loss, logits, tag_logits, output.hidden_states)
        return result if return_dict in (None, True) else result.to_tuple()

    def _position_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """
        Sum over labelled tokens of `w_y (1 - p_y)^gamma (-log p_y)`, with gamma 0 for cross entropy.

        `p_y` is free of the class weight, and the caller divides by the labelled tokens alone. The release computes
        `p_y` from the weighted loss and divides by all tokens, ignored ones included.
        """
        loss = F.cross_entropy(logits, labels, reduction="none")  # (labelled,)
        if self.config.position_loss == "focal":
            loss = (-torch.expm1(-loss)).pow(self.config.focal_gamma) * loss
        if self.config.position_weights is not None:
            loss = loss * logits.new_tensor(self.config.position_weights)[labels]
        return loss.sum()

    def _tag_loss(self, hidden: torch.Tensor, labels: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
        """Sum over labelled tokens of the weighted cross entropy of the tag word, over the whole vocabulary."""
        loss = F.cross_entropy(self.lm_head(hidden).float(), labels, reduction="none")  # (labelled,)
        return torch.where(outside, self.config.outside_tag_weight * loss, loss).sum()


__all__ = ["CPRSForTokenCritic", "CPRSModel"]
