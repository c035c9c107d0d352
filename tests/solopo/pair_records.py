"""Records, a model and a server for tests of preference pairs; one token a word."""

import random
import re
import zlib
from pathlib import Path

from tiny import WORDS, save_tiny

from qwenlong_trl.data import Document, Evidence, LongContextExample


TEMPLATE = "$DOC$ $Q$"
CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}w3"
# Words of answers, which the model below says; and others, which all documents are made of, and which end a sample.
ANSWERS, FILLERS = WORDS[:12], WORDS[12:]


def pair_examples(count: int = 12, seed: int = 0, documents: int = 6) -> list[LongContextExample]:
    """Records with one document of evidence among others; the first three answers of each are all accepted."""
    rng = random.Random(seed)
    examples = []
    for i in range(count):
        answers = rng.sample(ANSWERS, 3)
        texts = [" ".join(rng.choices(FILLERS, k=5)) for _ in range(documents)]
        place = rng.randrange(documents)
        texts[place] = f"{answers[0]} {texts[place]}"
        examples.append(
            LongContextExample(
                id=f"r{i}",
                question=f"{rng.choice(FILLERS)} {rng.choice(FILLERS)}",
                answers=tuple(answers),
                documents=tuple(Document("", text) for text in texts),
                evidence=(Evidence(place, 0, len(answers[0])),),
                source="made",
            ).validate()
        )
    return examples


def save_pair_model(folder: Path, chat: bool = True, width: int = 16) -> str:
    """A tiny model in a folder which ends its samples soon, having said words of answers, if anything."""
    from transformers import GenerationConfig

    model = save_tiny(folder, CHAT_TEMPLATE if chat else None, positions=512, width=width)
    GenerationConfig(eos_token_id=[1, *range(15, 43)], pad_token_id=0).save_pretrained(model)
    return model


def says_a_word(body: dict) -> list:
    """Samples of a server: a word each, by the request alone; one of eight is cut off, one of eight is empty."""
    texts = []
    for i in range(body["n"]):
        number = zlib.crc32(f"{body['messages']} {body['seed']} {i}".encode())
        word = "" if number % 8 == 1 else f"Therefore, the answer is {ANSWERS[number // 8 % len(ANSWERS)]}."
        texts.append({"content": word, "finish_reason": "length" if number % 8 == 0 else "stop"})
    return texts


def numbers(line: str) -> list[int]:
    """The numbers in a line of text."""
    return [int(number) for number in re.findall(r"\d+", line.replace(",", ""))]
