"""How upstream logs, schedules, saves and resumes, as far as `qwenlong_trl.phased_grpo` relies on it.

One test for each private or undocumented name. When a new version fails one, its docstring says what we need the name
for and what to change in our code.
"""

import copy

import pytest
import torch
import transformers
from accelerate.utils import gather_object
from observed import make, parameters_of
from tiny import tiny_model
from transformers.trainer_callback import DefaultFlowCallback
from trl import GRPOTrainer
from trl.trainer.utils import get_config_model_id


def test_metrics(tmp_path):
    """Ours are appended to `_metrics["train"]`; `log` averages them without the NaNs and empties the table.

    If this changed: write ours where the others are written.
    """
    trainer = make(tmp_path)
    trainer.model.train()
    trainer._metrics["train"]["curriculum/phase"] += [1.0, float("nan"), 2.0]
    logs = {}
    trainer.log(logs)
    assert logs["curriculum/phase"] == 1.5
    assert not trainer._metrics["train"]
    assert not trainer._metrics["eval"]


def test_logs(trained):
    """A scoring pass keeps its completions out of the table by exchanging `_logs`.

    If its parts changed: make the stand-in of `_score_earlier_prompts` alike.
    """
    assert {name for name, value in trained._logs.items() if isinstance(value, dict)} == {"rewards", "extra"}
    assert {"prompt", "completion", "advantages"} < set(trained._logs)
    trained._logs["extra"]["new"].extend([1])  # tables of tables make columns on demand
    del trained._logs["extra"]["new"]


def test_create_scheduler(trained):
    """Ours is set before; the stock method must keep it. It is called once per `train()`, with all steps.

    If it is replaced: return ours from our `create_scheduler`.
    """
    assert parameters_of(GRPOTrainer.create_scheduler) == ["self", "num_training_steps", "optimizer"]
    assert [values["steps"] for _, _, values in trained.calls("create_scheduler")] == [3]
    own = torch.optim.lr_scheduler.LambdaLR(trained.optimizer.optimizer, lambda step: 0.5)
    other = copy.copy(trained)
    other.lr_scheduler = own
    assert other.create_scheduler(3) is own


def test_created_lr_scheduler_is_made_anew(tmp_path):
    """A second `train()` on one object must not go on with the schedule of the first.

    If the flag has gone: set `lr_scheduler` to `None` in our `train`.
    """
    trainer = make(tmp_path, max_steps=1, save_strategy="no")
    trainer.train()
    assert trainer._created_lr_scheduler is True
    trainer.train()
    assert [values["before"] for _, _, values in trainer.calls("create_scheduler")] == [None, None]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("constant", {}),
        ("linear", {}),
        ("cosine", {}),
        ("polynomial", {}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
        ("warmup_stable_decay", {"num_decay_steps": 2}),
    ],
)
def test_schedules_are_functions_of_the_step(name, arguments):
    """Phases scale or restart the function in `lr_lambdas` of a stock schedule.

    If a schedule is none any more: it is refused with a message; find its function in `phased_lr_lambda` if need be.
    """
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = transformers.get_scheduler(name, optimizer, 2, 8, scheduler_specific_kwargs=arguments)
    rates = []
    for _ in range(8):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert [0.5 * scheduler.lr_lambdas[0](step) for step in range(8)] == pytest.approx(rates)


def test_save_checkpoint_and_output_dir(trained):
    """Our file is written into the folder of the checkpoint before the others are.

    If the folder is named in another way: use that name in our `_save_checkpoint`.
    """
    assert parameters_of(GRPOTrainer._save_checkpoint) == ["self", "model", "trial"]
    saves = trained.calls("save")
    assert [(step, values["folder"]) for _, step, values in saves] == [
        (2, trained.args.output_dir),
        (3, trained.args.output_dir),
    ]


def test_load_optimizer_and_scheduler(trained, resumed):
    """Our state is read here: on resume only, when the step is known and before anything is generated.

    If it is called elsewhere: read the state where `global_step` is known and no window was generated.
    """
    assert parameters_of(GRPOTrainer._load_optimizer_and_scheduler) == ["self", "checkpoint"]
    assert trained.calls("load") == []
    ((_, global_step, values),) = resumed.calls("load")
    assert global_step == 2
    assert values["checkpoint"].endswith("checkpoint-2")
    names = [event for event, *_ in resumed.events]
    assert names.index("load") < names.index("generate")


def test_the_default_callback_decides_first(trained):
    """`CurriculumCallback` moves saves that `DefaultFlowCallback` has decided on, and reads `state.save_steps`.

    If the order or the state changed: decide on all saves in `CurriculumCallback`.
    """
    assert isinstance(trained.callback_handler.callbacks[0], DefaultFlowCallback)
    assert trained.state.save_steps == 2


def test_gather_object():
    """It must return a flat list, in the order of the processes.

    If it nests: flatten in our `_calculate_rewards`.
    """
    assert gather_object([True, False]) == [True, False]


def test_get_config_model_id(tmp_path):
    """The tokenizer is loaded from where a model object came from, as TRL does.

    If it has gone: read the model's `_name_or_path`.
    """
    tiny_model().save_pretrained(tmp_path)
    assert get_config_model_id(transformers.AutoModelForCausalLM.from_pretrained(tmp_path).config) == str(tmp_path)
