"""Short and long twins: one question over a few documents, and over those and many more.

```python
>>> pool = DocumentPool((d for example in examples for d in example.documents), tokenizer)
>>> twin = make_twin(examples[0], pool, short_tokens=1024, long_tokens=8192, seed=0)
>>> set(twin.short.documents) < set(twin.long.documents)
True
```
"""

from __future__ import annotations

from dataclasses import dataclass

from ..data import ContextBudgetError, DocumentPool, Dropped, LongContextExample, compose, shorten


@dataclass(frozen=True)
class Twin:
    """A record with a `short` context and with a `long` one, which holds all documents of the short one."""

    short: LongContextExample
    long: LongContextExample

    @property
    def id(self) -> str:
        return self.short.id


def make_twin(
    example: LongContextExample, pool: DocumentPool, short_tokens: int, long_tokens: int, seed: int = 0
) -> Twin | Dropped:
    """The documents with evidence, among distractors up to either budget.

    Distractors come from `pool` as [`~qwenlong_trl.data.compose`] draws them: none holds one of the answers, and none
    is a document that the record itself had. The distractors of a data set are chosen to resemble the evidence, and
    some hold parts of it. All documents are shuffled, differently in the two contexts.

    Args:
        example ([`~qwenlong_trl.data.LongContextExample`]):
            The record.
        pool ([`~qwenlong_trl.data.DocumentPool`]):
            Where distractors come from; it counts the tokens, too.
        short_tokens (`int`):
            Budget of the short context in tokens, without question and template.
        long_tokens (`int`):
            Budget of the long context.
        seed (`int`, *optional*, defaults to `0`):
            Seed of choice and order, with the record's id.

    Returns:
        [`Twin`], or [`~qwenlong_trl.data.Dropped`] with the reason why there is none.

    Raises:
        `ValueError`: if the long budget is not above the short one.
    """
    if not 0 < short_tokens < long_tokens:
        raise ValueError(
            f"short_tokens must be positive and below long_tokens, got short_tokens={short_tokens} and "
            f"long_tokens={long_tokens}"
        )
    if not example.evidence:
        return Dropped(example.id, "no evidence")
    bare = shorten(example)
    if int(pool.count(bare.documents).sum()) > short_tokens:
        return Dropped(example.id, "evidence longer than short_tokens")
    try:
        short = compose(bare, pool, short_tokens, seed=seed, exclude=example.documents)
        long = compose(short, pool, long_tokens, seed=seed, exclude=example.documents)
    except ContextBudgetError:
        return Dropped(example.id, "pool too small")
    if len(long.documents) == len(short.documents):
        return Dropped(example.id, "no document fits between short_tokens and long_tokens")
    return Twin(short, long)
