"""What `qwenlong_trl.solopo` relies on in TRL's DPOTrainer without a promise.

One test for each private or undocumented name. When a new version fails one, its docstring says what we need the name
for and what to change in our code.
"""

import inspect

import pytest
import torch
from datasets import Dataset
from observed import parameters_of
from tiny import tiny_model, tiny_tokenizer
from transformers import Trainer
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import add_fused_lm_head, pad


ROWS = [{"prompt": "w1 w2 ", "chosen": "w3 ", "rejected": "w4 w5 "}] * 4


def arguments(folder, **overrides) -> DPOConfig:
    settings = {
        "per_device_train_batch_size": 2,
        "max_steps": 2,
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
    }
    return DPOConfig(
        str(folder), **(settings | {"report_to": [], "disable_tqdm": True, "logging_steps": 1} | overrides)
    )


def make(folder, cls=DPOTrainer, ref_model=None, **overrides) -> DPOTrainer:
    return cls(
        tiny_model(),
        tiny_model() if ref_model is None and not overrides.get("precompute_ref_log_probs") else ref_model,
        args=arguments(folder, **overrides),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=tiny_tokenizer(),
    )


@pytest.fixture(scope="module")
def trainer(tmp_path_factory) -> DPOTrainer:
    return make(tmp_path_factory.mktemp("dpo"))


def test_prepare_dataset(trainer):
    """We call it once per side, on rows of `prompt`, `chosen` and `rejected`, without a limit.

    If its parameters or columns changed: follow them in our `_prepare_dataset` and in `_tokenize_side`.
    """
    names = ["self", "dataset", "processing_class", "args", "dataset_name"]
    assert parameters_of(DPOTrainer._prepare_dataset) == names
    args = arguments("unused", max_length=None)
    side = trainer._prepare_dataset(Dataset.from_list(ROWS), tiny_tokenizer(), args, "train")
    assert {"prompt_ids", "chosen_ids", "rejected_ids"} < set(side.column_names)
    assert side[0]["chosen_ids"] == [6, 1]  # the end of the answer is added


def test_it_is_called_before_the_rest_of_the_trainer_exists(tmp_path):
    """Our override may read `self._tokenizer` through TRL's, and nothing else of `self`.

    If it is called later now: nothing to do.
    """
    seen = []

    class Watching(DPOTrainer):
        def _prepare_dataset(self, *args):
            seen.append((hasattr(self, "_tokenizer"), hasattr(self, "args")))
            return super()._prepare_dataset(*args)

    make(tmp_path, Watching)
    assert seen == [(True, False)]


def test_signature_columns(trainer):
    """A list that is set where it is `None`; ours adds the columns of the long side.

    If columns are chosen in another way: see that `long_prompt_ids` and the reference columns reach the collator.
    """
    trainer._signature_columns = None
    trainer._set_signature_columns_if_needed()
    assert trainer._signature_columns == [
        "prompt_ids",
        "chosen_ids",
        "rejected_ids",
        "ref_chosen_logps",
        "ref_rejected_logps",
    ]


def test_collator(trainer):
    """We replace the collator that TRL makes, and build on its class: chosen rows first, then rejected ones.

    If it changed: follow it in `DataCollatorForSoLoPO` and `_use_twin_collator`.
    """
    assert type(trainer.data_collator) is DataCollatorForPreference
    made = DataCollatorForPreference(pad_token_id=0)
    assert (made.max_length, made.pad_to_multiple_of) == (None, None)
    batch = made([{"prompt_ids": [5], "chosen_ids": [6], "rejected_ids": [7, 8]}])
    assert {name: value.tolist() for name, value in batch.items()} == {
        "input_ids": [[5, 6, 0], [5, 7, 8]],
        "attention_mask": [[1, 1, 0], [1, 1, 1]],
        "completion_mask": [[0, 1, 0], [0, 1, 1]],
    }
    padded = pad([torch.tensor([1]), torch.tensor([1, 2])], 9, padding_side="right", pad_to_multiple_of=4)
    assert padded.tolist() == [[1, 9, 9, 9], [1, 2, 9, 9]]


def test_precompute_ref_logps(tmp_path):
    """Called at the end of `__init__` with the prepared data, its name and a batch size. With its flag no copy of the
    model is loaded, for which we raise it where the algorithm has no reference.

    If it is called in another way: follow it in our `_precompute_ref_logps`. If a reference is loaded all the same:
    find another way not to load one in our `__init__`.
    """
    calls = []

    class Watching(DPOTrainer):
        def _precompute_ref_logps(self, dataset, name, batch_size):
            calls.append((dataset.column_names, name, batch_size, self.ref_model, self.data_collator))
            return dataset

    trainer = make(tmp_path, Watching, precompute_ref_log_probs=True)
    assert [call[1:4] for call in calls] == [("train", 2, None)]
    assert "prompt_ids" in calls[0][0]
    assert trainer.precompute_ref_logps is True and trainer.ref_model is None
    assert isinstance(trainer._precompute_model_hash, str)
    assert trainer._precompute_engine is None


def test_compute_loss(trainer):
    """`compute_loss` calls it with the model, the batch and whether logits are wanted; ours replaces it whole.

    If its parameters changed: follow them. If TRL's loss learnt to give away log-probabilities: use them.
    """
    assert parameters_of(DPOTrainer._compute_loss) == ["self", "model", "inputs", "return_outputs"]
    assert "self._compute_loss(model, inputs, return_outputs)" in inspect.getsource(DPOTrainer.compute_loss)


def test_metrics_are_lists_that_log_averages(trainer):
    """We append to `_metrics[mode]`, and add to `_total_train_tokens`, divided by `_tp_size`.

    If metrics are kept in another way: follow it in our `_log_means`.
    """
    assert set(trainer._metrics) == {"train", "eval"}
    assert (trainer._total_train_tokens, trainer._tp_size) == (0, 1)
    trainer.model.train()
    trainer._metrics["train"]["x"] += [1.0, 2.0]
    logs = {}
    trainer.log(logs)
    assert logs["x"] == 1.5 and not trainer._metrics["train"]


def test_attributes(trainer):
    """What our `__init__` asks after TRL's.

    If one has gone: find what says the same.
    """
    assert trainer._is_vision_dataset is False
    assert trainer.aux_loss_enabled is False
    assert trainer.ref_model is not None


def test_fused_head():
    """`score` reads `log_probs`, the metrics read `entropy`, `mean_logits` and `is_top1`; zero where nothing is asked.

    If a field or its shape changed: follow it in `score` and `add_pair_metrics`.
    """
    model = tiny_model()
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    ids = torch.tensor([[3, 4, 5, 6]])
    labels = torch.tensor([[-100, -100, 5, 6]])
    outputs = model(input_ids=ids, labels=labels, fused_lm_head=True, use_cache=False)
    for name in ("log_probs", "entropy", "mean_logits", "is_top1"):
        value = getattr(outputs, name)
        assert value.shape == (1, 3) and value[0, 0] == 0
    expected = tiny_model()(ids).logits.log_softmax(-1)[0, [1, 2], [5, 6]]
    torch.testing.assert_close(outputs.log_probs[0, 1:], expected)
    assert outputs.log_probs.requires_grad


def test_a_loss_is_divided_by_the_accumulation_steps(tmp_path):
    """`_backward_long` divides its loss in the same way as the trainer divides the one that we return.

    If the trainer divides by something else: follow it there.
    """
    assert DPOTrainer.loss_is_scaled_for_ga is False
    assert "loss / self.current_gradient_accumulation_steps" in inspect.getsource(Trainer.training_step)
    seen = []

    class Watching(DPOTrainer):
        def training_step(self, *args, **kwargs):
            seen.append(self.current_gradient_accumulation_steps)
            return super().training_step(*args, **kwargs)

    make(tmp_path, Watching, gradient_accumulation_steps=2).train()
    assert seen == [2, 2, 2, 2]


def test_the_cache_of_a_data_set(tmp_path):
    """References are cached beside the data, in a file named by `_get_cache_file_path`, keyed by `_fingerprint`.

    If one has gone: keep the file in the output folder instead.
    """
    Dataset.from_list(ROWS).to_parquet(tmp_path / "rows.parquet")
    rows = Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache"))
    assert rows._get_cache_file_path("abc").endswith("cache-abc.arrow")
    assert str(tmp_path) in rows._get_cache_file_path("abc")
    assert rows._fingerprint != rows.select([0])._fingerprint
