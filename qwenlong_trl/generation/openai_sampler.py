"""Completions from any OpenAI-compatible server: `vllm serve`, SGLang, llama.cpp, or a hosted model.

```python
>>> from qwenlong_trl.generation import OpenAISampler, Sampling
>>> sampler = OpenAISampler("Qwen/Qwen2.5-7B-Instruct", base_url="http://localhost:8000/v1")
>>> dict(sampler.sample(["Once upon a time"], ["q1"], Sampling(num_samples=32, temperature=0.85)))
```
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from ..openai_client import check_options, open_client
from ..rewards.judge import describe_error
from .sampling import Completion, GenerationError, Prompt, PromptsRefusedError, Sampling, example_seed


# So many prompts in a row without completions mean that the server is gone, or that nothing of this kind will work.
_GIVE_UP = 8


class OpenAISampler:
    """Asks a server over HTTP, several prompts at once. Messages go to its chat completions, strings to completions.

    Retries, back-off and time-outs are those of the `openai` client. All samples of a prompt are asked for at once
    (`n`); of a server that gives fewer, the rest is asked for again. What a request does not say, such as top-k, is
    the server's: `vllm serve` takes it from the model's folder unless started with `--generation-config vllm`.

    Args:
        model (`str`):
            The name that the server knows the model by.
        base_url (`str`, *optional*):
            Address of the server, up to `/v1`. Defaults to `OPENAI_BASE_URL`, or OpenAI.
        api_key (`str`, *optional*):
            Defaults to `OPENAI_API_KEY`. Local servers need none.
        concurrency (`int`, *optional*, defaults to `32`):
            Prompts under way at the same time.
        timeout (`float`, *optional*, defaults to `600.0`):
            Seconds that one attempt of one request may take.
        max_retries (`int`, *optional*, defaults to `4`):
            Further attempts after a connection error, a time-out, 408, 409, 429 or a 5xx, with growing pauses.
        chat_template_kwargs (`dict[str, Any]`, *optional*):
            Sent along with chats; vLLM and SGLang give them to the chat template.
        reasoning (`str`, *optional*, defaults to `"refuse"`):
            What becomes of answers whose reasoning the server has taken out (`--reasoning-parser`, hosted models):
            `"refuse"`, where a completion must be all that the model wrote, or `"drop"`, to have the answer alone.
        extra_body (`dict[str, Any]`, *optional*):
            Further fields of a request; `None` takes one out, as in
            `{"max_tokens": None, "max_completion_tokens": 8192, "temperature": None}`.

    Raises:
        `ValueError`: for a limit that is not positive, or another `reasoning`.
        `ImportError`: without the extra `judge`.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        concurrency: int = 32,
        timeout: float = 600.0,
        max_retries: int = 4,
        chat_template_kwargs: dict[str, Any] | None = None,
        reasoning: str = "refuse",
        extra_body: dict[str, Any] | None = None,
    ):
        if reasoning not in ("refuse", "drop"):
            raise ValueError(f"reasoning must be 'refuse' or 'drop', got {reasoning!r}")
        check_options("OpenAISampler", max_retries, concurrency=concurrency, timeout=timeout)
        self.model = model
        self.base_url = base_url
        self.api_key = api_key
        self.concurrency = concurrency
        self.timeout = timeout
        self.max_retries = max_retries
        self.chat_template_kwargs = chat_template_kwargs
        self.reasoning = reasoning
        self.extra_body = extra_body or {}

    def sample(
        self, prompts: Sequence[Prompt], ids: Sequence[str], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        """
        See [`Sampler`]. Prompts come in the order in which the server is done with them. `prompts` is read as it goes,
        in its order and from another thread.
        """
        if len(prompts) != len(ids):
            raise ValueError(f"{len(prompts)} prompts have {len(ids)} ids")
        done: queue.SimpleQueue = queue.SimpleQueue()
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._all(prompts, ids, sampling, done))

        def work() -> None:
            try:
                loop.run_until_complete(task)
                done.put(None)
            except BaseException as error:  # also the cancellation, below
                done.put(error)
            finally:
                loop.close()

        # A thread, so that requests go on while the caller writes, and that this works inside a running event loop.
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while (item := done.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: all is done
                loop.call_soon_threadsafe(task.cancel)
            thread.join()

    async def _all(self, prompts: Sequence[Prompt], ids: Sequence[str], sampling: Sampling, done) -> None:
        from openai import BadRequestError, UnprocessableEntityError

        failed: dict[str, str] = {}
        refused: set[str] = set()
        in_a_row = 0
        waiting = iter(range(len(ids)))  # shared: each prompt goes to one of the workers
        turn = asyncio.Lock()

        async def worker() -> None:
            nonlocal in_a_row
            while in_a_row < _GIVE_UP:
                async with turn:  # prompts may be made when they are read, which takes a while and has an order
                    index = next(waiting, None)
                    prompt = None if index is None else await asyncio.to_thread(prompts.__getitem__, index)
                if index is None:
                    return
                id = ids[index]
                try:
                    completions = await self._complete(client, prompt, id, sampling)
                # Anything: the client validates little of what a server sends.
                except Exception as error:
                    failed[id] = describe_error(error)
                    if isinstance(error, BadRequestError | UnprocessableEntityError):
                        refused.add(id)  # it will say so again; and it is there
                    else:
                        in_a_row += 1
                else:
                    done.put((index, completions))
                    in_a_row = 0

        async with open_client(self.base_url, self.api_key, self.timeout, self.max_retries) as client:
            await asyncio.gather(*(worker() for _ in range(min(self.concurrency, len(ids)))))
        if failed:
            left = len(list(waiting))
            given_up = f", {left} were not asked for any more" if left else ""
            first, reason = next(iter(failed.items()))
            message = (
                f"{len(failed)} of {len(ids)} prompts got no completions{given_up}; the first: {first!r} ({reason})"
            )
            kind = PromptsRefusedError if len(refused) == len(failed) and not left else GenerationError
            raise kind(message, failed)

    async def _complete(self, client, prompt: Prompt, id: str, sampling: Sampling) -> list[Completion]:
        from openai.types import Completion as TextCompletion
        from openai.types.chat import ChatCompletion

        body: dict[str, Any] = {
            "model": self.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if isinstance(prompt, str):
            path, kind, body = "/completions", TextCompletion, {**body, "prompt": prompt}
        else:
            path, kind, body = "/chat/completions", ChatCompletion, {**body, "messages": prompt}
            if self.chat_template_kwargs:
                body["chat_template_kwargs"] = self.chat_template_kwargs
        completions: list[Completion] = []
        while (missing := sampling.num_samples - len(completions)) > 0:
            asked = {"n": missing, "seed": example_seed(sampling.seed, id, len(completions))}
            fields = {name: value for name, value in (body | asked | self.extra_body).items() if value is not None}
            answer = await client.post(path, body=fields, cast_to=kind)
            if not answer.choices:
                raise ValueError("the answer holds no choices")
            completions += [
                _completion(choice, isinstance(prompt, str), self.reasoning) for choice in answer.choices[:missing]
            ]
        return completions


def _completion(choice, is_text: bool, reasoning: str) -> Completion:
    text = choice.text if is_text else choice.message.content
    taken_out = not is_text and any(getattr(choice.message, name, None) for name in ("reasoning_content", "reasoning"))
    if taken_out and reasoning == "refuse":
        raise ValueError("the server takes the reasoning out of the answer; start it without --reasoning-parser")
    if not isinstance(text, str | None):
        raise TypeError(f"the text of the answer is {text!r}")
    # Half a surrogate pair, which JSON can spell, cannot be stored anywhere.
    text = (text or "").encode("utf-8", "replace").decode("utf-8")
    # Whatever else a server names ("content_filter", "abort") is not an end that the model chose.
    return Completion(text, "stop" if choice.finish_reason == "stop" else "length")
