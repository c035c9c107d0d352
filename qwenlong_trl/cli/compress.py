"""`qwenlong-trl compress`: keeps, word for word, what a question needs of a long text.

```bash
qwenlong-trl compress report.txt --query "Who signed it?" --model ns/cprs --target_tokens 2048
pdftotext contract.pdf - | qwenlong-trl compress - --query "When does it end?" --model ns/cprs --rate 0.1 --json
```

Several files are documents whose names are their titles.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path


_EXAMPLE = 'qwenlong-trl compress report.txt --query "Who signed it?" --model ns/cprs --target_tokens 2048'
# Parameters of the pipeline, as they are.
_OPTIONS = ("target_tokens", "rate", "granularity", "threshold", "window_tokens", "overlap", "batch_tokens")
_OPTIONS += ("fallback", "reader_tokenizer")


def main(argv: list[str]) -> int:
    """Compresses the files and prints the result; returns the exit code. Errors are the caller's business."""
    args = _parser().parse_args(argv)
    options = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    if args.files.count("-") > 1:
        raise ValueError("- (standard input) can be read only once")
    if args.output is not None:
        _check_output(Path(args.output), args.overwrite)
    # Before the model, which may take minutes to load.
    texts = [read_text(name) for name in args.files]
    context = texts[0] if len(texts) == 1 else [_document(*pair) for pair in zip(args.files, texts, strict=True)]
    keep = [_region(region, len(texts) > 1) for region in args.keep or []]

    from ..cprs import ContextCompressionPipeline
    from ..cprs.options import CompressionOptions

    CompressionOptions(**options)
    if args.device is not None:
        _check_device(args.device)
    source = {name: getattr(args, name) for name in ("revision", "device") if getattr(args, name) is not None}
    cprs = ContextCompressionPipeline.from_pretrained(
        args.model, dtype=args.dtype, trust_remote_code=args.trust_remote_code, **source
    )
    example = {"context": context, "query": args.query, "keep": keep or None}
    if args.instruction is not None:
        example["instruction"] = args.instruction
    started = time.perf_counter()
    result = cprs(example, **options)
    seconds = time.perf_counter() - started

    text = json.dumps(result, ensure_ascii=False, indent=2) if args.json else result["compressed"]
    if args.output is None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", newline="")  # line ends of the text stay what they are
        print(text)
    else:
        temporary = Path(f"{args.output}.part")
        temporary.write_text(text + "\n", encoding="utf-8", newline="")
        os.replace(temporary, args.output)
    print(_summary(result, seconds), file=sys.stderr)
    return 0


def read_text(name: str) -> str:
    """
    The text of a file, or of standard input for `-`; line ends stay, a byte order mark goes.

    Raises:
        `ValueError`: names the file and the first byte that is not UTF-8.
    """
    data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        where = "standard input" if name == "-" else name
        raise ValueError(
            f"{where} is not UTF-8 text: byte 0x{data[error.start]:02x} at position {error.start:,}; convert it first "
            "(pdftotext, iconv)"
        ) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qwenlong-trl compress",
        description="Keeps, word for word, what a question needs of a long text.",
        epilog=f"Options may be written with - instead of _.\n\nexample:\n  {_EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    def add(name: str, help: str, **kwargs) -> None:
        parser.add_argument(*dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")), help=help, **kwargs)

    parser.add_argument("files", nargs="+", metavar="FILE", help="Text in UTF-8; - is standard input.")
    add("query", "The question.", required=True)
    add("model", "Compressor on the hub, or a folder.", required=True)
    add("instruction", "What to extract. Defaults to what the model was made for.")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--target_tokens", "--target-tokens", type=int, help="Most tokens of the result.")
    budget.add_argument("--rate", type=float, help="The same as a share of the text, up to 1.")
    add(
        "granularity",
        "What is kept or dropped as a whole (sentence).",
        choices=["token", "sentence", "paragraph", "document"],
        default="sentence",
    )
    add("threshold", "Without a budget: P(keep) from which on text is kept (0.5).", type=float)
    add(
        "keep",
        "Characters that stay: START:END, or FILE_INDEX:START:END of several files. May be repeated.",
        action="append",
    )
    add("fallback", "If nothing is chosen.", choices=["none", "top_span", "head", "full"])
    add("reader_tokenizer", "Tokenizer that counts: that of the model that reads the result.")
    add("window_tokens", "Tokens that the model reads at once, with the question.", type=int)
    add("overlap", "Tokens that neighbouring windows share (0).", type=int)
    add("batch_tokens", "Most tokens that go through the model at once (2048 on a CPU, 16384 elsewhere).", type=int)
    add("json", "Print everything that is known about the result as JSON.", action="store_true")
    add("output", "File to write instead of printing.")
    add("overwrite", "Replace the output file if it exists.", action="store_true")
    add("dtype", "Type of the weights (auto).", default="auto")
    add("device", "Where the model runs: cpu, cuda:0. By default the accelerator, if there is one.")
    add("revision", "Revision of the model on the hub.")
    add(
        "trust_remote_code",
        "Whether code of the repository's tokenizer may run; model and pipeline are this package's.",
        action="store_true",
    )
    return parser


def _document(name: str, text: str) -> dict[str, str]:
    return {"title": "standard input" if name == "-" else Path(name).name, "text": text}


def _region(region: str, several: bool) -> tuple[int, ...]:
    numbers = region.split(":")
    if len(numbers) != (3 if several else 2) or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"--keep must be {'FILE_INDEX:START:END' if several else 'START:END'}, got {region!r}")
    return tuple(map(int, numbers))


def _check_device(name: str) -> None:
    """Before the weights are loaded."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from None


def _check_output(path: Path, overwrite: bool) -> None:
    """Now rather than after the model has run."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a file to write")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists; give --overwrite to replace it")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent} is no folder; make it first")


def _summary(result: dict, seconds: float) -> str:
    ratio = "nothing kept" if result["ratio"] is None else f"ratio {result['ratio']:.1f}"
    fallback = f", fallback {result['fallback']}" if result["fallback"] else ""
    return (
        f"{result['input_tokens']:,} tokens in, {result['compressed_tokens']:,} out, {ratio}{fallback}, "
        f"{result['windows']:,} windows, {seconds:.1f} s"
    )
