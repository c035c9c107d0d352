"""What the command line takes from TRL's own, without a promise."""

from dataclasses import dataclass
from importlib import resources

import pytest
import yaml
from trl import TrlParser
from trl.cli.accelerate_config import resolve_accelerate_config_argument


@dataclass
class One:
    value: int = 1


@pytest.mark.parametrize("name", ["single_gpu", "multi_gpu", "zero1", "zero2", "zero3", "fsdp1", "fsdp2"])
def test_resolve_accelerate_config_argument(name):
    """`--accelerate_config` takes these names, and the recipes ask for zero3.

    If a name has gone: change the help of `LaunchArguments`, and the recipes. If the function has: resolve it there.
    """
    option, path = resolve_accelerate_config_argument(["--accelerate_config", name])
    assert option == "--config_file"
    assert path == str(resources.files("trl.accelerate_configs").joinpath(f"{name}.yaml"))
    assert "num_processes" in yaml.safe_load(open(path, encoding="utf-8"))


def test_options_of_the_launcher_are_split_from_those_of_the_command(tmp_path):
    """`launch` takes its own options out of flags and recipe, and hands the other flags to the processes.

    If the third value is something else: follow it in `launch`.
    """
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("value: 3\nother: 4\n")
    parsed = TrlParser([One], add_help=False).parse_args_and_config(
        ["--config", str(recipe), "--more", "5"], return_remaining_strings=True, separate_remaining_strings=True
    )
    assert parsed[0].value == 3
    assert parsed[1:] == (["--other", "4"], ["--more", "5"])
