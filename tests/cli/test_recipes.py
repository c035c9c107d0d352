"""Every recipe parses into the configuration that it stands for, on one process and on the processes it asks for."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from trl import ModelConfig, get_peft_config

from qwenlong_trl.cli.cprs_train import CriticArguments
from qwenlong_trl.cli.judges import JudgeArguments
from qwenlong_trl.cli.launch import parse_arguments
from qwenlong_trl.cli.phased_grpo import RewardArguments, load_reward_funcs
from qwenlong_trl.cli.solopo import PairArguments
from qwenlong_trl.cli.training import DataArguments
from qwenlong_trl.cprs import CPRSTrainingArguments
from qwenlong_trl.phased_grpo import PhasedGRPOConfig
from qwenlong_trl.sft import LongSFTConfig
from qwenlong_trl.solopo import SoLoPOConfig


FOLDER = Path(__file__).parents[2] / "examples" / "recipes"
GRPO = (DataArguments, RewardArguments, JudgeArguments, PhasedGRPOConfig, ModelConfig)
SFT = (DataArguments, LongSFTConfig, ModelConfig)
SOLOPO = (PairArguments, SoLoPOConfig, ModelConfig)
CPRS = (CriticArguments, CPRSTrainingArguments)


def parse(name: str, *flags):
    types = SFT if name.endswith("sft") else SOLOPO if "solopo" in name else CPRS if "cprs" in name else GRPO
    # No vLLM, GPU or tracker is needed to read a recipe.
    argv = ["--config", str(FOLDER / f"{name}.yaml"), "--use_cpu", "true", "--report_to", "none", *flags]
    return parse_arguments("x", argv, types, "", "")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # the cache of a judge is made where the command is run


@pytest.fixture
def on_eight_processes(monkeypatch):
    for config in (PhasedGRPOConfig, LongSFTConfig, SoLoPOConfig, CPRSTrainingArguments):
        monkeypatch.setattr(config, "world_size", property(lambda self: 8))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_value_arrives(path):
    objects = parse(path.stem)
    recipe = yaml.safe_load(path.read_text())
    elsewhere = ("accelerate_config", "num_processes", "report_to")  # of the launcher; replaced above
    for name, value in recipe.items():
        held = [getattr(each, name) for each in objects if hasattr(each, name)]
        if name == "phases":
            assert [phase.settings() | given for phase, given in zip(held[0], value, strict=True)] == [
                phase.settings() for phase in held[0]
            ]
        elif name not in elsewhere:
            assert held and held[0] == value, name


@pytest.mark.parametrize("name", ["qwen3-4b-phased-grpo", "qwen3-4b-phased-dapo"])
def test_the_batches_of_the_paper(name, on_eight_processes):
    _, rewards, judge, config, _ = parse(name)
    assert config.prompts_per_window == 128 and config.num_generations == 8
    steps_per_window = config.micro_steps_per_window // config.gradient_accumulation_steps
    assert steps_per_window == 4
    assert [phase.max_prompt_length for phase in config.phases] == [20_000, 60_000]
    longest = config.phases[-1].max_prompt_length + config.max_completion_length
    assert config.vllm_max_model_length == longest == 70_000
    assert len(load_reward_funcs(rewards, config, judge)) == len(rewards.reward_funcs)


def test_the_two_variants_differ_where_they_should():
    _, rewards, judge, grpo, _ = parse("qwen3-4b-phased-grpo")
    (hybrid,) = load_reward_funcs(rewards, grpo, judge)
    assert (hybrid.judge.model, hybrid.judge.base_url) == ("Qwen/Qwen2.5-1.5B-Instruct", "http://localhost:8001/v1")
    assert hybrid.rule.require_delimiter
    _, rewards, _, dapo, _ = parse("qwen3-4b-phased-dapo")
    names = [option.name for option in fields(grpo)]
    differing = {name for name in names if getattr(grpo, name) != getattr(dapo, name)}
    assert differing == {"output_dir", "loss_type", "epsilon_high", "dynamic_sampling", "reward_weights"}
    assert (dapo.epsilon, dapo.epsilon_high, dapo.loss_type) == (0.2, 0.28, "dapo")
    penalty = load_reward_funcs(rewards, dapo)[1]
    assert (penalty.max_completion_len, penalty.soft_punish_cache) == (10_000, 1_000)
    assert load_reward_funcs(rewards, dapo)[0].require_delimiter


def test_the_batch_of_the_warm_up(on_eight_processes):
    data, config, _ = parse("qwen3-4b-sft")
    assert config.train_batch_size * config.gradient_accumulation_steps * config.world_size == 128
    assert (config.num_train_epochs, config.learning_rate, config.loss_aggregation) == (3, 5e-6, "sequence")
    assert data.dataset_name == "data/distilled.parquet"


def test_the_small_recipe_is_small():
    data, rewards, _, config, model = parse("smollm2-cpu-phased-grpo")
    assert config.prompts_per_window == 2 and config.steps_per_window_multiple == 1
    assert get_peft_config(model).target_modules == {"q_proj", "v_proj"}
    assert data.prompt_template.count("$DOC$") == data.prompt_template.count("$Q$") == 1
    assert load_reward_funcs(rewards, config)[1].max_completion_len == config.max_completion_length


def test_the_values_of_solopo(on_eight_processes):
    data, config, _ = parse("qwen2.5-7b-solopo")
    assert (config.algorithm, config.solo_alpha, config.solo_align, config.solo_distance) == (
        "dpo",
        3.0,
        "chosen",
        "l1",
    )
    assert (config.max_long_length, config.objective) == (8192, "solopo")
    assert config.train_batch_size * config.gradient_accumulation_steps * config.world_size == 64
    assert data.dataset_name == "musique-pairs"


def test_solopo_on_one_gpu():
    _, config, model = parse("qwen2.5-7b-solopo-lora")
    assert config.reference_free and (config.solo_alpha, config.simpo_gamma / config.beta) == (1.0, 0.3)
    assert "lm_head" not in get_peft_config(model).target_modules


def test_the_values_of_cprs(on_eight_processes):
    critic, config = parse("qwen3-0.6b-cprs")
    assert config.train_batch_size * config.gradient_accumulation_steps * config.world_size == 256
    assert (config.num_train_epochs, config.learning_rate, config.lr_scheduler_type) == (3, 1e-5, "constant")
    assert (config.window_tokens, config.outside_drop_rate) == (8192, 0.5)
    assert critic.config_fields() == {"position_loss": "cross_entropy"}
