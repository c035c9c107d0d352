"""What short-to-long preference training teaches a tiny reader, against DPO on the long or the short prompts.

    python examples/solopo_learning.py              # 3 seeds of 8 methods, about 18 minutes on an idle core
    python examples/solopo_learning.py --seeds 1    # a quick look
    python examples/solopo_learning.py --sweep      # how the learning rates below were chosen

The reader is the quickstart's, taught to look names up on 2 to 5 cards. For each seed it answers questions on 6 to 10
cards, several times each; a right and a wrong answer of its own make a pair, whose long prompt has the same cards
among 24 to 88. Every method starts from that reader and trains on the same pairs for the same time, then answers
held-out questions. Time is that of the processor, in one thread: the wall clock of a machine that does nothing else.

All losses have the trainer's defaults; "detached" is `detach_short_reward`, where the alignment moves the long reward
alone. The learning rate of each method is the best of `LEARNING_RATES` in one run each, by mean accuracy over the
lengths, on a seed that is not reported.
"""

import argparse
import json
import statistics
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from transformers import AutoModelForCausalLM, PrinterCallback, TrainerCallback
from transformers.utils import logging

from qwenlong_trl import SoLoPOConfig, SoLoPOTrainer
from qwenlong_trl.data import render_prompt, shorten
from qwenlong_trl.intervals import wilson_interval
from qwenlong_trl.quickstart.cards import TEMPLATE, card_index, card_tokenizer, prompt_tokens
from qwenlong_trl.quickstart.stages import Plan, evaluate, make_data, warm_up, write_model_card
from qwenlong_trl.rewards import score_docqa


DETACHED = {"detach_short_reward": True}
METHODS = {  # name: (settings, learning rate)
    "SoLo-DPO": ({"algorithm": "dpo"}, 3e-4),
    "SoLo-SimPO": ({"algorithm": "simpo"}, 1e-5),
    "SoLo-ORPO": ({"algorithm": "orpo"}, 3e-4),
    "SoLo-DPO, detached": ({"algorithm": "dpo", **DETACHED}, 3e-4),
    "SoLo-SimPO, detached": ({"algorithm": "simpo", **DETACHED}, 3e-4),
    "SoLo-ORPO, detached": ({"algorithm": "orpo", **DETACHED}, 3e-4),
    "long DPO": ({"algorithm": "dpo", "objective": "long_po"}, 3e-4),
    "short DPO": ({"algorithm": "dpo", "objective": "short_po"}, 3e-5),
}
LEARNING_RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
SWEEP_SEED = 1000

SHORT_CARDS = (6, 10)
LONG_CARDS = (24, 88)
SAMPLES, TEMPERATURE = 8, 0.85
LOGGED = ("loss", "rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/long_chosen", "solo/gap")


class Deadline(TrainerCallback):
    """Ends the training after so many seconds of the processor."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = time.process_time()

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = time.process_time() - self.started >= self.seconds


def make_reader(folder: Path, plan: Plan):
    for stage, work in {"data": make_data, "reader": lambda out, plan: warm_up(out, folder, plan)}.items():
        (folder / stage).mkdir()
        work(folder / stage, plan)
    return AutoModelForCausalLM.from_pretrained(folder / "reader").eval()


@torch.no_grad()
def make_pairs(reader, seed: int, count: int) -> Dataset:
    """Preference rows of `count` questions; those whose samples are all right or all wrong are left out."""
    tokenizer = card_tokenizer()
    torch.manual_seed(seed)
    rows, batch_size = [], 64
    for start in range(0, count, batch_size):
        twins = []
        for i in range(start, min(start + batch_size, count)):
            few = SHORT_CARDS[0] + i % (SHORT_CARDS[1] - SHORT_CARDS[0] + 1)
            many = LONG_CARDS[0] + i * (LONG_CARDS[1] - LONG_CARDS[0] + 1) // count
            long = card_index(many, f"pair/{seed}/{i}")
            twins.append((shorten(long, keep_distractors=few - 1, seed=seed), long))
        inputs = tokenizer([render_prompt(short, TEMPLATE) for short, _ in twins], return_tensors="pt", padding=True)
        output = reader.generate(
            **inputs, max_new_tokens=2, do_sample=True, temperature=TEMPERATURE, top_k=0, num_return_sequences=SAMPLES
        )
        completions = output[:, inputs["input_ids"].size(1) :]
        ended = (completions[:, -1] == tokenizer.eos_token_id).tolist()
        texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
        for row, (short, long) in enumerate(twins):
            own = slice(SAMPLES * row, SAMPLES * (row + 1))
            answers = {text for text, end in zip(texts[own], ended[own], strict=True) if end and text.strip()}
            right = [text for text in answers if score_docqa(text, short.answers).score]
            wrong = sorted(answers.difference(right))
            if right and wrong:
                rows.append(
                    {
                        "id": long.id,
                        "prompt": render_prompt(short, TEMPLATE),
                        "long_prompt": render_prompt(long, TEMPLATE),
                        "chosen": f" {right[0]}",
                        "rejected": f" {wrong[row % len(wrong)]}",
                    }
                )
    return Dataset.from_list(rows).shuffle(seed=seed)


def train(folder: Path, reader: Path, pairs: Dataset, method: str, learning_rate: float, seed: int, seconds: float):
    """One method from the reader, saved to `folder`; returns steps, tokens, times, and metrics of the last steps."""
    args = SoLoPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=16,
        max_steps=1_000_000,
        learning_rate=learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=10,
        weight_decay=0.0,
        max_length=64,
        max_long_length=prompt_tokens(LONG_CARDS[1]) + 2,
        seed=seed,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        disable_tqdm=True,
        **METHODS[method][0],
    )
    trainer = SoLoPOTrainer(
        AutoModelForCausalLM.from_pretrained(reader),
        # Run in every step, so that the time of the reference counts; `simpo` and `orpo` have none.
        None if args.reference_free else AutoModelForCausalLM.from_pretrained(reader),
        args=args,
        train_dataset=pairs,
        processing_class=card_tokenizer(),
        callbacks=[Deadline(seconds)],
    )
    trainer.remove_callback(PrinterCallback)
    started = time.perf_counter()
    trainer.train()
    wall = time.perf_counter() - started
    trainer.save_model(str(folder))
    trainer.create_model_card()
    log = [entry for entry in trainer.state.log_history if "rewards/margins" in entry]
    ends = {"first": log[:10], "last": log[-10:]}
    return {
        "steps": trainer.state.global_step,
        "tokens": int(log[-1]["num_tokens"]),
        "wall_seconds": wall,
        "metrics": {
            name: {key: statistics.mean(entry[key] for entry in log) for key in LOGGED if key in log[0]}
            for name, log in ends.items()
        },
    }


def run_seed(folder: Path, seed: int, trials: list[tuple[str, float]], plan: Plan, options) -> dict:
    """A reader, its pairs, and every trial (method and learning rate) on them."""
    started = time.perf_counter()
    plan = replace(plan, seed=seed)
    pairs = make_pairs(make_reader(folder, plan), seed, options.questions)
    before = evaluate(folder / "reader", plan)
    print(f"\nseed {seed}: {len(pairs)} pairs of {options.questions} questions; reader {show(before)}", end="")
    print(f" ({time.perf_counter() - started:.0f} s)", flush=True)
    result = {"seed": seed, "pairs": len(pairs), "before": before, "runs": []}
    for method, learning_rate in trials:
        out = folder / f"{method}-{learning_rate}".replace(", ", "-").replace(" ", "-")
        trained = train(out, folder / "reader", pairs, method, learning_rate, seed, options.seconds)
        trained |= {"method": method, "learning_rate": learning_rate, "accuracy": evaluate(out, plan)}
        write_model_card(out, trained["accuracy"], plan)
        result["runs"].append(trained)
        last = ", ".join(f"{name} {value:.2f}" for name, value in trained["metrics"]["last"].items())
        print(
            f"{method:20} lr {learning_rate:.0e}: {show(trained['accuracy'])}; {trained['steps']} steps, "
            f"{trained['tokens']:,} tokens, {trained['wall_seconds']:.0f} s of wall clock; {last}",
            flush=True,
        )
    return result


def show(accuracies: list[float]) -> str:
    return " ".join(f"{accuracy:.3f}" for accuracy in accuracies)


def print_table(results: list[dict], plan: Plan) -> None:
    runs = {"before": [{"accuracy": result["before"], "steps": 0, "tokens": 0} for result in results]}
    for method in dict.fromkeys(run["method"] for run in results[0]["runs"]):
        runs[method] = [run for result in results for run in result["runs"] if run["method"] == method]
    lengths = [f"{bucket['tokens']} tokens" for bucket in plan.buckets()]
    print(f"\n{'mean of ' + str(len(results)) + ' seeds':20}" + "".join(f"{name:>21}" for name in lengths), end="")
    print(f"{'steps':>7}{'tokens':>12}")
    for method, of_seeds in runs.items():
        print(f"{method:20}", end="")
        for accuracies in zip(*(run["accuracy"] for run in of_seeds), strict=True):
            mean = statistics.mean(accuracies)
            low, high = wilson_interval(mean, plan.eval_questions)
            print(f"{f'{mean:.3f} [{low:.3f}, {high:.3f}]':>21}", end="")
        print(f"{statistics.mean(run['steps'] for run in of_seeds):7.0f}", end="")
        print(f"{statistics.mean(run['tokens'] for run in of_seeds):12,.0f}")
    print(f"Brackets: 95 % Wilson intervals for {plan.eval_questions} questions, which are the same for all seeds.")
    print(f"Seeds at {lengths[-1]}:", end=" ")
    print("; ".join(f"{name} " + show([run["accuracy"][-1] for run in of_seeds]) for name, of_seeds in runs.items()))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="Seeds, from 0 on.")
    parser.add_argument("--seconds", type=float, default=30, help="Processor seconds that each method trains.")
    parser.add_argument("--questions", type=int, default=4_000, help="Questions that pairs are sampled for.")
    parser.add_argument("--sweep", action="store_true", help="Try LEARNING_RATES on a seed of its own instead.")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="Only these.")
    parser.add_argument("--save", type=Path, help="Folder for the models of the first seed, with their cards.")
    parser.add_argument("--output", default="solopo_learning.json", help="File for all figures.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    disable_progress_bar()

    plan = Plan(eval_questions=256)
    trials = [(method, METHODS[method][1]) for method in options.methods]
    if options.sweep:
        trials = [(method, rate) for rate in LEARNING_RATES for method in options.methods]
    results = []
    for seed in [SWEEP_SEED] if options.sweep else range(options.seeds):
        keep = options.save if not results else None
        if keep:
            keep.mkdir(parents=True)
        with nullcontext(keep) if keep else tempfile.TemporaryDirectory() as folder:
            results.append(run_seed(Path(folder), seed, trials, plan, options))
        Path(options.output).write_text(json.dumps(results, indent=1), encoding="utf-8")
    if not options.sweep:
        print_table(results, plan)


if __name__ == "__main__":
    main()
