"""Synthetic data for a tiny reader: card indexes, in a language of some hundred words.

A document is a card: its title is a name, its text a thing. A question is a name; the answer is the thing on that
name's card. Every other card is a distractor of the same kind, so an index of n cards can be answered by guessing
once in n times at best. The records are ordinary [`LongContextExample`]s.

```txt
 Talo          <- document 1, two tokens
 lamp
 Mirex         <- document 2
 violin
 …
 Talo          <- the question; answer: lamp
```
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ..data import Document, Evidence, LongContextExample


_ONSETS = ("Ba", "De", "Fi", "Go", "Ju", "Ka", "Le", "Mi", "No", "Pu", "Ra", "Se", "Ti", "Vo", "Wu", "Za")
_CODAS = ("dan", "fel", "gor", "lin", "mus", "nek", "rov", "tas")
NAMES = tuple(onset + coda for coda in _CODAS for onset in _ONSETS)  # 128 invented names
THINGS = (
    *("anchor", "apple", "arrow", "basket", "bell", "book", "bottle", "bridge", "candle", "clock", "coin"),
    *("crown", "drum", "feather", "flute", "garden", "hammer", "harbour", "kettle", "ladder", "lamp", "lantern"),
    *("mirror", "needle", "piano", "ribbon", "saddle", "spoon", "table", "tower", "violin", "window"),
)  # 32 things

# The tiny reader knows no English, so it is shown the cards and the question and nothing else.
TEMPLATE = "$DOC$\n$Q$"

TOKENS_PER_CARD = 2


def card_tokenizer() -> PreTrainedTokenizerFast:
    """Word-level tokenizer over names and things: a card has two tokens, an answer one."""
    words = ["<pad>", "<eos>", "<unk>", *NAMES, *THINGS]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def prompt_tokens(cards: int) -> int:
    """Tokens of a prompt with that many cards."""
    return TOKENS_PER_CARD * cards + 1


def card_index(cards: int, seed: str, names: tuple[str, ...] = NAMES) -> LongContextExample:
    """One record: `cards` cards with different names, and a question about one. Depends on its arguments alone."""
    rng = random.Random(f"{seed}/{cards}")
    documents = tuple(Document(title=name, text=rng.choice(THINGS)) for name in rng.sample(names, cards))
    asked = rng.randrange(cards)
    return LongContextExample(
        id=f"cards-{cards}-{seed}",
        question=documents[asked].title,
        answers=(documents[asked].text,),
        documents=documents,
        evidence=(Evidence(document=asked, start=0, end=len(documents[asked].text)),),
        source="synthetic/cards",
    )


def card_indexes(count: int, fewest: int, most: int, seed: str) -> Iterator[LongContextExample]:
    """`count` records whose numbers of cards are spread evenly from `fewest` to `most`."""
    for i in range(count):
        cards = fewest + i * (most - fewest + 1) // count
        yield card_index(cards, f"{seed}-{i}")
