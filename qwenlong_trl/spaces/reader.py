"""A reader behind a page: one greedy answer at a time, to prompts of up to a number of tokens.

```python
>>> reader = Reader(fetch_model("Qwen/Qwen2.5-0.5B-Instruct", 2 * 10**9), most_tokens=8_192)
>>> reader.answer("...").text
```
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..generation import Sampling, TransformersSampler
from .hub_models import fetch_model


@dataclass(frozen=True)
class Answer:
    """What a reader said: `tokens` of its prompt, `seconds` it took; or why it was not asked."""

    tokens: int
    text: str | None = None
    seconds: float | None = None
    refused: str | None = None


class Reader:
    """
    A causal model with its tokenizer, on the CPU. No code of its repository runs.

    Args:
        folder (`Path`):
            Where its files lie.
        most_tokens (`int`):
            Tokens of the longest prompt with its answer; fewer where the model has fewer positions.
        answer_tokens (`int`, *optional*, defaults to `64`):
            Tokens of the longest answer.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Defaults to that which [`~transformers.AutoTokenizer`] finds in the folder.
    """

    def __init__(self, folder: Path, most_tokens: int, answer_tokens: int = 64, tokenizer=None):
        from transformers import AutoTokenizer

        self.tokenizer = tokenizer or AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.sampler = TransformersSampler(str(folder), self.tokenizer, device="cpu", trust_remote_code=False)
        config = self.sampler.model.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None) or most_tokens
        self.answer_tokens = answer_tokens
        self.most_tokens = min(most_tokens, positions) - answer_tokens

    def messages(self, prompt: str) -> str | list[dict[str, str]]:
        """The prompt as it is, or as the turn of a user for a model with a chat template."""
        return [{"role": "user", "content": prompt}] if self.tokenizer.chat_template else prompt

    def count(self, prompt: str) -> int:
        """Tokens of a prompt, with those of the chat template."""
        from ..generation.sampling import encode_prompt

        return len(encode_prompt(self.messages(prompt), self.tokenizer, None))

    def answer(self, prompt: str) -> Answer:
        """The greedy answer, or the reason why there is none."""
        if (tokens := self.count(prompt)) > self.most_tokens:
            return Answer(tokens, refused=f"not asked: it reads up to {self.most_tokens:,} tokens here")
        started = time.perf_counter()
        sampling = Sampling(1, temperature=0, max_tokens=self.answer_tokens)
        ((_, (completion, *_)),) = self.sampler.sample([self.messages(prompt)], ["prompt"], sampling)
        return Answer(tokens, completion.text.strip(), time.perf_counter() - started)


@lru_cache(maxsize=1)  # the last one stays in memory, and no other
def hub_reader(model_id: str, most_bytes: int, most_tokens: int, answer_tokens: int = 64) -> Reader:
    """
    A reader of the Hub by its name.

    Raises:
        `ValueError`: see [`fetch_model`]; or it is no causal language model that can be loaded without its code.
    """
    folder = fetch_model(model_id, most_bytes)
    with loading(model_id, "a causal language model", folder):
        return Reader(folder, most_tokens, answer_tokens)


@contextmanager
def loading(model_id: str, kind: str, folder: Path) -> Iterator[None]:
    """Turns what goes wrong in loading a model into a `ValueError` of one line, without paths of this machine."""
    try:
        yield
    except (ValueError, KeyError, OSError, RuntimeError, TypeError, AttributeError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0].replace(str(folder), model_id)
        raise ValueError(f"{model_id} could not be loaded as {kind}: {said[:300]}") from error
