"""The stock trainer under observation, for the tests of what we use of it."""

import inspect

from tiny import parity_reward, tiny_model, tiny_prompts, tiny_tokenizer
from trl import GRPOConfig, GRPOTrainer


def parameters_of(function) -> list[str]:
    return list(inspect.signature(function).parameters)


class Observed(GRPOTrainer):
    """The stock trainer; notes in which order the methods that we override are called, and with what."""

    def note(self, name, **values):
        self.events = [*getattr(self, "events", []), (name, self._step, self.state.global_step, values)]

    def calls(self, name) -> list[tuple]:
        return [(step, global_step, values) for event, step, global_step, values in self.events if event == name]

    def get_train_dataloader(self):
        self.note("get_train_dataloader")
        return super().get_train_dataloader()

    def create_scheduler(self, num_training_steps, optimizer=None):
        self.note("create_scheduler", steps=num_training_steps, before=self.lr_scheduler)
        return super().create_scheduler(num_training_steps, optimizer)

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        self.note("generate", inputs=inputs, output=dict(output), training=self.model.training)
        return output

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self.note("rewards", inputs=list(inputs), prompts=prompts, ids=completion_ids_list, rewards=rewards.clone())
        return rewards

    def _save_checkpoint(self, model, trial):
        self.note("save", folder=self._get_output_dir(trial=trial))
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint):
        self.note("load", checkpoint=checkpoint)
        super()._load_optimizer_and_scheduler(checkpoint)


def make(folder, model=None, **overrides) -> Observed:
    settings = {
        "per_device_train_batch_size": 4,
        "num_generations": 2,
        "gradient_accumulation_steps": 2,
        "max_completion_length": 4,
        "max_steps": 3,
        "save_steps": 2,
        "logging_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
    }
    return Observed(
        model=model or tiny_model(),
        reward_funcs=[parity_reward, lambda completions, **kwargs: [3.0] * len(completions)],
        args=GRPOConfig(output_dir=str(folder), **(settings | overrides)),
        train_dataset=tiny_prompts([5] * 16),
        processing_class=tiny_tokenizer(),
    )
