"""`qwenlong-trl solopo-pairs`: preference pairs with a short and a long prompt, from records and a model.

```bash
qwenlong-trl solopo-pairs --records musique_ans_v1.0_train.jsonl --model_name_or_path Qwen/Qwen2.5-7B-Instruct \\
    --backend vllm --short_tokens 1024 --long_tokens 7400 --num_samples 32 --max_pairs 5000 --output pairs
```

A run that was interrupted goes on with the same command: what is in `samples.jsonl` is not sampled again.
"""

from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from .generation import GenerationArguments, sampler_maker
from .judges import JudgeArguments, make_judge, try_judge
from .launch import parse_arguments
from .records import RecordArguments, check_files, file_digests, skipped_lines


@dataclass
class PairArguments:
    """The two context lengths, how the model's answers are drawn, and what is written."""

    output: str = field(metadata={"help": "Folder to make, or to continue: samples.jsonl, data/, README.md."})
    pool: list[str] = field(
        default_factory=list, metadata={"help": "Files whose documents are the distractors; the records if empty."}
    )
    short_tokens: int = field(
        default=1024, metadata={"help": "Tokens of a short context, without question and template."}
    )
    long_tokens: int = field(
        default=7400,
        metadata={
            "help": "Tokens of a long context, without question and template; with them and an answer it should stay "
            "within max_long_length of the training."
        },
    )
    sample_from: str = field(
        default="short",
        metadata={
            "help": "The prompt that the model answers; 'long' makes the pairs of the baseline Long-PO.",
            "choices": ["short", "long"],
        },
    )
    num_samples: int = field(default=32, metadata={"help": "Samples of each prompt."})
    temperature: float = field(default=0.85, metadata={"help": "Temperature of the samples."})
    top_p: float = field(default=1.0, metadata={"help": "Probability mass that tokens are drawn from."})
    max_tokens: int = field(default=1024, metadata={"help": "Longest sample; longer ones are cut off and not used."})
    seed: int = field(default=0, metadata={"help": "Seed of twins, samples and choice."})
    tie_break: str = field(
        default="random",
        metadata={
            "help": "Which of several right and of several wrong samples is taken.",
            "choices": ["random", "shortest"],
        },
    )
    limit: int | None = field(default=None, metadata={"help": "Use only the first so many records."})
    max_pairs: int | None = field(default=None, metadata={"help": "Stop when there are so many pairs."})

    def __post_init__(self):
        if isinstance(self.pool, str):  # one file in YAML
            self.pool = [self.pool]
        for name in ("limit", "max_pairs"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.short_tokens < self.long_tokens:
            raise ValueError(
                f"short_tokens must be positive and below long_tokens, got {self.short_tokens} and {self.long_tokens}"
            )


def main(argv: list[str]) -> int:
    """Makes the set that command line and recipe describe; returns the exit code. Errors are the caller's business."""
    args, model_args, record_args, judge_args = parse_arguments(
        "solopo-pairs",
        argv,
        (PairArguments, GenerationArguments, RecordArguments, JudgeArguments),
        "Preference pairs for SoLoPO (arXiv 2505.11166): right and wrong answers to short contexts, with long twins.",
        "qwenlong-trl solopo-pairs --records musique.jsonl --model_name_or_path Qwen/Qwen2.5-7B-Instruct "
        "--backend vllm --max_pairs 5000 --output pairs",
        launcher=False,
    )
    if not record_args.records:
        raise ValueError("give --records FILE...")
    check_files(record_args.records + args.pool)
    from ..generation import SampleStore, Sampling
    from ..rewards import HybridReward
    from ..solopo.pair_statistics import describe_pairs, save_pairs
    from ..solopo.pairs import build_pairs

    sampling = Sampling(args.num_samples, args.temperature, args.top_p, args.max_tokens, args.seed)
    reward = None
    if judge_args.judge is not None:
        reward = HybridReward(make_judge(judge_args))
        try_judge(reward.judge)
    tokenizer = model_args.load_tokenizer()
    chat = record_args.is_chat(tokenizer)
    skipped: list[str] = []
    examples = record_args.read(record_args.records, skipped)
    pool = _pool(args.pool, record_args, examples, tokenizer, skipped)
    print("\n".join(skipped_lines(skipped)), end="\n" if skipped else "")
    settings = _settings(args, model_args, record_args, sampling, chat)
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    with SampleStore(folder / "samples.jsonl", settings) as store:
        if len(store):
            print(f"{len(store):,} prompts are in {store.path} already", flush=True)
        dataset, statistics = build_pairs(
            examples[: args.limit],
            pool,
            tokenizer,
            sampler_maker(model_args),
            sampling,
            store,
            args.short_tokens,
            args.long_tokens,
            template=record_args.prompt_template,
            chat=chat,
            chat_template_kwargs=model_args.chat_template_kwargs,
            reward=reward,
            tie_break=args.tie_break,
            max_pairs=args.max_pairs,
            sample_from=args.sample_from,
        )
        print("\n".join(statistics.lines()), flush=True)
        if not len(dataset):
            raise ValueError("no pair came of it, so no set is written; the counts above say why")
        # Not part of `settings`: these may change without sampling again.
        about = {"tie_break": args.tie_break, "limit": args.limit, "max_pairs": args.max_pairs}
        judge = judge_args.judge_model if reward else None
        save_pairs(dataset, folder, describe_pairs(statistics, settings | about, judge))
    print(f"{len(dataset):,} pairs -> {folder}")
    return 0


def _pool(paths: list[str], record_args: RecordArguments, examples, tokenizer, skipped: list[str]):
    from tqdm import tqdm

    from ..data import DocumentPool

    if paths:  # file by file: ids need not differ between the files
        examples = chain.from_iterable(record_args.read([path], skipped) for path in paths)
    documents = (document for example in examples for document in example.documents)
    return DocumentPool(tqdm(documents, desc="Pool", unit=" documents"), tokenizer)


def _settings(
    args: PairArguments, model_args: GenerationArguments, record_args: RecordArguments, sampling, chat: bool
) -> dict[str, Any]:
    """What the samples and the twins depend on. Of files the content counts, not the place."""
    return {
        **model_args.describe(),
        **{name: getattr(args, name) for name in ("short_tokens", "long_tokens", "sample_from")},
        **asdict(sampling),
        "chat": chat,
        "prompt_template": record_args.prompt_template,
        "records": file_digests(record_args.records),
        "pool": file_digests(args.pool),
    }
