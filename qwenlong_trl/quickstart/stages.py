"""The stages of the quickstart: data, warm-up, reinforcement learning, evaluation. Each writes to its own folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProgressCallback,
    TrainerCallback,
)

from ..checkpoints import newest_complete_checkpoint
from ..data import prompt_dataset, read_records, sft_view, write_records
from ..hub import Measurement, write_card, write_measurements
from ..hub.run_file import RUN_FILE, STATE_FILE
from ..intervals import wilson_interval
from ..phased_grpo import Phase, PhasedGRPOConfig, PhasedGRPOTrainer
from ..rewards import rule_reward, score_docqa
from ..sft import LongSFTConfig, LongSFTTrainer
from .cards import TEMPLATE, card_index, card_indexes, card_tokenizer, prompt_tokens
from .reader import pretrain, tiny_reader


_ON_CPU = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": []}


@dataclass(frozen=True)
class Plan:
    """What the quickstart does, for one seed."""

    seed: int = 0
    eval_questions: int = 256
    sft_cards: tuple[int, int] = (2, 5)  # fewest and most cards of the indexes of supervised fine-tuning
    sft_records: int = 1_280
    phase_cards: tuple[int, ...] = (16, 40, 88)  # most cards of each phase
    phase_steps: tuple[int, ...] = (60, 80, 130)
    prompts_per_step: int = 16
    num_generations: int = 8
    learning_rate: float = 3e-4

    def settings(self) -> dict[str, Any]:
        return asdict(self)

    def buckets(self) -> list[dict[str, int]]:
        """Lengths at which accuracy is measured: the longest of supervised fine-tuning and of each phase."""
        return [{"cards": n, "tokens": prompt_tokens(n)} for n in (self.sft_cards[1], *self.phase_cards)]


class QuietProgress(ProgressCallback):
    """A progress bar that shows reward and entropy beside it instead of printing every log; and a clock."""

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        self.started, self.seconds = time.perf_counter(), {}  # step -> seconds since the start

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "reward" in logs:
            self.seconds[state.global_step] = time.perf_counter() - self.started
            # A step all of whose groups are masked has no entropy.
            shown = {name: f"{logs[name]:.2f}" for name in ("reward", "entropy") if logs.get(name) is not None}
            self.training_bar.set_postfix(shown)


def make_data(folder: Path, plan: Plan) -> dict[str, Any]:
    """Records of supervised fine-tuning and of each phase, as Parquet files."""
    short = card_indexes(plan.sft_records, *plan.sft_cards, f"sft/{plan.seed}")
    counts = {"sft": write_records(short, folder / "sft.parquet")}
    fewest = plan.sft_cards[1] + 1
    for k, (most, steps) in enumerate(zip(plan.phase_cards, plan.phase_steps, strict=True), start=1):
        records = card_indexes(steps * plan.prompts_per_step, fewest, most, f"phase_{k}/{plan.seed}")
        counts[f"phase_{k}"] = write_records(records, folder / f"phase_{k}.parquet")
        fewest = most + 1
    return {"records": counts}


def warm_up(folder: Path, root: Path, plan: Plan) -> dict[str, Any]:
    """A reader of short indexes, from random weights: pre-training, then supervised fine-tuning on questions."""
    tokenizer = card_tokenizer()
    model = tiny_reader(tokenizer, plan.seed)
    started = time.perf_counter()
    steps = pretrain(model, tokenizer, plan.seed)
    pretrained = time.perf_counter()
    records = read_records(root / "data" / "sft.parquet")
    rows = [sft_view(r, completion=f" {r.answers[0]}", template=TEMPLATE, chat=False) for r in records]
    args = LongSFTConfig(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=64,
        num_train_epochs=1,
        learning_rate=5e-4,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        seed=plan.seed,
        logging_steps=10,
        save_strategy="no",
        **_ON_CPU,
    )
    trainer = LongSFTTrainer(model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(QuietProgress())
    trainer.train()
    _save(trainer, folder)
    return {
        "pretrain_steps": steps,
        "pretrain_seconds": pretrained - started,
        "sft_steps": trainer.state.global_step,
        "sft_seconds": time.perf_counter() - pretrained,
    }


def reinforce(
    folder: Path,
    root: Path,
    plan: Plan,
    single_stage: bool = False,
    logging_steps: int = 5,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Any]:
    """
    Phased GRPO from the reader in `root/reader` on the records in `root/data`; or, with `single_stage`, as many steps
    over the same prompts in one phase. Continues from the last checkpoint in `folder`. `callbacks` are told of the
    training, such as one that shows it.
    """
    tokenizer = card_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(root / "reader")
    files = sorted((root / "data").glob("phase_*.parquet"))
    records = [record for file in files for record in read_records(file)]
    phases = [
        Phase(max_prompt_length=prompt_tokens(cards), max_steps=steps)
        for cards, steps in zip(plan.phase_cards, plan.phase_steps, strict=True)
    ]
    if single_stage:
        phases = [
            Phase(name="all lengths", max_prompt_length=phases[-1].max_prompt_length, max_steps=sum(plan.phase_steps))
        ]
    args = PhasedGRPOConfig(
        output_dir=str(folder / "checkpoints"),
        phases=phases,
        retrospective="hard_zero",
        dynamic_sampling="mask",
        per_device_train_batch_size=plan.prompts_per_step * plan.num_generations,
        num_generations=plan.num_generations,
        max_completion_length=2,  # a thing and the end
        learning_rate=plan.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        seed=plan.seed,
        logging_steps=logging_steps,
        save_strategy="steps",
        save_steps=10_000,  # the ends of the phases only
        save_total_limit=1,
        **_ON_CPU,
    )
    trainer = PhasedGRPOTrainer(
        model=model,
        reward_funcs=rule_reward,
        args=args,
        train_dataset=prompt_dataset(records, tokenizer, template=TEMPLATE, chat=False),
        processing_class=tokenizer,
    )
    progress = QuietProgress()
    trainer.remove_callback(ProgressCallback)
    for callback in (progress, *callbacks):
        trainer.add_callback(callback)
    checkpoints = folder / "checkpoints"
    trainer.train(resume_from_checkpoint=newest_complete_checkpoint(checkpoints))
    _save(trainer, folder)
    curriculum = trainer.curriculum
    logged = ("reward", "accuracy", "entropy", "zero_variance")
    return {
        "phases": [
            {
                "name": phase.name,
                "max_prompt_length": phase.max_prompt_length,
                "max_steps": phase.max_steps,
                "prompts": len(curriculum.own_rows[k]),
                "carried": len(curriculum.carried.get(k, {})),
            }
            for k, phase in enumerate(args.phases)
        ],
        "log": [
            {
                "step": entry["step"],
                "tokens": entry["num_tokens"],
                "seconds": progress.seconds.get(entry["step"]),  # unknown for what an interrupted call has trained
                **{name: entry[name] for name in logged},
            }
            for entry in trainer.state.log_history
            if "reward" in entry
        ],
        "tokens": int(trainer.state.num_input_tokens_seen),
        "carried": [row for k in range(len(args.phases)) for row in curriculum.carried_table(k)],
    }


def _save(trainer, folder: Path) -> None:
    """The model, its tokenizer, and what its card is made of."""
    trainer.save_model(str(folder))
    trainer.create_model_card()
    for name in (RUN_FILE, STATE_FILE):
        shutil.copy(Path(trainer.args.output_dir) / name, folder / name)


def write_model_card(folder: Path, accuracy: list[float], plan: Plan) -> None:
    """The card of a model, with its accuracy on held-out questions by length."""
    values = [
        Measurement("accuracy", value, wilson_interval(value, plan.eval_questions), plan.eval_questions, name)
        for value, bucket in zip(accuracy, plan.buckets(), strict=True)
        for name in [f"on indexes of {bucket['cards']} cards"]
    ]
    how = "Questions that are in no training set, greedy decoding, the strict rule; Wilson intervals."
    write_measurements(
        folder, "card-indexes", "text-generation", "Card indexes of qwenlong-trl's quickstart", values, how
    )
    write_card(folder, name=f"card-reader-{folder.name}")


@torch.no_grad()
def evaluate(model_folder: Path, plan: Plan, batch_size: int = 64) -> list[float]:
    """Share of held-out questions answered right at each length, greedy decoding, by the strict rule."""
    # Not from the folder: `AutoTokenizer` takes a word-level tokenizer beside a Qwen2 model for Qwen's own.
    tokenizer = card_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    accuracies = []
    for bucket in tqdm(plan.buckets(), desc="Lengths"):
        # The same questions for every model and every seed of the training; none of them is in a training set.
        records = [card_index(bucket["cards"], f"held-out-{i}") for i in range(plan.eval_questions)]
        data = prompt_dataset(records, template=TEMPLATE, chat=False, tokenizer=tokenizer)
        accuracies.append(
            right_answers(model, tokenizer, list(data["prompt"]), list(data["answers"]), batch_size) / len(data)
        )
    return accuracies


@torch.no_grad()
def right_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    answers: Sequence[Sequence[str]],
    batch_size: int = 64,
) -> float:
    """How many prompts a reader of cards answers right, greedily, by the strict rule; its answers have one token."""
    right = 0.0
    for start in range(0, len(prompts), batch_size):
        inputs = tokenizer(prompts[start : start + batch_size], return_tensors="pt", padding=True)
        output = model.generate(**inputs, max_new_tokens=2, do_sample=False)
        texts = tokenizer.batch_decode(output[:, inputs["input_ids"].size(1) :], skip_special_tokens=True)
        golds = answers[start : start + batch_size]
        right += sum(score_docqa(text, gold).score for text, gold in zip(texts, golds, strict=True))
    return right
