"""Models to the Hub and back, through the trainers' own arguments, over HTTP, with the real client libraries."""

import pytest
import torch
from card_runs import helpers
from huggingface_hub import HfApi, ModelCard
from tiny import save_tiny, tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback


SHORT = [{"max_prompt_length": 16, "max_steps": 2}]


def same_weights(one, other) -> bool:
    other = other.state_dict()
    return all(torch.equal(value, other[name]) for name, value in one.state_dict().items())


class StopAt(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = control.should_training_stop or state.global_step == self.step
        return control


def test_a_phased_run_stops_and_goes_on_from_the_hub_as_if_it_had_not(hub, tmp_path):
    from qwenlong_trl.hub import checkpoint_from_hub

    runs = helpers("phased_grpo", "runs")
    settings = runs.SETTINGS["hard_zero"] | {"save_steps": 2, "retrospective": "hard_zero"}
    whole = runs.make_trainer(runs.make_args(tmp_path / "whole", **settings | {"save_strategy": "no"}))
    whole.train()

    pushed = {"push_to_hub": True, "hub_model_id": "ns/phased", "hub_strategy": "checkpoint", "hub_private_repo": True}
    args = runs.make_args(tmp_path / "here", **settings, **pushed, hub_always_push=True, save_total_limit=1)
    stopped = runs.make_trainer(args, callbacks=[StopAt(6)])
    stopped.train()
    assert hub.store.repo("model", "ns/phased")["private"]
    names = {name for name in hub.store.tree("model", "ns/phased") if name.startswith("last-checkpoint/")}
    assert {"last-checkpoint/curriculum_state.json", "last-checkpoint/optimizer.pt"} <= names

    there = tmp_path / "there"
    checkpoint = checkpoint_from_hub("ns/phased", there)
    assert checkpoint == str(there / "checkpoint-6") and not list(there.glob(".from-hub*"))
    args = runs.make_args(there, **settings | {"save_strategy": "no"}, **pushed)
    resumed = runs.make_trainer(args, model=tiny_model(seed=5))
    resumed.train(resume_from_checkpoint=True)
    assert len(resumed.batches) == 2
    runs.assert_equal_runs(resumed, whole)

    # The end: weights by revision, and a card of this run.
    before = HfApi().model_info("ns/phased").sha
    commit = resumed.push_to_hub(dataset_name="ns/prompts")
    loaded = AutoModelForCausalLM.from_pretrained("ns/phased", revision=commit.oid)
    assert same_weights(loaded, resumed.model)
    assert not same_weights(AutoModelForCausalLM.from_pretrained("ns/phased", revision=before), resumed.model)
    card = ModelCard.load("ns/phased")
    assert card.data.datasets == ["ns/prompts"] and "phased-grpo" in card.data.tags
    assert "The run took 8 optimizer steps" in card.text
    assert 'AutoModelForCausalLM.from_pretrained("ns/phased")' in card.text
    card.validate()


def test_a_branch_for_a_run_is_made_before_it_begins(hub, tmp_path):
    runs = helpers("phased_grpo", "runs")
    pushed = {"push_to_hub": True, "hub_model_id": "ns/phased", "hub_revision": "run-7", "hub_strategy": "every_save"}
    trainer = runs.make_trainer(runs.make_args(tmp_path / "out", **pushed, save_steps=2, phases=SHORT))
    trainer.train()
    assert "model.safetensors" in hub.store.tree("model", "ns/phased", "run-7")
    assert "model.safetensors" not in hub.store.tree("model", "ns/phased")
    assert same_weights(AutoModelForCausalLM.from_pretrained("ns/phased", revision="run-7"), trainer.model)


def test_pushes_that_fail_during_a_run_are_told_and_the_run_goes_on(hub, tmp_path, transformers_log):
    from qwenlong_trl.hub import HubPushError

    runs = helpers("phased_grpo", "runs")
    pushed = {"push_to_hub": True, "hub_model_id": "ns/phased", "hub_strategy": "every_save"}
    trainer = runs.make_trainer(runs.make_args(tmp_path / "out", **pushed, save_steps=1, phases=SHORT))
    hub.fail("POST .*/commit/", 403, times=99)
    trainer.train()
    assert trainer.state.global_step == 2
    assert "A push during the training failed" in transformers_log.text
    assert "may not write to ns/phased" in transformers_log.text
    with pytest.raises(HubPushError, match=r"may not write.*qwenlong-trl hub push .*out --repo_id ns/phased"):
        trainer.push_to_hub()
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert hub.store.commits("model", "ns/phased") == ["initial commit"]


def test_a_solopo_adapter(hub, tmp_path):
    from peft import AutoPeftModelForCausalLM, LoraConfig

    runs = helpers("solopo", "solopo_runs")
    base = save_tiny(tmp_path / "base")
    HfApi().create_repo("ns/base")
    HfApi().upload_folder(repo_id="ns/base", folder_path=base)
    args = runs.make_args(tmp_path / "out", max_steps=2, push_to_hub=True, hub_model_id="ns/adapter")
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    trainer = runs.make_trainer(
        args, model="ns/base", ref_model=None, peft_config=lora, processing_class=tiny_tokenizer()
    )
    trainer.train()
    commit = trainer.push_to_hub()
    tree = hub.store.tree("model", "ns/adapter")
    assert "adapter_model.safetensors" in tree and "model.safetensors" not in tree
    loaded = AutoPeftModelForCausalLM.from_pretrained("ns/adapter", revision=commit.oid).eval()
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, trainer.model.eval()(ids).logits)
    assert AutoTokenizer.from_pretrained("ns/adapter").vocab_size == tiny_tokenizer().vocab_size
    card = ModelCard.load("ns/adapter")
    assert (card.data.base_model, card.data.library_name) == ("ns/base", "peft")
    assert "AutoPeftModelForCausalLM" in card.text and "| `solo_alpha` | 3 |" in card.text
    card.validate()


def test_a_warm_up(hub, tmp_path):
    runs = helpers("sft", "sft_runs")
    trainer = runs.make_trainer(
        runs.make_args(tmp_path / "out", push_to_hub=True, hub_model_id="ns/warm", max_steps=2)
    )
    trainer.train()
    trainer.push_to_hub(license="apache-2.0", language="en")
    assert same_weights(AutoModelForCausalLM.from_pretrained("ns/warm"), trainer.model)
    card = ModelCard.load("ns/warm")
    assert (card.data.license, card.data.language) == ("apache-2.0", "en")
    assert "Licence: apache-2.0." in card.text and "No licence" not in card.text


def test_no_checkpoint_on_the_hub(hub, tmp_path):
    from qwenlong_trl.hub import HubPushError, checkpoint_from_hub

    HfApi().create_repo("ns/empty")
    with pytest.raises(ValueError, match="ns/empty has no last-checkpoint: it is pushed by runs with hub_strategy"):
        checkpoint_from_hub("ns/empty", tmp_path / "out")
    for name, content in {"trainer_state.json": b'{"global_step": 2}', "model.safetensors": b"w"}.items():
        HfApi().upload_file(path_or_fileobj=content, path_in_repo=f"last-checkpoint/{name}", repo_id="ns/empty")
    (HfApi().upload_file(path_or_fileobj=b"x", path_in_repo="last-checkpoint/rng_state.pth", repo_id="ns/empty"))
    with pytest.raises(ValueError, match="was cut short while it was pushed: optimizer.pt"):
        checkpoint_from_hub("ns/empty", tmp_path / "out")
    with pytest.raises(HubPushError, match="the Hub has no ns/none"):
        checkpoint_from_hub("ns/none", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
