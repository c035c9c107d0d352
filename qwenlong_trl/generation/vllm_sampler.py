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

from .sampling import Completion, Prompt, Sampling, check_chat_template, encode_prompt, example_seed


# Samples in one call of the engine: several times what it runs at once, so that it is seldom half empty at the end of
# a call, and few enough that a run which is killed loses minutes.
_SAMPLES_PER_CALL = 2048


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

    def sample(
        self, prompts: Sequence[Prompt], ids: Sequence[str], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        """See [`Sampler`]. Prompts come in their order, several at a time."""
        from vllm import SamplingParams

        tokenizer = self.llm.get_tokenizer()
        check_chat_template(tokenizer, prompts, self.model)
        jobs = list(zip(prompts, ids, strict=True))
        step = max(1, _SAMPLES_PER_CALL // sampling.num_samples)
        for start in range(0, len(jobs), step):
            part = jobs[start : start + step]
            tokens = [encode_prompt(prompt, tokenizer, self.chat_template_kwargs) for prompt, _ in part]
            params = [
                SamplingParams(
                    n=sampling.num_samples,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=sampling.max_tokens,
                    seed=example_seed(sampling.seed, id),  # each of the n samples gets a seed counted up from it
                )
                for _, id in part
            ]
            outputs = self.llm.generate([{"prompt_token_ids": ids} for ids in tokens], params, use_tqdm=False)
            for index, output in enumerate(outputs, start=start):
                yield (
                    index,
                    [Completion(o.text, "stop" if o.finish_reason == "stop" else "length") for o in output.outputs],
                )
