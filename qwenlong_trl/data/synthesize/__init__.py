"""Endless multi-document questions whose truth is computed, in the four shapes of Loong (arXiv 2406.17419).

```python
>>> from qwenlong_trl.data.synthesize import synthesize
>>> example = next(synthesize("chain_of_reasoning", target_tokens=2_000, seed=0))
>>> example.question, example.answers, [example.evidence_text(span) for span in example.evidence]
```

A table of facts about invented entities is drawn first, question and answer are computed from it, and then documents
are rendered: one on each entity that the question needs, near-duplicates of them (a name that differs in one letter or
one word, with other values), and others of the same types. Each document is on one entity, and no two on the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count as count_from
from typing import TYPE_CHECKING

from ..compose import count_tokens
from ..prompts import render_document
from ..record import Document, Evidence, LongContextExample
from . import questions
from .domains import ENTITY_TYPES
from .schema import Attribute
from .world import World


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYNTHETIC_TASKS = ("spotlight_locating", "comparison", "clustering", "chain_of_reasoning")

# How many documents a question may need (entities compared or listed, hops); fewer where the budget asks for it.
_SIZES = {"spotlight_locating": (1, 1), "comparison": (2, 5), "clustering": (2, 8), "chain_of_reasoning": (2, 4)}

_CHARACTERS_PER_TOKEN = 4


def estimate_tokens(documents: Sequence[Document]) -> list[int]:
    """Tokens of each document without a tokenizer: a quarter of the characters (line feed included), rounded up.

    On synthetic text the cl100k encoding is within 10 % of it from 1,000 tokens on and takes up to 25 % more at 100;
    tokenizers that split numbers into digits take more.
    """
    return [-(-(len(render_document(document)) + 1) // _CHARACTERS_PER_TOKEN) for document in documents]


def synthesize(
    task: str,
    target_tokens: int,
    seed: int,
    count: int | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Iterator[LongContextExample]:
    """Records with one question each over documents that fill `target_tokens`.

    Record `i` depends on the arguments and on `i` alone. Its context never takes more than `target_tokens`, and less
    by no more than one document or 5 %. Its evidence is the sentences that state the facts that the answer is computed
    from: without any one of these documents the answer cannot be computed, or is another.

    Args:
        task (`str`):
            `"spotlight_locating"` (a value stated in one document), `"comparison"` (the extreme one of 2 to 5 named
            entities, or the difference of two numbers), `"clustering"` (all 2 to 8 entities that share a property) or
            `"chain_of_reasoning"` (2 to 4 hops from document to document).
        target_tokens (`int`):
            Budget of the context in tokens, without question and template. 100 to 1,000,000 is what this is made for.
        seed (`int`):
            Seed of all draws.
        count (`int`, *optional*):
            Number of records. Endless by default.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            What counts the tokens, as in [`~qwenlong_trl.data.compose.count_tokens`]. By default they are estimated by
            [`estimate_tokens`].

    Raises:
        `ValueError`: The task is unknown, or the budget is too small for the documents that a question needs.
    """
    if task not in SYNTHETIC_TASKS:
        raise ValueError(f"unknown task {task!r}; expected one of {', '.join(SYNTHETIC_TASKS)}")
    if count is not None and count < 0:
        raise ValueError(f"count must be at least 0, got {count}")

    def cost(documents: Sequence[Document]) -> list[int]:
        return count_tokens(documents, tokenizer) if tokenizer is not None else estimate_tokens(documents)

    return (_record(task, target_tokens, seed, i, cost) for i in (count_from() if count is None else range(count)))


def _record(
    task: str, target_tokens: int, seed: int, i: int, cost: Callable[[Sequence[Document]], list[int]]
) -> LongContextExample:
    identity = f"{task}-{target_tokens}-{seed}-{i}"
    rng = random.Random(identity)  # seeding with a string goes through SHA-512: the same in every process
    # A document states 1 thing in tiny contexts, and more and more beside it in longer ones.
    extra = 0 if target_tokens < 400 else 2 if target_tokens < 2_000 else 5
    smallest, largest = _SIZES[task]
    for size in range(rng.randint(smallest, largest), smallest - 1, -1):
        world = World(rng)
        question = getattr(questions, task)(world, size)
        described = [world.describe(name, [fact], rng.randint(0, extra)) for name, fact in question.evidence]
        needed = sum(cost([document for document, _ in described]))
        if needed <= 0.7 * target_tokens:
            break
    if needed > target_tokens:
        raise ValueError(
            f"target_tokens={target_tokens} is too small for {identity}: the documents that its question needs take "
            f"{needed} tokens; ask for at least {max(100, 2 * needed)}"
        )

    own = [document for document, _ in described]
    documents = own + _distractors(world, question, target_tokens - needed, extra, cost)
    order = rng.sample(range(len(documents)), len(documents))
    place = {old: new for new, old in enumerate(order)}
    spans = [spans[fact.noun] for (_, spans), (_, fact) in zip(described, question.evidence, strict=True)]
    return LongContextExample(
        id=identity,
        question=question.text,
        answers=question.answers,
        documents=tuple(documents[j] for j in order),
        evidence=tuple(Evidence(place[j], start, end) for j, (start, end) in enumerate(spans)),
        task=question.task,
        source=f"synthetic/{task}",
    )


def _distractors(
    world: World,
    question: questions.Question,
    budget: int,
    extra: int,
    cost: Callable[[Sequence[Document]], list[int]],
) -> list[Document]:
    """Near-duplicates of what the question is about first, then others of its types, then short ones for the rest."""
    rng = world.rng
    stated: dict[
        str, list[Attribute]
    ] = {}  # by type, so that every document on a type says what the question asks for
    for name, fact in question.evidence:
        known = stated.setdefault(world.type_of[name].noun, [])
        known.extend([fact] if fact not in known else [])
    types = [ENTITY_TYPES[noun] for noun in stated]

    def others(size: int, extra: int) -> Iterator[Document]:
        for _ in range(size):
            # In long contexts one document in ten is on something else.
            kind = rng.choice(list(ENTITY_TYPES.values()) if extra == 5 and rng.random() < 0.1 else types)
            yield world.distractor(
                kind, stated.get(kind.noun, []), rng.randint(0 if kind.noun in stated else 1, extra)
            )

    rivals = [name for name, _ in question.evidence] * (2 if extra else 1)
    candidates = [
        world.near_duplicate(name, stated[world.type_of[name].noun], rng.randint(0, extra)) for name in rivals
    ]
    rng.shuffle(candidates)
    chosen: list[Document] = []
    spent, full = 0, False
    while not full:
        costs = cost(candidates)
        for document, tokens in zip(candidates, costs, strict=True):
            if spent + tokens <= budget:
                chosen.append(document)
                spent += tokens
        full = spent + max(costs) > budget
        if not full:
            candidates = list(others(max(1, min(4096, (budget - spent) * len(chosen) // spent)), extra))
    short = list(others(16, 0))
    for document, tokens in zip(short, cost(short), strict=True):
        if spent + tokens <= budget:
            chosen.append(document)
            spent += tokens
    return chosen
