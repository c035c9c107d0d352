"""Dense retrieval with a real, tiny model of sentence-transformers, made on the spot."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from qwenlong_trl.loong import sentence_transformers_retriever


pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")

WORDS = "net sales cash of the lamp mill rose fell in 2024 12,000 shares".split()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    bert, folder = tmp_path_factory.mktemp("bert"), tmp_path_factory.mktemp("encoder")
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(bert)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **sizes)).save_pretrained(bert)
    transformer = Transformer(str(bert), max_seq_length=64)
    SentenceTransformer(modules=[transformer, Pooling(32)]).save(str(folder))
    return str(folder)


def test_the_same_words_come_first(encoder):
    retriever = sentence_transformers_retriever(encoder, device="cpu")
    chunks = ["cash of the mill fell", "net sales of the lamp rose in 2024", "12,000 shares"]
    scores = retriever("net sales of the lamp rose in 2024", chunks)
    assert scores.shape == (3,) and scores.argmax() == 1 and scores[1] == pytest.approx(1.0, abs=1e-4)
