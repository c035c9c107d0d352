"""The cards of models and evaluations, from what a run left in a folder.

```python
>>> write_card("out", name="my-reader", dataset="me/questions", license="apache-2.0")
PosixPath('out/README.md')
```

A value that is in no file is not in the card.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData

from .files import read_json, write_text
from .measurements import Measurements, read_measurements, read_result
from .preference_sets import PAIRS_FILE, preference_set_card
from .record_sets import RECORDS_FILE, record_set_card
from .render import check_card, is_repo_id, render_card
from .run_file import RUN_FILE, RunFiles, read_run


MODELS = ("phased_grpo", "solopo", "cprs", "long_sft")
_PIPELINES = {"cprs": "token-classification"}


def write_card(folder: str | Path, **options: Any) -> Path:
    """
    Writes `README.md` into a folder: the output of one of our trainers, a preference set, a record set, or the output
    of an evaluation. What it is, its files tell.

    Args:
        folder (`str` or `Path`):
            The folder.
        options (*optional*):
            As in [`model_card`] and [`dataset_card`].

    Returns:
        `Path`: the card.

    Raises:
        `ValueError`: the folder is none of these, or a file in it is not what it should be.
    """
    folder = Path(folder)
    card = card_of(folder, **options)
    text = str(card)
    check_card(text, card.repo_type)
    write_text(folder / "README.md", text)
    return folder / "README.md"


def card_of(folder: Path, **options: Any) -> ModelCard | DatasetCard:
    """The card of a folder, as [`write_card`] writes it."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    if (folder / RUN_FILE).is_file():
        return model_card(read_run(folder), read_measurements(folder), **options)
    options = {name: value for name, value in options.items() if name not in ("dataset", "tags") and value is not None}
    if (folder / PAIRS_FILE).is_file():
        return preference_set_card(read_json(folder / PAIRS_FILE, "what solopo-pairs wrote"), **options)
    if (folder / RECORDS_FILE).is_file():
        return record_set_card(read_json(folder / RECORDS_FILE, "statistics of a record set"), **options)
    if (folder / "report.json").is_file():
        return evaluation_card(folder, **options)
    raise ValueError(
        f"nothing in {folder} says what it is: a card is made of {RUN_FILE} (written by our trainers), {PAIRS_FILE} "
        f"(qwenlong-trl solopo-pairs), {RECORDS_FILE} (a record set) or report.json (an evaluation)"
    )


def model_card(
    run: RunFiles,
    measurements: Sequence[Measurements] = (),
    name: str | None = None,
    dataset: str | None = None,
    tags: Sequence[str] = (),
    license: str | None = None,
    language: str | list[str] | None = None,
    repo_id: str | None = None,
) -> ModelCard:
    """
    The card of a model that one of our trainers made.

    Args:
        run ([`~qwenlong_trl.hub.run_file.RunFiles`]):
            What the run left.
        measurements (`Sequence[Measurements]`, *optional*):
            Results; they are also in the metadata, where the Hub looks for them.
        name (`str`, *optional*):
            Of the model. Defaults to that of `repo_id`, or of the folder.
        dataset (`str`, *optional*):
            Name of the data on the Hub. Defaults to what the run knows.
        tags (`Sequence[str]`, *optional*):
            More tags.
        license (`str`, *optional*):
            As the Hub calls it. Without one, the card says that none is stated.
        language (`str` or `list[str]`, *optional*):
            ISO codes.
        repo_id (`str`, *optional*):
            Where the model will be on the Hub, for the code that loads it.
    """
    about = run.about
    if about["method"] not in MODELS:
        raise ValueError(f"{run.folder / RUN_FILE}: no card is known for the method {about['method']!r}")
    name = name or (repo_id or run.folder.resolve().name).split("/")[-1]
    base, dataset = about.get("base_model"), dataset or about["data"].get("name")
    method = about["method"]
    metadata = ModelCardData(
        model_name=name,
        base_model=base if base and is_repo_id(base) else None,
        library_name="peft" if run.adapter else "transformers",
        pipeline_tag=_PIPELINES.get(method, "text-generation"),
        datasets=[dataset] if dataset and is_repo_id(dataset) else None,
        tags=list(dict.fromkeys([*about.get("tags", ()), *tags])),
        license=license,
        language=language,
        eval_results=[result for one in measurements for result in one.results()] or None,
    )
    values = {
        "name": name,
        "repo_id": repo_id or name,
        "base_model": base,
        "dataset": dataset,
        "license": license,
        "run": run,
        "about": about,
        "measurements": measurements,
        "progress": progress_by_phase(run),
        "evaluated": last_evaluation(run),
        "seconds": run.last("train_runtime"),
    }
    return render_card("model", method, metadata, values)


def evaluation_card(
    folder: Path,
    name: str | None = None,
    license: str | None = None,
    language: str | list[str] | None = None,
    repo_id: str | None = None,
) -> DatasetCard:
    """The card of a folder that `qwenlong-trl eval` or `qwenlong-trl loong run` filled; arguments as of the others."""
    report = read_json(folder / "report.json", "the report of an evaluation")
    found = read_result(folder / "report.json")
    name = name or f"{(repo_id or folder.resolve().name).split('/')[-1]}: answers and scores"
    files = sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix in (".jsonl", ".json"))
    settings = report.get("settings") or report.get("about") or {}
    metadata = DatasetCardData(
        pretty_name=name,
        license=license,
        language=language,
        tags=["evaluation", "long-context", "qwenlong-trl"],
        viewer=False,  # lines of different shapes
    )
    values = {"name": name, "found": found, "files": files, "settings": settings, "license": license}
    return render_card("dataset", "evaluation", metadata, values)


def progress_by_phase(run: RunFiles) -> list[dict[str, Any]]:
    """For each phase of a phased run: what was logged first and last of accuracy, reward and entropy."""
    rows = []
    for phase in run.about.get("phases", ()):
        row = {"name": phase["name"]}
        for metric in ("accuracy", "reward", "entropy"):
            key = f"curriculum/{phase['name']}/{metric}"
            row[metric] = (run.first(key), run.last(key))
        rows.append(row)
    return rows


def last_evaluation(run: RunFiles) -> dict[str, float]:
    """What the trainer's own last evaluation logged, without times."""
    entry = next((e for e in reversed(run.log) if any(name.startswith("eval_") for name in e)), {})
    timed = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
    return {n: v for n, v in entry.items() if n.startswith("eval_") and n not in timed and v is not None}
