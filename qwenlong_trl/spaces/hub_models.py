"""Models that a stranger names in a text box: by their id on the Hub alone, without their code, and not too large.

```python
>>> folder = fetch_model("Qwen/Qwen2.5-0.5B-Instruct", most_bytes=2 * 10**9)
```

A name is never taken for a path of this machine, and nobody's token goes with the request, so that whoever types a
name sees what everybody sees. Only weights in safetensors, JSON and plain text are downloaded: nothing that runs.
"""

from __future__ import annotations

from pathlib import Path


_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")


def fetch_model(model_id: str, most_bytes: int) -> Path:
    """
    The folder of a model's files, from the Hub or from the cache of earlier downloads.

    Args:
        model_id (`str`):
            `namespace/name`.
        most_bytes (`int`):
            Most bytes of its weights.

    Raises:
        `ValueError`: no such model, one that is closed, too large, without safetensors or an adapter, or the Hub
            cannot be reached; says which.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )
    from huggingface_hub.utils import validate_repo_id

    model_id = model_id.strip()
    try:
        validate_repo_id(model_id)
    except HFValidationError:
        raise ValueError(f"{model_id[:100]!r} is no name of a model: write namespace/name, as on the Hub.") from None
    if model_id.count("/") != 1:
        raise ValueError(f"{model_id[:100]!r} lacks its namespace: write namespace/name, as on the Hub.")
    try:
        info = HfApi(token=False).model_info(model_id, files_metadata=True, timeout=20)
        check_files({file.rfilename: file.size or 0 for file in info.siblings or []}, model_id, most_bytes)
        folder = snapshot_download(model_id, revision=info.sha, allow_patterns=list(_FILES), token=False)
    except OfflineModeIsEnabled:
        folder = _cached(snapshot_download, LocalEntryNotFoundError, model_id)
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        check_files(sizes, model_id, most_bytes)
    except GatedRepoError:
        raise ValueError(f"{model_id} is gated: its owner has to grant access first, which no page can.") from None
    except RepositoryNotFoundError:
        raise ValueError(f"There is no public model {model_id} on the Hub. Check the spelling.") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise ValueError(f"The Hub answered {status} for {model_id}. Try again in a moment.") from None
    except OSError as error:
        kind = type(error).__name__
        raise ValueError(f"{model_id} could not be downloaded ({kind}). Try again in a moment.") from None
    return Path(folder)


def _cached(snapshot_download, missing: type[Exception], model_id: str) -> Path:
    try:
        return Path(snapshot_download(model_id, local_files_only=True))
    except missing:
        raise ValueError(f"{model_id} is not on this machine, and the Hub is switched off here.") from None


def check_files(sizes: dict[str, int], model_id: str, most_bytes: int) -> None:
    """Raises `ValueError` for a repository whose files this page cannot use; `sizes` are bytes by name."""
    weights = sum(size for name, size in sizes.items() if name.endswith(".safetensors"))
    if "adapter_config.json" in sizes:
        raise ValueError(f"{model_id} is an adapter; this page takes whole models. Merge it into its base first.")
    if not weights:
        raise ValueError(f"{model_id} has no weights in safetensors, the only kind that this page loads.")
    if weights > most_bytes:
        raise ValueError(
            f"{model_id} has {weights / 1e9:.1f} GB of weights; this page takes up to {most_bytes / 1e9:.1f} GB. "
            "Run it on your own machine: see the code of this Space."
        )
