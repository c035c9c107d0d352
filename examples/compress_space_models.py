"""The small critic that the Compress Space ships beside the quickstart's reader, trained on one core.

    qwenlong-trl quickstart --skip_single_stage              # makes quickstart/reader
    python examples/compress_space_models.py --reader quickstart/reader --output spaces/compress/models

Text is an index of cards: a name and a thing each ("Talo lamp"). A question is a name. The reader has been taught with
2 to 5 cards, so that it is lost in a long index. The critic is the same model with the heads of a token critic,
trained to mark the cards whose names stand in the question. `models/measured.json` says how often the reader is right
on whole indexes that neither has seen, on what the critic keeps of them, and on as many random cards.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path

import torch
from cprs_learning import FIRST_NAMES, FIRST_PEOPLE, MARKERS, Plan, train
from datasets.utils.logging import disable_progress_bar
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from qwenlong_trl.cprs import ContextCompressionPipeline, CPRSForTokenCritic
from qwenlong_trl.cprs.configuration_cprs import QA_INSTRUCTION
from qwenlong_trl.data import Document, Evidence, LongContextExample
from qwenlong_trl.quickstart.cards import NAMES, THINGS, card_index, card_tokenizer
from qwenlong_trl.quickstart.stages import right_answers


WINDOW_TOKENS = 128
CARDS = (3, 28)  # of an index in training
LENGTHS = (5, 16, 40, 88)  # cards of what is measured: those of the quickstart
BUDGET = 10  # tokens: five cards
MODEL_FILES = ("*config.json", "*.safetensors", "tokenizer.json")


def make_record(cards: int, seed: str, asked: int = 1, names: int = len(NAMES)) -> LongContextExample:
    """
    One text with a paragraph for each card, and a question about so many of them. Depends on its arguments alone.
    """
    index = card_index(cards, seed, NAMES[:names])
    lines = [f"{card.title} {card.text}" for card in index.documents]
    first = next(i for i, card in enumerate(index.documents) if card.title == index.question)
    others = [i for i in range(cards) if i != first]
    about = sorted([first, *random.Random(f"{seed}/{cards}").sample(others, asked - 1)])
    starts = [sum(len(line) + 2 for line in lines[:i]) for i in about]
    return LongContextExample(
        id=f"index-{cards}-{seed}",
        question=" ".join(index.documents[i].title for i in about),
        answers=tuple(index.documents[i].text for i in about),
        documents=(Document("", "\n\n".join(lines)),),
        evidence=tuple(Evidence(0, start, start + len(lines[i])) for start, i in zip(starts, about, strict=True)),
        source="synthetic/index",
    )


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The reader's words, then ChatML's markers and those of the tags; the instruction is a single one."""
    words = ["<pad>", "<eos>", "<unk>", *NAMES, *THINGS, *MARKERS, "system", "user", "context", "fact", "outside"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_tokens([AddedToken(QA_INSTRUCTION, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=list(MARKERS),
    )


def make_critic(reader_folder: str, tokenizer, seed: int) -> CPRSForTokenCritic:
    """The reader with the heads of a critic, and with entries for the words that it did not have."""
    torch.manual_seed(seed)
    backbone = AutoModelForCausalLM.from_pretrained(reader_folder, dtype=torch.float32)
    backbone.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    layers = backbone.config.num_hidden_layers
    with tempfile.TemporaryDirectory() as folder:
        backbone.save_pretrained(folder)
        # It knows names again that it has read before: no layer has to look ahead.
        return CPRSForTokenCritic.from_backbone(
            folder, bidirectional_start_layer=layers, window_tokens=WINDOW_TOKENS, max_position_embeddings=1024
        )


def training_records(plan: Plan, seed: int) -> list[LongContextExample]:
    """
    In the order of the steps, each of one length. Names are few at first, as in `cprs_learning`, and up to half of the
    cards are asked about: whether a name stands in the question does not depend on how many others do.
    """
    rng, records = random.Random(f"index/{seed}"), []
    for step in range(plan.steps):
        grown = min(1.0, max(0.0, (step - plan.first_steps) / plan.growth_steps))
        names = round(FIRST_NAMES * (len(NAMES) / FIRST_NAMES) ** grown)
        most = round(FIRST_PEOPLE[1] + grown * (CARDS[1] - FIRST_PEOPLE[1]))
        cards = rng.randint(FIRST_PEOPLE[0], min(most, names))
        for i in range(plan.batch_size):
            asked = rng.randint(1, max(1, cards // 2))
            records.append(make_record(cards, f"train/{seed}/{step}/{i}", asked, names))
    return records


@torch.no_grad()
def measure(critic, reader_folder: Path, tokenizer, count: int) -> list[dict]:
    """Shares of right answers on whole indexes, on what the critic keeps, and on as many random cards."""
    reader, reads = AutoModelForCausalLM.from_pretrained(reader_folder).eval(), card_tokenizer()
    compressor = ContextCompressionPipeline(
        model=critic, tokenizer=tokenizer, device="cpu", task="context-compression"
    )
    found = []
    for cards in LENGTHS:
        records = [make_record(cards, f"held-out/{i}") for i in range(count)]
        texts = [record.documents[0].text for record in records]
        inputs = [{"context": text, "query": r.question} for text, r in zip(texts, records, strict=True)]
        kept = compressor(inputs, target_tokens=BUDGET, granularity="sentence", reader_tokenizer=reads, progress=False)
        rng = random.Random(cards)
        contexts = {
            "full": texts,
            "compressed": [one["compressed"] for one in kept],
            "random": ["\n".join(rng.sample(text.split("\n\n"), min(cards, BUDGET // 2))) for text in texts],
        }
        row = {"cards": cards, "records": count, "tokens": 2 * cards}
        for name, of in contexts.items():
            prompts = [f"{context}\n\n{r.question}\n" for context, r in zip(of, records, strict=True)]
            row[name] = right_answers(reader, reads, prompts, [list(r.answers) for r in records]) / count
        row["answer_kept"] = sum(
            f"{r.question} {r.answers[0]}" in one["compressed"] for r, one in zip(records, kept, strict=True)
        )
        row["answer_kept"] /= count
        found.append(row)
        print(row, flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--reader", default="quickstart/reader", help="Folder of the quickstart's reader.")
    parser.add_argument("--output", default="spaces/compress/models", help="Folder for critic, reader and figures.")
    parser.add_argument("--records", type=int, default=256, help="Held-out indexes of each length.")
    parser.add_argument("--steps", type=int, default=600, help="Steps of the critic's training.")
    parser.add_argument("--seed", type=int, default=0, help="Of weights and records.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    disable_progress_bar()
    folder, busy = Path(options.output), time.process_time()

    tokenizer, plan = (
        make_tokenizer(),
        Plan(steps=options.steps, first_steps=20, growth_steps=60, batch_size=16, learning_rate=1e-3),
    )
    critic = make_critic(options.reader, tokenizer, options.seed)
    train(critic, tokenizer, plan, options.seed, training_records(plan, options.seed))
    print(f"critic: {time.process_time() - busy:.0f} s of the processor", flush=True)
    critic.save_pretrained(folder / "critic")
    for code in (folder / "critic").glob("*.py"):  # the Space has the package
        code.unlink()
    tokenizer.save_pretrained(folder / "critic")
    (folder / "reader").mkdir(parents=True, exist_ok=True)
    for file in (file for pattern in MODEL_FILES for file in Path(options.reader).glob(pattern)):
        shutil.copy(file, folder / "reader")
    found = measure(critic, folder / "reader", tokenizer, options.records)
    measured = {"budget": BUDGET, "seed": options.seed, "lengths": found}
    (folder / "measured.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    examples = [make_record(cards, f"example/{cards}").to_dict() for cards in (12, 24, 40, 60, 88)]
    (folder / "examples.json").write_text(json.dumps(examples, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
