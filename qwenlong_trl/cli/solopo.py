"""`qwenlong-trl solopo`: short-to-long preference optimisation on pairs with a short and a long prompt.

```bash
qwenlong-trl solopo --model_name_or_path Qwen/Qwen2.5-7B-Instruct --dataset_name musique-pairs --output_dir out
qwenlong-trl solopo --config examples/recipes/qwen2.5-7b-solopo-lora.yaml --algorithm orpo
```
"""

from dataclasses import dataclass

from .launch import launch, parse_arguments
from .training import (
    DatasetArguments,
    finish,
    load_processing_class,
    load_splits,
    resume_checkpoint,
    run_training,
    set_model_options,
)


@dataclass
class PairArguments(DatasetArguments):
    """Preference pairs with the columns prompt, long_prompt, chosen and rejected, as `solopo-pairs` writes them."""

    def __post_init__(self):
        if not self.dataset_name:
            raise ValueError(
                "give --dataset_name: a folder that `qwenlong-trl solopo-pairs` has written, a file, or a data set of "
                "the hub, with the columns prompt, long_prompt, chosen and rejected"
            )


def main(argv: list[str]) -> int:
    """Trains as the command line and the recipe say; returns the exit code. Errors are the caller's business."""
    code = launch("solopo", argv)
    if code is not None:
        return code
    from trl import ModelConfig, get_peft_config, get_quantization_config

    from ..solopo import SoLoPOConfig, SoLoPOTrainer

    data_args, training_args, model_args = parse_arguments(
        "solopo",
        argv,
        (PairArguments, SoLoPOConfig, ModelConfig),
        "Short-to-long preference optimisation (SoLoPO, arXiv 2505.11166): the preference loss on the short prompt, "
        "and the chosen answer's reward on the long prompt pulled to that on the short one.",
        "qwenlong-trl solopo --config examples/recipes/qwen2.5-7b-solopo.yaml --num_processes 8",
    )
    checkpoint = resume_checkpoint(training_args)
    processing_class = load_processing_class(model_args, training_args)
    train_dataset, eval_dataset = load_splits(data_args, training_args)
    set_model_options(model_args, training_args)
    trainer = SoLoPOTrainer(
        model=model_args.model_name_or_path,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=processing_class,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    if not run_training(trainer, training_args, checkpoint):
        return 0
    finish(trainer, training_args, data_args.dataset_name)
    return 0
