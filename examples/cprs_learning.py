"""A token critic learns, from random weights, to keep a fact that shares no word with the question.

    python examples/cprs_learning.py            # minutes on an idle core
    python examples/cprs_learning.py --quick    # few names and short records

Records are cards about people with invented names. "In which city is the thing of Kafel?" needs two sentences: "Kafel
owns a violin." and, behind it, "It stands in Brusk." Each of the others has two sentences of the same two forms.
Whoever goes by the words of the question finds the first sentence and never the second.

The critic is a Qwen2 of a few layers, and [`CPRSTrainer`] trains both of its heads, on questions that grow from few
names and short records to all names and longer ones. The table is that of `cprs_evaluation.py`, for held-out records
as long as in training and for longer ones; the critic before its training is there for comparison.
"""

import argparse
import json
import random
import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from datasets.utils.logging import disable_progress_bar
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from transformers.utils import logging

from qwenlong_trl.cprs import CPRSConfig, CPRSForTokenCritic, CPRSTrainer, CPRSTrainingArguments
from qwenlong_trl.cprs.baselines import BASELINES, evaluate_baseline
from qwenlong_trl.cprs.configuration_cprs import QA_INSTRUCTION
from qwenlong_trl.cprs.evaluation import ContextCompressionEvaluator, Evaluated
from qwenlong_trl.cprs.report import compression_table, difference_table, measurements
from qwenlong_trl.data import Document, Evidence, LongContextExample
from qwenlong_trl.hub import write_card, write_measurements
from qwenlong_trl.quickstart.cards import NAMES, THINGS


CITIES = tuple(
    start + end
    for start in ("Br", "Cl", "Dr", "Fl", "Gr", "Kr", "Pl", "Pr", "Sk", "Sl", "St", "Sw", "Tr", "Vl", "Wr", "Zw")
    for end in ("ash", "usk", "olm", "ent")
)  # 64 cities
QUESTION = "In which city is the thing of {names}?"
MARKERS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
BUDGETS = (0.1, 0.2, 0.4)
HOW = "Held-out records, units of a sentence; means over records, 95 % bootstrap intervals."
WINDOW_TOKENS = 1_024  # a record takes less than half of them, so that none is cut

# Matching a name of the card with that of the question is what a random start has to find. It is found within some
# hundred steps with few names, and with questions about several people, which say something about more sentences.
FIRST_NAMES = 8
FIRST_PEOPLE = (3, 5)


@dataclass(frozen=True)
class Plan:
    """Size of the critic and of its training. Names and people of a record grow after `first_steps`."""

    layers: int = 3
    width: int = 64
    people: int = 16
    names: int = len(NAMES)
    steps: int = 600
    first_steps: int = 180
    growth_steps: int = 250
    batch_size: int = 32
    learning_rate: float = 3e-3
    outside_drop_rate: float = 0.0


HELP = {
    "layers": "Layers; the first stays causal.",
    "width": "Width of the layers.",
    "people": "Most people of a record in training.",
    "names": "Names of all records; at least twice as many as people.",
    "steps": "Steps of the training.",
    "first_steps": "Steps with few names and short records.",
    "growth_steps": "Steps over which names and people grow.",
    "batch_size": "Records of a step.",
    "learning_rate": "Largest learning rate.",
    "outside_drop_rate": "Share of the tokens outside of spans that do not count in a step.",
}
# What is learnt soonest: eight names, then twelve.
QUICK = Plan(layers=2, people=6, names=12, steps=280, first_steps=200, growth_steps=40)


def make_record(people: int, seed: str, asked: int = 1, names: int = len(NAMES)) -> LongContextExample:
    """
    A record with two sentences about each of so many people. Depends on its arguments alone.

    Args:
        people (`int`):
            On cards of two to four.
        seed (`str`):
            Of everything that is drawn.
        asked (`int`, *optional*, defaults to `1`):
            People that the question asks about.
        names (`int`, *optional*):
            Names to draw from. Defaults to all 128.
    """
    rng = random.Random(f"{seed}/{people}/{asked}/{names}")
    owners, cities = rng.sample(NAMES[:names], people), rng.sample(CITIES, people)
    about = rng.sample(range(people), asked)
    cards, evidence = [""], []
    left = rng.randint(2, 4)  # people that still go on this card
    for i, (name, city) in enumerate(zip(owners, cities, strict=True)):
        if not left:
            cards.append("")
            left = rng.randint(2, 4)
        left -= 1
        for sentence in (f"{name} owns a {rng.choice(THINGS)}.", f"It stands in {city}."):
            cards[-1] += " " * bool(cards[-1])
            if i in about:
                evidence.append(Evidence(len(cards) - 1, len(cards[-1]), len(cards[-1]) + len(sentence)))
            cards[-1] += sentence
    return LongContextExample(
        id=f"things-{people}-{seed}",
        question=QUESTION.format(names=" or ".join(owners[i] for i in about)),
        answers=tuple(cities[i] for i in about),
        documents=tuple(Document("", card) for card in cards),
        evidence=tuple(evidence),
        source="synthetic/things",
    )


def make_records(count: int, people: tuple[int, int], seed: str, names: int) -> list[LongContextExample]:
    """So many records, their numbers of people spread evenly from the fewest to the most."""
    fewest, most = people
    return [make_record(fewest + i * (most - fewest + 1) // count, f"{seed}-{i}", names=names) for i in range(count)]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """
    Word-level, with ChatML's markers.

    The instruction, which never changes, is a single entry: its words would be half of a short row.
    """
    split = pre_tokenizers.Whitespace()
    texts = ["system user context fact outside", QUESTION.format(names="or"), "owns a. It stands in", *CITIES]
    words = dict.fromkeys(word for text in texts for word, _ in split.pre_tokenize_str(text))
    # Names and things side by side, as the pre-training draws them.
    vocabulary = {word: i for i, word in enumerate([*MARKERS, "<unk>", *NAMES, *THINGS, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    tokenizer.add_tokens([AddedToken(QA_INSTRUCTION, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=MARKERS[0],
        pad_token=MARKERS[0],
        unk_token="<unk>",
        extra_special_tokens=list(MARKERS[1:]),
    )


def make_critic(tokenizer, layers: int, width: int, seed: int) -> CPRSForTokenCritic:
    """A critic with random weights; all layers but the first look ahead."""
    torch.manual_seed(seed)
    config = CPRSConfig(
        backbone_type="qwen2",
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        bidirectional_start_layer=1,
        window_tokens=WINDOW_TOKENS,
        max_position_embeddings=WINDOW_TOKENS,
        initializer_range=0.5 / width**0.5,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    critic = CPRSForTokenCritic(config)
    # Larger than what a layer adds at first, so that a word is known in all layers.
    torch.nn.init.normal_(critic.model.embed_tokens.weight, std=0.3)
    return critic.eval()


def curriculum(plan: Plan, seed: int) -> list[LongContextExample]:
    """The training records in their order."""
    rng = random.Random(f"curriculum/{seed}")
    records = []
    for step in range(plan.steps):
        grown = min(1.0, max(0.0, (step - plan.first_steps) / plan.growth_steps))
        names = round(FIRST_NAMES * (plan.names / FIRST_NAMES) ** grown)
        most = round(FIRST_PEOPLE[1] + grown * (plan.people - FIRST_PEOPLE[1]))
        people = rng.randint(FIRST_PEOPLE[0], min(most, names))  # one length a step: nothing is padded
        for i in range(plan.batch_size):
            asked = rng.randint(1, max(1, int(people * (1 - grown) / 2)))
            records.append(make_record(people, f"train/{seed}/{step}/{i}", asked, names))
    return records


class Progress(TrainerCallback):
    """A line now and then."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            print(f"  step {state.global_step:4} of {state.max_steps}: loss {logs['loss']:.3f}", flush=True)


def train(
    critic: CPRSForTokenCritic,
    tokenizer,
    plan: Plan,
    seed: int,
    records: list[LongContextExample] | None = None,
    save: Path | None = None,
) -> None:
    """Trains a critic in place, on the curriculum of the plan or on other records; each is seen once. With `save`, it
    stays in that folder."""
    with nullcontext(save) if save else tempfile.TemporaryDirectory() as folder:
        args = CPRSTrainingArguments(
            folder,
            granularities=["sentence"],
            instruction_variants=False,
            needle_rate=0.0,
            outside_drop_rate=plan.outside_drop_rate,
            per_device_train_batch_size=plan.batch_size,
            max_steps=plan.steps,
            learning_rate=plan.learning_rate,
            lr_scheduler_type="warmup_stable_decay",
            warmup_steps=20,
            lr_scheduler_kwargs={"num_decay_steps": plan.steps // 3, "decay_type": "linear"},
            weight_decay=0.0,
            adam_beta2=0.99,
            train_sampling_strategy="sequential",
            seed=seed,
            logging_steps=max(plan.steps // 15, 1),
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            report_to=[],
            disable_tqdm=True,
        )
        records = curriculum(plan, seed) if records is None else records
        trainer = CPRSTrainer(critic, args, records, processing_class=tokenizer, callbacks=[Progress()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        if save:
            trainer.save_model()
            trainer.create_model_card()
    critic.eval()


def evaluate(
    critics: dict[str, CPRSForTokenCritic], tokenizer, examples: list[LongContextExample], budgets=BUDGETS
) -> dict[str, list[Evaluated]]:
    """All critics and all baselines on the same records, at the same budgets."""
    results = {}
    for name, critic in critics.items():
        evaluator = ContextCompressionEvaluator(model=critic, tokenizer=tokenizer, device="cpu", progress=False)
        results[name] = evaluator.evaluate(examples, budgets)
    for name in BASELINES:
        results[name] = evaluate_baseline(name, examples, tokenizer, budgets)
    return results


def print_tables(title: str, results: dict[str, list[Evaluated]], budgets=BUDGETS) -> None:
    tokens = sorted(one.input_tokens for one in results["critic"])
    print(f"\n## {title}: {len(tokens)} records of {tokens[0]} to {tokens[-1]} tokens\n")
    print(compression_table(results, budgets), end="\n\n")
    print(difference_table("critic", results, budgets), flush=True)


def learn(plan: Plan, eval_records: int, seed: int, save: Path | None = None) -> dict[str, dict[str, list[Evaluated]]]:
    """Results for held-out records of the lengths of the training, and up to twice as long, by title and method."""
    tokenizer = make_tokenizer()
    critic = make_critic(tokenizer, plan.layers, plan.width, seed)
    started, busy = time.perf_counter(), time.process_time()
    train(critic, tokenizer, plan, seed, save=save)
    seconds = time.process_time() - busy
    print(f"trained in {seconds:.0f} s of the processor, {time.perf_counter() - started:.0f} s of wall clock")
    critics = {"critic": critic, "untrained critic": make_critic(tokenizer, plan.layers, plan.width, seed)}
    sets = {
        "As long as in training": (plan.people - plan.people // 4, plan.people),
        "Up to twice as long": (2 * plan.people - plan.people // 4, 2 * plan.people),
    }
    found = {}
    for title, people in sets.items():
        examples = make_records(eval_records, people, f"held-out/{seed}", plan.names)
        found[title] = evaluate(critics, tokenizer, examples)
        if save:
            values = measurements(found[title], BUDGETS)
            name = title.lower().replace(" ", "-")
            write_measurements(save, name, "token-classification", f"{title}: cards about people", values, HOW)
            write_card(save, name="cprs-learning")
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    for field in fields(Plan):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default, help=HELP[field.name])
    parser.add_argument("--eval_records", type=int, default=256, help="Held-out records of each length.")
    parser.add_argument("--seed", type=int, default=0, help="Of weights and records.")
    parser.add_argument("--quick", action="store_true", help="Few names, short records, few steps: see QUICK.")
    parser.add_argument("--save", type=Path, help="Folder for the critic, with its card.")
    parser.add_argument("--output", default="cprs_learning.json", help="File for all figures.")
    options = parser.parse_args()
    plan = QUICK if options.quick else Plan(**{field.name: getattr(options, field.name) for field in fields(Plan)})
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    disable_progress_bar()

    found = learn(plan, options.eval_records, options.seed, options.save)
    for title, results in found.items():
        print_tables(title, results)
    figures = {
        title: {name: [asdict(one) for one in rows] for name, rows in of.items()} for title, of in found.items()
    }
    figures = {"plan": asdict(plan), "seed": options.seed, "results": figures}
    Path(options.output).write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
