"""`qwenlong-trl data compose|synthesize|inspect`: makes, lengthens and looks at long-context records.

```bash
qwenlong-trl data synthesize --task all --target_tokens 1000 --count 500 --output short.jsonl
qwenlong-trl data compose --input short.jsonl --target_tokens 16384 --tokenizer Qwen/Qwen3-4B --output long.jsonl
qwenlong-trl data inspect --input long.jsonl --show 2
```
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import get_origin

from ..data import (
    SYNTHETIC_TASKS,
    ContextBudgetError,
    DocumentPool,
    InvalidRecordError,
    LongContextExample,
    compose,
    drop_contaminated,
    drop_duplicates,
    read_records,
    synthesize,
    write_records,
)
from .records import load_tokenizer


_FORMATS = "auto, records, musique, hotpotqa, nq_open, squad or docqa_rl"


@dataclass
class ComposeArguments:
    """Adds distractor documents to each record until its context fills a token budget."""

    input: str = field(metadata={"help": "File with the records to lengthen."})
    output: str = field(metadata={"help": "File to write: .jsonl, .jsonl.gz or .parquet."})
    target_tokens: int = field(metadata={"help": "Tokens of each context, without question and template."})
    tokenizer: str = field(metadata={"help": "Name on the hub or folder of the tokenizer that counts."})
    pool: list[str] = field(
        default_factory=list, metadata={"help": "Files whose documents are the distractors; the input file if empty."}
    )
    format: str = field(default="auto", metadata={"help": f"Format of input and pool: {_FORMATS}."})
    depth: float | None = field(
        default=None, metadata={"help": "Place the evidence together at this depth, 0 to 1. Shuffled if not given."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the choice and of the order of documents."})
    limit: int | None = field(default=None, metadata={"help": "Compose only the first so many records."})
    allow_short: bool = field(default=False, metadata={"help": "Keep shorter contexts where the pool is too small."})
    skip_too_long: bool = field(
        default=False,
        metadata={"help": "Count and list records that are over the budget already, instead of stopping."},
    )
    skip_invalid: bool = field(default=False, metadata={"help": "Count and list malformed rows instead of stopping."})
    overwrite: bool = field(default=False, metadata={"help": "Replace the output file if it exists."})


@dataclass
class SynthesizeArguments:
    """Makes multi-document questions about invented entities, with computed answers, evidence and hard distractors."""

    output: str = field(metadata={"help": "File to write: .jsonl, .jsonl.gz or .parquet."})
    target_tokens: int = field(metadata={"help": "Tokens of each context, without question and template."})
    count: int = field(default=100, metadata={"help": "Number of records, of each task."})
    task: str = field(default="all", metadata={"help": f"One of {', '.join(SYNTHETIC_TASKS)}, or all."})
    seed: int = field(default=0, metadata={"help": "Seed of all draws."})
    tokenizer: str | None = field(
        default=None,
        metadata={
            "help": "Name on the hub or folder of the tokenizer that counts; 4 characters a token if not given."
        },
    )
    overwrite: bool = field(default=False, metadata={"help": "Replace the output file if it exists."})


@dataclass
class InspectArguments:
    """Prints what a file of records holds: tasks, sources, lengths, evidence, duplicates, contamination."""

    input: str = field(metadata={"help": "File with records."})
    format: str = field(default="auto", metadata={"help": f"Format of the files: {_FORMATS}."})
    tokenizer: str | None = field(
        default=None,
        metadata={
            "help": "Name on the hub or folder of the tokenizer that counts; 4 characters a token if not given."
        },
    )
    show: int = field(default=0, metadata={"help": "Print so many of the first records, shortened."})
    against: str | None = field(
        default=None, metadata={"help": "File of an evaluation set; records that ask one of its questions are listed."}
    )
    skip_invalid: bool = field(default=False, metadata={"help": "Count and list malformed rows instead of stopping."})


_COMMANDS = {
    "compose": (
        ComposeArguments,
        "--input musique.jsonl --pool musique.jsonl hotpotqa.json --target_tokens 16384 --tokenizer Qwen/Qwen3-4B "
        "--output musique-16k.parquet",
    ),
    "synthesize": (
        SynthesizeArguments,
        "--task chain_of_reasoning --target_tokens 16384 --count 500 --output chains.jsonl.gz",
    ),
    "inspect": (InspectArguments, "--input musique-16k.parquet --tokenizer Qwen/Qwen3-4B --show 2"),
}


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str:
        # "(default: None)" says nothing, least of all about options that must be given.
        return action.help if action.default in (None, []) else super()._get_help_string(action)


def main(argv: list[str]) -> int:
    """Runs one subcommand.

    Returns:
        `int`: 0 when done, 1 when files or values were wrong (one line on stderr says which). A wrong command line
        ends in `SystemExit(2)`, as `argparse` does it.
    """
    if not argv or argv[0] not in _COMMANDS:
        usage = "usage: qwenlong-trl data {" + ",".join(_COMMANDS) + "} [--config recipe.yaml] [options]"
        if argv and argv[0] in ("-h", "--help"):
            print(usage, "", sep="\n")
            for name, (arguments, _) in _COMMANDS.items():
                print(f"  {name:<12}{arguments.__doc__}")
            return 0
        print(f"{usage}\nerror: expected one of {', '.join(_COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    try:
        arguments = _parse(argv[0], argv[1:])
        {"compose": _compose, "synthesize": _synthesize, "inspect": _inspect}[argv[0]](arguments)
    except (OSError, ValueError) as error:  # InvalidRecordError and ContextBudgetError are ValueErrors
        message = " ".join(str(error).split())
        print(f"qwenlong-trl data {argv[0]}: error: {message}", file=sys.stderr)
        return 1
    return 0


def _parse(command: str, argv: list[str]):
    from trl import TrlParser

    arguments, example = _COMMANDS[command]
    parser = TrlParser(
        [arguments],
        prog=f"qwenlong-trl data {command}",
        description=arguments.__doc__,
        epilog=f"A YAML file may give any of these: --config recipe.yaml (flags win).\n\n"
        f"example:\n  qwenlong-trl data {command} {example}",
        formatter_class=_HelpFormatter,
    )
    if argv and argv[-1] == "--config":
        parser.error("--config needs the path of a YAML file")
    (parsed,) = parser.parse_args_and_config(argv)
    for option in fields(parsed):  # what YAML gave has not been checked; the parser reduced `int | None` to `int`
        value, kind = getattr(parsed, option.name), option.type
        if get_origin(kind) is list and isinstance(value, str):
            setattr(parsed, option.name, [value])
        elif get_origin(kind) is list:
            if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
                raise ValueError(f"{option.name} should be a list of str, got {value!r}")
        elif kind is float and type(value) is int:
            setattr(parsed, option.name, float(value))
        elif type(value) is not kind and not (value is None and option.default is None):
            raise ValueError(f"{option.name} should be {kind.__name__}, got {value!r}")
    return parsed


def _compose(args: ComposeArguments) -> None:
    from tqdm import tqdm

    _check_output(args.output, args.overwrite)
    tokenizer = load_tokenizer(args.tokenizer)
    skipped: list[str] = []
    examples = list(_read(args.input, args.format, args.skip_invalid, skipped))[: args.limit]
    others = (_read(path, args.format, args.skip_invalid, skipped) for path in args.pool)
    documents = (d for e in chain.from_iterable(others if args.pool else [examples]) for d in e.documents)
    pool = DocumentPool(tqdm(documents, desc="pool", unit=" documents"), tokenizer)
    lengths: list[int] = []

    def composed() -> Iterator[LongContextExample]:
        for example in tqdm(examples, desc="compose", unit=" records"):
            if args.skip_too_long and (own := int(pool.count(example.documents).sum())) > args.target_tokens:
                skipped.append(f"record {example.id!r}: {own:,} tokens, more than {args.target_tokens:,}")
                continue
            try:
                long = compose(
                    example, pool, args.target_tokens, seed=args.seed, depth=args.depth, allow_short=args.allow_short
                )
            except ContextBudgetError as error:
                raise ValueError(f"{error} (or give --skip_too_long or --allow_short)") from None
            lengths.append(int(pool.count(long.documents).sum()))
            yield long

    count = write_records(composed(), args.output)
    print(f"{count} records with documents from a pool of {len(pool):,} -> {args.output}")
    _print_lengths(lengths, exact=True)
    _print_list("skipped", skipped)


def _synthesize(args: SynthesizeArguments) -> None:
    from tqdm import tqdm

    _check_output(args.output, args.overwrite)
    tokenizer = None if args.tokenizer is None else load_tokenizer(args.tokenizer)
    tasks = SYNTHETIC_TASKS if args.task == "all" else (args.task,)
    examples = chain.from_iterable(
        synthesize(task, args.target_tokens, args.seed, args.count, tokenizer) for task in tasks
    )
    lengths: list[int] = []

    def measured() -> Iterator[LongContextExample]:
        for example in tqdm(examples, desc="synthesize", unit=" records", total=args.count * len(tasks)):
            lengths.extend(_lengths([example], tokenizer))
            yield example

    count = write_records(measured(), args.output)
    print(f"{count} records -> {args.output}")
    _print_lengths(lengths, exact=tokenizer is not None)


def _inspect(args: InspectArguments) -> None:
    from tqdm import tqdm

    tokenizer = None if args.tokenizer is None else load_tokenizer(args.tokenizer)
    skipped: list[str] = []
    examples = list(tqdm(_read(args.input, args.format, args.skip_invalid, skipped), desc="read", unit=" records"))
    print(f"{len(examples)} records in {args.input}")
    for name, values in (("tasks", [e.task for e in examples]), ("sources", [e.source or "-" for e in examples])):
        print(f"{name}: " + ", ".join(f"{value} {n}" for value, n in Counter(values).most_common()))
    documents = sum(len(example.documents) for example in examples)
    marked = [example for example in examples if example.evidence]
    holding = sum(len(example.evidence_documents) for example in examples)
    print(
        f"evidence: {len(marked)} of {len(examples)} records, {sum(len(e.evidence) for e in examples)} spans in "
        f"{holding} of {documents} documents"
    )
    _print_lengths(_lengths(tqdm(examples, desc="tokens", unit=" records"), tokenizer), exact=tokenizer is not None)
    _print_list("duplicates", [f"{d.id}: {d.reason}" for d in drop_duplicates(examples)[1]])
    if args.against is not None:
        evaluation = _read(args.against, args.format, args.skip_invalid, skipped)
        dropped = drop_contaminated(examples, evaluation)[1]
        _print_list(f"contamination by {args.against}", [f"{d.id}: {d.reason}" for d in dropped])
    _print_list("skipped", skipped)
    for example in examples[: args.show]:
        print(f"\n{example.id} ({example.task}, {len(example.documents)} documents)\n  Q: {_short(example.question)}")
        print(f"  A: {_short(' | '.join(example.answers))}")
        for span in example.evidence:
            print(f"  [{span.document}] {_short(example.documents[span.document].title)}: ", end="")
            print(_short(example.evidence_text(span)))


def _read(path: str, format: str, skip_invalid: bool, skipped: list[str]) -> Iterator[LongContextExample]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")

    def note(error: InvalidRecordError) -> None:
        skipped.append(str(error))

    return read_records(path, format, on_invalid=note if skip_invalid else None)


def _check_output(path: str, overwrite: bool) -> None:
    if Path(path).exists() and not overwrite:
        raise FileExistsError(f"{path} exists; give --overwrite to replace it")
    if not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f"no folder {Path(path).absolute().parent} to write {Path(path).name} to")


def _lengths(examples: Iterable[LongContextExample], tokenizer) -> list[int]:
    from ..data.compose import count_tokens
    from ..data.synthesize import estimate_tokens

    if tokenizer is None:
        return [sum(estimate_tokens(example.documents)) for example in examples]
    return [sum(count_tokens(example.documents, tokenizer)) for example in examples]


def _print_lengths(lengths: list[int], exact: bool) -> None:
    """Minimum, median, mean and maximum, and a histogram of at most 8 equal bins; nothing of no records."""
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    if not lengths:
        return
    tokens = "tokens per context" if exact else "tokens per context (estimated)"
    low, middle, mean, high = min(lengths), np.median(lengths), np.mean(lengths), max(lengths)
    print(f"{tokens}: min {low:,}, median {middle:,.0f}, mean {mean:,.0f}, max {high:,}")
    counts, edges = np.histogram(lengths, bins=min(8, high - low + 1), range=(low, high + 1))
    table = Table(tokens, "records", "")
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        bar = "#" * int(np.ceil(30 * count / counts.max()))
        table.add_row(f"{int(np.ceil(left)):,} to {int(np.ceil(right)) - 1:,}", f"{count:,}", bar)
    Console(highlight=False).print(table)


def _print_list(name: str, lines: list[str]) -> None:
    print(f"{name}: {len(lines)}")
    for line in lines[:5]:
        print(f"  {line}")
    if len(lines) > 5:
        print(f"  and {len(lines) - 5} more")


def _short(text: str, width: int = 100) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."
