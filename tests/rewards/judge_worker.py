"""A run with the hybrid reward, on one process or on several under `torchrun`: `judge_worker.py URL FOLDER`."""

import json
import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1]))

from processes import leave  # noqa: E402
from tiny import WORDS, tiny_model, tiny_prompts, tiny_tokenizer  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

from qwenlong_trl import Phase, PhasedGRPOConfig, PhasedGRPOTrainer  # noqa: E402
from qwenlong_trl.rewards import HybridReward, OpenAIJudge  # noqa: E402


SETTINGS = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "num_generations": 4,
    "max_completion_length": 2,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "eval_strategy": "steps",
    "eval_steps": 5,
    "per_device_eval_batch_size": 4,
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "report_to": [],
    "disable_tqdm": True,
}


def dataset(rows: int):
    """Prompts with the columns that the hybrid reward needs; every sixth word is an accepted answer."""
    data = tiny_prompts([5] * rows)
    golds = [[word for j, word in enumerate(WORDS) if j % 6 == i % 6] for i in range(rows)]
    return (
        data.add_column("answers", golds).add_column("task", ["docqa"] * rows).add_column("question", data["prompt"])
    )


def main(url: str, folder: str, kind: str) -> None:
    judge = OpenAIJudge("test-judge", url, concurrency=4, deadline=3, timeout=0.7, max_retries=0, api_key="none")
    if kind == "phased":
        phases = [Phase(max_prompt_length=8, max_steps=10)]
        trainer_class, args = PhasedGRPOTrainer, PhasedGRPOConfig(output_dir=folder, phases=phases, **SETTINGS)
    else:
        trainer_class, args = GRPOTrainer, GRPOConfig(output_dir=folder, max_steps=10, **SETTINGS)
    trainer = trainer_class(
        tiny_model(),
        HybridReward(judge=judge),
        args=args,
        train_dataset=dataset(40),
        eval_dataset=dataset(8),
        processing_class=tiny_tokenizer(),
    )
    trainer.train()
    if trainer.accelerator.is_main_process:
        Path(folder, "log.json").write_text(json.dumps(trainer.state.log_history))


if __name__ == "__main__":
    main(*sys.argv[1:])
    leave()
