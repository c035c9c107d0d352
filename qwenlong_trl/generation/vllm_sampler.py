"""Completions from vLLM in this process, without a server. vLLM is not a dependency: `pip install vllm`.

```python
>>> from qwenlong_trl.generation import Sampling, VLLMSampler
>>> sampler = VLLMSampler("Qwen/Qwen2.5-7B-Instruct", max_model_len=4096)
>>> dict(sampler.sample(["Once upon a time"], ["q1"], Sampling(num_samples=32, temperature=0.85)))
```
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..engines.prepare import warn_without_prefix_caching
from .sampling import (
    Completion,
    Prompt,
    PromptsRefusedError,
    Sampling,
    check_chat_template,
    encode_prompt,
    example_seed,
)


# Samples and tokens of prompts in one call of the engine: several times what it runs at once, so that it is seldom
# half empty at the end of a call, and few enough that a run which is killed loses minutes.
_SAMPLES_PER_CALL = 2048
_TOKENS_PER_CALL = 2**20


class VLLMSampler:
    """Draws with `vllm.LLM`, started when this object is made. The sampling settings in the model's
    folder are not used.

    Args:
        model (`str`):
            A model of the hub or a folder.
        chat_template_kwargs (`dict[str, Any]`, *optional*):
            Given to the chat template, for example `{"enable_thinking": False}`.
        **options:
            Given to `vllm.LLM`, for example `max_model_len`, `tensor_parallel_size` or `gpu_memory_utilization`.

    Raises:
        `ImportError`: if vLLM is not installed.
    """

    def __init__(self, model: str, chat_template_kwargs: dict[str, Any] | None = None, **options):
        try:
            from vllm import LLM
        except ImportError as error:
            raise ImportError(
                f"VLLMSampler needs vLLM ({error}): pip install vllm, or ask a running `vllm serve` with "
                "OpenAISampler (--backend openai)"
            ) from None
        self.model = model
        self.chat_template_kwargs = chat_template_kwargs
        self.llm = LLM(model=model, **options)
        if options.get("enable_prefix_caching") is not False:  # samples of a prompt share it
            warn_without_prefix_caching(self.llm.llm_engine.vllm_config.cache_config.enable_prefix_caching)

    def sample(
        self, prompts: Sequence[Prompt], ids: Sequence[str], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        """
        See [`Sampler`]. Prompts come in their order, several at a time. Those that leave no room for an answer within
        the engine's `max_model_len` are refused, after all others.
        """
        tokenizer = self.llm.get_tokenizer()
        limit = self.llm.llm_engine.model_config.max_model_len
        refused: dict[str, str] = {}
        call: list[tuple[int, list[int]]] = []
        size = 0
        for index, (prompt, id) in enumerate(zip(prompts, ids, strict=True)):
            check_chat_template(tokenizer, [prompt], self.model)
            tokens = encode_prompt(prompt, tokenizer, self.chat_template_kwargs)
            if len(tokens) >= limit:
                refused[id] = f"the prompt has {len(tokens):,} tokens, and max_model_len is {limit:,}"
                continue
            full = (len(call) + 1) * sampling.num_samples > _SAMPLES_PER_CALL or size + len(tokens) > _TOKENS_PER_CALL
            if call and full:
                yield from self._call(call, ids, sampling)
                call, size = [], 0
            call.append((index, tokens))
            size += len(tokens)
        if call:
            yield from self._call(call, ids, sampling)
        if refused:
            id, reason = next(iter(refused.items()))
            raise PromptsRefusedError(
                f"{len(refused)} of {len(ids)} prompts got no completions; the first: {id!r} ({reason})", refused
            )

    def _call(
        self, call: list[tuple[int, list[int]]], ids: Sequence[str], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        from vllm import SamplingParams

        params = [
            SamplingParams(
                n=sampling.num_samples,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                seed=example_seed(sampling.seed, ids[index]),  # each of the n samples gets a seed counted up from it
            )
            for index, _ in call
        ]
        prompts = [{"prompt_token_ids": tokens} for _, tokens in call]
        for (index, _), output in zip(call, self.llm.generate(prompts, params, use_tqdm=False), strict=True):
            ends = [(one.text, "stop" if one.finish_reason == "stop" else "length") for one in output.outputs]
            yield index, [Completion(text, end) for text, end in ends]
