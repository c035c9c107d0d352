"""`qwenlong-trl sft`: warm-up fine-tuning before phased RL, with the mean over examples of QwenLong-L1.

```bash
qwenlong-trl sft --model_name_or_path Qwen/Qwen3-4B --records short.jsonl --max_length 20000 --output_dir warm
qwenlong-trl sft --model_name_or_path Qwen/Qwen3-4B --dataset_name distilled.parquet  # columns: prompt, completion
```
"""

from .launch import launch, parse_arguments
from .training import (
    DataArguments,
    finish,
    load_data,
    load_processing_class,
    resume_checkpoint,
    run_training,
    set_model_options,
)


def main(argv: list[str]) -> int:
    """Trains as the command line and the recipe say; returns the exit code. Errors are the caller's business."""
    code = launch("sft", argv)
    if code is not None:
        return code
    from datasets import Dataset, Features, Value
    from trl import ModelConfig, get_peft_config, get_quantization_config

    from ..data import sft_view
    from ..sft import LongSFTConfig, LongSFTTrainer

    data_args, training_args, model_args = parse_arguments(
        "sft",
        argv,
        (DataArguments, LongSFTConfig, ModelConfig),
        "Supervised fine-tuning with the mean over examples (QwenLong-L1, arXiv 2505.17667, Eq. 11). Records teach "
        "their answers; for reasoning, give a data set with the columns prompt and completion.",
        "qwenlong-trl sft --config examples/recipes/qwen3-4b-sft.yaml --num_processes 8",
    )
    data_args.check_files()
    checkpoint = resume_checkpoint(training_args)
    processing_class = load_processing_class(model_args, training_args)

    def view(examples, chat):
        text = Value("large_string")  # a set of long prompts can pass 2 GB
        field = [{"role": Value("string"), "content": text}] if chat else text
        rows = [sft_view(example, template=data_args.prompt_template, chat=chat) for example in examples]
        columns = {name: [row[name] for row in rows] for name in ("prompt", "completion")}
        return Dataset.from_dict(columns, features=Features(dict.fromkeys(columns, field)))

    train_dataset, eval_dataset = load_data(data_args, training_args, processing_class, view)
    set_model_options(model_args, training_args)
    trainer = LongSFTTrainer(
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
