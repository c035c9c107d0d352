"""A tiny critic with random weights and a tokenizer of the Qwen kind, both made on the spot."""

import random
from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from qwenlong_trl.cprs import ContextCompressionPipeline, CPRSConfig, CPRSForTokenCritic


QUERY = "Who built it?"
_LINES = [
    "fact needle outside fact needle outside",
    "The station stands on the northern shore. It was built by a small crew in the winter of 1987.",
    "Who built the station, and when? You are an expert for information extraction.",
]
_MARKERS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def tiny_critic_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with ChatML's markers and a normaliser that merges characters, as Qwen's has.

    `fact`, `needle` and `outside` are single entries of the vocabulary.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        show_progress=False,
        special_tokens=_MARKERS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    # Each tag word at the start of a line as well, where no blank belongs to it.
    tokenizer.train_from_iterator([*_LINES, *["fact", "needle", "outside"] * 20], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=_MARKERS[1:],
        clean_up_tokenization_spaces=False,
    )


def tiny_critic(seed: int = 0, backbone: str = "qwen2", **config) -> CPRSForTokenCritic:
    """Random weights, with heads large enough that the tokens differ in what is decided about them."""
    torch.manual_seed(seed)
    defaults = {
        "vocab_size": 400,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "max_position_embeddings": 8192,
        "window_tokens": 512,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": None,
        "tie_word_embeddings": False,
        "initializer_range": 0.5,
    }
    model = CPRSForTokenCritic(CPRSConfig(backbone_type=backbone, **(defaults | config)))
    with torch.no_grad():
        model.cls_head.weight.normal_(std=1.5)
        model.cls_head.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0]))  # about half of the tokens are kept
    return model.eval()


@cache
def tiny_pipeline(seed: int = 0) -> ContextCompressionPipeline:
    """Shared by tests: it holds no state but the tokenizers it has loaded."""
    return ContextCompressionPipeline(
        model=tiny_critic(seed), tokenizer=tiny_critic_tokenizer(), device="cpu", task="context-compression"
    )


def make_text(length: int, seed: int = 0) -> str:
    """Sentences and paragraphs of known words."""
    rng = random.Random(seed)
    words = "station crew winter glacier built north shore 1987 needle fact Ito small".split()
    pieces = []
    while sum(map(len, pieces)) < length:
        sentence = " ".join(rng.choices(words, k=rng.randint(3, 12))).capitalize()
        pieces.append(sentence + rng.choice([". ", "! ", ".\n\n"]))
    return "".join(pieces).strip()


TEXT = make_text(1800)
