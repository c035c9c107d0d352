"""One optimizer step of SGD on a tiny model: the change of the parameters is the gradient. Also run by `torchrun`."""

import os
import sys
from pathlib import Path

import torch
import torch.nn.functional as F


sys.path[:0] = [str(Path(__file__).parents[1])]

from datasets import Dataset  # noqa: E402
from processes import leave  # noqa: E402
from tiny import tiny_model, tiny_tokenizer  # noqa: E402
from trl import SFTTrainer  # noqa: E402

from qwenlong_trl.sft import LongSFTConfig, LongSFTTrainer  # noqa: E402


# (tokens of the prompt, tokens of the completion without its end), as unequal as it gets.
UNEQUAL = ((3, 1), (9, 14), (5, 2), (2, 30), (12, 1), (4, 7), (6, 3), (3, 20))
EQUAL = ((4, 5),) * 8


def rows(shapes) -> Dataset:
    def words(n, start):
        return " ".join(f"w{(start + 7 * i) % 40}" for i in range(n))

    return Dataset.from_list(
        [{"prompt": words(p, k), "completion": " " + words(c, 3 * k + 1)} for k, (p, c) in enumerate(shapes)]
    )


def make_args(folder, config=LongSFTConfig, **overrides):
    settings = {
        "per_device_train_batch_size": 8,
        "max_steps": 1,
        "optim": "sgd",
        "learning_rate": 1.0,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
    }
    return config(output_dir=str(folder), **(settings | overrides))


def make_trainer(args, shapes=UNEQUAL, **kwargs) -> SFTTrainer:
    trainer = LongSFTTrainer if isinstance(args, LongSFTConfig) else SFTTrainer
    return trainer(tiny_model(), args=args, train_dataset=rows(shapes), processing_class=tiny_tokenizer(), **kwargs)


def one_step(folder, shapes=UNEQUAL, **overrides) -> tuple[float, dict[str, torch.Tensor]]:
    """The logged loss of the step, and the gradients that it followed. TRL's own with `config=SFTConfig`."""
    trainer = make_trainer(make_args(folder, **overrides), shapes)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    gradients = {name: before[name] - value.detach() for name, value in trainer.model.named_parameters()}
    return trainer.state.log_history[0]["loss"], gradients


def by_hand(shapes=UNEQUAL, aggregation="sequence") -> tuple[float, dict[str, torch.Tensor]]:
    """Eq. 11 written down example by example, without padding, batches or TRL."""
    model, tokenizer = tiny_model(), tiny_tokenizer()
    per_example = []
    for row in rows(shapes):
        prompt = tokenizer(row["prompt"])["input_ids"]
        completion = [*tokenizer(row["completion"])["input_ids"], tokenizer.eos_token_id]
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        per_example.append(F.cross_entropy(logits, torch.tensor(completion), reduction="none"))
    if aggregation == "sequence":
        loss = torch.stack([nll.mean() for nll in per_example]).mean()
    else:
        loss = torch.cat(per_example).mean()
    loss.backward()
    return loss.item(), {name: value.grad for name, value in model.named_parameters()}


def assert_same_step(step, expected) -> None:
    assert abs(step[0] - expected[0]) < 2e-5, (step[0], expected[0])
    for name, gradient in expected[1].items():
        torch.testing.assert_close(step[1][name], gradient, atol=2e-6, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


if __name__ == "__main__":
    # Shared out so that the two processes hold very different numbers of tokens.
    assert os.environ["WORLD_SIZE"] == "2"
    for size, accumulation in ((4, 1), (1, 4)):
        step = one_step(
            Path(sys.argv[1]) / str(size),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
        )
        assert_same_step(step, by_hand())
    print("equal on two processes")
    leave()
