"""The longest sequence that an engine takes, compared with the prompts before the first step.

Later would be too late: vLLM refuses a prompt on one process, and the others wait for it until they time out.
"""

from __future__ import annotations

from collections.abc import Iterable

from accelerate.utils import broadcast_object_list
from transformers.utils import logging


logger = logging.get_logger(__name__)


def engine_limit(trainer) -> int | None:
    """
    Tokens of prompt and completion that the vLLM engine of a trainer takes; equal on all processes.

    Returns:
        `int`, or `None` without vLLM, or if a server does not tell.
    """
    if not getattr(trainer, "use_vllm", False):
        return None
    generation = trainer.vllm_generation
    if generation.mode == "colocate":
        return generation.llm.llm_engine.model_config.max_model_len
    answer = [None]
    if trainer.accelerator.is_main_process:
        answer = [_server_limit(generation.vllm_client)]
    # All processes are told, so that all of them stop where one would.
    return broadcast_object_list(answer, from_process=0)[0]


def _server_limit(client) -> int | None:
    response = client.session.get(f"{client.base_url}/v1/models")
    for model in response.json()["data"] if response.ok else []:
        if model.get("id") == client.model and isinstance(model.get("max_model_len"), int):
            return model["max_model_len"]
    logger.warning(
        f"the server at {client.base_url} does not say how long a sequence may be (`max_model_len` in /v1/models, "
        f"status {response.status_code}), so prompts are not compared with it"
    )
    return None


def check_limits(
    prompts: Iterable[tuple[str, int]], max_completion_length: int, limit: int | None, engine: str, part: str
) -> None:
    """
    Checks that every prompt fits the engine together with the longest completion.

    Args:
        prompts (`Iterable[tuple[str, int]]`):
            Ids and token lengths.
        max_completion_length (`int`):
            New tokens that a completion may have.
        limit (`int`, *optional*):
            Tokens that the engine takes; nothing is checked where it is `None`.
        engine (`str`):
            Where the limit comes from, for the message.
        part (`str`):
            What the prompts belong to, for the message.

    Raises:
        `ValueError`: with the id of the first prompt that does not fit.
    """
    if limit is None:
        return
    over = [(id, length) for id, length in prompts if length + max_completion_length > limit]
    if over:
        id, length = over[0]
        longest = max(length for _, length in over) + max_completion_length
        raise ValueError(
            f"{part}: {len(over)} prompts do not fit the vLLM engine, which takes {limit} tokens of prompt and "
            f"completion ({engine}). The first is {id!r} with {length} tokens, and a completion may have "
            f"{max_completion_length}. Start the engine with at least {longest}, lower max_prompt_length or "
            "max_completion_length of the phase, or leave out these prompts."
        )
