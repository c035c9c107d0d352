"""How a context is compressed: the parameters of the pipeline, checked.

```python
>>> CompressionOptions(target_tokens=2048, granularity="sentence")
```
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

from .selection import FALLBACKS


GRANULARITIES = ("token", "sentence", "paragraph", "document")
CRITICS = ("auto", "product", "position")

# What the released server has, too. Its windows, its decoding and its spans leave nothing else to choose.
_OFFICIAL = {"compat", "min_keyword_len", "complete_sentence", "window_tokens", "batch_tokens"}
_OFFICIAL |= {"separator", "reader_tokenizer", "progress", "critic"}


@dataclass(frozen=True)
class CompressionOptions:
    """
    Args:
        target_tokens (`int`, *optional*):
            Most tokens of the compressed text, titles and separators included. Never exceeded; the units with the
            best scores fill it.
        rate (`float`, *optional*):
            The budget as a share of the tokens of the context, above 0 and up to 1, instead of `target_tokens`.
        granularity (`str`, *optional*, defaults to `"token"`):
            What is kept or dropped as a whole: `"token"` (the spans of the model; with a budget words as well, which
            fill it), `"sentence"`, `"paragraph"` or `"document"`. With a budget, units of more than half of it are
            cut.
        critic (`str`, *optional*, defaults to `"auto"`):
            `"product"` of both heads, `"position"` head alone, or `"auto"`: the product where there are tag words.
        tags (`list[str]`, *optional*):
            Tag words. Defaults to those that the tagging rule of the instruction names.
        threshold (`float`, *optional*, defaults to `0.5`):
            P(keep) at which keeping a token is as good as dropping it. Lower keeps more. No part with a budget.
        penalty (`float`, *optional*, defaults to `4.0`):
            Cost in nats of a state that must not follow the one before it.
        max_gap (`int`, *optional*, defaults to `0`):
            Most tokens between two spans that are joined, if their mean P(keep) is above `gap_threshold`.
        gap_threshold (`float`, *optional*, defaults to `0.5`):
            See `max_gap`.
        min_spans (`int`, *optional*, defaults to `0`):
            Fewest units without a budget; the best ones make up the number.
        min_tokens (`int`, *optional*, defaults to `1`):
            Shorter spans of the model are dropped.
        keep (`list`, *optional*):
            Protected regions, always part of the result: `(start, end)` in characters of a text,
            `(document, start, end)` of a list of documents.
        fallback (`str`, *optional*, defaults to `"none"`):
            What is kept where nothing was chosen: `"none"`, `"top_span"` (the best unit), `"head"` (the first one) or
            `"full"` (all). Units are sentences then if `granularity` is `"token"`.
        window_tokens (`int`, *optional*):
            Tokens of a window, with instruction and question. Defaults to those of the model's configuration.
        overlap (`int`, *optional*, defaults to `0`):
            Tokens that neighbouring windows share.
        batch_tokens (`int`, *optional*):
            Most tokens that go through the model at once, padding included; a longer window goes alone. Defaults to
            2,048 on a CPU, where larger batches are not faster, and to 16,384 elsewhere.
        separator (`str`, *optional*, defaults to `"\\n"`):
            Stands between two spans with text left out between them.
        document_separator (`str`, *optional*, defaults to `"\\n\\n"`):
            Stands between documents.
        include_titles (`bool`, *optional*, defaults to `True`):
            Whether the title of a document stands above what is kept of it.
        reader_tokenizer (`str` or [`~transformers.PreTrainedTokenizerBase`], *optional*):
            What counts tokens, for budget and ratio: that of the model that reads the result. Defaults to the
            critic's.
        language (`str`, *optional*, defaults to `"en"`):
            Whose abbreviations end no sentence.
        progress (`bool`, *optional*):
            Whether there is a progress bar. By default from 17 windows on.
        compat (`str`, *optional*):
            `"official"`: windows, decoding and spans of the released server, for one text. Goes with none of the
            options that the server does not have.
        min_keyword_len (`int`, *optional*, defaults to `4`):
            With `compat`: spans have more tokens than this.
        complete_sentence (`bool`, *optional*, defaults to `False`):
            With `compat`: spans are widened to the next full stop.
    """

    target_tokens: int | None = None
    rate: float | None = None
    granularity: str = "token"
    critic: str = "auto"
    tags: Sequence[str] | None = None
    threshold: float = 0.5
    penalty: float = 4.0
    max_gap: int = 0
    gap_threshold: float = 0.5
    min_spans: int = 0
    min_tokens: int = 1
    keep: Sequence[Sequence[int]] | None = None
    fallback: str = "none"
    window_tokens: int | None = None
    overlap: int = 0
    batch_tokens: int | None = None
    separator: str = "\n"
    document_separator: str = "\n\n"
    include_titles: bool = True
    reader_tokenizer: Any = None
    language: str = "en"
    progress: bool | None = None
    compat: str | None = None
    min_keyword_len: int = 4
    complete_sentence: bool = False

    def __post_init__(self):
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and getattr(type(self), name) is None:
                continue
            if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
                raise ValueError(f"`{name}` must be a whole number, {least} or more, got {value!r}")
        for name, (low, high) in _BETWEEN.items():
            value = getattr(self, name)
            if name == "rate" and value is None:
                continue
            if not isinstance(value, Real) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(f"`{name}` must be a number between {low} and {high}, got {value!r}")
        if self.rate == 0:
            raise ValueError("`rate` must be above 0 and at most 1, got 0")
        if not 0 < self.threshold < 1:
            raise ValueError(f"`threshold` must lie between 0 and 1, got {self.threshold!r}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                names = ", ".join(map(repr, choices))
                raise ValueError(f"`{name}` must be one of {names}, got {getattr(self, name)!r}")
        for name in ("separator", "document_separator", "language"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"`{name}` must be a text, got {type(getattr(self, name)).__name__}")
        if self.target_tokens is not None and self.rate is not None:
            raise ValueError(f"give either target_tokens={self.target_tokens} or rate={self.rate}, not both")
        if self.tags is not None:
            check_tags(self.tags)
        if not (
            self.reader_tokenizer is None or isinstance(self.reader_tokenizer, str) or callable(self.reader_tokenizer)
        ):
            kind = type(self.reader_tokenizer).__name__
            raise TypeError(f"`reader_tokenizer` must be a tokenizer or the name of one, got {kind}")
        self._check_compat()

    def _check_compat(self) -> None:
        options = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        changed = [
            name
            for name, (value, default) in options.items()
            if (value is not None if default is None else value != default)  # `keep` may be an array
        ]
        if self.compat is None and (only := {"min_keyword_len", "complete_sentence"}.intersection(changed)):
            raise ValueError(f"{', '.join(sorted(only))} goes with compat='official' only")
        others = [name for name in changed if name not in _OFFICIAL or (name == "critic" and self.critic == "product")]
        if self.compat is not None and others:
            raise ValueError(f"compat='official' goes without {', '.join(others)}: the released server has none")

    @classmethod
    def check_names(cls, names: Mapping[str, Any]) -> None:
        """Raises `TypeError` for the first name that is no option."""
        known = [field.name for field in fields(cls)]
        for name in names:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean `{close[0]}`?" if close else f"; known are {', '.join(known)}"
                raise TypeError(f"context compression has no parameter `{name}`{hint}")


def check_tags(tags: Any) -> None:
    """Raises `ValueError` for anything but a list of words."""
    if isinstance(tags, str) or not isinstance(tags, Sequence) or not all(isinstance(t, str) and t for t in tags):
        raise ValueError(f"`tags` must be a list of words, got {tags!r}")


_LEAST = {"target_tokens": 0, "max_gap": 0, "min_spans": 0, "min_tokens": 1, "window_tokens": 2}
_LEAST |= {"overlap": 0, "batch_tokens": 1, "min_keyword_len": 0}
_BETWEEN = {"rate": (0, 1), "threshold": (0, 1), "gap_threshold": (0, 1), "penalty": (0, float("inf"))}
_CHOICES = {"granularity": GRANULARITIES, "critic": CRITICS, "fallback": FALLBACKS, "compat": (None, "official")}
