"""Weights of the trainer into a vLLM engine on a CPU. See the table of shims in the package's docstring."""

from __future__ import annotations

from packaging.version import Version


# Seen with 0.31.0; TRL 1.16 takes 0.22 to 0.31. What comes later is left alone, and the contract test tells.
_LAST_VERSION = (0, 31)


def mend_weight_sync(generation) -> bool:
    """
    Replaces `sync_weights` of an engine on a CPU, in the same process, for the versions of vLLM that need it.

    Args:
        generation ([`~trl.generation.vllm_generation.VLLMGeneration`]):
            The engine of a trainer.

    Returns:
        `bool`: whether it was replaced.
    """
    if generation.mode != "colocate":
        return False
    import vllm
    from vllm.platforms import current_platform

    if not current_platform.is_cpu() or Version(vllm.__version__).release[:2] > _LAST_VERSION:
        return False
    generation.sync_weights = lambda: reload_weights(generation)
    return True


def reload_weights(generation) -> None:
    """Gives the engine the weights of its trainer's model and empties its prefix cache."""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    runner = generation.llm.llm_engine.model_executor.driver_worker.model_runner
    # Copies: a layer whose rows are padded is packed at the end only, when a merged adapter has been taken out again.
    named = ((name, weight.detach().clone()) for name, weight in generation._iter_named_params())
    runner.reload_weights(weights_iterator=named)
    # An LM head that is tied to the embedding has a packed copy of its own, which the reload does not renew.
    for module in runner.get_model().modules():
        if isinstance(module, VocabParallelEmbedding):
            module.quant_method.process_weights_after_loading(module)
    generation.llm.reset_prefix_cache()
