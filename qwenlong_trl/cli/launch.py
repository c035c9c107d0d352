"""How the training commands read their command line, and start themselves on several processes.

```bash
qwenlong-trl phased-grpo --config recipe.yaml --accelerate_config zero3 --num_processes 8
```
"""

import argparse
import difflib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any


_LAUNCHED = "QWENLONG_TRL_LAUNCHED"
_MODULE = "qwenlong_trl.cli.main"


@dataclass
class LaunchArguments:
    """On how many processes a training runs. Without these it runs in the process that was started."""

    accelerate_config: str | None = field(
        default=None,
        metadata={
            "help": "Run through `accelerate launch` with this configuration: a YAML file, or a name that TRL ships "
            "(single_gpu, multi_gpu, zero1, zero2, zero3, fsdp1, fsdp2)."
        },
    )
    num_processes: int | None = field(
        default=None, metadata={"help": "Run through `accelerate launch` on so many processes."}
    )


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str:
        return action.help if action.default in (None, []) else super()._get_help_string(action)


def launch(command: str, argv: list[str]) -> int | None:
    """
    Starts the command again through `accelerate launch`, if the command line or the recipe asks for it and the process
    is not one of those started in this way (or by `torchrun`) already.

    Returns:
        `int` or `None`: the exit code of the processes, or `None` if this process is the one to train.

    Raises:
        `ValueError`: if `--accelerate_config` is neither a file nor a name that TRL ships.
    """
    if _LAUNCHED in os.environ or "LOCAL_RANK" in os.environ or {"-h", "--help"} & set(argv):
        return None
    from trl import TrlParser

    config = _recipe_flag(argv)
    if config:
        _read_recipe(config[1])
    parser = TrlParser([LaunchArguments], prog=f"qwenlong-trl {command}", add_help=False, allow_abbrev=False)
    arguments, _, others = parser.parse_args_and_config(
        argv, return_remaining_strings=True, separate_remaining_strings=True
    )
    if arguments.accelerate_config is None and arguments.num_processes is None:
        return None
    from trl.cli.accelerate_config import resolve_accelerate_config_argument

    options = []
    if arguments.accelerate_config is not None:
        options += resolve_accelerate_config_argument(["--accelerate_config", arguments.accelerate_config])
    if arguments.num_processes is not None:
        options += ["--num_processes", str(arguments.num_processes)]
    # A process of its own rather than accelerate's function: that one ends this process on errors.
    script = ["-m", _MODULE, command, *config, *others]
    return _run_and_pass_signals_on([sys.executable, "-m", "accelerate.commands.launch", *options, *script])


def _run_and_pass_signals_on(command: list[str]) -> int:
    """
    Runs `accelerate launch` and returns its exit code. SIGTERM and SIGINT go to the processes that train, which save
    and end with 0. Accelerate's own answer to them would be to give the processes half a minute and then to fail; in a
    session of its own it does not get those of the terminal.
    """
    import psutil

    launcher = subprocess.Popen(command, env={**os.environ, _LAUNCHED: "1"}, start_new_session=True)

    def pass_on(number: int, frame) -> None:
        try:
            children = psutil.Process(launcher.pid).children()
            training = [child for child in children if _MODULE in child.cmdline()]
            for process in training or [psutil.Process(launcher.pid)]:  # itself, as long as it starts them
                process.send_signal(number)
        except psutil.NoSuchProcess:
            pass  # it has ended

    def hang_up(number: int, frame) -> None:
        launcher.terminate()

    handlers = {signal.SIGTERM: pass_on, signal.SIGINT: pass_on, signal.SIGHUP: hang_up}
    before = {}
    if threading.current_thread() is threading.main_thread():
        # Under `nohup` a hang-up stays ignored.
        before = {
            number: signal.signal(number, handler)
            for number, handler in handlers.items()
            if signal.getsignal(number) is not signal.SIG_IGN
        }
    try:
        return launcher.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def parse_arguments(
    command: str, argv: list[str], types: Sequence[type], description: str, example: str, launcher: bool = True
) -> tuple[Any, ...]:
    """
    One object of each dataclass, from flags and from the YAML file of `--config` (flags win). With `launcher`, the
    options of [`LaunchArguments`] are known, too, and left out of the result.

    Raises:
        `ValueError`: for a recipe that is not YAML or has unknown keys, and whatever the dataclasses refuse.
        `SystemExit`: with 2 for a wrong command line, with 0 after `--help`.
    """
    from trl import TrlParser

    launch_types = [LaunchArguments] if launcher else []
    parser = TrlParser(
        [*launch_types, *types],
        prog=f"qwenlong-trl {command}",
        description=description,
        epilog=f"A YAML file may give any of these: --config recipe.yaml (flags win).\n\nexample:\n  {example}",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    flags = list(argv)
    if config := _recipe_flag(argv, parser):
        at = flags.index("--config")
        del flags[at : at + 2]
        names = [option.name for kind in (*launch_types, *types) for option in fields(kind) if option.init]
        recipe = _read_recipe(config[1])
        for action in parser._actions:  # what must be given may stand in the recipe; `TrlParser` sees it likewise
            action.required = action.required and action.dest not in recipe
        for key in recipe:
            if key not in names and key != "env":
                close = difflib.get_close_matches(str(key), names, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"{config[1]}: unknown option {key!r}{hint}")
    if unknown := parser.parse_known_args(flags)[1]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return parser.parse_args_and_config(argv)[len(launch_types) :]


def _recipe_flag(argv: list[str], parser: argparse.ArgumentParser | None = None) -> list[str]:
    if "--config" not in argv:
        return []
    at = argv.index("--config")
    if at + 1 == len(argv):
        (parser or argparse.ArgumentParser(prog="qwenlong-trl")).error("--config needs the path of a YAML file")
    return argv[at : at + 2]


def _read_recipe(path: str) -> dict[str, Any]:
    """`TrlParser` reads the file again; this says what is wrong with it before anything is said to be missing."""
    import yaml

    with open(path, encoding="utf-8") as file:
        try:
            recipe = yaml.safe_load(file)
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(recipe, dict):
        raise ValueError(f"{path}: a recipe is a YAML mapping from option to value, got {type(recipe).__name__}")
    return recipe
