"""`qwenlong-trl eval`: a model on long-context questions, by the protocol of QwenLong-L1 (arXiv 2505.17667).

```bash
qwenlong-trl eval --suite synthetic --model_name_or_path Qwen/Qwen3-4B --backend vllm --output results/qwen3-4b
qwenlong-trl eval report results/qwen3-4b --threshold 0.8
qwenlong-trl eval compare results/qwen3-4b results/qwen3-4b-grpo
```

A run that was interrupted goes on with the same command: what is in its folder is neither asked nor judged again.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from .generation import GenerationArguments, sampler_maker
from .judges import JudgeArguments, make_judge, try_judge
from .launch import parse_arguments
from .records import RecordArguments, check_files, skipped_lines


@dataclass
class EvalArguments:
    """What is asked, how, and where it is written."""

    output: str = field(metadata={"help": "Folder to make, or to continue: answers, scores, report.md, report.json."})
    suite: list[str] = field(
        default_factory=list,
        metadata={
            "help": "What is asked: 'synthetic' (made here, the default without --records), docmath, frames, 2wiki, "
            "hotpotqa, musique, narrativeqa, qasper (from the hub), or files with records."
        },
    )
    lengths: list[str] = field(
        default_factory=list,
        metadata={"help": "Synthetic: tokens of a prompt, such as 4K 32K. By default 1K, 2K, 4K and so on to 128K."},
    )
    per_length: int = field(default=8, metadata={"help": "Synthetic: questions of each of the 4 tasks and length."})
    suite_seed: int = field(default=0, metadata={"help": "Synthetic: seed of the questions."})
    suite_folder: str | None = field(
        default=None, metadata={"help": "Folder with the files of the named sets, instead of the hub."}
    )
    limit: int | None = field(default=None, metadata={"help": "Ask only the first so many questions of each suite."})
    mode: str = field(
        default="fixed",
        metadata={
            "help": "'official' does what the released code does: it cuts the prompt's tokens, accepts answers that "
            "contain the gold one, and leaves empty answers out.",
            "choices": ["fixed", "official"],
        },
    )
    num_samples: int = field(default=1, metadata={"help": "Answers to each question; several give pass@k."})
    temperature: float = field(default=0.7, metadata={"help": "Temperature of the answers."})
    top_p: float = field(default=0.95, metadata={"help": "Probability mass that tokens are drawn from."})
    max_tokens: int = field(default=10_000, metadata={"help": "Longest answer, with its reasoning."})
    max_input_tokens: int | None = field(
        default=None,
        metadata={
            "help": "Longest prompt; longer ones lose their middle. By default 120000, or less where the tokenizer "
            "says that the model takes less (with max_tokens for the answer)."
        },
    )
    seed: int = field(default=0, metadata={"help": "Seed of the answers."})
    judge_all: bool = field(
        default=False, metadata={"help": "Ask the judge also where the rule accepts, to have its score alone."}
    )
    threshold: float = field(
        default=0.856, metadata={"help": "Score of all lengths up to the effective length; RULER's by default."}
    )
    length_edges: list[str] = field(
        default_factory=list,
        metadata={"help": "Upper edges of the buckets of prompt tokens, such as 4K 16K. Powers of 2 if not given."},
    )

    def __post_init__(self):
        for name in ("suite", "lengths", "length_edges"):
            value = getattr(self, name)
            setattr(self, name, list(value) if isinstance(value, list) else [value])  # one of them in YAML
        self.lengths = [parse_tokens(length, "lengths") for length in self.lengths]
        self.length_edges = parse_edges(self.length_edges)
        check_threshold(self.threshold)
        for name in ("limit", "max_input_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def main(argv: list[str]) -> int:
    """Evaluates, reports or compares; returns the exit code. Errors are the caller's business."""
    if argv[:1] == ["compare"]:
        return _compare(argv[1:])
    if argv[:1] == ["report"]:
        return _report(argv[1:])
    return _run(argv)


def _run(argv: list[str]) -> int:
    args, generation, record_args, judge_args = parse_arguments(
        "eval",
        argv,
        (EvalArguments, GenerationArguments, RecordArguments, JudgeArguments),
        "Answers to long-context questions, scored as in QwenLong-L1 (arXiv 2505.17667), with intervals; by length, "
        "by place of the evidence, pass@k.\n\n`qwenlong-trl eval report FOLDER` makes the report again, and "
        "`qwenlong-trl eval compare FOLDER FOLDER` compares two runs.",
        "qwenlong-trl eval --suite synthetic --lengths 1K 4K 16K --model_name_or_path Qwen/Qwen3-4B --backend vllm "
        "--output results/qwen3-4b",
        launcher=False,
    )
    from ..generation import Sampling

    sampling = Sampling(args.num_samples, args.temperature, args.top_p, args.max_tokens, args.seed)
    if judge_args.judge is None and args.judge_all:
        raise ValueError("--judge_all needs a judge: give --judge")
    if args.mode == "official":
        judge_args.judge_prompt = "l1"  # which the released code asks
    names, files = _split(args.suite, record_args.records)
    check_files(files)
    judge = None
    if judge_args.judge is not None:
        judge = make_judge(judge_args)
        try_judge(judge)
    tokenizer = generation.load_tokenizer()
    chat = record_args.is_chat(tokenizer)

    from ..evaluation import EvaluationProtocol, evaluate, print_report

    protocol = EvaluationProtocol(
        mode=args.mode,
        max_input_tokens=_max_input_tokens(args, tokenizer),
        template=record_args.prompt_template,
        chat=chat,
        chat_template_kwargs=generation.chat_template_kwargs,
    )
    records = _records(args, record_args, names, files, tokenizer)
    data = evaluate(
        records,
        sampler_maker(generation),
        sampling,
        tokenizer,
        args.output,
        protocol,
        judge,
        args.judge_all,
        settings=generation.describe(),
        judge_settings={"judge": judge_args.judge, "max_tokens": judge_args.judge_max_tokens},
        threshold=args.threshold,
        length_edges=args.length_edges or None,
    )
    print_report(data)
    print(f"written: {Path(args.output) / 'report.md'} and the files beside it")
    return 0


def _split(suites: list[str], records: list[str] | None) -> tuple[list[str], list[str]]:
    """Suites by name, and files."""
    from ..evaluation import PUBLIC_NAMES

    known = ("synthetic", *PUBLIC_NAMES)
    names = list(dict.fromkeys(suite for suite in suites if suite in known))
    files = [suite for suite in suites if suite not in known]
    for name in files:
        if not Path(name).is_file():
            raise ValueError(f"--suite {name!r} is neither a file nor a suite; the suites are {', '.join(known)}")
    files += records or []
    return (names if names or files else ["synthetic"]), files


def _records(args: EvalArguments, record_args: RecordArguments, names: list[str], files: list[str], tokenizer) -> list:
    from ..evaluation import load_suite
    from ..evaluation.suites import DEFAULT_LENGTHS

    records = []
    for name in names:
        found = load_suite(
            name, args.lengths or DEFAULT_LENGTHS, args.per_length, args.suite_seed, tokenizer, args.suite_folder
        )
        records += found[: args.limit]
    skipped: list[str] = []
    if files:
        records += record_args.read(files, skipped)[: args.limit]
    print("\n".join(skipped_lines(skipped)), end="\n" if skipped else "")
    return records


def _max_input_tokens(args: EvalArguments, tokenizer) -> int:
    from ..evaluation.protocol import L1_MAX_INPUT_TOKENS

    if args.max_input_tokens is not None:
        return args.max_input_tokens
    window = tokenizer.model_max_length  # a number beyond all windows where the tokenizer does not know
    if args.mode == "official" or window - args.max_tokens >= L1_MAX_INPUT_TOKENS:
        return L1_MAX_INPUT_TOKENS
    if window <= args.max_tokens:
        raise ValueError(
            f"the model takes {window:,} tokens, max_tokens is {args.max_tokens:,}, and no prompt fits beside it; "
            "give a smaller --max_tokens, or --max_input_tokens if the model takes more"
        )
    print(f"prompts have at most {window - args.max_tokens:,} tokens, as the model takes {window:,} with the answer")
    return window - args.max_tokens


def _report(argv: list[str]) -> int:
    parser = _parser("report", "Makes the report of a run again, without asking anything.")
    parser.add_argument("folder", help="Output folder of `qwenlong-trl eval`.")
    parser.add_argument("--threshold", type=float, default=0.856, help="Of the effective length (0.856).")
    parser.add_argument("--length_edges", nargs="+", default=[], help="Upper edges of the buckets, such as 4K 16K.")
    args = parser.parse_args(argv)
    check_threshold(args.threshold)
    from ..evaluation import print_report, write_report

    print_report(write_report(args.folder, args.threshold, parse_edges(args.length_edges) or None))
    return 0


def _compare(argv: list[str]) -> int:
    parser = _parser("compare", "Compares two runs question by question, with intervals of their difference.")
    parser.add_argument("ours", help="Output folder of `qwenlong-trl eval`.")
    parser.add_argument("theirs", help="That of the run to compare with.")
    parser.add_argument("--output", help="File to write the comparison to, as Markdown.")
    args = parser.parse_args(argv)
    if args.output is not None and not Path(args.output).absolute().parent.is_dir():
        raise ValueError(f"{Path(args.output).parent} is no folder to write to; make it first")
    from ..evaluation import comparison_data, load_run, markdown_comparison
    from ..evaluation.tables import comparison_notes, comparison_tables, print_tables

    runs = [load_run(folder) for folder in (args.ours, args.theirs)]
    data = comparison_data(*((run.answers, run.records, run.about) for run in runs))
    names = tuple(Path(folder).name for folder in (args.ours, args.theirs))
    if names[0] == names[1]:
        names = (args.ours, args.theirs)
    print_tables(comparison_notes(data, names), comparison_tables(data, names))
    if args.output is not None:
        Path(args.output).write_text(markdown_comparison(data, names), encoding="utf-8")
        print(f"written: {args.output}")
    return 0


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"qwenlong-trl eval {command}", description=description, allow_abbrev=False)


def parse_tokens(text: str | int, name: str) -> int:
    """A number of tokens, such as 4096 or 4K; raises `ValueError` for anything else."""
    digits = str(text).upper().removesuffix("K")
    if not digits.isdecimal() or int(digits) == 0:
        raise ValueError(f"{name}: expected numbers of tokens such as 4096 or 4K, got {text!r}")
    return int(digits) * (1024 if digits != str(text) else 1)


def parse_edges(texts: list[str]) -> list[int]:
    """Edges of buckets, which ascend."""
    edges = [parse_tokens(text, "length_edges") for text in texts]
    if edges != sorted(set(edges)):
        raise ValueError(f"length_edges must ascend, got {' '.join(map(str, texts))}")
    return edges


def check_threshold(threshold: float) -> None:
    """Raises `ValueError` unless it is a score above 0, as a share."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
