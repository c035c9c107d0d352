"""What the training commands share: where the data comes from, where to resume, and what happens at the end."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data import LongContextExample
from .records import RecordArguments, check_files, skipped_lines


_SUFFIXES = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}


@dataclass
class DatasetArguments:
    """A data set whose rows are trained on as they are."""

    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "A data set of the hub, a folder, or a .json, .jsonl or .parquet file, whose only split is train."
        },
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of dataset_name."})
    dataset_train_split: str = field(default="train", metadata={"help": "Split of dataset_name to train on."})
    dataset_test_split: str = field(default="test", metadata={"help": "Split of dataset_name to evaluate on."})


@dataclass
class DataArguments(DatasetArguments, RecordArguments):
    """Records, or instead of them a data set."""

    eval_records: list[str] | None = field(
        default=None, metadata={"help": "Files with the evaluation records, used if eval_strategy is not 'no'."}
    )

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.eval_records, str):
            self.eval_records = [self.eval_records]
        if bool(self.records) == bool(self.dataset_name):
            raise ValueError("give either --records FILE... or --dataset_name NAME, and not both")
        if self.eval_records and not self.records:
            raise ValueError("--eval_records goes with --records; with --dataset_name, see --dataset_test_split")

    def check_files(self) -> None:
        """Raises `FileNotFoundError` for a file that is not there, before anything large is loaded."""
        check_files((self.records or []) + (self.eval_records or []))


def say(training_args, message: str) -> None:
    """Prints, once in a run of several processes."""
    if training_args.process_index == 0:
        print(message, flush=True)


def load_processing_class(model_args, training_args):
    """The tokenizer (or processor) as TRL loads it, for making prompts and for training."""
    from transformers import AutoProcessor

    if model_args.model_name_or_path is None:
        raise ValueError("give --model_name_or_path: a model of the hub or a folder")
    return AutoProcessor.from_pretrained(
        model_args.model_name_or_path,
        revision=model_args.model_revision,
        trust_remote_code=training_args.trust_remote_code,
        truncation_side="left",
        padding_side="left",
    )


def set_model_options(model_args, training_args) -> None:
    """Puts what the flags say about loading the model where the trainers read it."""
    training_args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "trust_remote_code": training_args.trust_remote_code,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
        **(training_args.model_init_kwargs or {}),
    }


def load_data(
    args: DataArguments, training_args, processing_class, view: Callable[[list[LongContextExample], bool], Any]
) -> tuple[Any, Any]:
    """
    The training set, and the evaluation set or `None`.

    Args:
        view (`Callable`):
            Makes a `datasets.Dataset` of records; the second argument says whether prompts are chat messages.
    """
    if args.dataset_name:
        return load_splits(args, training_args)
    evaluates = training_args.eval_strategy != "no"
    if evaluates and not args.eval_records:
        raise ValueError(f"eval_strategy is {training_args.eval_strategy.value!r}: give --eval_records")
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    chat = args.is_chat(tokenizer)
    skipped: list[str] = []
    train = view(_read(args, args.records, skipped), chat)
    evaluation = view(_read(args, args.eval_records, skipped), chat) if evaluates else None
    for line in skipped_lines(skipped):
        say(training_args, line)
    return train, evaluation


def load_splits(args: DatasetArguments, training_args) -> tuple[Any, Any]:
    """The training split of `dataset_name`, and its evaluation split or `None`."""
    evaluates = training_args.eval_strategy != "no"
    train = _load_split(args, args.dataset_train_split)
    return train, _load_split(args, args.dataset_test_split) if evaluates else None


def _read(args: DataArguments, paths: list[str], skipped: list[str]) -> list[LongContextExample]:
    examples = args.read(paths, skipped)
    if not examples:
        why = "; ".join(line.strip() for line in skipped_lines(skipped))
        raise ValueError(f"no row of {', '.join(paths)} is a record: {why}")
    return examples


def _load_split(args: DatasetArguments, split: str):
    from datasets import load_dataset

    if Path(args.dataset_name).is_file():
        suffix = Path(args.dataset_name).suffix
        if suffix not in _SUFFIXES:
            raise ValueError(f"cannot load {args.dataset_name}: expected a name that ends in {', '.join(_SUFFIXES)}")
        if not split.strip().startswith("train"):
            raise ValueError(
                f"{args.dataset_name} is a file, which has the split 'train' alone, and not {split!r}. For evaluation "
                "give a part of it, such as --dataset_test_split 'train[-100:]' with --dataset_train_split "
                "'train[:-100]', or put train.jsonl and test.jsonl into a folder and give that as --dataset_name"
            )
        return load_dataset(_SUFFIXES[suffix], data_files={"train": args.dataset_name}, split=split)
    return load_dataset(args.dataset_name, name=args.dataset_config, split=split)


def resume_checkpoint(training_args) -> str | None:
    """
    The checkpoint that `resume_from_checkpoint` means: `None` to start anew, `true` for the newest complete one of
    `output_dir` if there is any, or a path.
    """
    from ..checkpoints import newest_complete_checkpoint

    value = training_args.resume_from_checkpoint
    if value is None or str(value).lower() in ("false", "no"):
        return None
    if str(value).lower() not in ("true", "yes"):
        if not Path(value).is_dir():
            raise FileNotFoundError(f"resume_from_checkpoint: no folder {value}")
        return str(value)
    checkpoint = newest_complete_checkpoint(training_args.output_dir, lambda line: say(training_args, line))
    if checkpoint is None:
        say(training_args, f"no checkpoint in {training_args.output_dir}: starting anew")
    else:
        say(training_args, f"resuming from {checkpoint}")
    return checkpoint


def run_training(trainer, training_args, checkpoint: str | None) -> bool:
    """
    Trains, and returns whether it came to its end. After SIGTERM or SIGINT it has not: what there is was saved, one
    line says how to go on, and nothing is left to do but to end.
    """
    from ..stopping import StopOnSignal

    with StopOnSignal() as stop:
        trainer.add_callback(stop)
        trainer.train(resume_from_checkpoint=checkpoint)
    if stop.stopped:
        command = "the same command with --resume_from_checkpoint true"
        say(training_args, stop.how_to_resume(training_args, command))
        _close(trainer)
    return not stop.stopped


def finish(trainer, training_args, dataset_name: str | None) -> None:
    """Saves the model with its tokenizer, pushes it if asked to, and closes the trackers and the process group."""
    trainer.save_model(training_args.output_dir)
    trainer.create_model_card(dataset_name=dataset_name)
    trainer.accelerator.print(f"model and tokenizer saved to {training_args.output_dir}")
    if training_args.push_to_hub:
        trainer.push_to_hub(dataset_name=dataset_name)
        trainer.accelerator.print(f"model pushed to https://huggingface.co/{trainer.hub_model_id}")
    _close(trainer)


def _close(trainer) -> None:
    """Closes the trackers and the process group."""
    # The wrapper for several processes goes first. Freed after its process group, it may wait for ever for threads of
    # gloo that wait for the interpreter lock, which the freeing holds (torch 2.13 on CPUs, 3 of 20 runs).
    trainer.model_wrapped = trainer.model
    trainer.accelerator.free_memory()
    gc.collect()
    trainer.accelerator.end_training()
