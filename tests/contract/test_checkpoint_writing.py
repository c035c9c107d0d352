"""In which order `Trainer` writes a checkpoint, as far as `qwenlong_trl` relies on it to tell a whole one.

When a new version fails one, its docstring says what we need and what to change in our code.
"""

import transformers
from observed import make, parameters_of
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import TrainerState
from trl import GRPOTrainer


def test_save_rng_state_comes_before_the_trainer_state_and_rotation(tmp_path, monkeypatch):
    """`CurriculumCheckpoints._save_rng_state` makes the processes wait for each other: what the first one does after
    it, `trainer_state.json` and deleting old checkpoints, then happens when all have written.

    If the order changed: wait in the last method that every process calls before `trainer_state.json` is written.
    """
    assert parameters_of(Trainer._save_rng_state) == ["self", "output_dir"]
    order = []

    def note(owner, name):
        method = getattr(owner, name)

        def noting(*args, **kwargs):
            order.append(name)
            return method(*args, **kwargs)

        monkeypatch.setattr(owner, name, noting)

    note(GRPOTrainer, "_save_checkpoint")
    note(GRPOTrainer, "save_model")
    note(Trainer, "_save_optimizer_and_scheduler")
    note(Trainer, "_save_rng_state")
    note(TrainerState, "save_to_json")
    note(transformers.trainer, "rotate_checkpoints")
    make(tmp_path, save_total_limit=1, max_steps=2).train()
    assert order == [
        "_save_checkpoint",
        "save_model",
        "_save_optimizer_and_scheduler",
        "_save_rng_state",
        "save_to_json",
        "rotate_checkpoints",
    ]


def test_files_of_a_checkpoint(tmp_path):
    """`missing_part` looks for these files.

    If one is gone or has another name: follow it there. If there is a new one without which a run does not resume
    exactly: look for it as well.
    """
    make(tmp_path, max_steps=2).train()
    files = {path.name for path in (tmp_path / "checkpoint-2").iterdir()}
    assert files - {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"} == {
        "model.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
        "training_args.bin",
    }


def test_step_end_can_ask_for_a_save_and_the_end(tmp_path):
    """`StopOnSignal` sets `should_save` and `should_training_stop` in `on_step_end`, whatever `save_strategy` says.

    If no checkpoint is written: save in another event.
    """

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_save = control.should_training_stop = state.global_step == 1

    trainer = make(tmp_path, save_strategy="no")
    trainer.add_callback(Stop())
    trainer.train()
    assert trainer.state.global_step == 1 < trainer.state.max_steps
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
