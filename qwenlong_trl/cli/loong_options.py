"""The options of `qwenlong-trl loong`, and what they describe: how prompts are put together, and who judges."""

from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .generation import GenerationArguments
from .judges import JudgeArguments, make_judge, try_judge
from .windows import context_window


if TYPE_CHECKING:
    from ..loong.assembly import Assembly

POLICIES = ("skip", "middle", "bm25", "dense", "cprs")
_PROMPTS = ("default", "official")


@dataclass
class SelectionArguments:
    """Which records, and where the results go."""

    output: str = field(metadata={"help": "Folder of the run, to make or to continue."})
    data: str | None = field(
        default=None,
        metadata={"help": "Folder with loong.jsonl and doc/ (or doc.zip); by default the one that LOONG_DATA names."},
    )
    sets: list[int] = field(default_factory=list, metadata={"help": "Length sets, 1 to 4; all if empty."})
    levels: list[int] = field(default_factory=list, metadata={"help": "Tasks by level, 1 to 4; all if empty."})
    domains: list[str] = field(default_factory=list, metadata={"help": "financial, paper, legal; all if empty."})
    languages: list[str] = field(default_factory=list, metadata={"help": "en, zh; both if empty."})
    limit: int | None = field(
        default=None, metadata={"help": "Only so many of these records, as many of each sub-task as there are."}
    )
    judgements: str = field(
        default="judgements.jsonl",
        metadata={"help": "File of the judgements in the folder of the run; another judge needs another one."},
    )
    skip_missing: bool = field(
        default=False, metadata={"help": "Leave records out whose documents are not there, instead of stopping."}
    )

    def __post_init__(self):
        for name in ("sets", "levels", "domains", "languages"):
            value = getattr(self, name)
            if isinstance(value, str | int):  # one value in YAML
                setattr(self, name, [value])


@dataclass
class AssemblyArguments:
    """How prompts are put together, and how answers are drawn."""

    mode: str = field(
        default="fixed",
        metadata={
            "help": "'fixed' repairs what distorts scores; 'official' is the published protocol with its defects. "
            "Prompts, judging and tables follow it.",
            "choices": ["fixed", "official"],
        },
    )
    policy: list[str] = field(
        default_factory=lambda: ["skip"],
        metadata={
            "help": "What becomes of documents that do not fit, in fixed mode: whole documents are skipped ('skip'), "
            "each loses its middle ('middle'), the best chunks stay by BM25 ('bm25') or by a retriever ('dense'), or "
            "a CPRS critic compresses ('cprs'). 'bm25:30' keeps at most 30 chunks. Of several, each has a folder in "
            "--output, and all are compared with the first."
        },
    )
    context_tokens: int | None = field(
        default=None,
        metadata={
            "help": "Tokens of prompt and answer together; by default what the model can take. In official mode those "
            "of the prompt alone, 128000 by default."
        },
    )
    chunk_tokens: int = field(default=1024, metadata={"help": "With bm25 and dense: size of a chunk."})
    retriever: str | None = field(
        default=None, metadata={"help": "With dense: a model for sentence-transformers, for example BAAI/bge-m3."}
    )
    compressor: str | None = field(default=None, metadata={"help": "With cprs: a critic, on the hub or in a folder."})
    chat: str = field(
        default="auto",
        metadata={
            "help": "Whether prompts are chat messages ('true') or plain text ('false'). 'auto': messages if the "
            "tokenizer has a chat template, and with --backend openai.",
            "choices": ["auto", "true", "false"],
        },
    )
    require_delimiter: str = field(
        default="auto",
        metadata={
            "help": "Whether only what follows '</think>' is an answer: for models whose chat template opens the "
            "reasoning, which looks like an answer where it is cut off. 'auto': if it does so. 'false' for servers "
            "that take the reasoning out themselves.",
            "choices": ["auto", "true", "false"],
        },
    )
    max_tokens: int = field(
        default=2048,
        metadata={
            "help": "Longest answer, in tokens, reasoning included. Models that reason need far more, 10000 and "
            "above; the report says how many answers were cut off."
        },
    )
    temperature: float = field(default=0.0, metadata={"help": "Temperature of the answers; 0 is the protocol's."})
    top_p: float = field(default=1.0, metadata={"help": "Probability mass that tokens are drawn from."})
    seed: int = field(default=0, metadata={"help": "Seed of the orders of documents (fixed mode) and of answers."})

    def __post_init__(self):
        for name in ("chat", "require_delimiter"):
            if isinstance(getattr(self, name), bool):  # YAML reads `true` so
                setattr(self, name, str(getattr(self, name)).lower())
        self.policy = [self.policy] if isinstance(self.policy, str) else self.policy
        parsed = [parse_policy(policy) for policy in self.policy]
        if len(set(self.policy)) < len(self.policy):
            raise ValueError(f"--policy names one twice: {' '.join(self.policy)}")
        for name, needed in (("retriever", "dense"), ("compressor", "cprs")):
            if (getattr(self, name) is not None) != (needed in [policy for policy, _ in parsed]):
                raise ValueError(f"--{name} MODEL and --policy {needed} go together")
        if self.mode == "official" and self.policy != ["skip"]:
            raise ValueError(
                f"--policy {' '.join(self.policy)} needs --mode fixed; official mode skips whole documents"
            )


def parse_policy(text: str) -> tuple[str, int | None]:
    """A policy and the most chunks that it keeps: `"bm25:30"` is `("bm25", 30)`; raises `ValueError`."""
    name, colon, most = text.partition(":")
    if name not in POLICIES:
        raise ValueError(f"--policy must be some of {', '.join(POLICIES)}, got {text!r}")
    if colon and not (name in ("bm25", "dense") and most.isdecimal() and int(most) > 0):
        raise ValueError(f"--policy {text!r}: a number of chunks goes with bm25 and dense, as in bm25:30")
    return name, int(most) if colon else None


@dataclass
class LoongJudgeArguments(JudgeArguments):
    """The judge that scores answers from 1 to 100. Without one there is the structured score alone."""

    judge_prompt: str | None = field(
        default=None,
        metadata={
            "help": "'official', the benchmark's, or 'default', ours. By default as the mode is.",
            "choices": list(_PROMPTS),
        },
    )
    judge_max_tokens: int = field(default=1024, metadata={"help": "Length of the judge's answer, in tokens."})
    judge_timeout: float = field(
        default=120.0, metadata={"help": "With openai: seconds for one attempt of a request."}
    )
    judge_deadline: float = field(
        default=120.0,
        metadata={
            "help": "Seconds for the one question that finds out whether the judge answers at all. Judging has no "
            "deadline, only that of each request."
        },
    )

    def make(self, mode: str):
        """The judge, or `None`. It is tried, and loaded if it runs in this process, when it has something to judge."""
        from ..loong.judge import LoongJudge

        if self.judge is None:
            return None
        prompt = self.judge_prompt or ("official" if mode == "official" else "default")
        self.judge_prompt = "default"  # of the yes-or-no judge beneath, which is not asked so
        judge = make_judge(self)
        self.judge_prompt = prompt
        return LoongJudge(judge, prompt, parse_of(mode), cache(lambda: try_judge(judge)))


@dataclass
class FolderArguments:
    """The folder of a run."""

    judgements: str = field(
        default="judgements.jsonl", metadata={"help": "File of the judgements in the folder of the run."}
    )
    eval_results: str | None = field(
        default=None,
        metadata={"help": "Folder of a model repository; the result is added to its .eval_results/loong.yaml."},
    )
    dataset_id: str = field(
        default="MozerWang/Loong", metadata={"help": "With eval_results: the data set's name on the hub."}
    )


@dataclass
class CompareArguments:
    """Two runs over the same records."""

    judgements: str = field(
        default="judgements.jsonl", metadata={"help": "File of the judgements in the folder of each run."}
    )
    intersect: bool = field(
        default=False, metadata={"help": "Compare the records that both have, instead of stopping where they differ."}
    )
    output: str | None = field(default=None, metadata={"help": "Folder for comparison.md and comparison.json."})


@dataclass
class PromptPlan:
    """How the prompts of a run are made.

    Args:
        assemblies (`dict[str, Assembly]`):
            How they are put together, by policy.
        chat (`bool`):
            Whether they are chats.
        require_delimiter (`bool`):
            Whether only what follows `</think>` is an answer.
        context_tokens (`int`, *optional*):
            Fixed mode: tokens of prompt and answer together.
    """

    assemblies: "dict[str, Assembly]"
    chat: bool
    require_delimiter: bool
    context_tokens: int | None = None


def make_plan(args: AssemblyArguments, model: GenerationArguments) -> PromptPlan:
    """
    What the options say of the prompts. Of the models only the tokenizer is loaded, others when they are needed.

    Raises:
        `ValueError`: there is no tokenizer, or no room for documents.
        `ImportError`: dense retrieval without sentence-transformers.
    """
    from ..generation.sampling import encode_prompt, opens_reasoning
    from ..loong.assembly import OFFICIAL_MAX_TOKENS, Assembly

    needs_tokenizer = args.mode == "fixed" or (args.chat != "false" and model.backend != "openai")
    tokenizer = _tokenizer(model) if needs_tokenizer else None
    chat = args.chat == "true"
    if args.chat == "auto":
        chat = model.backend == "openai" or tokenizer.chat_template is not None
    require_delimiter = args.require_delimiter == "true"
    if args.require_delimiter == "auto" and chat and tokenizer is not None:
        require_delimiter = opens_reasoning(tokenizer, model.chat_template_kwargs)
    if args.mode == "official":
        assembly = Assembly("official", args.context_tokens or OFFICIAL_MAX_TOKENS)
        return PromptPlan({"skip": assembly}, chat, require_delimiter)
    context = args.context_tokens or _context_window(model, tokenizer)
    around = 0
    if chat and tokenizer.chat_template is not None:
        message = [{"role": "user", "content": ""}]
        around = len(encode_prompt(message, tokenizer, model.chat_template_kwargs))
    # The tokens at the seams between template and text may be some more.
    budget = context - args.max_tokens - around - 8
    if budget < 1:
        raise ValueError(
            f"a context of {context:,} tokens has no room for an answer of {args.max_tokens:,}; give --context_tokens "
            "or a smaller --max_tokens"
        )
    assemblies = {
        policy: Assembly("fixed", budget, _policy(policy, args, tokenizer), args.seed, tokenizer)
        for policy in args.policy
    }
    return PromptPlan(assemblies, chat, require_delimiter, context)


def _tokenizer(model: GenerationArguments):
    try:
        return model.load_tokenizer()
    except ValueError as error:
        if model.backend == "openai" and model.tokenizer is None:
            raise ValueError(f"{error}. Tokens are counted with the model's tokenizer: give --tokenizer") from None
        raise


def _context_window(model: GenerationArguments, tokenizer) -> int:
    window = context_window(model, tokenizer)
    if window is None and model.backend == "openai":
        raise ValueError("give --context_tokens, the tokens that the server takes for prompt and answer")
    if window is None:
        raise ValueError(f"{model.model_name_or_path} does not say how much it can take; give --context_tokens")
    return window


def _policy(text: str, args: AssemblyArguments, tokenizer):
    from ..loong import policies, sentence_transformers_retriever

    name, most = parse_policy(text)
    if name == "skip":
        return policies.SkipPolicy()
    if name == "middle":
        return policies.MiddlePolicy(tokenizer)
    if name == "bm25":
        return policies.BM25Policy(tokenizer, args.chunk_tokens, most)
    if name == "dense":
        if find_spec("sentence_transformers") is None:
            sentence_transformers_retriever(args.retriever)  # its error, now rather than after a model was loaded
        load = cache(lambda: sentence_transformers_retriever(args.retriever))
        return policies.DensePolicy(
            tokenizer, lambda question, chunks: load()(question, chunks), args.chunk_tokens, most, name=args.retriever
        )
    return policies.CPRSPolicy(_LazyCompressor(args.compressor), args.compressor)


class _LazyCompressor:
    """A [`~qwenlong_trl.ContextCompressionPipeline`] that is loaded when there is something to compress."""

    # What the policy describes: a pipeline that is made without options.
    _preprocess_params: dict[str, Any] = {}

    def __init__(self, name: str):
        self._name = name
        self._pipeline = None

    def __call__(self, *args, **kwargs):
        if self._pipeline is None:
            from ..cprs import ContextCompressionPipeline

            self._pipeline = ContextCompressionPipeline.from_pretrained(self._name)
        return self._pipeline(*args, **kwargs)


def parse_of(mode: str) -> str:
    """How scores are read from the words of a judge."""
    return "official" if mode == "official" else "robust"
