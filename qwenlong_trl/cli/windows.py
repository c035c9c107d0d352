"""How many tokens a model takes, as far as its files say.

```python
>>> context_window(GenerationArguments("Qwen/Qwen3-4B"))
40960
```
"""

from .generation import GenerationArguments


# Tokens that a chat template may add to a prompt whose length was counted without it.
_AROUND = 64
# Tokenizers that do not know have a number beyond all windows.
_UNKNOWN = 10**9


def context_window(model: GenerationArguments, tokenizer=None) -> int | None:
    """Tokens of prompt and answer together.

    Args:
        model ([`GenerationArguments`]):
            With `max_model_len` in its `vllm_options`, that is the answer: the engine is started with it. With the
            back ends transformers and vllm, the model's `max_position_embeddings` counts. A server is not asked.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Its `model_max_length` counts, too: the smaller of the two.

    Returns:
        `int` or `None`: `None` if none of them says it.
    """
    given = (model.vllm_options or {}).get("max_model_len")
    if given is not None:
        return int(given)
    found = [] if tokenizer is None else [tokenizer.model_max_length]
    if model.backend != "openai":
        found.append(_position_embeddings(model))
    known = [int(tokens) for tokens in found if tokens is not None and 0 < tokens < _UNKNOWN]
    return min(known, default=None)


def _position_embeddings(model: GenerationArguments) -> int | None:
    from transformers import AutoConfig

    options = {"revision": model.model_revision, "trust_remote_code": model.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(model.model_name_or_path, **options)
    except (OSError, ValueError):  # no such model, which loading it will say
        return None
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def around_official(mode: str) -> int:
    """Tokens of a prompt that its length in this mode of the evaluation leaves out."""
    return _AROUND if mode == "official" else 0


def room_beside_answer(args, window: int) -> int:
    """Tokens that a prompt can have in the model's window."""
    room = window - args.max_tokens - around_official(args.mode)
    if room < 1:
        raise ValueError(
            f"the model takes {window:,} tokens, max_tokens is {args.max_tokens:,}, and no prompt fits beside it; "
            "give a smaller --max_tokens, or --max_input_tokens if the model takes more"
        )
    return room


def fitting_lengths(args, names: list[str], window: int | None) -> list[int]:
    """Those of the synthetic suite that the model can take whole."""
    from ..evaluation.suites import DEFAULT_LENGTHS

    lengths = sorted(args.lengths or DEFAULT_LENGTHS)
    if "synthetic" not in names or window is None or args.max_input_tokens is not None:
        return lengths
    room = room_beside_answer(args, window)
    left = [length for length in lengths if length <= room]
    if not left:
        raise ValueError(
            f"no length fits: the model takes {window:,} tokens with the answer, so that prompts have at most "
            f"{room:,}; give shorter --lengths, or a smaller --max_tokens"
        )
    if len(left) < len(lengths):
        names = ", ".join(f"{length:,}" for length in lengths if length > room)
        print(f"left out of the synthetic suite: prompts of {names} tokens, as the model takes {room:,} and an answer")
    return left


def longest_prompt(args, window: int | None, lengths: list[int]) -> int:
    """Tokens of the longest prompt."""
    from ..evaluation.protocol import L1_MAX_INPUT_TOKENS

    if args.max_input_tokens is not None:
        return args.max_input_tokens
    most = max([L1_MAX_INPUT_TOKENS, *lengths])
    if window is None:
        print(
            f"warning: nothing says how many tokens the model takes; prompts have up to {most:,} and an answer "
            f"{args.max_tokens:,}. Give --max_input_tokens if that is too much"
        )
        return most
    room = room_beside_answer(args, window)
    if room < most:
        print(f"prompts have at most {room:,} tokens, as the model takes {window:,} with the answer")
    return min(room, most)
