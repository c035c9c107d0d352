"""A judge behind any OpenAI-compatible server: `vllm serve`, SGLang, llama.cpp, or a hosted model.

```python
>>> from qwenlong_trl.rewards import HybridReward, OpenAIJudge
>>> judge = OpenAIJudge(base_url="http://localhost:8000/v1", model="Qwen/Qwen2.5-1.5B-Instruct", cache="judge-cache")
>>> reward = HybridReward(judge=judge)
```
"""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from pathlib import Path
from typing import Any

from ..openai_client import check_options, open_client
from .judge import ChatJudge, Judgement, describe_error


# Why a model stopped, where it had said all that it would, as different servers call it. Some do not say.
_FINISHED = ("stop", "eos_token", "stop_sequence", None)


class OpenAIJudge(ChatJudge):
    """Asks a chat model over HTTP, all comparisons of a batch at once within a limit, at temperature 0.

    Retries, back-off and time-outs are those of the `openai` client. A request that fails, whatever the reason, fails
    alone: its comparison gets no verdict. Picklable.

    Args:
        model (`str`):
            The name that the server knows the model by.
        base_url (`str`, *optional*):
            Address of the server, up to `/v1`. Defaults to `OPENAI_BASE_URL`, or OpenAI.
        api_key (`str`, *optional*):
            Defaults to `OPENAI_API_KEY`. Local servers need none.
        prompt (`str`, *optional*, defaults to `"default"`):
            `"default"`, or `"l1"` for the prompt of the paper's Table 2.
        concurrency (`int`, *optional*, defaults to `32`):
            Requests under way at the same time, over all processes of a training run: each process takes its share,
            and rewards that use one judge object share it.
        deadline (`float`, *optional*, defaults to `120.0`):
            Seconds that a batch may take. What is not answered by then has failed; the rest counts.
        timeout (`float`, *optional*, defaults to `30.0`):
            Seconds that one attempt of one request may take.
        max_retries (`int`, *optional*, defaults to `4`):
            Further attempts after a connection error, a time-out, 408, 409, 429 or a 5xx, with growing pauses.
        max_tokens (`int`, *optional*, defaults to `512`):
            Length of the judge's answer. One that is cut off has no verdict, whatever it holds.
        cache (`str` or `Path`, *optional*):
            Folder in which answers are kept, for later runs and other processes.
        extra_body (`dict`, *optional*):
            Further fields of a request, for example `{"chat_template_kwargs": {"enable_thinking": False}}` with vLLM.

    Raises:
        `ValueError`: for a limit that is not positive, or one that is below the number of processes.
        `ImportError`: without the extra `judge`.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        prompt: str = "default",
        concurrency: int = 32,
        deadline: float = 120.0,
        timeout: float = 30.0,
        max_retries: int = 4,
        max_tokens: int = 512,
        cache: str | Path | None = None,
        extra_body: dict[str, Any] | None = None,
    ):
        check_options("OpenAIJudge", max_retries, concurrency=concurrency, timeout=timeout, max_tokens=max_tokens)
        share_of(concurrency)  # its error, now rather than in every batch
        # The server's address is not part of it: the same model may be moved. What changes its answers is.
        super().__init__(f"openai/{model}/{max_tokens}/{extra_body or ''}", prompt, deadline, cache)
        self.model = model
        self.base_url = base_url
        self.api_key = api_key
        self.concurrency = concurrency
        self.timeout = timeout
        self.max_retries = max_retries
        self.max_tokens = max_tokens
        self.extra_body = extra_body
        self._limits = weakref.WeakKeyDictionary()

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_limits"}

    def __setstate__(self, state):
        self.__dict__.update(state, _limits=weakref.WeakKeyDictionary())

    async def _answer(self, batch: list[list[dict[str, str]]], until: float) -> list[Judgement]:
        # One for each event loop, which two rewards with this judge share.
        limit = self._limits.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(share_of(self.concurrency)))
        # A client for each batch: its connections belong to the event loop, and must be closed before it ends.
        async with open_client(self.base_url, self.api_key, self.timeout, self.max_retries) as client:
            tasks = [asyncio.create_task(self._request(client, limit, messages)) for messages in batch]
            _, late = await asyncio.wait(tasks, timeout=max(0.0, until - time.monotonic()))
            for task in late:
                task.cancel()
        return [Judgement(None, error="deadline") if task in late else task.result() for task in tasks]

    async def _request(self, client, limit: asyncio.Semaphore, messages: list[dict[str, str]]) -> Judgement:
        from openai.types.chat import ChatCompletion

        body = {"model": self.model, "temperature": 0.0, "max_tokens": self.max_tokens, **(self.extra_body or {})}
        async with limit:
            started = time.monotonic()
            try:
                # Not `chat.completions.create`, which walks through every message once more, at a quarter of the cost.
                completion = await client.post(
                    "/chat/completions", body={**body, "messages": messages}, cast_to=ChatCompletion
                )
                choice = completion.choices[0]
                text = choice.message.content
                if not isinstance(text, str):
                    raise TypeError(f"the content of the answer is {text!r}")
                cut_off = choice.finish_reason not in _FINISHED
            # Anything: the client validates little of what a server sends.
            except Exception as error:
                return Judgement(None, error=describe_error(error), seconds=time.monotonic() - started)
            seconds = time.monotonic() - started
        return Judgement(None, self._kept(messages, text, cut_off), seconds=seconds)


def share_of(concurrency: int) -> int:
    """This process's part of a limit over all processes; the parts add up to the limit."""
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if concurrency < world:
        raise ValueError(f"concurrency is {concurrency}, but each of the {world} processes needs at least one request")
    return concurrency // world + (rank < concurrency % world)
