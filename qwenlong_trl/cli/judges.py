"""Which judge the commands ask: the same options for a training and for measuring the judge before it."""

from dataclasses import dataclass, field


@dataclass
class JudgeArguments:
    """The judge of the hybrid reward. Keys of hosted servers are taken from OPENAI_API_KEY alone."""

    judge: str | None = field(
        default=None,
        metadata={
            "help": "Where the judge runs: 'openai' (any OpenAI-compatible server, such as vllm serve) or "
            "'transformers' (in this process).",
            "choices": ["openai", "transformers"],
        },
    )
    judge_model: str | None = field(
        default=None, metadata={"help": "Name of the judge's model at the server, or on the hub, or a folder."}
    )
    judge_base_url: str | None = field(
        default=None, metadata={"help": "Address of the server up to /v1, for example http://localhost:8000/v1."}
    )
    judge_prompt: str = field(
        default="default",
        metadata={"help": "'default', or 'l1' for the prompt of QwenLong-L1.", "choices": ["default", "l1"]},
    )
    judge_cache: str | None = field(
        default=None, metadata={"help": "Folder in which the judge's answers are kept, for later runs."}
    )
    judge_deadline: float = field(
        default=120.0, metadata={"help": "Seconds that the judge may take for all answers of a generation batch."}
    )
    judge_max_tokens: int = field(default=512, metadata={"help": "Length of the judge's answer, in tokens."})
    judge_concurrency: int = field(
        default=32, metadata={"help": "With openai: requests at the same time, over all processes."}
    )
    judge_timeout: float = field(default=30.0, metadata={"help": "With openai: seconds for one attempt of a request."})
    judge_batch_size: int = field(default=16, metadata={"help": "With transformers: comparisons in one batch."})


def make_judge(args: JudgeArguments):
    """
    The judge that the options describe.

    Raises:
        `ValueError`: if there is no model, or an option does not go with the kind of judge.
    """
    from ..rewards import OpenAIJudge, TransformersJudge

    if args.judge_model is None:
        raise ValueError(f"--judge {args.judge} needs --judge_model")
    shared = {"prompt": args.judge_prompt, "deadline": args.judge_deadline, "cache": args.judge_cache}
    if args.judge == "openai":
        return OpenAIJudge(
            args.judge_model,
            args.judge_base_url,
            concurrency=args.judge_concurrency,
            timeout=args.judge_timeout,
            max_tokens=args.judge_max_tokens,
            **shared,
        )
    if args.judge_base_url is not None:
        raise ValueError("--judge_base_url goes with --judge openai")
    return TransformersJudge(
        args.judge_model, batch_size=args.judge_batch_size, max_new_tokens=args.judge_max_tokens, **shared
    )


def try_judge(judge) -> None:
    """
    Asks the judge one thing, and not its cache, before a training is set up: a judge that fails later costs a few
    rewards, one that was never there costs the run.

    Raises:
        `ValueError`: if it does not answer.
    """
    import asyncio

    from ..rewards import Comparison
    from ..rewards.judge import ask

    cache = getattr(judge, "cache", None)
    if cache is not None:
        judge.cache = None
    try:
        (judgement,) = asyncio.run(ask(judge, [Comparison("What is 1 + 1?", "two", "2")]))
    finally:
        if cache is not None:
            judge.cache = cache
    if judgement.error is not None:
        raise ValueError(
            f"the judge does not answer ({judgement.error}); is its server running, and is its name right?"
        )
