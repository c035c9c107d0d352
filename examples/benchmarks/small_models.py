"""The models that the benchmarks make on the spot: Qwen3 of a chosen size with random weights. Not a script."""

from pathlib import Path


HEAD_SIZE = 64


def qwen3_config(width: int, layers: int, vocabulary: int, positions: int, **settings):
    """A `Qwen3Config` with heads of `HEAD_SIZE`, half as many for keys and values unless `settings` say otherwise."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD_SIZE,
        head_dim=HEAD_SIZE,
        max_position_embeddings=positions,
        **{"num_key_value_heads": max(1, width // HEAD_SIZE // 2), **settings},
    )


def save_qwen3(folder: Path, width: int, layers: int, vocabulary: int, positions: int, dtype: str = "float32") -> None:
    """Saves a model and a tokenizer of words: `w0`, `w1` and so on are tokens from number 3 on."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

    words = ["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(vocabulary - 3))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    special = {"tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    config = qwen3_config(width, layers, vocabulary, positions, **special)
    Qwen3ForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
