"""`qwenlong-trl eval`: a model on long-context questions, by the protocol of QwenLong-L1 (arXiv 2505.17667).

```bash
qwenlong-trl eval --suite synthetic --model_name_or_path Qwen/Qwen3-4B --backend vllm --output results/qwen3-4b
qwenlong-trl eval report results/qwen3-4b --threshold 0.8
qwenlong-trl eval compare results/qwen3-4b results/qwen3-4b-grpo
```

A run that was interrupted goes on with the same command: what is in its folder is neither asked nor judged again. The
exit code is 1 where something is left for that, because the model's server or the judge failed.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from .generation import GenerationArguments, sampler_maker
from .judges import JudgeArguments, make_judge, try_judge
from .launch import parse_arguments
from .records import RecordArguments, check_files, skipped_lines
from .windows import around_official, context_window, fitting_lengths, longest_prompt


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
    suite_seed: int = field(default=0, metadata={"help": "Seed of the synthetic questions, and of limit."})
    suite_folder: str | None = field(
        default=None, metadata={"help": "Folder with the files of the named sets, instead of the hub."}
    )
    limit: int | None = field(
        default=None,
        metadata={
            "help": "Ask only so many questions of each suite, drawn evenly over its tasks (and lengths) by "
            "suite_seed; a larger number adds to them."
        },
    )
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
            "help": "Longest prompt; longer ones lose their middle. By default 120000, or the longest synthetic "
            "length if that is more; and less where the model takes less with max_tokens for the answer, as its "
            "tokenizer and its configuration (max_position_embeddings), or max_model_len in vllm_options, say. "
            "Synthetic lengths that do not fit are left out. Of a server give it, as nobody asks there."
        },
    )
    seed: int = field(default=0, metadata={"help": "Seed of the answers."})
    require_delimiter: str = field(
        default="auto",
        metadata={
            "help": "Whether a completion without </think> has no answer (mode fixed). 'auto': if the chat template "
            "opens the reasoning, so that such a completion was cut off within it. 'false' for a server that takes "
            "the reasoning out.",
            "choices": ["auto", "true", "false"],
        },
    )
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
        if isinstance(self.require_delimiter, bool):  # YAML reads `true` so
            self.require_delimiter = str(self.require_delimiter).lower()
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

    from ..evaluation import EvaluationProtocol, evaluate, print_report, unfinished
    from ..generation.sampling import opens_reasoning

    window = context_window(generation, tokenizer)
    lengths = fitting_lengths(args, names, window)
    require_delimiter = args.require_delimiter == "true" or (
        args.require_delimiter == "auto"
        and args.mode == "fixed"
        and chat
        and opens_reasoning(tokenizer, generation.chat_template_kwargs)
    )
    protocol = EvaluationProtocol(
        mode=args.mode,
        max_input_tokens=longest_prompt(args, window, lengths if "synthetic" in names else []),
        template=record_args.prompt_template,
        chat=chat,
        chat_template_kwargs=generation.chat_template_kwargs,
        require_delimiter=require_delimiter,
    )
    records = _records(args, record_args, names, files, tokenizer, lengths, protocol)
    needed = protocol.max_input_tokens + args.max_tokens + around_official(args.mode)
    data = evaluate(
        records,
        sampler_maker(
            generation,
            # Where reasoning has to be seen, a server that takes it out would make every answer look cut off.
            reasoning="refuse" if require_delimiter else "drop",
            max_model_len=needed if window is None else min(window, needed),
        ),
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
    for sentence in (left := unfinished(data)):
        print(f"{sentence}; the same command goes on with them")
    return 1 if left else 0


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


def _records(
    args: EvalArguments,
    record_args: RecordArguments,
    names: list[str],
    files: list[str],
    tokenizer,
    lengths: list[int],
    protocol,
) -> list:
    from ..evaluation import load_suite, spread_sample

    records = []
    for name in names:
        options = {"folder": args.suite_folder, "protocol": protocol}
        found = load_suite(name, lengths, args.per_length, args.suite_seed, tokenizer, **options)
        by = None
        if name == "synthetic":  # by ascending length, equally many of each
            by = [i * len(lengths) // len(found) for i in range(len(found))]
        records += spread_sample(found, args.limit, args.suite_seed, by)
    skipped: list[str] = []
    if files:
        records += spread_sample(record_args.read(files, skipped), args.limit, args.suite_seed)
    print("\n".join(skipped_lines(skipped)), end="\n" if skipped else "")
    return records


def _report(argv: list[str]) -> int:
    parser = _parser("report", "Makes the report of a run again, without asking anything.")
    parser.add_argument("folder", help="Output folder of `qwenlong-trl eval`.")
    parser.add_argument("--threshold", type=float, help="Of the effective length; by default the run's.")
    parser.add_argument(
        "--length_edges",
        nargs="+",
        default=[],
        help="Upper edges of the buckets, such as 4K 16K; by default the run's.",
    )
    args = parser.parse_args(argv)
    if args.threshold is not None:
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
