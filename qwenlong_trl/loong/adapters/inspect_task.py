"""Loong as a task of inspect-ai, with a judge's scores and the structured score.

```bash
export LOONG_DATA=loong
inspect eval qwenlong_trl/loong -T set=1 -T domain=financial -T policy=bm25 -T max_tokens=32768 \\
    -T tokenizer=Qwen/Qwen2.5-7B-Instruct --model vllm/Qwen/Qwen2.5-7B-Instruct --model-role grader=openai/gpt-4o
inspect score LOG --scorer qwenlong_trl/judge --model-role grader=openai/gpt-4o  # judges a log, without generating
```

The judge is the model in the role `grader`; without one its score stays open, as no model should judge itself unasked.
What it says without a score is unscored: it leaves the averages, and inspect counts it (`unscored_samples`). inspect
hands a metric the scored samples alone, so that none of these averages counts the others as 0; the strict averages of
[`~qwenlong_trl.loong.metrics`] do. Their mean is `mean * scored_samples / (scored_samples + unscored_samples)`.
"""

from __future__ import annotations

import json
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
    get_model,
    model_roles,
)
from inspect_ai.scorer import (
    Metric,
    SampleScore,
    Score,
    Scorer,
    Target,
    grouped,
    mean,
    metric,
    scorer,
)
from inspect_ai.scorer import stderr as clustered_stderr
from inspect_ai.solver import TaskState, generate

# Not relative: in a checkout `qwenlong_trl/loong` is a folder, too, and then inspect loads this file by its path.
from qwenlong_trl.loong.adapters.prompts import ANSWER_TOKENS, make_prompts
from qwenlong_trl.loong.assembly import LoongPrompt
from qwenlong_trl.loong.judge import PROMPT_HASHES, judge_messages, parse_score
from qwenlong_trl.loong.metrics import PERFECT
from qwenlong_trl.loong.records import LoongRecord
from qwenlong_trl.loong.scoring import structured_score
from qwenlong_trl.rewards.judge_prompt import CUT_OFF


@task
def loong(
    folder: str | None = None,
    set: int | list[int] | None = None,
    level: int | list[int] | None = None,
    domain: str | list[str] | None = None,
    language: str | list[str] | None = None,
    limit: int | None = None,
    mode: str = "fixed",
    policy: str = "skip",
    max_tokens: int | None = None,
    answer_tokens: int = ANSWER_TOKENS,
    tokenizer: str | None = None,
    seed: int = 0,
    skip_missing: bool = False,
    judge_prompt: str | None = None,
) -> Task:
    """
    Questions over 2 to 54 documents (arXiv 2406.17419).

    Args:
        judge_prompt (`str`, *optional*):
            `"default"`, ours, or `"official"`, the benchmark's. By default as the mode is.
        folder, set, level, domain, language, limit, mode, policy, max_tokens, answer_tokens, tokenizer, seed,
        skip_missing:
            As of [`~qwenlong_trl.loong.adapters.prompts.make_prompts`]. `limit` saves making prompts that inspect's
            own `--limit` would leave out.
    """
    prompt = judge_prompt or ("official" if mode == "official" else "default")
    parse = "official" if mode == "official" else "robust"
    if prompt not in PROMPT_HASHES:
        raise ValueError(f"judge_prompt must be one of {', '.join(PROMPT_HASHES)}, got {prompt!r}")
    prompts = make_prompts(
        *(folder, set, level, domain, language, limit, mode, policy),
        *(max_tokens, answer_tokens, tokenizer, seed, skip_missing),
    )
    about = {
        "assembly": prompts.about,
        "judge": {"prompt": prompt, "prompt_sha256": PROMPT_HASHES[prompt], "parse": parse},
    }
    samples = [_sample(record, made, prompts.about) for record, made in prompts.pairs]
    return Task(
        dataset=MemoryDataset(samples, name="loong", location="loong.jsonl"),
        solver=generate(),
        scorer=[judge(prompt, parse), structured()],
        config=GenerateConfig(temperature=0.0, max_tokens=answer_tokens),
        metadata=about,
    )


@metric
def perfect_rate() -> Metric:
    """Share of the scores that are exactly 100."""

    def rate(scores: list[SampleScore]) -> float:  # the annotation makes inspect hand over its samples
        return sum(one.score.as_float() == PERFECT for one in scores) / len(scores) if scores else float("nan")

    return rate


@metric
def stderr() -> Metric:
    """
    Standard error over document sets, as questions over the same documents depend on each other; not a number for
    fewer than two of them, which do not show how they differ.
    """
    of_clusters = clustered_stderr(cluster="document_set")

    def error(scores: list[SampleScore]) -> float:
        sets = {(one.sample_metadata or {}).get("document_set") for one in scores}
        return float(of_clusters(scores)) if len(sets) > 1 else float("nan")

    return error


_MESSAGES = {"system": ChatMessageSystem, "user": ChatMessageUser}
_METRICS = [
    mean(),
    perfect_rate(),
    stderr(),
    grouped(mean(), "task", all=False),
    grouped(perfect_rate(), "task", all=False, name_template="{group_name} (perfect rate)"),
]


@scorer(metrics=_METRICS)
def judge(prompt: str = "default", parse: str = "robust") -> Scorer:
    """
    The score of the model in the role `grader`, 1 to 100.

    Args:
        prompt (`str`, *optional*, defaults to `"default"`):
            `"default"` or `"official"`, see [`~qwenlong_trl.loong.judge.judge_messages`].
        parse (`str`, *optional*, defaults to `"robust"`):
            `"robust"` or `"official"`, see [`~qwenlong_trl.loong.judge.parse_score`].
    """

    async def score(state: TaskState, target: Target) -> Score:
        prediction = state.output.completion
        if "grader" not in model_roles():
            how = "no model has the role grader; name one by --model-role grader=MODEL, or judge the log later"
            return Score.unscored(reason="scoring_failed", answer=prediction, explanation=how)
        grader = get_model(role="grader")
        asked = [
            _MESSAGES[one["role"]](content=one["content"])
            for one in judge_messages(_record(state), prediction, prompt)
        ]
        config = GenerateConfig(temperature=0.0 if grader.config.temperature is None else grader.config.temperature)
        output = await grader.generate(asked, config=config)
        about = {"grader": str(grader), "prompt_sha256": PROMPT_HASHES[prompt], "parse": parse}
        words = {"answer": prediction, "explanation": output.completion, "metadata": about}
        value = parse_score(_words(output), parse)
        return Score.unscored(reason="grader_failed", **words) if value is None else Score(value=value, **words)

    return score


@scorer(metrics=_METRICS)
def structured() -> Scorer:
    """The structured score, 0 to 100, see [`~qwenlong_trl.loong.scoring`]; free text is unscored."""

    async def score(state: TaskState, target: Target) -> Score:
        prediction = state.output.completion
        found = structured_score(_record(state), prediction)
        if found is None:
            return Score.unscored(reason="scoring_failed", answer=prediction, explanation="the answer is free text")
        return Score(value=found.score, answer=prediction, metadata={"kind": found.kind, "exact": found.exact})

    return score


def _sample(record: LoongRecord, made: LoongPrompt, about: dict[str, Any]) -> Sample:
    answer = record.answer if isinstance(record.answer, str) else json.dumps(record.answer, ensure_ascii=False)
    metadata = {
        **{"set": record.set, "level": record.level, "task": record.task, "subtask": record.subtask},
        **{"domain": record.type, "language": record.language, "document_set": record.document_set},
        **{"mode": about["mode"], "policy": about["policy"]["name"]},
        **{"kept": list(made.kept), "dropped": list(made.dropped), "cut": made.cut, "tokens": made.tokens},
        "record": record.to_dict(),  # a log can be judged without the files
    }
    return Sample(id=record.id, input=made.prompt, target=answer, metadata=metadata)


def _record(state: TaskState) -> LoongRecord:
    return LoongRecord.from_dict(state.metadata["record"])


def _words(output: ModelOutput) -> str:
    """What a judge said, marked where it was cut off."""
    return output.completion + (CUT_OFF if output.stop_reason in ("max_tokens", "model_length") else "")
