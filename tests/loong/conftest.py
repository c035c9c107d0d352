"""Made-up records of Loong with their documents, and a tokenizer that counts them."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from qwenlong_trl.loong import LoongDocuments, LoongRecord, read_loong
from qwenlong_trl.loong.made_up import made_up


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("loong")
    made_up(folder)
    return folder


@pytest.fixture(scope="session")
def records(folder) -> list[LoongRecord]:
    return read_loong(folder / "loong.jsonl")


@pytest.fixture(scope="session")
def documents(folder) -> LoongDocuments:
    return LoongDocuments(folder / "doc")


@pytest.fixture(scope="session")
def tokenizer(records, documents) -> PreTrainedTokenizerFast:
    """Byte-level BPE, with a few merges learnt from the made-up documents."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator((one.text for record in records for one in documents.load(record)), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
