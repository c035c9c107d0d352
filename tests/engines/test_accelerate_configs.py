"""The configurations in examples/accelerate: accelerate takes them, and their figures are those of the plan."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from accelerate import DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from torch.distributed.fsdp import OffloadPolicy
from transformers import Qwen3Config
from trl import TrlParser

from qwenlong_trl import PhasedGRPOConfig
from qwenlong_trl.cli.main import main


FOLDER = Path(__file__).parents[2] / "examples" / "accelerate"
CONFIGS = sorted(FOLDER.glob("*.yaml"))


def launched(path: Path, *options: str):
    """What `accelerate launch` makes of a file and further options."""
    args = launch_command_parser().parse_args(["--config_file", str(path), *options, "script.py"])
    return _validate_launch_command(args)[0]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_it(path):
    config = load_config_from_file(str(path))
    assert type(config) is ClusterConfig
    assert config.mixed_precision == "bf16"
    assert config.num_processes == {"one_gpu": 1, "fsdp2_two_nodes": 16}.get(path.stem, 8)
    assert config.num_machines == (2 if "two_nodes" in path.stem else 1)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_memory_is_what_the_plan_says(path, tmp_path, capsys):
    comment = " ".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
    command, figures = re.search(r"(qwenlong-trl plan .*?) (peak .*? while sampling [\d.]+ GiB)", comment).groups()
    # The published configuration of Qwen3-8B, as far as it matters here.
    Qwen3Config(
        hidden_size=4096,
        intermediate_size=12288,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151936,
        tie_word_embeddings=False,
    ).save_pretrained(tmp_path)
    arguments = [str(tmp_path) if word == "Qwen/Qwen3-8B" else word for word in shlex.split(command)[1:]]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == 8_190_735_360 and found["fits"]
    parts = [found["peak_bytes"], *(sum(found["bytes"][name].values()) for name in ("state", "step", "rollout"))]
    assert [float(figure) for figure in re.findall(r"([\d.]+) GiB", figures)] == [round(n / 2**30, 1) for n in parts]


@pytest.mark.parametrize("path", [p for p in CONFIGS if p.stem.startswith("fsdp2")], ids=lambda path: path.stem)
def test_fsdp_plugin_takes_it(path, monkeypatch):
    options = ["--machine_rank", "0", "--main_process_ip", "host"] if "two_nodes" in path.stem else []
    options += ["--main_process_port", "0"]  # whatever is free here
    args = launched(path, *options)
    assert args.use_fsdp and not args.use_deepspeed
    # As the processes get it: through the environment.
    for name, value in prepare_multi_gpu_env(args).items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward, plugin.activation_checkpointing) == (2, True, False)
    assert type(plugin.cpu_offload) is OffloadPolicy  # that of FSDP2 which leaves all where it is
    expected = "SHARDED_STATE_DICT" if "two_nodes" in path.stem else "FULL_STATE_DICT"
    assert plugin.state_dict_type.name == expected


def test_deepspeed_plugin_takes_it(monkeypatch):
    args = launched(FOLDER / "zero3_offload_8_gpus.yaml")
    assert args.use_deepspeed
    args.deepspeed_fields_from_accelerate_config = ",".join(load_config_from_file(args.config_file).deepspeed_config)
    _, environment = prepare_deepspeed_cmd_env(args)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    plugin = DeepSpeedPlugin()
    zero = plugin.deepspeed_config["zero_optimization"]
    assert zero["stage"] == 3
    assert zero["offload_optimizer"]["device"] == zero["offload_param"]["device"] == "cpu"
    assert zero["stage3_gather_16bit_weights_on_model_save"]
    assert plugin.zero3_init_flag


def test_one_gpu_is_no_distributed_run():
    assert load_config_from_file(str(FOLDER / "one_gpu.yaml")).distributed_type == DistributedType.NO


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.sh")), ids=lambda path: path.stem)
def test_scripts_say_what_they_need(path):
    done = subprocess.run(["bash", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "give " in done.stderr
    assert path.stat().st_mode & 0o111


def test_flags_of_torchrun_ask_for_fsdp2(tmp_path):
    text = (FOLDER / "torchrun_two_nodes.sh").read_text().replace("\\\n", " ")
    words = shlex.split(next(line for line in text.splitlines() if line.startswith("torchrun ")))
    flags = words[words.index("--fsdp") :]
    phases = ["--phases", '[{"max_prompt_length": 8, "max_steps": 1}]', "--output_dir", str(tmp_path)]
    (args,) = TrlParser([PhasedGRPOConfig]).parse_args_and_config(
        [*flags, *phases, "--use_cpu", "true", "--bf16", "false"]
    )
    assert args.fsdp is True
    assert args.fsdp_plugin_args["fsdp_version"] == 2
    assert args.fsdp_plugin_args["state_dict_type"] == "SHARDED_STATE_DICT"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_begins_with_what_it_is_for(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ") and any("accelerate" in line for line in lines[:12])
    assert isinstance(yaml.safe_load(path.read_text()), dict)
