"""Prompts of Loong: the documents of a record put into its template, within a budget of tokens.

```python
>>> assembly = Assembly("fixed", max_tokens=30_000, policy=SkipPolicy(), tokenizer=tokenizer)
>>> for prompt in assemble(records, documents, assembly):
...     print(prompt.id, prompt.tokens, prompt.kept, prompt.dropped)
```

`"official"` is the published protocol (arXiv 2406.17419) with what its released code does: whole documents are
skipped where they do not fit, counted in cl100k and without reserve for an answer; financial reports are shuffled
before and after that; all orders come from one stream of random numbers, so that they depend on the records before;
and judgments come with their verdicts, even where the question is which verdict belongs to which judgment ("Link the
Links"). Where several files fit a name, ours are those of [`LoongDocuments.files`], not the first of a directory.

`"fixed"` counts with the model's tokenizer, leaves what to do about the budget to a policy, shuffles each record once
and in an order of its own, and shows no verdicts where they are the answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from ..data.compose import example_rng
from .documents import LoongDocument, LoongDocuments, MissingDocumentsError, cl100k_tokens, remembering
from .records import LoongRecord


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .policies import Policy


OFFICIAL_SEED = 1_000_000_007
OFFICIAL_MAX_TOKENS = 128_000  # what the official run.sh passes


@dataclass(frozen=True)
class LoongPrompt:
    """
    The prompt of one record and what became of its documents.

    Args:
        id (`str`):
            Of the record.
        prompt (`str`):
            The whole text.
        kept (`tuple[int, ...]`):
            Indices into `record.doc` of the documents with any text left, in the order of the prompt.
        dropped (`tuple[int, ...]`):
            Indices of those of which nothing is left.
        cut (`bool`):
            Whether some document that is kept is not whole.
        tokens (`int`):
            Of the whole prompt, without a chat template: cl100k in official mode, else of the model's tokenizer.
    """

    id: str
    prompt: str
    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    cut: bool
    tokens: int


@dataclass(frozen=True)
class Assembly:
    """
    How prompts are put together.

    Args:
        mode (`str`, *optional*, defaults to `"fixed"`):
            `"fixed"` or `"official"`.
        max_tokens (`int`, *optional*, defaults to `128000`):
            Tokens of the whole prompt; the default is that of the official `run.sh`. In fixed mode no prompt has more,
            and the caller has taken off what the answer and the chat template need. In official mode a question may
            exceed it, which then comes without documents.
        policy ([`Policy`], *optional*):
            Fixed mode: what is left of the documents where they do not fit. Official mode skips whole documents.
        seed (`int`, *optional*, defaults to `0`):
            Fixed mode: seed of the order of each record's documents. Official mode has its own, 1000000007.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Fixed mode: the model's tokenizer.
    """

    mode: Literal["fixed", "official"] = "fixed"
    max_tokens: int = OFFICIAL_MAX_TOKENS
    policy: Policy | None = None
    seed: int = 0
    tokenizer: PreTrainedTokenizerBase | None = None

    def __post_init__(self):
        if self.mode not in ("fixed", "official"):
            raise ValueError(f'mode must be "fixed" or "official", got {self.mode!r}')
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if self.mode == "fixed" and (self.policy is None or self.tokenizer is None):
            raise ValueError('mode="fixed" needs a policy and the tokenizer of the model')
        if self.mode == "official" and self.policy is not None:
            raise ValueError('mode="official" skips whole documents; leave the policy out or take mode="fixed"')

    def describe(self) -> dict[str, Any]:
        """What a result names: mode, budget, policy with its options, tokenizer, seed and the repairs, for JSON."""
        fixed = self.mode == "fixed"
        return {
            "mode": self.mode,
            "max_tokens": self.max_tokens,
            "policy": {"name": self.policy.name, **self.policy.describe()} if fixed else {"name": "skip"},
            "tokenizer": self.tokenizer.name_or_path if fixed else "cl100k_base",
            "seed": self.seed if fixed else OFFICIAL_SEED,
            "order": "per record" if fixed else "one stream over all records",
            "legal_fix": fixed,
        }

    def count(self, text: str) -> int:
        """Tokens of a text as this assembly counts them, without special tokens."""
        if self.mode == "official":
            return cl100k_tokens(text)
        return len(
            self.tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False).input_ids
        )

    def defused(self, text: str) -> str:
        """A document that cannot end the user's turn: what its tokenizer would take for special tokens is broken."""
        for token in self._special_tokens:
            if token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    @cached_property
    def _special_tokens(self) -> tuple[str, ...]:
        added = self.tokenizer.added_tokens_decoder.values()
        tokens = {str(token) for token in added if token.special} | {*self.tokenizer.all_special_tokens}
        # Not what stands in ordinary text, such as a full stop that some tokenizer has for its end.
        return tuple(sorted(token for token in tokens if len(token) > 2))

    @cached_property
    def remembering_count(self) -> Callable[[str], int]:
        """[`~Assembly.count`] that counts a text once: many questions are asked about the same documents."""
        return remembering(self.count)


def assemble(
    records: Iterable[LoongRecord],
    documents: LoongDocuments,
    assembly: Assembly,
    wanted: Container[str] | None = None,
) -> Iterator[LoongPrompt]:
    """
    The prompts of records, in their order, each made when it is asked for.

    Args:
        records (`Iterable[LoongRecord]`):
            In official mode the order of a record depends on all before it: give those of a run as the file has them.
        documents ([`LoongDocuments`]):
            Where the documents are.
        assembly ([`Assembly`]):
            How the prompts are put together.
        wanted (`Container[str]`, *optional*):
            Ids of the records whose prompts are yielded, by default all. The prompts are the same as without it.

    Raises:
        [`MissingDocumentsError`]: at the call, where documents are not there, of a wanted record or of one that the
            official stream of random numbers depends on.
        `ValueError`: at the call, where in fixed mode the question of a wanted record alone is over the budget, see
            [`overlong`]; later, where a policy leaves more than fits.
    """
    records = list(records)
    is_wanted = [wanted is None or record.id in wanted for record in records]
    last = max((i for i, one in enumerate(is_wanted) if one), default=-1)
    if assembly.mode == "official":
        # Records that are not shuffled draw no numbers, so that judgments that are not at hand do no harm.
        pairs = [(r, w) for r, w in zip(records[: last + 1], is_wanted, strict=False) if w or r.shuffle_doc]
    else:
        pairs = [(record, True) for record, one in zip(records, is_wanted, strict=True) if one]
    if missing := documents.missing(record for record, _ in pairs):
        raise MissingDocumentsError(missing, str(documents.source))
    if assembly.mode == "official":
        return _official(pairs, documents, assembly)
    if long := overlong([record for record, _ in pairs], assembly):
        id, tokens = next(iter(long.items()))
        raise ValueError(
            f"the questions of {len(long)} records alone take more than max_tokens={assembly.max_tokens:,}, such as "
            f"{tokens:,} tokens for {id}; raise max_tokens or leave them out (`overlong` tells which)"
        )
    return _fixed([record for record, _ in pairs], documents, assembly)


def overlong(records: Iterable[LoongRecord], assembly: Assembly) -> dict[str, int]:
    """Id -> tokens, of each record whose question and instruction alone leave no room for documents."""
    tokens = {record.id: assembly.count(_fill(record, "")) for record in records}
    return {id: count for id, count in tokens.items() if count >= assembly.max_tokens}


def _official(
    records: Sequence[tuple[LoongRecord, bool]], documents: LoongDocuments, assembly: Assembly
) -> Iterator[LoongPrompt]:
    rng = random.Random(OFFICIAL_SEED)
    for record, wanted in records:
        contents = [document.render() for document in documents.load(record)]
        order = list(range(len(contents)))
        if record.shuffle_doc and record.type == "financial":
            rng.shuffle(order)
        used = assembly.count(_fill(record)) - assembly.count("{docs}")
        kept = []
        for i in order:
            tokens = assembly.count(contents[i])
            if used + tokens > assembly.max_tokens:
                continue  # a later document may fit
            used += tokens
            kept.append(i)
        if record.shuffle_doc:
            rng.shuffle(kept)
        if wanted:
            dropped = tuple(sorted(set(order) - set(kept)))
            prompt = _fill(record, "".join(contents[i] for i in kept))
            yield LoongPrompt(record.id, prompt, tuple(kept), dropped, False, assembly.count(prompt))


def _fixed(records: Sequence[LoongRecord], documents: LoongDocuments, assembly: Assembly) -> Iterator[LoongPrompt]:
    count = assembly.remembering_count
    for record in records:
        loaded = documents.load(record)
        order = list(range(len(loaded)))
        if record.shuffle_doc:
            order = example_rng(assembly.seed, record).permutation(len(loaded)).tolist()
        hidden = {"result": None} if record.subtask == "Link the Links" else {}
        loaded = [replace(document, text=assembly.defused(document.text), **hidden) for document in loaded]
        yield _fit(record, order, [loaded[i] for i in order], assembly, count)


def _fit(
    record: LoongRecord,
    order: Sequence[int],
    documents: Sequence[LoongDocument],
    assembly: Assembly,
    count: Callable[[str], int],
) -> LoongPrompt:
    """The prompt of `documents`, those of `record.doc` in `order`, with what the policy leaves of them."""
    rendered = [document.render() for document in documents]
    budget = assembly.max_tokens - assembly.count(_fill(record, ""))
    for _ in range(3):
        texts = assembly.policy.fit(record, documents, rendered, budget, count).texts
        if len(texts) != len(documents):
            raise ValueError(f"policy {assembly.policy.name} gave {len(texts)} texts for {len(documents)} documents")
        prompt = _fill(record, "".join(texts))
        tokens = assembly.count(prompt)
        if tokens <= assembly.max_tokens:
            kept = tuple(i for i, text in zip(order, texts, strict=True) if text)
            dropped = tuple(sorted(set(order) - set(kept)))
            cut = any(text and text != whole for text, whole in zip(texts, rendered, strict=True))
            return LoongPrompt(record.id, prompt, kept, dropped, cut, tokens)
        # Texts that stand side by side may take some tokens more than each apart.
        budget = max(0, budget - (tokens - assembly.max_tokens))
    raise ValueError(
        f"record {record.id}: policy {assembly.policy.name} leaves a prompt of {tokens:,} tokens, more than "
        f"max_tokens={assembly.max_tokens:,}"
    )


def _fill(record: LoongRecord, documents: str = "{docs}") -> str:
    """
    The template with question, instruction and documents, put in one after the other as in the official code: braces
    in the documents stay as they are.
    """
    prompt = record.prompt_template.replace("{question}", record.question)
    return prompt.replace("{instruction}", record.instruction).replace("{docs}", documents)
