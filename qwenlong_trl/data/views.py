"""What trainers eat, made from records: prompts for RL, short and long twins for preference training, answers for SFT.

```python
>>> from qwenlong_trl.data import prompt_dataset, read_records
>>> train_dataset = prompt_dataset(read_records("train.parquet"), tokenizer)  # for GRPOTrainer and PhasedGRPOTrainer
```
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .prompts import render_prompt
from .record import InvalidRecordError, LongContextExample


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def prompt_view(
    example: LongContextExample,
    tokenizer: PreTrainedTokenizerBase | None = None,
    template: str | None = None,
    chat: bool = True,
    chat_template_kwargs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A record as one row of a GRPO data set; the documents appear in the prompt and in no other field.

    Args:
        example ([`LongContextExample`]):
            The record.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            The policy's tokenizer. Adds `prompt_length`.
        template (`str`, *optional*):
            Prompt template, see [`render_prompt`].
        chat (`bool`, *optional*, defaults to `True`):
            Whether the prompt is a list with one user message, else a string.
        chat_template_kwargs (`dict[str, Any]`, *optional*):
            Given to the chat template, as `GRPOConfig.chat_template_kwargs` is.

    Returns:
        `dict[str, Any]`: `id`, `prompt`, `prompt_length` (tokens of the prompt as `GRPOTrainer` feeds it: with the
        chat template and its generation prompt, or with the special tokens of a plain string), `answers`, `question`,
        `task`, `source`.

    Raises:
        `ValueError`: `chat` with a tokenizer that has no chat template.
    """
    text = render_prompt(example, template)
    prompt = [{"role": "user", "content": text}] if chat else text
    row = {"id": example.id, "prompt": prompt}
    if tokenizer is not None:
        row["prompt_length"] = _count_tokens(prompt, tokenizer, chat_template_kwargs)
    return row | _about(example)


def prompt_dataset(
    examples: Iterable[LongContextExample],
    tokenizer: PreTrainedTokenizerBase,
    template: str | None = None,
    chat: bool = True,
    chat_template_kwargs: dict[str, Any] | None = None,
) -> Dataset:
    """[`prompt_view`] of each record as a `datasets.Dataset` with fixed features, with a progress bar."""
    from datasets import Dataset, Features, Value
    from datasets.utils import tqdm

    text = Value("large_string")  # a set of long prompts can pass 2 GB
    features = Features(
        {
            "id": Value("string"),
            "prompt": [{"role": Value("string"), "content": text}] if chat else text,
            "prompt_length": Value("int64"),
            "answers": [Value("string")],
            "question": Value("string"),
            "task": Value("string"),
            "source": Value("string"),
        }
    )
    rows = [
        prompt_view(example, tokenizer, template, chat, chat_template_kwargs)
        for example in tqdm(examples, desc="Rendering prompts", unit=" prompts")
    ]
    # By column: `Dataset.from_list` refuses an empty list.
    return Dataset.from_dict({name: [row[name] for row in rows] for name in features}, features=features)


def twin_view(
    example: LongContextExample,
    tokenizer: PreTrainedTokenizerBase | None = None,
    template: str | None = None,
    chat: bool = True,
    chat_template_kwargs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A record as a short prompt (the documents with evidence, in their order) and a long one (all documents).

    The arguments are those of [`prompt_view`].

    Returns:
        `dict[str, Any]`: `id`, `prompt`, `long_prompt`, with a tokenizer also `prompt_length` and
        `long_prompt_length`, then `answers`, `question`, `task`, `source`.

    Raises:
        [`InvalidRecordError`]: the record has no evidence, so nothing says what its short twin is.
    """
    if not example.evidence:
        reason = f"record {example.id!r} needs evidence: its short prompt is made of the documents that hold it"
        raise InvalidRecordError("evidence", (), reason)
    documents = tuple(example.documents[i] for i in example.evidence_documents)
    short = prompt_view(
        replace(example, documents=documents, evidence=()), tokenizer, template, chat, chat_template_kwargs
    )
    long = prompt_view(example, tokenizer, template, chat, chat_template_kwargs)
    row = {"id": example.id, "prompt": short["prompt"], "long_prompt": long["prompt"]}
    if tokenizer is not None:
        row |= {"prompt_length": short["prompt_length"], "long_prompt_length": long["prompt_length"]}
    return row | _about(example)


def sft_view(
    example: LongContextExample, completion: str | None = None, template: str | None = None, chat: bool = True
) -> dict[str, Any]:
    """A record as a prompt and the completion to learn, for `SFTTrainer`.

    Args:
        example ([`LongContextExample`]):
            The record.
        completion (`str`, *optional*):
            What to learn instead of the bare answer, for example a distilled chain of thought with its answer.
            Defaults to the record's first answer in the sentence that its prompt asks for: "Therefore, the answer is
            X.", or "The correct answer is (X)." for multiple choice.
        template (`str`, *optional*):
            Prompt template, see [`render_prompt`].
        chat (`bool`, *optional*, defaults to `True`):
            Whether prompt and completion are lists with one message each, else strings.

    Returns:
        `dict[str, Any]`: `prompt` and `completion`.
    """
    if completion is None:
        # One full stop at the end, also after "U.S."; one pair of parentheses, also around "(B)".
        answer = example.answers[0].strip().removesuffix(".")
        if example.task == "multiple_choice":
            completion = f"The correct answer is ({answer.removeprefix('(').removesuffix(')')})."
        else:
            completion = f"Therefore, the answer is {answer}."
    prompt = render_prompt(example, template)
    if not chat:
        # No separator: trainers join plain strings as they are, and a line feed could merge with the prompt's last
        # token.
        return {"prompt": prompt, "completion": completion}
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": completion}],
    }


def _about(example: LongContextExample) -> dict[str, Any]:
    return {
        "answers": list(example.answers),
        "question": example.question,
        "task": example.task,
        "source": example.source,
    }


def _count_tokens(prompt: str | list[dict[str, str]], tokenizer, chat_template_kwargs: dict[str, Any] | None) -> int:
    if isinstance(prompt, str):
        return len(tokenizer(text=prompt)["input_ids"])
    options = chat_template_kwargs or {}
    if getattr(tokenizer, "chat_template", None) is None and "chat_template" not in options:
        name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        raise ValueError(f"the tokenizer {name} has no chat template: pass chat=False, or set tokenizer.chat_template")
    tokens = tokenizer.apply_chat_template(
        prompt, add_generation_prompt=True, tokenize=True, return_dict=True, **options
    )
    return len(tokens["input_ids"])
