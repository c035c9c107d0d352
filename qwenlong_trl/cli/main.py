"""`qwenlong-trl`: the command line of the package.

```bash
qwenlong-trl --help
qwenlong-trl phased-grpo --config recipe.yaml --model_name_or_path Qwen/Qwen3-4B
```
"""

import os
import sys
import traceback
from importlib import import_module

from qwenlong_trl import __version__  # absolute: `python -m qwenlong_trl.cli.main` must work, too


# Name -> module with `main(argv) -> int`, imported when the command is used: torch takes seconds to import.
COMMANDS = {
    "data": ("qwenlong_trl.cli.data", "Make, lengthen and look at long-context records."),
    "sft": ("qwenlong_trl.cli.sft", "Warm-up fine-tuning with the per-example mean loss."),
    "phased-grpo": ("qwenlong_trl.cli.phased_grpo", "GRPO over phases of growing context length."),
    "solopo-pairs": ("qwenlong_trl.cli.solopo_pairs", "Make preference pairs with short and long prompts."),
    "solopo": ("qwenlong_trl.cli.solopo", "Short-to-long preference optimisation: DPO, SimPO, ORPO."),
    "cprs-train": ("qwenlong_trl.cli.cprs_train", "Train a context compressor (QwenLong-CPRS)."),
    "compress": ("qwenlong_trl.cli.compress", "Keep of long texts what a question needs."),
    "loong": ("qwenlong_trl.cli.loong", "Run, judge, report and compare the Loong benchmark."),
    "eval": ("qwenlong_trl.cli.eval", "Long-context question answering: synthetic, public or your own."),
    "judge-check": ("qwenlong_trl.cli.judge_check", "Measure a judge on labelled pairs of answers."),
    "hub": ("qwenlong_trl.cli.hub", "Cards and pushes for the Hugging Face Hub."),
    "plan": ("qwenlong_trl.cli.plan", "How much memory a GRPO training takes, and what lowers it."),
    "quickstart": ("qwenlong_trl.quickstart.run", "Train a small reader on two CPU cores, with a report."),
}

_USAGE = "usage: qwenlong-trl [--version] {" + ",".join(COMMANDS) + "} ..."


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Returns:
        `int`: 0 when done, 1 when files or values were wrong (one line on stderr says which; the traceback as well if
        the environment has `QWENLONG_TRL_DEBUG=1`), 130 when interrupted. A wrong command line ends in
        `SystemExit(2)`.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] in (["-h"], ["--help"]):
        print(_USAGE, "", "Long-context training as plug-ins for TRL.", "", "commands:", sep="\n")
        for name, (_, help_text) in COMMANDS.items():
            print(f"  {name:<14}{help_text}")
        print("\nqwenlong-trl COMMAND --help lists the options of a command.")
        return 0
    if argv[:1] == ["--version"]:
        print(f"qwenlong-trl {__version__}")
        return 0
    if not argv or argv[0] not in COMMANDS:
        found = f", got {argv[0]!r}" if argv else ""
        print(f"{_USAGE}\nqwenlong-trl: error: expected one of {', '.join(COMMANDS)}{found}", file=sys.stderr)
        raise SystemExit(2)
    try:
        return import_module(COMMANDS[argv[0]][0]).main(argv[1:])
    except (ValueError, OSError) as error:  # InvalidRecordError and CurriculumMismatchError are ValueErrors
        debug = os.environ.get("QWENLONG_TRL_DEBUG") == "1"
        if debug:
            traceback.print_exc()
        # On one line, and without what would steer the terminal: parts of it may come from a file or a server.
        message = "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split()))
        hint = "" if debug else " (QWENLONG_TRL_DEBUG=1 shows the traceback)"
        print(f"qwenlong-trl {argv[0]}: error: {message}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"qwenlong-trl {argv[0]}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
