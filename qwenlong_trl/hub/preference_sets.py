"""The card of a preference set, from the `pairs.json` that `qwenlong-trl solopo-pairs` writes beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from .render import render_card


PAIRS_FILE = "pairs.json"


def preference_set_card(
    about: Mapping[str, Any],
    name: str | None = None,
    license: str | None = None,
    language: str | list[str] | None = None,
    repo_id: str | None = None,
) -> DatasetCard:
    """
    What the set is, how it was made, what was dropped, what it does not say.

    Args:
        about (`Mapping[str, Any]`):
            What [`~qwenlong_trl.solopo.pair_statistics.describe_pairs`] made.
        name, license, language (*optional*):
            As the Hub calls them.
        repo_id (`str`, *optional*):
            Where the set will be on the Hub, for the code that loads it.
    """
    name = name or "Short-to-long preference pairs"
    metadata = DatasetCardData(
        pretty_name=name,
        license=license,
        language=language,
        configs=[{"config_name": "default", "data_files": "data/train.parquet"}],
        tags=["preference", "long-context", "solopo", "qwenlong-trl"],
    )
    values = {"name": name, "repo_id": repo_id, "about": about, "license": license}
    return render_card("dataset", "preference_set", metadata, values)
