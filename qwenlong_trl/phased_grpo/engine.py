"""The vLLM engine of a [`PhasedGRPOTrainer`], between its start and the first step."""

from __future__ import annotations

from datasets import Dataset

from ..engines import check_limits, engine_limit, prepare_engine
from .lengths import check_prompts_fit, example_ids, prompt_lengths


def start_engine(trainer) -> None:
    """
    Prepares the engine (see [`~engines.prepare_engine`]) and checks that all prompts fit it. Without vLLM, nothing.

    Raises:
        `ValueError`: on every process, with the id of a prompt of the training or the evaluation set that does not
        fit.
    """
    if not trainer.use_vllm:
        return
    prepare_engine(trainer)
    limit = engine_limit(trainer)
    if limit is None:
        return
    args, curriculum = trainer.args, trainer.curriculum
    engine = "max_model_len of the server" if args.vllm_mode == "server" else "max_model_len of the engine"
    check_prompts_fit(args, curriculum, limit, engine)
    # An evaluation may come in any phase, and before the first one.
    longest = max([args.max_completion_length, *(phase.max_completion_length or 0 for phase in args.phases)])
    sets = trainer.eval_dataset if isinstance(trainer.eval_dataset, dict) else {"eval": trainer.eval_dataset}
    for name, dataset in sets.items():
        if isinstance(dataset, Dataset):
            lengths = prompt_lengths(dataset, trainer._tokenizer, args.chat_template_kwargs, progress=False)
            prompts = zip(example_ids(dataset), lengths, strict=True)
            check_limits(prompts, longest, limit, engine, f"evaluation set {name!r}")
