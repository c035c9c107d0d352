"""A tiny model and tokenizer made on the spot, and prompts for them."""

import random
from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM


WORDS = [f"w{i}" for i in range(40)]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Word-level: the token count of a prompt is its number of words."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def tiny_model(seed: int = 0, vocabulary: int = 43) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    return Qwen2ForCausalLM(config)


def save_tiny(folder: Path, chat_template: str | None = None, positions: int = 128, width: int = 16, **options) -> str:
    """A tiny model with its tokenizer in a folder; `options` are fields of its configuration."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    # Not Qwen2: for its folders `AutoTokenizer` builds a byte-level tokenizer, whatever was saved.
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    config = LlamaConfig(**sizes, **tokens, max_position_embeddings=positions, **options)
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def tiny_prompts(lengths: list[int], seed: int = 0) -> Dataset:
    """One prompt of each length, with ids `p0`, `p1`, …"""
    rng = random.Random(seed)
    return Dataset.from_list(
        [{"id": f"p{i}", "prompt": " ".join(rng.choices(WORDS, k=n))} for i, n in enumerate(lengths)]
    )


def parity_reward(completions, **kwargs):
    """1 for about half of all completions: a reward with signal for an untrained model."""
    return [float(sum(map(ord, completion)) % 2) for completion in completions]
