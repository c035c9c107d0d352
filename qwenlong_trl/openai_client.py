"""The `openai` client for any OpenAI-compatible server, shared by judges and samplers."""

from __future__ import annotations

import os


def check_options(user: str, max_retries: int, **positive: float) -> None:
    """
    What would otherwise fail at the first request.

    Args:
        user (`str`):
            Who needs the client, for messages.
        max_retries (`int`):
            Further attempts of a request.
        **positive (`float`):
            Options that must be positive.

    Raises:
        `ImportError`: without the extra `judge`.
        `ValueError`: for an option out of its range.
    """
    try:
        import openai  # noqa: F401
    except ImportError:
        raise ImportError(f'{user} needs the openai client: pip install "qwenlong-trl[judge]"') from None
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value!r}")
    if max_retries < 0:
        raise ValueError(f"max_retries must be at least 0, got {max_retries!r}")


def open_client(base_url: str | None, api_key: str | None, timeout: float, max_retries: int):
    """An `openai.AsyncOpenAI`, to be used in one event loop and closed before it ends. Local servers need no key."""
    from openai import AsyncOpenAI

    return AsyncOpenAI(
        base_url=base_url,
        api_key=api_key or os.environ.get("OPENAI_API_KEY") or "none",
        timeout=timeout,
        max_retries=max_retries,
    )
