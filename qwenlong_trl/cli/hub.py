"""`qwenlong-trl hub`: cards and pushes of models, data sets, evaluations and Spaces.

```bash
qwenlong-trl hub card out --results runs/synthetic/report.json
qwenlong-trl hub push out --repo_id me/my-reader --private --dry-run
qwenlong-trl hub space spaces/compress --repo_id me/compress
```
"""

import argparse
import shutil
import tempfile
from pathlib import Path


_RECORD_SUFFIXES = (".parquet", ".jsonl", ".json", ".gz")


def main(argv: list[str]) -> int:
    """Runs one of the commands; returns the exit code. Errors are the caller's business."""
    args = _parser().parse_args(argv)
    return {"push": _push, "card": _card, "space": _push}[args.command](args)


def _card(args: argparse.Namespace) -> int:
    from ..hub import write_card
    from ..hub.measurements import FOLDER, read_result

    for path in args.results:
        read_result(path)  # before anything is copied
    if len({path.name for path in _targets(args)}) < len(args.results):
        raise ValueError("two of --results would have the same name; rename one of them")
    for path, target in zip(args.results, _targets(args), strict=True):
        (args.folder / FOLDER).mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    options = {"name": args.name, "license": args.license, "language": args.language, "repo_id": args.repo_id}
    if args.dataset:
        options["dataset"] = args.dataset
    print(f"card written: {write_card(args.folder, **options)}")
    return 0


def _targets(args: argparse.Namespace) -> list[Path]:
    """Where results go: reports are all called report.json, so their folder names them."""
    from ..hub.measurements import FOLDER

    names = [f"{path.resolve().parent.name}.json" if path.stem == "report" else path.name for path in args.results]
    return [args.folder / FOLDER / name for name in names]


def _push(args: argparse.Namespace) -> int:
    from ..hub.push import checked_plan, push_folder

    if args.command == "push" and args.folder.is_file():
        return _push_file(args)
    repo_type = "space" if args.command == "space" else args.repo_type
    if args.dry_run:
        print(checked_plan(args.folder, repo_type, args.include).table())
        print(f"\nThis would go to {args.repo_id}{_at(args)}. Nothing was changed.")
        return 0
    plan = checked_plan(args.folder, repo_type, args.include)
    print(plan.table(), flush=True)
    url = push_folder(
        args.folder,
        args.repo_id,
        repo_type,
        private=args.private or None,
        revision=args.revision,
        message=args.message,
        include=args.include,
    )
    print(f"\npushed: {url}")
    return 0


def _push_file(args: argparse.Namespace) -> int:
    """A file of records: what is pushed is a data set with a card."""
    from ..data import read_records
    from ..hub import save_record_set

    if args.folder.suffix not in _RECORD_SUFFIXES or args.repo_type not in (None, "dataset"):
        raise ValueError(
            f"{args.folder}: a file that is pushed must be one of records ({', '.join(_RECORD_SUFFIXES)})"
        )
    with tempfile.TemporaryDirectory() as folder:
        name, how = args.repo_id.split("/")[-1], f"from {args.folder.name}"
        records = read_records(args.folder)
        args.folder = save_record_set(records, Path(folder) / name, how=how, repo_id=args.repo_id)
        return _push(args)


def _at(args: argparse.Namespace) -> str:
    private = " (private, if it is new)" if args.private else ""
    return f"{private}, branch {args.revision or 'main'}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="qwenlong-trl hub", description="Cards and pushes for the Hugging Face Hub.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("push", "Push a model, a data set, an evaluation or a file of records, in one commit."),
        ("space", "Push the folder of a Space, in one commit."),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("folder", type=Path, help="What is pushed.")
        command.add_argument("--repo_id", "--repo-id", required=True, help="owner/name, or a name of your own.")
        if name == "push":
            command.add_argument(
                *("--repo_type", "--repo-type"),
                choices=("model", "dataset", "space"),
                help="By default what the files in the folder say.",
            )
        command.add_argument(
            "--dry-run", "--dry_run", action="store_true", help="List files and sizes, and change nothing."
        )
        command.add_argument("--private", action="store_true", help="Make the repository private, or refuse.")
        command.add_argument("--revision", help="Branch, made if it is not there. Defaults to main.")
        command.add_argument("--message", help="Of the commit.")
        command.add_argument(
            "--include",
            nargs="+",
            default=[],
            metavar="PATTERN",
            help="Paths to push although they usually stay, such as 'optimizer.pt' or 'checkpoint-8/*'. Not secrets.",
        )
    card = commands.add_parser(
        "card",
        help="Write README.md from what a run left in a folder.",
        description="Writes README.md from what a run left in a folder: a trained model, a preference set, a record "
        "set, or an evaluation.",
    )
    card.add_argument("folder", type=Path, help="Where the run wrote to.")
    card.add_argument(
        "--results",
        nargs="+",
        type=Path,
        default=[],
        help="report.json of `qwenlong-trl eval` or `loong`, to be copied to FOLDER/evaluation and shown.",
    )
    card.add_argument("--repo_id", "--repo-id", help="Where it will be on the Hub, for the code in the card.")
    card.add_argument("--name", help="Defaults to that of the folder.")
    card.add_argument("--dataset", help="Name of the training data on the Hub.")
    card.add_argument("--license", help="As the Hub calls it, such as apache-2.0.")
    card.add_argument("--language", nargs="+", help="ISO codes, such as en zh.")
    return parser
