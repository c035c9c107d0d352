"""Windows with labels, made of records: what [`CPRSTrainer`] learns from.

A span of evidence, widened to the sentences or paragraphs that the instruction asks for, becomes Begin, Inside ...,
End; a span of one token is a Begin (the paper's convention for it is not known). Each window has instruction and
question in front, which carry no labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data import LongContextExample
from ..data.compose import example_rng
from .context import Context, read_context
from .decode import BEGIN, END, INSIDE, OUTSIDE
from .instructions import INSTRUCTIONS, NEEDLES, Instruction
from .layout import sentence_partition, split_documents
from .needles import insert_needles
from .prefix import prefix_ids, tag_token_ids
from .units import paragraphs, sentences
from .windows import cut_windows


IGNORED = -100


def has_evidence(example: LongContextExample) -> bool:
    """Whether there is anything to keep: a record may name blank characters only, or none."""
    return any(example.evidence_text(span).strip() for span in example.evidence)


def documents_of(example: LongContextExample) -> list[dict[str, str]]:
    """The documents of a record as a critic and the pipeline read them."""
    return [{"title": document.title, "text": document.text} for document in example.documents]


def evidence_ranges(example: LongContextExample, context: Context, granularity: str) -> np.ndarray:
    """
    The characters of `context.text` to keep, `int64[m, 2]`, in order, without white space at their ends.

    Args:
        granularity (`str`):
            `"token"`: the evidence as it is; `"sentence"` or `"paragraph"`: all of them that it touches.
    """
    base = context.documents[:, 0]
    found = [(base[e.document] + e.start, base[e.document] + e.end) for e in example.evidence]
    found = _merged_text(context, sorted(found))
    if granularity != "token":
        units = split_documents(context, {"sentence": sentences, "paragraph": paragraphs}[granularity])
        # Units and evidence are sorted, and units do not overlap: those that a span touches stand side by side.
        first = np.searchsorted(units[:, 1], found[:, 0], side="right")
        last = np.searchsorted(units[:, 0], found[:, 1], side="left")
        touched = np.zeros(len(units), dtype=bool)
        for a, b in zip(first, last, strict=True):
            touched[a:b] = True
        found = _merged_text(context, units[touched].tolist())
    return found


def _merged_text(context: Context, ranges: list[tuple[int, int]]) -> np.ndarray:
    """Sorted ranges without white space at their ends, those that overlap as one; blank ones vanish."""
    kept: list[tuple[int, int]] = []
    for start, end in ranges:
        text = context.text[start:end]
        start, end = start + len(text) - len(text.lstrip()), end - (len(text) - len(text.rstrip()))
        if kept and start < kept[-1][1]:  # two spans of evidence that overlap are one
            kept[-1] = (kept[-1][0], max(end, kept[-1][1]))
        elif start < end:
            kept.append((start, end))
    return np.array(kept, dtype=np.int64).reshape(-1, 2)


def token_labels(ranges: np.ndarray, context: Context) -> np.ndarray:
    """Begin, Inside, Outside, End of each token of the context, `int8[n]`, for characters `int64[m, 2]` to keep."""
    labels = np.full(len(context.ids), OUTSIDE, dtype=np.int8)
    for start, end in ranges.tolist():
        first = int(np.searchsorted(context.ends, start, side="right"))
        last = int(np.searchsorted(context.starts, end, side="left")) - 1
        if first > last:
            continue
        labels[first : last + 1] = INSIDE
        labels[last] = END
        labels[first] = BEGIN
    return labels


def window_rows(
    example: LongContextExample,
    tokenizer,
    *,
    window_tokens: int,
    granularities: Sequence[str] = ("sentence",),
    instruction_variants: bool = True,
    needle_rate: float = 0.0,
    with_tags: bool = True,
    seed: int = 0,
) -> list[dict[str, np.ndarray]]:
    """
    The windows of a record, each with its labels.

    Everything that is drawn depends on `(seed, example.id)` alone. Windows are cut as when compressing, at a length
    drawn between half and all of `window_tokens`, so that a critic sees spans at every place of a window.

    Args:
        example ([`LongContextExample`]):
            The record; one without evidence has nothing to keep.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]):
            The critic's.
        window_tokens (`int`):
            Most tokens of a row, with instruction and question.
        granularities (`Sequence[str]`, *optional*, defaults to `("sentence",)`):
            What to ask for, one of them drawn for each record: `"token"`, `"sentence"`, `"paragraph"`.
        instruction_variants (`bool`, *optional*, defaults to `True`):
            Draw one of several instructions; otherwise always the first.
        needle_rate (`float`, *optional*, defaults to `0.0`):
            Share of records that are asked for needles, which are hidden in their documents, instead of their
            question.
        with_tags (`bool`, *optional*, defaults to `True`):
            Add `tag_labels`.

    Returns:
        `list[dict[str, np.ndarray]]`: `input_ids`, `labels` and, with tags, `tag_labels`, of equal length.

    Raises:
        `ValueError`: instruction and question leave less than a quarter of the window to the context.
    """
    rng = example_rng(seed, example)
    split_at = None
    if rng.random() < needle_rate and example.documents:
        instruction = NEEDLES
        example, split_at = insert_needles(example, rng)
    else:
        choices = INSTRUCTIONS[granularities[rng.integers(len(granularities))]]
        instruction = choices[rng.integers(len(choices)) if instruction_variants else 0]
    prefix = prefix_ids(instruction.text, example.question, tokenizer)
    capacity = window_tokens - len(prefix)
    if capacity < max(1, window_tokens // 4):
        raise ValueError(
            f"record {example.id!r}: instruction and question take {len(prefix)} of window_tokens={window_tokens} and "
            "leave less than a quarter to the context; raise window_tokens"
        )
    context = read_context(documents_of(example), tokenizer)
    labels = token_labels(evidence_ranges(example, context, instruction.granularity), context)
    capacity = int(rng.integers((capacity + 1) // 2, capacity + 1))
    windows = _windows(context, capacity, split_at)
    tags = _tag_labels(labels, instruction, tokenizer) if with_tags else None
    rows = []
    for start, end in windows.tolist():
        row = {
            "input_ids": np.concatenate([prefix, context.ids[start:end]]),
            "labels": _after(prefix, labels[start:end]),
        }
        if tags is not None:
            row["tag_labels"] = _after(prefix, tags[start:end])
        rows.append(row)
    return rows


def _windows(context: Context, capacity: int, split_at: tuple[int, int] | None) -> np.ndarray:
    """Windows of the tokens; with `split_at` (document, character), two windows meet at that place."""
    ends = sentence_partition(context)
    if split_at is None:
        return cut_windows(context.text, context.starts, context.ends, ends, capacity)
    character = context.documents[split_at[0], 0] + split_at[1]
    middle = int(np.searchsorted(context.starts, character, side="right"))
    halves = []
    for a, b in ((0, middle), (middle, len(context.ids))):
        halves.append(cut_windows(context.text, context.starts[a:b], context.ends[a:b], ends, capacity) + a)
    return np.concatenate(halves)


def _tag_labels(labels: np.ndarray, instruction: Instruction, tokenizer) -> np.ndarray:
    tag, outside = tag_token_ids([instruction.tag], tokenizer)
    return np.where(labels == OUTSIDE, outside, tag)


def _after(prefix: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.concatenate([np.full(len(prefix), IGNORED), labels])
