"""`qwenlong-trl cprs-train`: trains a token critic (QwenLong-CPRS) on records with evidence.

```bash
qwenlong-trl cprs-train --config examples/recipes/smollm2-cpu-cprs.yaml
qwenlong-trl cprs-train --model_name_or_path Qwen/Qwen3-0.6B-Base --records train.parquet --output_dir cprs
```
"""

from dataclasses import dataclass, field

from .launch import launch, parse_arguments
from .records import FileArguments, check_files, skipped_lines
from .training import finish, resume_checkpoint, run_training, say


@dataclass
class CriticArguments(FileArguments):
    """The backbone and the records."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A base model (Qwen2, Qwen3, Llama), or a critic to go on with."}
    )
    eval_records: list[str] | None = field(
        default=None,
        metadata={"help": "Kept-out records, compressed if eval_strategy is not 'no'."},
    )
    model_revision: str = field(default="main", metadata={"help": "Revision of the model on the hub."})
    attn_implementation: str | None = field(default=None, metadata={"help": "'sdpa', 'eager', 'flash_attention_2'"})
    dtype: str = field(default="float32", metadata={"help": "Type of the weights; 'auto' for that of the checkpoint."})
    bidirectional_start_layer: int | None = field(
        default=None,
        metadata={"help": "First layer that looks ahead. Three quarters of the depth if unset."},
    )
    position_loss: str | None = field(
        default=None, metadata={"help": "'cross_entropy' or 'focal'.", "choices": ["cross_entropy", "focal"]}
    )
    position_weights: list[float] | None = field(
        default=None, metadata={"help": "Class weights of Begin, Inside, Outside, End."}
    )
    tag_loss_weight: float | None = field(
        default=None, metadata={"help": "Weight of the tag critic's loss; 0 trains the position head alone."}
    )
    use_peft: bool = field(default=False, metadata={"help": "Train a LoRA adapter and the position head."})
    lora_r: int = field(default=16, metadata={"help": "Rank of the adapter."})
    lora_alpha: int = field(default=32, metadata={"help": "Alpha of the adapter."})

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.eval_records, str):  # one file in YAML
            self.eval_records = [self.eval_records]
        if not self.model_name_or_path:
            raise ValueError("give --model_name_or_path: a model of the hub or a folder")
        if not self.records:
            raise ValueError("give --records FILE...")

    def config_fields(self) -> dict:
        """The fields of the critic's configuration that were given."""
        names = ("bidirectional_start_layer", "position_loss", "position_weights", "tag_loss_weight")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def main(argv: list[str]) -> int:
    """Trains as the command line and the recipe say; returns the exit code. Errors are the caller's business."""
    code = launch("cprs-train", argv)
    if code is not None:
        return code
    from transformers import AutoTokenizer, set_seed

    from ..cprs import CPRSForTokenCritic, CPRSTrainer, CPRSTrainingArguments

    args, training_args = parse_arguments(
        "cprs-train",
        argv,
        (CriticArguments, CPRSTrainingArguments),
        "Trains a context compressor (QwenLong-CPRS, arXiv 2505.18092) on records with evidence.",
        "qwenlong-trl cprs-train --config examples/recipes/smollm2-cpu-cprs.yaml",
    )
    check_files([*args.records, *(args.eval_records or [])])
    if training_args.eval_strategy != "no" and not args.eval_records:
        raise ValueError(f"eval_strategy is {training_args.eval_strategy.value!r}: give --eval_records")
    checkpoint = resume_checkpoint(training_args)
    skipped: list[str] = []
    train = args.read(args.records, skipped)
    evaluation = args.read(args.eval_records or [], skipped)
    for line in skipped_lines(skipped):
        say(training_args, line)
    tokenizer = AutoTokenizer.from_pretrained(args.model_name_or_path, revision=args.model_revision)
    set_seed(training_args.seed)  # the position head, and an adapter, begin at random
    model = CPRSForTokenCritic.from_backbone(
        args.model_name_or_path,
        revision=args.model_revision,
        dtype=args.dtype,
        attn_implementation=args.attn_implementation,
        **args.config_fields(),
    )
    if args.use_peft:
        from peft import LoraConfig, get_peft_model

        layers = r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"
        model = get_peft_model(
            model,
            LoraConfig(r=args.lora_r, lora_alpha=args.lora_alpha, target_modules=layers, modules_to_save=["cls_head"]),
        )
    trainer = CPRSTrainer(
        model,
        training_args,
        train_dataset=train,
        eval_dataset=evaluation if training_args.eval_strategy != "no" else None,
        processing_class=tokenizer,
    )
    if args.use_peft and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise ValueError(
            "use_peft merges the adapter at the end, which sharded weights do not allow: train without one"
        )
    say(training_args, f"{len(trainer.train_dataset)} windows of {len(train)} records")
    if not run_training(trainer, training_args, checkpoint):
        return 0
    if args.use_peft:  # what is saved at the end is a critic that loads like any other
        trainer.model = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
    finish(trainer, training_args, None)
    return 0
