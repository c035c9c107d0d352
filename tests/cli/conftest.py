"""The benchmark Loong in small, and a model that answers it."""

import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from qwenlong_trl.loong.made_up import made_up  # noqa: E402


sys.path.insert(0, str(Path(__file__).parents[1] / "loong"))


@pytest.fixture(scope="session")
def loong(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loong")
    made_up(folder)
    return folder


@pytest.fixture(scope="session")
def loong_model(tmp_path_factory, loong):
    """Random weights, and a tokenizer learnt from the documents, with a chat template."""
    folder = tmp_path_factory.mktemp("model")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = [path.read_text(encoding="utf-8") for path in sorted((loong / "doc").rglob("*.*"))]
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=700, special_tokens=["<eos>"], initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>", pad_token="<eos>")
    tokenizer.chat_template = "{% for m in messages %}Q: {{ m['content'] }}\nA:{% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
    LlamaForCausalLM(LlamaConfig(**sizes, **tokens, max_position_embeddings=1_500)).save_pretrained(folder)
    return str(folder)
