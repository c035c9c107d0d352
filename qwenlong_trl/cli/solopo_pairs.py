"""`qwenlong-trl solopo-pairs`: preference pairs with a short and a long prompt, from records and a model.

```bash
qwenlong-trl solopo-pairs --records musique_ans_v1.0_train.jsonl --model_name_or_path Qwen/Qwen2.5-7B-Instruct \\
    --backend vllm --short_tokens 1024 --long_tokens 7400 --num_samples 32 --max_pairs 5000 --output pairs
```

A run that was interrupted goes on with the same command: what is in `samples.jsonl` is not sampled again.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from .judges import JudgeArguments, make_judge, try_judge
from .launch import parse_arguments
from .records import RecordArguments, check_files, load_tokenizer, skipped_lines


_BACKENDS = ("transformers", "vllm", "openai")


@dataclass
class PairArguments:
    """The model that answers, the two context lengths, and what is written."""

    model_name_or_path: str = field(metadata={"help": "Model on the hub, folder, or name that the server knows."})
    output: str = field(metadata={"help": "Folder to make, or to continue: samples.jsonl, data/, README.md."})
    pool: list[str] = field(
        default_factory=list, metadata={"help": "Files whose documents are the distractors; the records if empty."}
    )
    backend: str = field(
        default="transformers",
        metadata={"help": "What runs the model; 'openai' is any OpenAI-compatible server.", "choices": _BACKENDS},
    )
    base_url: str | None = field(
        default=None, metadata={"help": "With openai: address of the server up to /v1; the key is OPENAI_API_KEY."}
    )
    concurrency: int = field(default=32, metadata={"help": "With openai: prompts under way at the same time."})
    request_timeout: float = field(
        default=600.0, metadata={"help": "With openai: seconds for one attempt of a request."}
    )
    rows_per_batch: int = field(
        default=32, metadata={"help": "With transformers: most samples at the same time, for memory."}
    )
    vllm_options: str | None = field(
        default=None,
        metadata={"help": "With vllm: JSON with options of vllm.LLM, '{\"max_model_len\": 4096}'."},
    )
    model_revision: str | None = field(default=None, metadata={"help": "Revision of the model on the hub."})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Whether code of the model's repository may run."}
    )
    dtype: str = field(default="auto", metadata={"help": "Type of the weights, with transformers and vllm."})
    tokenizer: str | None = field(
        default=None, metadata={"help": "Tokenizer of the model; by default that of model_name_or_path."}
    )
    chat_template_kwargs: str | None = field(
        default=None, metadata={"help": "JSON with arguments of the chat template, '{\"enable_thinking\": false}'."}
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
        self.vllm_options = _json_object("vllm_options", self.vllm_options)
        self.chat_template_kwargs = _json_object("chat_template_kwargs", self.chat_template_kwargs)
        if self.backend not in _BACKENDS:
            raise ValueError(f"`backend` must be one of {', '.join(_BACKENDS)}, got {self.backend!r}")
        if self.base_url is not None and self.backend != "openai":
            raise ValueError("--base_url goes with --backend openai")
        if self.vllm_options is not None and self.backend != "vllm":
            raise ValueError("--vllm_options goes with --backend vllm")
        for name in ("limit", "max_pairs"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.short_tokens < self.long_tokens:
            raise ValueError(
                f"short_tokens must be positive and below long_tokens, got {self.short_tokens} and {self.long_tokens}"
            )


def main(argv: list[str]) -> int:
    """Makes the set that command line and recipe describe; returns the exit code. Errors are the caller's business."""
    args, record_args, judge_args = parse_arguments(
        "solopo-pairs",
        argv,
        (PairArguments, RecordArguments, JudgeArguments),
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
    from ..solopo.pair_statistics import pair_card, save_pairs
    from ..solopo.pairs import build_pairs

    sampling = Sampling(args.num_samples, args.temperature, args.top_p, args.max_tokens, args.seed)
    reward = None
    if judge_args.judge is not None:
        reward = HybridReward(make_judge(judge_args))
        try_judge(reward.judge)
    tokenizer = load_tokenizer(
        args.tokenizer or args.model_name_or_path,
        revision=None if args.tokenizer else args.model_revision,
        trust_remote_code=args.trust_remote_code,
    )
    chat = record_args.is_chat(tokenizer)
    skipped: list[str] = []
    examples = record_args.read(record_args.records, skipped)
    pool = _pool(args.pool, record_args, examples, tokenizer, skipped)
    print("\n".join(skipped_lines(skipped)), end="\n" if skipped else "")
    settings = _settings(args, record_args, sampling, chat)
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    with SampleStore(folder / "samples.jsonl", settings) as store:
        if len(store):
            print(f"{len(store):,} prompts are in {store.path} already", flush=True)
        dataset, statistics = build_pairs(
            examples[: args.limit],
            pool,
            tokenizer,
            _sampler_maker(args),
            sampling,
            store,
            args.short_tokens,
            args.long_tokens,
            template=record_args.prompt_template,
            chat=chat,
            chat_template_kwargs=args.chat_template_kwargs,
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
        card = pair_card(statistics, settings | about, judge_args.judge_model if reward else None)
        save_pairs(dataset, folder, card)
    print(f"{len(dataset):,} pairs -> {folder}")
    return 0


def _pool(paths: list[str], record_args: RecordArguments, examples, tokenizer, skipped: list[str]):
    from tqdm import tqdm

    from ..data import DocumentPool

    if paths:  # file by file: ids need not differ between the files
        examples = chain.from_iterable(record_args.read([path], skipped) for path in paths)
    documents = (document for example in examples for document in example.documents)
    return DocumentPool(tqdm(documents, desc="Pool", unit=" documents"), tokenizer)


def _settings(args: PairArguments, record_args: RecordArguments, sampling, chat: bool) -> dict[str, Any]:
    """What the samples and the twins depend on. Of files the content counts, not the place."""
    names = ("model_name_or_path", "model_revision", "backend", "dtype", "tokenizer")
    names += ("short_tokens", "long_tokens", "sample_from")
    return {
        **{name: getattr(args, name) for name in names},
        **asdict(sampling),
        "chat": chat,
        "chat_template_kwargs": args.chat_template_kwargs,
        "prompt_template": record_args.prompt_template,
        "records": _digests(record_args.records),
        "pool": _digests(args.pool),
    }


def _digests(paths: list[str]) -> dict[str, str]:
    digests = {}
    for path in paths:
        with open(path, "rb") as file:
            digests[Path(path).name] = f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    return digests


def _sampler_maker(args: PairArguments) -> Callable:
    """Starts the model when it is needed; a run that has all samples needs none."""

    def make():
        from ..generation import OpenAISampler, TransformersSampler, VLLMSampler

        name, kwargs = args.model_name_or_path, args.chat_template_kwargs
        source = {"revision": args.model_revision, "trust_remote_code": args.trust_remote_code, "dtype": args.dtype}
        try:
            if args.backend == "transformers":
                return TransformersSampler(
                    name, rows_per_batch=args.rows_per_batch, chat_template_kwargs=kwargs, **source
                )
            if args.backend == "vllm":
                return VLLMSampler(name, chat_template_kwargs=kwargs, **source, **(args.vllm_options or {}))
            return OpenAISampler(
                name,
                args.base_url,
                concurrency=args.concurrency,
                timeout=args.request_timeout,
                chat_template_kwargs=kwargs,
            )
        except ImportError as error:  # the optional packages; the message says which, and how to get them
            raise ValueError(str(error)) from None

    return make


def _json_object(name: str, value: str | dict[str, Any] | None) -> dict[str, Any] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{name} is not JSON ({error}): {value!r}") from None
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{name} must be a JSON object, got {value!r}")
    return value
