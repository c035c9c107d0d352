"""The prompts of QwenLong-L1's evaluation: its template, and what becomes of contexts that are too long for a model.

```python
>>> from qwenlong_trl.evaluation import L1_SAMPLING, EvaluationProtocol, protocol_prompt
>>> protocol = EvaluationProtocol(max_input_tokens=32_768)
>>> built = protocol_prompt(example, tokenizer, protocol)
>>> built.prompt, built.tokens, built.truncated
```

Paper: arXiv 2505.17667, section 4.1 and Table 1 (template, 120,000 tokens of input, 10,000 of output, temperature 0.7,
top-p 0.95). How a prompt loses its middle is said nowhere but in the released code; mode `"official"` does as that.

| | `"fixed"` (default) | `"official"` |
| --- | --- | --- |
| what loses its middle | the context; instruction and question stay whole | the text of the whole prompt |
| where it is cut | between characters: the rest are slices of the original | between tokens, decoded again |
| what fits in `max_input_tokens` | all that the model reads | the text, without the chat template |
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ..data.prompts import L1_MULTIPLE_CHOICE_TEMPLATE, L1_TEMPLATE, render_context, render_prompt
from ..data.record import Document, LongContextExample
from ..generation.sampling import Prompt, Sampling, encode_prompt


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MODES = ("fixed", "official")
Mode = Literal["fixed", "official"]

# How the paper samples; one answer to each question.
L1_SAMPLING = Sampling(num_samples=1, temperature=0.7, top_p=0.95, max_tokens=10_000)
L1_MAX_INPUT_TOKENS = 120_000


@dataclass(frozen=True)
class EvaluationProtocol:
    """How records become prompts, and how answers are scored.

    Args:
        mode (`str`, *optional*, defaults to `"fixed"`):
            `"fixed"`, or `"official"` for what the released evaluation code of QwenLong-L1 does.
        max_input_tokens (`int`, *optional*, defaults to `120000`):
            Longest prompt.
        template (`str`, *optional*):
            Prompt with one `$DOC$` and one `$Q$`. Defaults to that of the paper.
        chat (`bool`, *optional*, defaults to `True`):
            Whether a prompt is a message of the user, else plain text.
        chat_template_kwargs (`dict[str, Any]`, *optional*):
            Given to the chat template, as the samplers do it.
        require_delimiter (`bool`, *optional*, defaults to `False`):
            Mode `"fixed"`: whether a completion without `</think>` has no answer, as for models whose chat template
            opens the reasoning (see [`~qwenlong_trl.generation.sampling.opens_reasoning`]): such a completion was cut
            off in its reasoning.

    Raises:
        `ValueError`: for an unknown mode, or no room for a prompt.
    """

    mode: Mode = "fixed"
    max_input_tokens: int = L1_MAX_INPUT_TOKENS
    template: str | None = None
    chat: bool = True
    chat_template_kwargs: dict[str, Any] | None = None
    require_delimiter: bool = False

    def __post_init__(self):
        check_mode(self.mode)
        if self.max_input_tokens < 1:
            raise ValueError(f"max_input_tokens must be at least 1, got {self.max_input_tokens}")

    def describe(self) -> dict[str, Any]:
        """What the prompts depend on, as JSON has it."""
        templates = [L1_TEMPLATE, L1_MULTIPLE_CHOICE_TEMPLATE] if self.template is None else [self.template]
        described = asdict(self) | {"template_hash": text_hash(*templates)}
        del described["require_delimiter"]  # of the scores alone
        return described


@dataclass(frozen=True)
class ProtocolPrompt:
    """A prompt, and what it took.

    Args:
        prompt (`str` or `list[dict[str, str]]`):
            What a sampler is given.
        tokens (`int`):
            Length of the whole prompt before anything was cut, as its mode counts.
        truncated (`bool`):
            Whether the middle is missing.
        kept_tokens (`int`):
            Length of the whole prompt as it is now.
    """

    prompt: Prompt
    tokens: int
    truncated: bool
    kept_tokens: int


def protocol_prompt(
    example: LongContextExample, tokenizer: PreTrainedTokenizerBase, protocol: EvaluationProtocol
) -> ProtocolPrompt:
    """The prompt of a record.

    Args:
        example ([`LongContextExample`]):
            The record.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Of the model that answers.
        protocol ([`EvaluationProtocol`]):
            How.

    Raises:
        `ValueError`: the question alone does not fit, or a context must be cut and the tokenizer has no offsets.
    """
    if protocol.mode == "official":
        text = render_prompt(example, protocol.template)
        tokens = kept = len(_ids(text, tokenizer))
        truncated = tokens > protocol.max_input_tokens
        if truncated:
            text = truncate_middle(text, tokenizer, protocol.max_input_tokens, "official")
            kept = len(_ids(text, tokenizer))
        return ProtocolPrompt(_as_prompt(text, protocol), tokens, truncated, kept)

    def count(context: str | None) -> int:
        return len(encode_prompt(built(context), tokenizer, protocol.chat_template_kwargs))

    def built(context: str | None) -> Prompt:
        record = example if context is None else replace(example, documents=(Document("", context),), evidence=())
        return _as_prompt(render_prompt(record, protocol.template), protocol)

    tokens = count(None)
    if tokens <= protocol.max_input_tokens:
        return ProtocolPrompt(built(None), tokens, False, tokens)
    try:
        context = _without_middle(
            render_context(example.documents).strip(), tokenizer, protocol.max_input_tokens, count
        )
    except _NoRoomError as error:
        raise ValueError(
            f"record {example.id!r}: its prompt takes {error.tokens:,} tokens even without its context, and "
            f"max_input_tokens is {protocol.max_input_tokens:,}; raise it"
        ) from None
    return ProtocolPrompt(built(context), tokens, True, count(context))


def truncate_middle(text: str, tokenizer: PreTrainedTokenizerBase, max_tokens: int, mode: Mode = "fixed") -> str:
    """A text without its middle, where it has more than `max_tokens` tokens; otherwise the text itself.

    Args:
        text (`str`):
            The text.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            What counts, special tokens of its own included.
        max_tokens (`int`):
            Most tokens of the result.
        mode (`str`, *optional*, defaults to `"fixed"`):
            `"fixed"`: the result is a beginning and an end of the text, cut between characters, and has at most
            `max_tokens` tokens itself. `"official"`: the first `max_tokens // 2` and the last `ceil(max_tokens / 2)`
            tokens, decoded without special tokens, as in the released code. Tokenized again these can be more than
            `max_tokens`, a cut character becomes `"\\ufffd"`, and of a text that itself says `<|im_end|>` this goes.

    Raises:
        `ValueError`: `max_tokens` is not positive, the mode is unknown, or in mode `"fixed"` the tokenizer adds more
        special tokens than that, or has no offsets.
    """
    check_mode(mode)
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
    ids = _ids(text, tokenizer)
    if len(ids) <= max_tokens:
        return text
    if mode == "official":
        kept = ids[: max_tokens // 2] + ids[len(ids) - (max_tokens - max_tokens // 2) :]
        return tokenizer.decode(kept, skip_special_tokens=True)
    try:
        return _without_middle(text, tokenizer, max_tokens, lambda shorter: len(_ids(shorter, tokenizer)))
    except _NoRoomError as error:
        raise ValueError(f"the tokenizer adds {error.tokens} special tokens, and max_tokens is {max_tokens}") from None


def text_hash(*texts: str) -> str:
    """The first 16 digits of the SHA-256 of some texts, to name a prompt by."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def check_mode(mode: str) -> None:
    """Raises `ValueError` unless it is a mode of the evaluation."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")


class _NoRoomError(ValueError):
    def __init__(self, tokens: int):
        super().__init__(tokens)
        self.tokens = tokens


def _without_middle(text: str, tokenizer: PreTrainedTokenizerBase, max_tokens: int, count) -> str:
    """Beginning and end of `text`, as much as there is room for when `count`, of what is made of it, says so."""
    if (around := count("")) > max_tokens:
        raise _NoRoomError(around)
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} cannot say where its tokens stand in a text; give a fast tokenizer of the "
            "model, raise max_input_tokens, or take the official mode"
        )
    options = {"add_special_tokens": False, "return_offsets_mapping": True, "return_attention_mask": False}
    offsets = tokenizer(text, verbose=False, **options)["offset_mapping"]
    room = min(max_tokens - around, len(offsets) - 1)
    while room > 0:
        head = room // 2
        end = offsets[head - 1][1] if head else 0
        # From the end of the token before: white space that is in no token stays, and of a character that several
        # tokens stand for (an emoji in bytes) nothing comes twice.
        start = offsets[len(offsets) - (room - head) - 1][1]
        shorter = text[:end] + text[start:]
        if (tokens := count(shorter)) <= max_tokens:
            return shorter
        room -= tokens - max_tokens  # where the ends meet, or beside the template, tokens may differ
    return ""


def _ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return tokenizer(text, return_attention_mask=False, verbose=False)["input_ids"]


def _as_prompt(text: str, protocol: EvaluationProtocol) -> Prompt:
    return [{"role": "user", "content": text}] if protocol.chat else text
