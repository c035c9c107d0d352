"""What stands before a window: the instruction and the question, and the vocabulary entries of the tag words.

The release puts them in front of each window like this, with ChatML's markers, a third role that is literally
`context`, no marker behind the window and no turn of an assistant (its `call_model`):

    <|im_start|>system
    {instruction}<|im_end|>
    <|im_start|>user
    {query}<|im_end|>
    <|im_start|>context
    {window}
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .units import without_surrogates


OUTSIDE_WORD = "outside"

# Instructions of the release, with real line feeds. Each names its tag word in the rule at its end.
NEEDLE_INSTRUCTION = (
    "You are an expert for information extraction, your task is to extract the 'needles' in the format of  'One of "
    "the special magic {type_needle_v} for {key} is: {value}.' from the documents to answer user's question.\n"
    "## tagging rule:\n- tag the needles with 'needle'"
)
CHAIN_INSTRUCTION = (
    "You are an expert for information extraction, your task is to extract the assigment chains like 'VAR XXX1 = "
    "XXX2' from the documents to answer the question of the user.\n"
    "## tagging rule:\n- tag the assignment chains with 'chain'"
)

_WITHOUT = ": do without tag words (tag_loss_weight=0 in training, critic='position' in the pipeline)"
_RULE = re.compile(r"tagging rule", re.IGNORECASE)
_TAG = re.compile(r"\bwith\s+['\"`‘“]([^'\"`’”\n]+)['\"`’”]")


def declared_tags(instruction: str) -> tuple[str, ...]:
    """The tag words that the `## tagging rule` of an instruction names, each once; none without such a rule."""
    rule = _RULE.search(instruction)
    return tuple(dict.fromkeys(_TAG.findall(instruction, rule.end()))) if rule else ()


def tag_token_ids(tags: Sequence[str], tokenizer) -> list[int]:
    """
    The vocabulary entries by which the LM head names tag words: the first sub-token of each, and `outside` as the
    last.

    Raises:
        `ValueError`: two words begin with the same sub-token, a word is unknown, or `outside` is no single entry.
    """
    ids: dict[int, str] = {}
    for word in (*tags, OUTSIDE_WORD):
        tokens = _encode(word, tokenizer)
        if not tokens or tokens[0] == tokenizer.unk_token_id:
            raise ValueError(f"the tokenizer does not know the tag word {word!r}{_WITHOUT}")
        if word == OUTSIDE_WORD and len(tokens) > 1:
            raise ValueError(f"{word!r} is no single entry of the vocabulary{_WITHOUT}")
        if tokens[0] in ids:
            raise ValueError(
                f"the tag words {ids[tokens[0]]!r} and {word!r} begin with the same sub-token: rename one"
            )
        ids[tokens[0]] = word
    return list(ids)


def prefix_ids(instruction: str, query: str, tokenizer) -> np.ndarray:
    """
    The tokens before a window, `int64[prefix]`.

    Only the markers are markers: `<|im_start|>` inside an instruction or a question stays text. A tokenizer without
    ChatML's markers gets them as text.
    """
    pieces = ("<|im_start|>", f"system\n{instruction}", "<|im_end|>", "\n")
    pieces += ("<|im_start|>", f"user\n{query}", "<|im_end|>", "\n", "<|im_start|>", "context\n")
    known = tokenizer.get_added_vocab()
    ids: list[int] = []
    for piece in pieces:
        ids += [known[piece]] if piece in known else _encode(piece, tokenizer)
    return np.array(ids, dtype=np.int64)


def _encode(text: str, tokenizer) -> list[int]:
    text = without_surrogates(text)
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
