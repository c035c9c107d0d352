"""What is done to the vLLM engine of a trainer when it has started."""

from __future__ import annotations

from transformers.utils import logging

from .cpu_weights import mend_weight_sync


logger = logging.get_logger(__name__)


def prepare_engine(trainer) -> None:
    """
    Applies the shims that this version and platform need, and warns if the engine reads equal prompts more than once.
    Does nothing for a trainer without vLLM.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer, built but not yet training.
    """
    generation = getattr(trainer, "vllm_generation", None)
    if generation is None:
        return
    mend_weight_sync(generation)
    if generation.mode == "colocate":
        warn_without_prefix_caching(generation.llm.llm_engine.vllm_config.cache_config.enable_prefix_caching)
    elif trainer.accelerator.is_main_process:
        # Only the first process has a client.
        cache = generation.vllm_client.get_server_info().get("cache_config") or {}
        warn_without_prefix_caching(cache.get("enable_prefix_caching", True))


def warn_without_prefix_caching(enabled: bool) -> None:
    """It is vLLM's default, and cannot be turned on in an engine that runs, so all that is left is to tell."""
    if not enabled:
        logger.warning(
            "vLLM runs without prefix caching, so that it reads a prompt once for each of its completions. It is on "
            "by default: the engine was started without it (a server with --no-enable-prefix-caching), or vLLM turned "
            "it off because this model or platform does not support it (its log says so)."
        )
