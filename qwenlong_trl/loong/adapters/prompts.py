"""The prompts of Loong for harnesses, which give options as numbers and texts.

```python
>>> prompts = make_prompts(folder="loong", set=1, domain="financial", policy="bm25", max_tokens=32_768)
>>> for record, prompt in prompts.pairs:
...     print(record.id, prompt.tokens, prompts.about["policy"]["name"])
```
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..assembly import OFFICIAL_MAX_TOKENS, Assembly, LoongPrompt, assemble
from ..documents import LoongDocuments, MissingDocumentsError, cl100k_encoding, find_loong
from ..records import LoongRecord, read_loong, select


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

POLICIES = ("skip", "middle", "bm25")
ANSWER_TOKENS = 2048
_SEAMS = 8  # tokens that a chat template and the text next to it may take more than each apart


@dataclass(frozen=True)
class Prompts:
    """
    Args:
        pairs (`list[tuple[LoongRecord, LoongPrompt]]`):
            Each record with its prompt.
        about (`dict[str, Any]`):
            How they were put together, see [`Assembly.describe`].
    """

    pairs: list[tuple[LoongRecord, LoongPrompt]]
    about: dict[str, Any]


def make_prompts(
    folder: str | None = None,
    set: int | Sequence[int] | None = None,
    level: int | Sequence[int] | None = None,
    domain: str | Sequence[str] | None = None,
    language: str | Sequence[str] | None = None,
    limit: int | None = None,
    mode: str = "fixed",
    policy: str = "skip",
    max_tokens: int | None = None,
    answer_tokens: int = ANSWER_TOKENS,
    tokenizer: str | None = None,
    seed: int = 0,
    skip_missing: bool = False,
    wanted: Callable[[LoongRecord], bool] = lambda record: True,
) -> Prompts:
    """
    Reads records and documents and puts the prompts together.

    Args:
        folder (`str`, *optional*):
            Holds `loong.jsonl` and `doc/` or `doc.zip`. By default the one that `LOONG_DATA` names.
        set, level, domain, language (*optional*):
            A value or several; all by default.
        limit (`int`, *optional*):
            Only so many of these records, see [`~qwenlong_trl.loong.records.select`].
        mode (`str`, *optional*, defaults to `"fixed"`):
            `"fixed"` or `"official"`, see [`Assembly`]. In official mode the orders of documents depend on the
            selection, as in the released code.
        policy (`str`, *optional*, defaults to `"skip"`):
            Fixed mode: `"skip"`, `"middle"` or `"bm25"`.
        max_tokens (`int`, *optional*, defaults to 128,000):
            Fixed mode: of prompt and answer together, the context window of the model. Official mode: of the prompt.
        answer_tokens (`int`, *optional*, defaults to 2,048):
            Longest answer.
        tokenizer (`str`, *optional*):
            Fixed mode: counts, and knows the chat template; a name on the hub or a folder. By default cl100k, which
            is not that of the model: leave some room in `max_tokens` then.
        seed (`int`, *optional*, defaults to `0`):
            Fixed mode: of the orders of documents.
        skip_missing (`bool`, *optional*, defaults to `False`):
            Leave records out whose documents are not there, instead of stopping.
        wanted (`Callable`, *optional*):
            Which of these records get a prompt. The others have their part in the orders of official mode all the
            same.

    Raises:
        `ValueError`: for an option, file or record that is not as it should be.
        `OSError`: the files cannot be read.
    """
    from tqdm.auto import tqdm

    records_path, documents_path = find_loong(folder)
    several = (_several(set, int), _several(level, int), _several(domain, str), _several(language, str))
    records = select(read_loong(records_path), *several, limit)
    documents = LoongDocuments(documents_path)
    if skip_missing:
        records = _available(records, documents)
    assembly = _assembly(mode, policy, max_tokens, answer_tokens, tokenizer, seed)
    by_id = {record.id: record for record in records}
    ids = {record.id for record in records if wanted(record)}
    if not ids:
        raise ValueError("none of these records can be used here; select others")
    made = assemble(records, documents, assembly, wanted=ids)
    made = tqdm(made, "Assembling", len(ids), unit=" prompts", disable=None)  # none where nobody looks
    return Prompts([(by_id[prompt.id], prompt) for prompt in made], assembly.describe())


def _assembly(
    mode: str, policy: str, max_tokens: int | None, answer_tokens: int, tokenizer: str | None, seed: int
) -> Assembly:
    max_tokens = OFFICIAL_MAX_TOKENS if max_tokens is None else int(max_tokens)
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    if mode != "fixed":
        if policy != "skip":
            raise ValueError(f'policy {policy!r} goes with mode="fixed"; official mode skips whole documents')
        return Assembly(mode, max_tokens)
    counting = cl100k_tokenizer() if tokenizer is None else _load(tokenizer)
    around = 0
    if counting.chat_template is not None:
        message = [{"role": "user", "content": ""}]
        around = len(counting.apply_chat_template(message, add_generation_prompt=True, return_dict=True)["input_ids"])
    budget = max_tokens - int(answer_tokens) - around - _SEAMS
    if budget < 1:
        raise ValueError(
            f"max_tokens={max_tokens:,} has no room for an answer of {answer_tokens:,} tokens; raise it, or lower "
            "answer_tokens"
        )
    from ..policies import BM25Policy, MiddlePolicy, SkipPolicy

    fitting = {"skip": SkipPolicy, "middle": lambda: MiddlePolicy(counting), "bm25": lambda: BM25Policy(counting)}
    return Assembly("fixed", budget, fitting[policy](), int(seed), counting)


def _several(value: Any, type: type) -> list | None:
    """One value, several, or a text with commas, as a list."""
    if value is None or value == "":
        return None
    values = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value
    try:
        return [type(one) for one in values]
    except (TypeError, ValueError):
        raise ValueError(f"expected a whole number or several, got {value!r}") from None


def _available(records: Sequence[LoongRecord], documents: LoongDocuments) -> list[LoongRecord]:
    missing = documents.missing(records)
    left = [record for record in records if record.id not in missing]
    if not left:
        raise MissingDocumentsError(missing, str(documents.source))
    if missing:
        logger.warning(
            f"{len(missing)} of {len(records)} records lack documents in {documents.source} and are left out: "
            f"{', '.join(list(missing)[:5])}{' ...' if len(missing) > 5 else ''}"
        )
    return left


def _load(name: str) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name)


@lru_cache(maxsize=1)
def cl100k_tokenizer() -> PreTrainedTokenizerFast:
    """
    cl100k, in which the benchmark counts, as a tokenizer of transformers: policies need to know which characters a
    token is.

    Raises:
        `ValueError`: tiktoken is not installed, or cannot load its file.
    """
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    class Converter(TikTokenConverter):
        """Converts ranks that are loaded. The pattern that it splits by is cl100k's."""

        @staticmethod
        def load_tiktoken_bpe(ranks: dict[bytes, int]) -> dict[bytes, int]:
            return ranks

    converted = Converter(vocab_file=cl100k_encoding()._mergeable_ranks).converted()
    return PreTrainedTokenizerFast(tokenizer_object=converted, name_or_path="cl100k_base")
