"""What the training commands share: where the data comes from, where to resume, and what happens at the end."""

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..data import InvalidRecordError, LongContextExample, read_records


_FORMATS = ("auto", "records", "musique", "hotpotqa", "nq_open", "squad", "docqa_rl")
_SUFFIXES = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}


@dataclass
class DataArguments:
    """Records, or a data set of the hub."""

    records: list[str] | None = field(
        default=None,
        metadata={"help": "Files with the training records. Their ids get the file's name where files share them."},
    )
    records_format: str = field(
        default="auto", metadata={"help": "Format of all files with records.", "choices": list(_FORMATS)}
    )
    eval_records: list[str] | None = field(
        default=None, metadata={"help": "Files with the evaluation records, used if eval_strategy is not 'no'."}
    )
    skip_invalid: bool = field(default=False, metadata={"help": "Count and list malformed rows instead of stopping."})
    chat: str = field(
        default="auto",
        metadata={
            "help": "Whether prompts of records are chat messages ('true') or plain text ('false'). 'auto': messages "
            "if the tokenizer has a chat template.",
            "choices": ["auto", "true", "false"],
        },
    )
    prompt_template: str | None = field(
        default=None,
        metadata={"help": "Prompt with one $DOC$ and one $Q$, or a file with it. Defaults to that of QwenLong-L1."},
    )
    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Instead of records: a data set of the hub, a folder, or a .json, .jsonl or .parquet file, whose "
            "split is train."
        },
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of dataset_name."})
    dataset_train_split: str = field(default="train", metadata={"help": "Split of dataset_name to train on."})
    dataset_test_split: str = field(default="test", metadata={"help": "Split of dataset_name to evaluate on."})

    def __post_init__(self):
        for name in ("records", "eval_records"):
            if isinstance(getattr(self, name), str):  # one file in YAML
                setattr(self, name, [getattr(self, name)])
        if isinstance(self.chat, bool):  # YAML reads `true` so
            self.chat = str(self.chat).lower()
        if self.chat not in ("auto", "true", "false"):
            raise ValueError(f"`chat` must be 'auto', 'true' or 'false', got {self.chat!r}")
        if self.records_format not in _FORMATS:
            raise ValueError(f"`records_format` must be one of {', '.join(_FORMATS)}, got {self.records_format!r}")
        if bool(self.records) == bool(self.dataset_name):
            raise ValueError("give either --records FILE... or --dataset_name NAME, and not both")
        if self.eval_records and not self.records:
            raise ValueError("--eval_records goes with --records; with --dataset_name, see --dataset_test_split")
        if self.prompt_template is not None and "$DOC$" not in self.prompt_template:
            self.prompt_template = _read_template(self.prompt_template)

    def check_files(self) -> None:
        """Raises `FileNotFoundError` for a file that is not there, before anything large is loaded."""
        for path in (self.records or []) + (self.eval_records or []):
            if not Path(path).is_file():
                raise FileNotFoundError(f"no file {path}")


def _read_template(path: str) -> str:
    if not Path(path).is_file():
        raise ValueError(f"prompt_template is neither a text with $DOC$ and $Q$ nor a file: {path!r}")
    return Path(path).read_text(encoding="utf-8").removesuffix("\n")


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
    evaluates = training_args.eval_strategy != "no"
    if args.dataset_name:
        train = _load_split(args, args.dataset_train_split)
        return train, _load_split(args, args.dataset_test_split) if evaluates else None
    if evaluates and not args.eval_records:
        raise ValueError(f"eval_strategy is {training_args.eval_strategy.value!r}: give --eval_records")
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    chat = args.chat == "true" or (args.chat == "auto" and tokenizer.chat_template is not None)
    skipped: list[str] = []
    train = view(_read(args.records, args, skipped), chat)
    evaluation = view(_read(args.eval_records, args, skipped), chat) if evaluates else None
    for count, line in enumerate([f"skipped {len(skipped)} malformed rows", *skipped[:5]] if skipped else []):
        say(training_args, line if count == 0 else f"  {line}")
    return train, evaluation


def _read(paths: list[str], args: DataArguments, skipped: list[str]) -> list[LongContextExample]:
    examples: dict[str, LongContextExample] = {}

    def note(error: InvalidRecordError) -> None:
        skipped.append(str(error))

    for path in paths:
        for example in read_records(path, args.records_format, note if args.skip_invalid else None):
            if example.id in examples:  # the same questions, composed to several lengths
                example = replace(example, id=f"{Path(path).stem}/{example.id}")
            if example.id in examples:
                raise ValueError(f"{path}: the record {example.id!r} stands in an earlier file, too; ids must differ")
            examples[example.id] = example
    return list(examples.values())


def _load_split(args: DataArguments, split: str):
    from datasets import load_dataset

    if Path(args.dataset_name).is_file():
        suffix = Path(args.dataset_name).suffix
        if suffix not in _SUFFIXES:
            raise ValueError(f"cannot load {args.dataset_name}: expected a name that ends in {', '.join(_SUFFIXES)}")
        return load_dataset(_SUFFIXES[suffix], data_files={"train": args.dataset_name}, split=split)
    return load_dataset(args.dataset_name, name=args.dataset_config, split=split)


def resume_checkpoint(training_args) -> str | None:
    """
    The checkpoint that `resume_from_checkpoint` means: `None` to start anew, `true` for the newest complete one of
    `output_dir` if there is any, or a path.
    """
    value = training_args.resume_from_checkpoint
    if value is None or str(value).lower() in ("false", "no"):
        return None
    if str(value).lower() not in ("true", "yes"):
        if not Path(value).is_dir():
            raise FileNotFoundError(f"resume_from_checkpoint: no folder {value}")
        return str(value)
    found = [p for p in Path(training_args.output_dir).glob("checkpoint-*") if p.name.split("-")[-1].isdigit()]
    for path in sorted(found, key=lambda p: int(p.name.split("-")[-1]), reverse=True):
        if _is_complete(path):
            say(training_args, f"resuming from {path}")
            return str(path)
        say(training_args, f"{path} was cut short while it was written; not resuming from it")
    say(training_args, f"no checkpoint in {training_args.output_dir}: starting anew")
    return None


def _is_complete(checkpoint: Path) -> bool:
    """Whether the file that the trainer writes last is there, and whole."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def finish(trainer, training_args, dataset_name: str | None) -> None:
    """Saves the model with its tokenizer, pushes it if asked to, and closes the trackers and the process group."""
    trainer.save_model(training_args.output_dir)
    trainer.accelerator.print(f"model and tokenizer saved to {training_args.output_dir}")
    if training_args.push_to_hub:
        trainer.push_to_hub(dataset_name=dataset_name)
        trainer.accelerator.print(f"model pushed to https://huggingface.co/{trainer.hub_model_id}")
    # The wrapper for several processes goes first. Freed after its process group, it may wait for ever for threads of
    # gloo that wait for the interpreter lock, which the freeing holds (torch 2.13 on CPUs, 3 of 20 runs).
    trainer.model_wrapped = trainer.model
    trainer.accelerator.free_memory()
    gc.collect()
    trainer.accelerator.end_training()
