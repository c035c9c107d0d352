"""Preference pairs for SoLoPO (arXiv 2505.11166): what a model answers on a short context, right and wrong.

```python
>>> pool = DocumentPool((d for example in examples for d in example.documents), tokenizer)
>>> sampling = Sampling(num_samples=32, temperature=0.85, max_tokens=1024)
>>> with SampleStore("pairs/samples.jsonl", {"model": model}) as store:
...     dataset, statistics = build_pairs(
...         examples, pool, tokenizer, lambda: TransformersSampler(model), sampling, store, 1024, 8192
...     )
```

Each record becomes a short and a long prompt ([`~qwenlong_trl.solopo.twins.make_twin`]); the model answers the short
one several times (the long one, for a baseline of the paper); one right and one wrong answer make the pair. On the
command line: `qwenlong-trl solopo-pairs`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..data import DocumentPool, Dropped, LongContextExample, prompt_view
from ..generation import PromptsRefusedError, Sampler, SampleStore, Sampling, example_seed
from ..generation.complete import sample_missing
from ..rewards import HybridReward
from .pair_statistics import PairStatistics
from .scoring import ScoredCompletion, check_scorable, score_samples
from .twins import Twin, make_twin


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

TIE_BREAKS = ("random", "shortest")
SAMPLE_FROM = ("short", "long")

# Records that are sampled before they are scored: enough to keep a server busy, and few enough to stop soon after
# `max_pairs`.
_BLOCK = 256


def build_pairs(
    examples: Sequence[LongContextExample],
    pool: DocumentPool,
    tokenizer: PreTrainedTokenizerBase,
    make_sampler: Callable[[], Sampler],
    sampling: Sampling,
    store: SampleStore,
    short_tokens: int,
    long_tokens: int,
    template: str | None = None,
    chat: bool = True,
    chat_template_kwargs: dict[str, Any] | None = None,
    reward: HybridReward | None = None,
    tie_break: str = "random",
    max_pairs: int | None = None,
    sample_from: str = "short",
) -> tuple[Dataset, PairStatistics]:
    """Twins, samples, verdicts and pairs, with a progress bar over the records.

    The result depends on the records in their order, the pool, the samples and the settings; not on how often the run
    was interrupted.

    Args:
        examples (`Sequence[LongContextExample]`):
            Records with evidence.
        pool ([`~qwenlong_trl.data.DocumentPool`]):
            Where distractors come from.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            That of the model; tells the lengths.
        make_sampler (`Callable`):
            Makes the sampler; called when something is left to sample.
        sampling ([`~qwenlong_trl.generation.Sampling`]):
            How the answers are drawn; its seed is also that of the twins and of the choice.
        store ([`~qwenlong_trl.generation.SampleStore`]):
            Open; what it holds is not sampled again.
        short_tokens, long_tokens (`int`):
            Budgets of the two contexts, see [`~qwenlong_trl.solopo.twins.make_twin`].
        template, chat, chat_template_kwargs:
            How prompts are made, see [`~qwenlong_trl.data.prompt_view`].
        reward ([`~qwenlong_trl.rewards.HybridReward`], *optional*):
            Decides what is right, instead of [`~qwenlong_trl.solopo.scoring.score_sub_em`].
        tie_break (`str`, *optional*, defaults to `"random"`):
            Which of several right, and of several wrong, answers is taken: `"random"`, or the `"shortest"` of each.
        max_pairs (`int`, *optional*):
            Stop when there are so many.
        sample_from (`str`, *optional*, defaults to `"short"`):
            The prompt that the model answers. Pairs from the `"long"` one are for the paper's baseline Long-PO
            (`objective="long_po"` of [`SoLoPOConfig`]); trained so, pairs from the short one are its Expand-Long-PO.

    Returns:
        `tuple[Dataset, PairStatistics]`: rows with `id`, `prompt`, `long_prompt`, `chosen`, `rejected` and columns
        about them, and the counts.

    Raises:
        `ValueError`: for settings out of range, and records that cannot be scored.
        [`~qwenlong_trl.generation.GenerationError`]: a server did not answer; what it answered is in the store.
            Prompts that it refuses for good are dropped.
    """
    from tqdm import tqdm

    if tie_break not in TIE_BREAKS:
        raise ValueError(f"tie_break must be one of {', '.join(TIE_BREAKS)}, got {tie_break!r}")
    if sample_from not in SAMPLE_FROM:
        raise ValueError(f"sample_from must be one of {', '.join(SAMPLE_FROM)}, got {sample_from!r}")
    if max_pairs is not None and max_pairs < 1:
        raise ValueError(f"max_pairs must be at least 1, got {max_pairs}")
    if len({example.id for example in examples}) < len(examples):
        raise ValueError("the ids of the records must differ")
    for example in examples:
        check_scorable(example)

    def view(example: LongContextExample) -> dict[str, Any]:
        return prompt_view(example, tokenizer, template, chat, chat_template_kwargs)

    statistics = PairStatistics()
    rows: list[dict[str, Any]] = []
    sampler: Sampler | None = None
    refused: set[str] = set()
    with tqdm(total=len(examples), desc="Sampling", unit=" records") as bar:
        for start in range(0, len(examples), _BLOCK):
            block = examples[start : start + _BLOCK]
            twins = [make_twin(example, pool, short_tokens, long_tokens, sampling.seed) for example in block]
            shorts = {twin.id: view(twin.short) for twin in twins if isinstance(twin, Twin)}
            asked = shorts if sample_from == "short" else {t.id: view(t.long) for t in twins if isinstance(t, Twin)}
            missing = [id for id in asked if id not in store]
            bar.update(len(block) - len(missing))
            if missing:
                sampler = sampler or make_sampler()
                prompts = [row["prompt"] for row in asked.values()]
                try:
                    sample_missing(sampler, prompts, list(asked), sampling, store, done=bar.update)
                except PromptsRefusedError as error:
                    logger.warning(f"{error}. They are left out, and asked for again by another run.")
                    refused.update(error.ids)
                    bar.update(len(error.ids))
            drawn = {id: store.get(id, row["prompt"]) for id, row in asked.items() if id not in refused}
            of_id = {example.id: example for example in block}
            scored = dict(zip(drawn, score_samples([(of_id[id], drawn[id]) for id in drawn], reward), strict=True))
            for twin in twins:
                if len(rows) == max_pairs:
                    break
                if isinstance(twin, Dropped):
                    statistics.drop(twin.reason)
                    continue
                if twin.id in refused:
                    statistics.drop("refused by the server")
                    continue
                statistics.add_prompt(drawn[twin.id], scored[twin.id])
                if pair := choose_pair(scored[twin.id], example_seed(sampling.seed, twin.id, "pair"), tie_break):
                    row = _row(twin, shorts[twin.id], view(twin.long), *pair)
                    row["pass_rate"] = statistics.pass_rates[-1]
                    statistics.add_lengths(row, *(_count(one.text, tokenizer) for one in pair))
                    rows.append(row)
            if len(rows) == max_pairs:
                break
    dataset = _dataset(rows, chat)
    if chat and chat_template_kwargs:  # the trainer reads them here, and must condition on what was answered
        dataset = dataset.add_column("chat_template_kwargs", [chat_template_kwargs] * len(dataset))
    return dataset, statistics


def choose_pair(
    scored: Sequence[ScoredCompletion], seed: int, tie_break: str = "random"
) -> tuple[ScoredCompletion, ScoredCompletion] | None:
    """The chosen (right) and the rejected (wrong) completion, or `None` where one of them is missing."""
    right = [one for one in scored if one.right is True]
    wrong = [one for one in scored if one.right is False]
    if not right or not wrong:
        return None
    if tie_break == "shortest":  # the first of those equally long
        return min(right, key=lambda one: len(one.text)), min(wrong, key=lambda one: len(one.text))
    rng = random.Random(seed)
    return rng.choice(right), rng.choice(wrong)


def _row(
    twin: Twin,
    short: dict[str, Any],
    long: dict[str, Any],
    chosen: ScoredCompletion,
    rejected: ScoredCompletion,
) -> dict[str, Any]:
    def completion(text: str) -> str | list[dict[str, str]]:
        return text if isinstance(short["prompt"], str) else [{"role": "assistant", "content": text}]

    about = {name: short[name] for name in ("question", "answers", "task", "source")}
    return {
        "id": twin.id,
        "prompt": short["prompt"],
        "long_prompt": long["prompt"],
        "chosen": completion(chosen.text),
        "rejected": completion(rejected.text),
        "prompt_length": short["prompt_length"],
        "long_prompt_length": long["prompt_length"],
        "chosen_answer": chosen.answer,
        "rejected_answer": rejected.answer,
        **about,
    }


def _count(text: str, tokenizer: PreTrainedTokenizerBase) -> int:
    return len(tokenizer(text=text, add_special_tokens=False)["input_ids"])


def _dataset(rows: list[dict[str, Any]], chat: bool) -> Dataset:
    from datasets import Dataset, Features, Value

    text = Value("large_string")  # a set of long prompts can pass 2 GB
    messages = [{"role": Value("string"), "content": text}] if chat else text
    strings = dict.fromkeys(("chosen_answer", "rejected_answer", "question", "task", "source"), Value("string"))
    features = Features(
        {
            "id": Value("string"),
            **dict.fromkeys(("prompt", "long_prompt", "chosen", "rejected"), messages),
            **dict.fromkeys(("prompt_length", "long_prompt_length"), Value("int64")),
            "pass_rate": Value("float64"),
            **strings,
            "answers": [Value("string")],
        }
    )
    # By column: `Dataset.from_list` refuses an empty list.
    return Dataset.from_dict({name: [row[name] for row in rows] for name in features}, features=features)
