"""A judge that runs in the training process, with transformers. For small judges; a server scales better.

```python
>>> from qwenlong_trl.rewards import HybridReward, TransformersJudge
>>> reward = HybridReward(judge=TransformersJudge("Qwen/Qwen2.5-1.5B-Instruct", cache="judge-cache"))
```
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

from .judge import ChatJudge, Judgement, describe_error


_LOADING = threading.Lock()


class TransformersJudge(ChatJudge):
    """Asks a local chat model in batches, greedily. The model is loaded with the first batch, once in each process.

    Args:
        model (`str`):
            A model of the hub or a folder; its tokenizer needs a chat template.
        prompt (`str`, *optional*, defaults to `"default"`):
            `"default"`, or `"l1"` for the prompt of the paper's Table 2.
        batch_size (`int`, *optional*, defaults to `16`):
            Comparisons in one call of the model.
        max_new_tokens (`int`, *optional*, defaults to `256`):
            Length of the judge's answer. One that is cut off has no verdict, whatever it holds.
        deadline (`float`, *optional*, defaults to `600.0`):
            Seconds that a batch of comparisons may take, loading excluded. What is not answered by then has failed.
        device (`str`, *optional*):
            Where the model goes. Defaults to the process's accelerator, or the CPU.
        dtype (`str`, *optional*, defaults to `"auto"`):
            Type of the weights.
        revision (`str`, *optional*):
            Revision on the hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code of the model's repository may run.
        cache (`str` or `Path`, *optional*):
            Folder in which answers are kept, for later runs and other processes.

    Raises:
        `ValueError`: if the tokenizer has no chat template, or a number is not positive.
    """

    def __init__(
        self,
        model: str,
        prompt: str = "default",
        batch_size: int = 16,
        max_new_tokens: int = 256,
        deadline: float = 600.0,
        device: str | None = None,
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
        cache: str | Path | None = None,
    ):
        for name, value in (("batch_size", batch_size), ("max_new_tokens", max_new_tokens)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}")
        super().__init__(f"transformers/{model}/{revision}/{dtype}/{max_new_tokens}", prompt, deadline, cache)
        self.model = model
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self.device = device
        self._source: dict[str, Any] = {
            "pretrained_model_name_or_path": model,
            "revision": revision,
            "trust_remote_code": trust_remote_code,
        }
        self._dtype = dtype
        self._loaded = None

    def __getstate__(self):
        return {**self.__dict__, "_loaded": None}

    def load(self) -> None:
        """Loads model and tokenizer now rather than with the first batch."""
        with _LOADING:  # two rewards may share a judge
            if self._loaded is None:
                self._loaded = self._load()

    def _load(self):
        from accelerate import PartialState
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(**self._source, padding_side="left")
        if tokenizer.chat_template is None:
            name = self._source["pretrained_model_name_or_path"]
            raise ValueError(f"the tokenizer of {name} has no chat template; a judge is a chat model")
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        model = AutoModelForCausalLM.from_pretrained(**self._source, dtype=self._dtype)
        return tokenizer, model.eval().to(self.device or PartialState().device)

    async def judge(self, comparisons):
        # Not within the deadline: loading takes as long as it takes, once.
        await asyncio.to_thread(self.load)
        return await super().judge(comparisons)

    async def answers(self, batch):
        await asyncio.to_thread(self.load)
        return await super().answers(batch)

    async def _answer(self, batch: list[list[dict[str, str]]], until: float) -> list[Judgement]:
        # In a thread, so that other rewards of the same event loop go on.
        return await asyncio.to_thread(self._generate, batch, until)

    def _generate(self, batch: list[list[dict[str, str]]], until: float) -> list[Judgement]:
        tokenizer, model = self._loaded
        prompts = [tokenizer.apply_chat_template(m, add_generation_prompt=True, tokenize=False) for m in batch]
        answers = [Judgement(None, error="deadline")] * len(batch)
        # Those of about the same length together, as padding costs.
        order = sorted(range(len(batch)), key=lambda i: len(prompts[i]))
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            if time.monotonic() >= until:
                break
            try:
                texts, cut_off, seconds = self._complete(tokenizer, model, [prompts[i] for i in chosen], until)
            except Exception as error:  # out of memory, above all; the other batches may fit
                for i in chosen:
                    answers[i] = Judgement(None, error=describe_error(error))
                continue
            if time.monotonic() >= until:
                break  # cut off by `max_time`
            for i, text, unfinished in zip(chosen, texts, cut_off, strict=True):
                answers[i] = Judgement(None, self._kept(batch[i], text, unfinished), seconds=seconds)
        return answers

    def _complete(self, tokenizer, model, prompts: list[str], until: float) -> tuple[list[str], list[bool], float]:
        """Answers, whether each was cut off, and the seconds for all of them."""
        import torch

        started = time.monotonic()
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
        with torch.inference_mode():
            outputs = model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=self.max_new_tokens,
                max_time=until - started,
                pad_token_id=tokenizer.pad_token_id,
            )
        outputs = outputs[:, inputs["input_ids"].shape[1] :].cpu()
        ends = model.generation_config.eos_token_id
        ends = torch.tensor([] if ends is None else ends, dtype=outputs.dtype)
        cut_off = (~torch.isin(outputs, ends).any(dim=1)).tolist()
        texts = tokenizer.batch_decode(outputs, skip_special_tokens=True)
        return texts, cut_off, time.monotonic() - started
