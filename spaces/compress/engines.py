"""The models behind the page: the two small ones of this folder, or others of the Hub; and the compression."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from qwenlong_trl.cprs import ContextCompressionPipeline
from qwenlong_trl.data import Document, LongContextExample
from qwenlong_trl.spaces.hub_models import fetch_model
from qwenlong_trl.spaces.reader import Reader, hub_reader, loading


MODELS = Path(__file__).with_name("models")  # made by examples/compress_space_models.py
MODEL_BYTES = 3 * 10**9  # what two cores and 16 GB bear
READER_TOKENS = 8_192  # of a prompt with its answer
ANSWER_TOKENS = 48


def prompt_of(context: str, question: str) -> str:
    """What a reader is asked, and what the page gives to copy."""
    return f"{context}\n\n{question}\n"


@functools.lru_cache(maxsize=1)
def small_critic() -> ContextCompressionPipeline:
    return _critic(MODELS / "critic")


@functools.lru_cache(maxsize=1)
def small_reader() -> Reader:
    # `AutoTokenizer` takes a word-level tokenizer beside a Qwen2 model for Qwen's own.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(MODELS / "reader")
    return Reader(MODELS / "reader", READER_TOKENS, ANSWER_TOKENS, tokenizer)


def load_critic(model_id: str) -> ContextCompressionPipeline:
    """
    The critic of this folder for an empty name, else one of the Hub.

    Raises:
        `ValueError`: see [`fetch_model`]; or the model is no critic.
    """
    return _hub_critic(model_id) if model_id else small_critic()


def load_reader(model_id: str) -> Reader:
    """The reader of this folder for an empty name, else one of the Hub; errors as those of [`hub_reader`]."""
    return hub_reader(model_id, MODEL_BYTES, READER_TOKENS, ANSWER_TOKENS) if model_id else small_reader()


@functools.lru_cache(maxsize=1)  # the last one stays in memory, and no other
def _hub_critic(model_id: str) -> ContextCompressionPipeline:
    folder = fetch_model(model_id, MODEL_BYTES)
    with loading(model_id, "a critic that compresses (CPRS)", folder):
        return _critic(folder)


def _critic(folder: Path) -> ContextCompressionPipeline:
    """Model and pipeline are those of the package; a repository's own code is not looked at."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return ContextCompressionPipeline.from_pretrained(str(folder), tokenizer=tokenizer, device="cpu")


def compress(
    critic: ContextCompressionPipeline,
    reader: Reader,
    documents: Sequence[Document],
    question: str,
    instruction: str,
    target_tokens: int,
    granularity: str,
) -> tuple[dict, float]:
    """The output of the pipeline, whose tokens are those of the reader, and the seconds that it took."""
    context = [{"title": d.title, "text": d.text} for d in documents]
    example = {"context": context, "query": question, "instruction": instruction or None}
    options = {"target_tokens": target_tokens, "granularity": granularity, "reader_tokenizer": reader.tokenizer}
    started = time.perf_counter()
    result = critic(example, progress=False, **options)
    return result, time.perf_counter() - started


def unknown_share(tokenizer, text: str) -> float:
    """Share of the tokens of a text that a word-level tokenizer has no entry for; 0 for tokenizers of any text."""
    if tokenizer.unk_token_id is None:
        return 0.0
    ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    return ids.count(tokenizer.unk_token_id) / max(len(ids), 1)


def examples() -> list[LongContextExample]:
    """Held-out records in the language of the small models."""
    rows = json.loads((MODELS / "examples.json").read_text(encoding="utf-8"))
    return [LongContextExample.from_dict(row) for row in rows]


def measured() -> dict:
    """What the script that made the small models measured on held-out records."""
    return json.loads((MODELS / "measured.json").read_text(encoding="utf-8"))
