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
import copy
from collections.abc import Iterator, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

from .sampling import Completion, Prompt, Sampling, check_chat_template, encode_prompt, example_seed


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class TransformersSampler:
    """Draws with `generate`, one prompt at a time: its samples are the rows of one batch, and need no padding.

    The prompt is read once and its key-value cache repeated for the samples, where the model's cache is the ordinary
    one; other models (with recurrent states, for example) read it once for each sample. The sampling settings of the
    model's `generation_config` are not used, its end-of-sequence tokens are. The state of torch's random number
    generators is afterwards what it was.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]):
            A model of the hub, a folder, or a model (which goes with `tokenizer`).
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Defaults to that of the folder.
        rows_per_batch (`int`, *optional*, defaults to `32`):
            Most samples at the same time, for memory. The samples depend on it, as each part has a seed.
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
        `ValueError`: if `rows_per_batch` is not positive, or a model comes without its tokenizer.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        rows_per_batch: int = 32,
        dtype: str = "auto",
        device: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        chat_template_kwargs: dict[str, Any] | None = None,
    ):
        if rows_per_batch < 1:
            raise ValueError(f"rows_per_batch must be at least 1, got {rows_per_batch}")
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
        self.chat_template_kwargs = chat_template_kwargs
        self._repeats_cache = True

    def sample(
        self, prompts: Sequence[Prompt], ids: Sequence[str], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        """See [`Sampler`]. Prompts come in their order."""
        check_chat_template(self.tokenizer, prompts, self.model.name_or_path)
        for index, (prompt, id) in enumerate(zip(prompts, ids, strict=True)):
            tokens = encode_prompt(prompt, self.tokenizer, self.chat_template_kwargs)
            if not tokens:
                raise ValueError(f"prompt {id!r} has no tokens")
            # Not around `yield`: what the caller does in between has its own settings and random numbers.
            with self._prepared(sampling):
                completions = self._complete(tokens, id, sampling)
            yield index, completions

    def _complete(self, tokens: list[int], id: str, sampling: Sampling) -> list[Completion]:
        import torch

        device = self.model.device
        prompt = torch.tensor([tokens], device=device)
        devices = [] if device.type == "cpu" else [device]
        completions: list[Completion] = []
        with torch.inference_mode(), torch.random.fork_rng(devices, device_type=_rng_type(device)):
            prefix = self._read(prompt[:, :-1])
            for first in range(0, sampling.num_samples, self.rows_per_batch):
                rows = min(self.rows_per_batch, sampling.num_samples - first)
                torch.manual_seed(example_seed(sampling.seed, id, first))
                inputs = prompt.repeat(rows, 1)
                cache = None
                if prefix is not None:
                    last = first + rows == sampling.num_samples
                    cache = prefix if last else copy.deepcopy(prefix)
                    cache.batch_repeat_interleave(rows)
                output = self.model.generate(inputs, attention_mask=torch.ones_like(inputs), past_key_values=cache)
                completions += [self._completion(row) for row in output[:, len(tokens) :].tolist()]
        return completions

    def _read(self, prompt: torch.Tensor):
        """The key-value cache of one row of tokens; `None` for models with another kind of state, or no tokens."""
        from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

        if prompt.shape[1] == 0 or not self._repeats_cache:
            return None
        cut = {"logits_to_keep": 1} if "logits_to_keep" in signature(self.model.forward).parameters else {}
        cache = getattr(self.model(input_ids=prompt, use_cache=True, **cut), "past_key_values", None)
        # Types and not `isinstance`: layers with a further state are subclasses of these.
        ordinary = (DynamicLayer, DynamicSlidingWindowLayer)
        self._repeats_cache = type(cache) is DynamicCache and all(type(layer) in ordinary for layer in cache.layers)
        return cache if self._repeats_cache else None

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
        ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
        # The model's, which may be several, and the tokenizer's, which trainers end a completion with.
        ends = [*dict.fromkeys(token for token in (*ends, self.tokenizer.eos_token_id) if token is not None)]
        if not ends:
            raise ValueError("neither the model nor its tokenizer has an end-of-sequence token")
        drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        self.model.generation_config = GenerationConfig(
            max_new_tokens=sampling.max_tokens,
            eos_token_id=ends,
            pad_token_id=ends[0],  # of rows that ended before others; cut off with their end
            do_sample=sampling.temperature > 0,
            **(drawn if sampling.temperature > 0 else {}),
        )
        self.model.eval()
        try:
            yield
        finally:
            self.model.generation_config = own
            self.model.train(training)


def _rng_type(device: torch.device) -> str:
    # The name of a torch module with random number generators; that of the CPU is saved in any case.
    return "cuda" if device.type == "cpu" else device.type
