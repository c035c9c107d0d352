"""How much of what matters survives compression: span F1, evidence recall at a budget, answers still in the context.

```python
>>> from qwenlong_trl.cprs.evaluation import ContextCompressionEvaluator, summarize
>>> evaluator = ContextCompressionEvaluator(model=model, tokenizer=tokenizer, device="cpu")
>>> summarize(evaluator.evaluate(examples, budgets=[0.1, 0.2, 0.4], granularity="sentence"))
{'span_f1': 0.61, 'evidence_recall@0.1': 0.72, 'answer_in_context@0.1': 0.80, ...}
```

Chance and cheap methods go far on short documents: see [`baselines`] for what to compare with, at the same budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..data import LongContextExample
from ..data.compose import UNSPACED_SCRIPT, normalize_text
from .labels import documents_of, evidence_ranges, has_evidence
from .layout import Layout
from .pipeline_cprs import ContextCompressionPipeline
from .selection import merge_ranges


@dataclass(frozen=True)
class Kept:
    """
    What one compression of one example kept.

    Args:
        evidence_recall (`float`):
            Share of the characters of the example's evidence that were kept.
        has_answer (`bool`):
            Whether one of the answers stands in the compressed text.
        tokens (`int`):
            Tokens of the compressed text.
    """

    evidence_recall: float
    has_answer: bool
    tokens: int


@dataclass(frozen=True)
class Evaluated:
    """
    One example: what was kept `at` each budget, and the spans that were decoded without one.

    Args:
        at (`dict[float, Kept]`):
            By budget, a share of the tokens of the context.
        found, wanted, right (`int`):
            Spans that were decoded, spans of evidence, and those that are both, to the character.
    """

    id: str
    input_tokens: int
    at: dict[float, Kept]
    found: int = 0
    wanted: int = 0
    right: int = 0


class ContextCompressionEvaluator(ContextCompressionPipeline):
    """[`ContextCompressionPipeline`] that runs the critic once for each example and compresses at several budgets."""

    def evaluate(
        self,
        examples: Sequence[LongContextExample],
        budgets: Sequence[float],
        granularity: str = "sentence",
        **options: Any,
    ) -> list[Evaluated]:
        """
        Args:
            examples (`Sequence[LongContextExample]`):
                Records with evidence.
            budgets (`Sequence[float]`):
                Shares of the tokens, above 0 and up to 1.
            granularity (`str`, *optional*, defaults to `"sentence"`):
                Of the units, and of the spans of evidence that are compared: `"token"`, `"sentence"`, `"paragraph"`.
            options (*optional*):
                Other fields of [`CompressionOptions`].

        Raises:
            `ValueError`: an example has no evidence.
        """
        for example in examples:
            if not has_evidence(example):
                raise ValueError(f"record {example.id!r} has no evidence: nothing says what to keep")
        inputs = [
            {"context": documents_of(example), "query": example.question, "example": example} for example in examples
        ]
        self._budgets = tuple(budgets)
        return list(self(inputs, granularity=granularity, **options)) if inputs else []

    def postprocess(self, model_outputs, **postprocess_params) -> Evaluated:
        job = model_outputs[0]["job"]
        example, layout = job.extra["example"], job.layout

        def compressed(rate: float | None) -> dict[str, Any]:
            at = Layout(layout.context, layout.is_list, replace(layout.options, rate=rate))
            outputs = [output | {"job": replace(job, layout=at)} for output in model_outputs]
            return super(ContextCompressionEvaluator, self).postprocess(outputs, **postprocess_params)

        kept = {}
        for budget in self._budgets:
            output = compressed(budget)
            kept[budget] = measure(
                example,
                spans_in_context(output["spans"], layout),
                output["compressed"],
                layout,
                output["compressed_tokens"],
            )
        output = compressed(None)
        found = {(s["document"], s["start"], s["end"]) for s in output["spans"]}
        ranges = evidence_ranges(example, layout.context, layout.options.granularity)
        document = layout.document_of(ranges)
        inside = ranges - layout.context.documents[document, :1]
        wanted = {(d, start, end) for d, (start, end) in zip(document.tolist(), inside.tolist(), strict=True)}
        right = len(found & wanted)
        return Evaluated(example.id, job.input_tokens, kept, len(found), len(wanted), right)


def spans_in_context(spans: Sequence[dict[str, Any]], layout: Layout) -> np.ndarray:
    """The spans of an output as characters of the text of the context, `int64[m, 2]`."""
    base = layout.context.documents[:, 0]
    ranges = [(base[s["document"]] + s["start"], base[s["document"]] + s["end"]) for s in spans]
    return np.array(ranges, dtype=np.int64).reshape(-1, 2)


def measure(example: LongContextExample, ranges: np.ndarray, text: str, layout: Layout, tokens: int) -> Kept:
    """What ranges of the context, written as `text`, kept of an example."""
    kept = np.zeros(len(layout.context.text) + 1, dtype=np.int64)
    for start, end in merge_ranges(ranges).tolist():
        kept[start:end] = 1
    before = np.concatenate([[0], np.cumsum(kept)])
    evidence = evidence_ranges(example, layout.context, "token")
    recall = (before[evidence[:, 1]] - before[evidence[:, 0]]).sum() / (evidence[:, 1] - evidence[:, 0]).sum()
    return Kept(float(recall), holds_answer(text, example.answers), tokens)


def holds_answer(text: str, answers: Sequence[str]) -> bool:
    """
    Whether one of the answers stands in a text, by whole words as [`normalize_text`] makes them.

    Scripts without spaces between words are compared without any; an answer of signs alone is looked for as it is.
    """
    words = f" {normalize_text(text)} "
    for answer in answers:
        wanted = normalize_text(answer)
        if not wanted:
            found = answer.strip() in text
        elif UNSPACED_SCRIPT.search(wanted):
            found = wanted.replace(" ", "") in words.replace(" ", "")
        else:
            found = f" {wanted} " in words
        if found:
            return True
    return False


def summarize(results: Sequence[Evaluated]) -> dict[str, float]:
    """
    Means over examples of what was kept at each budget, and the F1 of all spans (`nan` where there are none).

    An answer such as "yes" stands in many a text, and a title that is written out may hold the answer.
    """
    summary = {}
    found, wanted, right = (sum(getattr(r, name) for r in results) for name in ("found", "wanted", "right"))
    summary["span_f1"] = 2 * right / (found + wanted) if found + wanted else float("nan")
    for budget in results[0].at if results else ():
        summary[f"evidence_recall@{budget:g}"] = float(np.mean([r.at[budget].evidence_recall for r in results]))
        summary[f"answer_in_context@{budget:g}"] = float(np.mean([r.at[budget].has_answer for r in results]))
        summary[f"rate@{budget:g}"] = float(np.mean([r.at[budget].tokens / max(r.input_tokens, 1) for r in results]))
    return summary
