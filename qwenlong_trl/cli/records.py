"""Which records the commands read, and how prompts are made of them: the same options for all commands."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..data import InvalidRecordError, LongContextExample, read_records


FORMATS = ("auto", "records", "musique", "hotpotqa", "nq_open", "squad", "docqa_rl")


@dataclass
class FileArguments:
    """Files with records."""

    records: list[str] | None = field(
        default=None,
        metadata={"help": "Files with the training records. Their ids get the file's name where files share them."},
    )
    records_format: str = field(
        default="auto", metadata={"help": "Format of all files with records.", "choices": list(FORMATS)}
    )
    skip_invalid: bool = field(default=False, metadata={"help": "Count and list malformed rows instead of stopping."})

    def __post_init__(self):
        if isinstance(self.records, str):  # one file in YAML
            self.records = [self.records]
        if self.records_format not in FORMATS:
            raise ValueError(f"`records_format` must be one of {', '.join(FORMATS)}, got {self.records_format!r}")

    def read(self, paths: Sequence[str], skipped: list[str]) -> list[LongContextExample]:
        """The records of all files, ids unique; malformed rows go to `skipped` with `skip_invalid`, else raise."""
        examples: dict[str, LongContextExample] = {}

        def note(error: InvalidRecordError) -> None:
            skipped.append(str(error))

        for path in paths:
            for example in read_records(path, self.records_format, note if self.skip_invalid else None):
                if example.id in examples:  # the same questions, composed to several lengths
                    example = replace(example, id=f"{Path(path).stem}/{example.id}")
                if example.id in examples:
                    raise ValueError(
                        f"{path}: the record {example.id!r} stands in an earlier file, too; ids must differ"
                    )
                examples[example.id] = example
        return list(examples.values())


@dataclass
class RecordArguments(FileArguments):
    """Records, and how prompts are made of them."""

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

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.chat, bool):  # YAML reads `true` so
            self.chat = str(self.chat).lower()
        if self.chat not in ("auto", "true", "false"):
            raise ValueError(f"`chat` must be 'auto', 'true' or 'false', got {self.chat!r}")
        if self.prompt_template is not None and "$DOC$" not in self.prompt_template:
            self.prompt_template = _read_template(self.prompt_template)

    def is_chat(self, tokenizer) -> bool:
        """Whether prompts are messages for a model with this tokenizer."""
        return self.chat == "true" or (self.chat == "auto" and tokenizer.chat_template is not None)


def check_files(paths: Sequence[str]) -> None:
    """Raises `FileNotFoundError` for a file that is not there, before anything large is loaded."""
    for path in paths:
        if not Path(path).is_file():
            raise FileNotFoundError(f"no file {path}")


def file_digests(paths: Sequence[str | Path]) -> dict[str, str]:
    """What files hold, by their names: where they lie does not matter."""
    digests = {}
    for path in paths:
        with open(path, "rb") as file:
            digests[Path(path).name] = f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    return digests


def load_tokenizer(name: str, **options):
    """The tokenizer of a model on the hub or of a folder; raises `ValueError` where there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot load a tokenizer from {name!r}: {error}") from None


def skipped_lines(skipped: list[str]) -> list[str]:
    """What to print about malformed rows: their number and the first five."""
    return [f"skipped {len(skipped)} malformed rows", *(f"  {line}" for line in skipped[:5])] if skipped else []


def _read_template(path: str) -> str:
    if not Path(path).is_file():
        raise ValueError(f"prompt_template is neither a text with $DOC$ and $Q$ nor a file: {path!r}")
    return Path(path).read_text(encoding="utf-8").removesuffix("\n")
