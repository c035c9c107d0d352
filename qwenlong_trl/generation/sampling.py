"""What all samplers share: the settings, a completion, the protocol, and the seed of each example.

A sampler is anything with a `sample` method, see [`Sampler`]:

```python
class EchoSampler:
    def sample(self, prompts, ids, sampling):
        for index, prompt in enumerate(prompts):
            yield index, [Completion(prompt, "stop")] * sampling.num_samples
```
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A text that is continued as it is, or the messages of a chat.
Prompt = str | list[dict[str, str]]


class GenerationError(ValueError):
    """Prompts got no completions.

    Args:
        message (`str`):
            How many, and why the first.
        reasons (`dict[str, str]`, *optional*):
            Why, by the ids of those that were asked for.
    """

    def __init__(self, message: str, reasons: dict[str, str] | None = None):
        super().__init__(message)
        self.reasons = reasons or {}


class PromptsRefusedError(GenerationError):
    """A server refused these prompts for good, and has completed all others."""

    @property
    def ids(self) -> list[str]:
        """The ids of the prompts."""
        return list(self.reasons)


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn: from the whole vocabulary (no top-k) and without penalties.

    Args:
        num_samples (`int`, *optional*, defaults to `1`):
            Completions of each prompt.
        temperature (`float`, *optional*, defaults to `1.0`):
            0 takes the most probable token, for one sample.
        top_p (`float`, *optional*, defaults to `1.0`):
            Probability mass of the tokens that are drawn from.
        max_tokens (`int`, *optional*, defaults to `1024`):
            Longest completion, its end-of-sequence token included.
        seed (`int`, *optional*, defaults to `0`):
            What all draws depend on, with the id of the prompt and nothing else.

    Raises:
        `ValueError`: for a value out of its range.
    """

    num_samples: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    seed: int = 0

    def __post_init__(self):
        for name in ("num_samples", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be at least 0 and finite, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.temperature == 0 and self.num_samples > 1:
            raise ValueError(f"at temperature 0 all {self.num_samples} samples are the same; raise it, or take one")


@dataclass(frozen=True)
class Completion:
    """One completion, without special tokens, and whether the model ended it (`"stop"`) or it was cut (`"length"`)."""

    text: str
    finish_reason: Literal["stop", "length"]


@runtime_checkable
class Sampler(Protocol):
    """What draws completions.

    `sample` takes prompts (strings, or lists of messages) with an id for each, and yields the place of a prompt with
    its `sampling.num_samples` completions as soon as it has them, in any order. What a prompt gets depends on the
    prompt, its id and `sampling`, not on the other prompts (as far as the arithmetic of the backend allows: a server
    or vLLM forms its own batches). Prompts without completions raise [`GenerationError`] after the others were
    yielded.
    """

    def sample(
        self, prompts: Sequence[Prompt], ids: Sequence[str], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]: ...


def example_seed(seed: int, id: str, part: int | str = 0) -> int:
    """A number below 2**31 for an example, from a digest: the same in every process and on every machine."""
    text = f"{seed}/{part}/{id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") % 2**31


def check_chat_template(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], name: str) -> None:
    """Raises `ValueError` for messages where there is no chat template to render them."""
    if tokenizer.chat_template is None and any(not isinstance(prompt, str) for prompt in prompts):
        raise ValueError(f"the tokenizer of {name} has no chat template; give prompts as plain text (--chat false)")


def encode_prompt(
    prompt: Prompt, tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: dict[str, Any] | None = None
) -> list[int]:
    """Token ids of a prompt as trainers make them: a chat with its generation prompt, a text with its special tokens.

    A system prompt that a chat template adds by itself is part of it; `chat_template_kwargs` go to the template.
    """
    if isinstance(prompt, str):
        return tokenizer(text=prompt)["input_ids"]
    rendered = tokenizer.apply_chat_template(
        prompt, add_generation_prompt=True, tokenize=True, return_dict=True, **(chat_template_kwargs or {})
    )
    return rendered["input_ids"]


def opens_reasoning(
    tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: dict[str, Any] | None = None, opening: str = "<think>"
) -> bool:
    """
    Whether the chat template itself opens the reasoning, so that a completion begins within it: one without
    `</think>` was cut off there, although it looks like an answer.
    """
    if tokenizer.chat_template is None:
        return False
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}], add_generation_prompt=True, tokenize=False, **(chat_template_kwargs or {})
    )
    closing = opening.replace("<", "</", 1)
    return rendered.rfind(opening) > rendered.rfind(closing)
