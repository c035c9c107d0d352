"""Completions from a model in this process, with transformers: for small models, and where nothing else is installed.

```python
>>> from qwenlong_trl.generation import Sampling, TransformersSampler
>>> sampler = TransformersSampler("HuggingFaceTB/SmolLM2-135M-Instruct", dtype="bfloat16")
>>> messages = [{"role": "user", "content": "What is the capital of Norway?"}]
>>> dict(sampler.sample([messages], ["q1"], Sampling(num_samples=2, max_tokens=20)))
```
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .sampling import (
    Completion,
    Prompt,
    PromptsRefusedError,
    Sampling,
    check_chat_template,
    encode_prompt,
    example_seed,
)


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class TransformersSampler:
    """Draws with `generate`, several prompts of about the same length and all their samples in one batch.

    A prompt is read once and its key-value cache repeated for its samples, where the model's cache is the ordinary
    one; of other models (with recurrent states, for example) a batch holds the samples of one prompt. Each sample has
    its own random numbers, so that batches change it no more than rounding does. The sampling settings of the model's
    `generation_config` are not used, its end-of-sequence tokens are.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]):
            A model of the hub, a folder, or a model (which goes with `tokenizer`).
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Defaults to that of the folder.
        rows_per_batch (`int`, *optional*, defaults to `32`):
            Most samples at the same time, for memory.
        tokens_per_batch (`int`, *optional*, defaults to `65536`):
            Most tokens of prompts and completions at the same time, for memory. A longer prompt has a batch of its
            own.
        dtype (`str`, *optional*, defaults to `"auto"`):
            Type of the weights of a model that is loaded.
        device (`str`, *optional*):
            Where a model that is loaded goes. Defaults to the process's accelerator, or the CPU.
        revision (`str`, *optional*):
            Revision on the hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code of the model's repository may run.
        chat_template_kwargs (`dict[str, Any]`, *optional*):
            Given to the chat template, for example `{"enable_thinking": False}`.

    Raises:
        `ValueError`: if a limit is not positive, or a model comes without its tokenizer.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        rows_per_batch: int = 32,
        tokens_per_batch: int = 65536,
        dtype: str = "auto",
        device: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        chat_template_kwargs: dict[str, Any] | None = None,
    ):
        for name, value in (("rows_per_batch", rows_per_batch), ("tokens_per_batch", tokens_per_batch)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if isinstance(model, str):
            from accelerate import PartialState
            from transformers import AutoModelForCausalLM, AutoTokenizer

            source = {"revision": revision, "trust_remote_code": trust_remote_code}
            tokenizer = tokenizer or AutoTokenizer.from_pretrained(model, **source)
            loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, **source)
            model = loaded.to(device or PartialState().device)
        if tokenizer is None:
            raise ValueError("a model that is given as an object needs its tokenizer, too")
        self.model = model
        self.tokenizer = tokenizer
        self.rows_per_batch = rows_per_batch
        self.tokens_per_batch = tokens_per_batch
        self.chat_template_kwargs = chat_template_kwargs

    def sample(
        self, prompts: Sequence[Prompt], ids: Sequence[str], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        """See [`Sampler`]. The longest prompts come first. One that alone is too much for the memory is refused."""
        import torch

        tokens = self._encode(prompts, ids)
        refused: dict[str, str] = {}
        for group in self._group([len(one) for one in tokens], sampling):
            try:
                # Not around `yield`: what the caller does in between has its own settings.
                with self._prepared(sampling):
                    completions = self._complete([tokens[i] for i in group], [ids[i] for i in group], sampling)
            except torch.OutOfMemoryError as error:
                if len(group) > 1:
                    raise ValueError(
                        f"a batch of {len(group)} prompts of up to {len(tokens[group[0]]):,} tokens does not fit into "
                        "the memory; lower rows_per_batch or tokens_per_batch"
                    ) from error
                refused[ids[group[0]]] = f"its {len(tokens[group[0]]):,} tokens do not fit into the memory"
                continue
            yield from zip(group, completions, strict=True)
        if refused:
            id, reason = next(iter(refused.items()))
            raise PromptsRefusedError(
                f"{len(refused)} of {len(ids)} prompts got no completions; the first: {id!r} ({reason})", refused
            )

    def batches(self, prompts: Sequence[Prompt], ids: Sequence[str], sampling: Sampling) -> list[list[int]]:
        """Which prompts [`~TransformersSampler.sample`] puts into one batch, by their places: what a run that goes on
        has to keep together, as rounding depends on it."""
        return self._group([len(one) for one in self._encode(prompts, ids)], sampling)

    def _encode(self, prompts: Sequence[Prompt], ids: Sequence[str]) -> list[list[int]]:
        check_chat_template(self.tokenizer, prompts, self.model.name_or_path)
        tokens = [encode_prompt(prompt, self.tokenizer, self.chat_template_kwargs) for prompt in prompts]
        for id, one in zip(ids, tokens, strict=True):
            if not one:
                raise ValueError(f"prompt {id!r} has no tokens")
        return tokens

    def _group(self, lengths: Sequence[int], sampling: Sampling) -> list[list[int]]:
        groups: list[list[int]] = []
        most = max(1, self.rows_per_batch // sampling.num_samples) if self._has_ordinary_cache else 1
        for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            longest = lengths[groups[-1][0]] if groups else 0
            rows = (len(groups[-1]) + 1) * sampling.num_samples if groups else 0
            full = rows * (longest + sampling.max_tokens) > self.tokens_per_batch
            if not groups or len(groups[-1]) == most or full:
                groups.append([])
            groups[-1].append(i)
        return groups

    def _complete(self, prompts: list[list[int]], ids: list[str], sampling: Sampling) -> list[list[Completion]]:
        import torch
        from transformers import LogitsProcessorList

        from ..prefix_sharing.rollouts import caches, read_prompts

        device = self.model.device
        longest = max(map(len, prompts))
        padding = self.model.generation_config.pad_token_id
        inputs = torch.tensor([[padding] * (longest - len(one)) + one for one in prompts], device=device)  # [p, l]
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=device)
        completions: list[list[Completion]] = [[] for _ in prompts]
        with torch.inference_mode():
            read = mask[:, :-1]
            prefix = None
            if longest > 1 and self._has_ordinary_cache:
                prefix = read_prompts(self.model, inputs[:, :-1], read)
            step = min(sampling.num_samples, self.rows_per_batch)
            for first in range(0, sampling.num_samples, step):
                samples = range(first, min(first + step, sampling.num_samples))
                draws = [_Draws(ids, samples, sampling, device)] if sampling.temperature > 0 else []
                owners = [prompt for prompt in range(len(prompts)) for _ in samples]
                last = samples[-1] == sampling.num_samples - 1
                share = len(samples) > 1 and self._shares_decoding
                with caches(self.model, prefix, read, owners, share, last) as cache:
                    output = self.model.generate(
                        inputs[owners],  # [p * s, l]
                        attention_mask=mask[owners],
                        past_key_values=cache,
                        logits_processor=LogitsProcessorList(draws),
                    )
                for row, answer in enumerate(output[:, longest:].tolist()):
                    completions[row // len(samples)].append(self._completion(answer))
        return completions

    @cached_property
    def _has_ordinary_cache(self) -> bool:
        """Whether what the model keeps of a text is keys and values alone, which can be repeated and padded."""
        import torch

        from ..prefix_sharing.cache import is_ordinary
        from ..prefix_sharing.rollouts import read_prompts

        with self._evaluating(), torch.inference_mode():
            tokens = torch.tensor([[self._ends()[0]] * 2], device=self.model.device)
            return is_ordinary(read_prompts(self.model, tokens, torch.ones_like(tokens)))

    @cached_property
    def _shares_decoding(self) -> bool:
        """Whether samples can leave their prompt in the cache once."""
        import torch

        from ..prefix_sharing import why_not_decoding

        with self._evaluating(), torch.inference_mode():
            return why_not_decoding(self.model) is None

    @contextlib.contextmanager
    def _evaluating(self):
        training = self.model.training
        self.model.eval()  # in training, activation checkpointing switches caches off
        try:
            yield
        finally:
            self.model.train(training)

    def _completion(self, row: list[int]) -> Completion:
        ends = set(self.model.generation_config.eos_token_id)
        end = next((i for i, token in enumerate(row) if token in ends), None)
        text = self.tokenizer.decode(row[:end], skip_special_tokens=True)
        return Completion(text, "length" if end is None else "stop")

    @contextlib.contextmanager
    def _prepared(self, sampling: Sampling):
        """The model in evaluation mode, with `sampling` for its `generation_config`, and afterwards as it was."""
        from transformers import GenerationConfig

        # Replaced, because `generate` takes from the model's own whatever it is not told, such as penalties.
        own, training = self.model.generation_config, self.model.training
        ends = self._ends()
        self.model.generation_config = GenerationConfig(
            max_new_tokens=sampling.max_tokens,
            eos_token_id=ends,
            pad_token_id=ends[0],  # in front of shorter prompts, and behind rows that ended before others
            do_sample=False,  # [`_Draws`] leaves one token to take
        )
        self.model.eval()
        try:
            yield
        finally:
            self.model.generation_config = own
            self.model.train(training)

    def _ends(self) -> list[int]:
        """The model's end-of-sequence tokens, which may be several, and the tokenizer's, which trainers end with."""
        own = self.model.generation_config.eos_token_id
        own = own if isinstance(own, list) else [own]
        ends = [*dict.fromkeys(token for token in (*own, self.tokenizer.eos_token_id) if token is not None)]
        if not ends:
            raise ValueError("neither the model nor its tokenizer has an end-of-sequence token")
        return ends


class _Draws:
    """A logits processor that draws the next token of each row with the row's own random numbers, by inverting the
    cumulative distribution: neither the other rows nor their number change what a row draws."""

    def __init__(self, ids: Sequence[str], samples: range, sampling: Sampling, device: torch.device):
        import torch

        rows = [
            np.random.default_rng(example_seed(sampling.seed, id, sample)).random(sampling.max_tokens)
            for id in ids
            for sample in samples
        ]
        # Below 1, also in single precision: a token of probability 0 is never drawn.
        numbers = np.minimum(np.array(rows, dtype=np.float32), np.float32(1 - 2**-24))
        self.numbers = torch.from_numpy(numbers).to(device)  # [rows, max_tokens]
        self.temperature, self.top_p, self.step = sampling.temperature, sampling.top_p, 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # [rows, l], [rows, vocab]
        import torch

        probabilities = (scores.float() / self.temperature).softmax(dim=-1)
        tokens = None
        if self.top_p < 1:
            probabilities, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
        mass = probabilities.cumsum(dim=-1)
        total = mass[:, -1:]
        if tokens is not None:  # the fewest tokens, the most probable first, that have the mass
            kept = (mass - probabilities < self.top_p).sum(dim=-1, keepdim=True)
            total = mass.gather(1, kept - 1)
        drawn = torch.searchsorted(mass, self.numbers[:, self.step, None] * total, right=True)
        drawn = drawn.clamp(max=scores.shape[1] - 1)
        self.step += 1
        if tokens is not None:
            drawn = tokens.gather(1, drawn)
        return torch.full_like(scores, float("-inf")).scatter(1, drawn, 0.0)
