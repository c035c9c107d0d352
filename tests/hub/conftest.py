"""A Hub of its own for a test, and clients in this process that talk to it."""

import sys
from pathlib import Path

import pytest


sys.path.insert(0, str(Path(__file__).parent))
from hub_server import HubServer  # noqa: E402


TOKEN, READER = "token-of-ns", "reading-token-of-ns"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A running Hub with the user `ns`, whom the client libraries of this process are logged in as."""
    import datasets.config
    import huggingface_hub
    import transformers.utils.hub
    from huggingface_hub import constants

    with HubServer(tmp_path / "hub", {TOKEN: "ns"}, {READER: "ns"}) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", server.url)
        monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.url)
        monkeypatch.setattr(
            datasets.config, "HUB_DATASETS_URL", server.url + "/datasets/{repo_id}/resolve/{revision}/{path}"
        )
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        yield server
        huggingface_hub.utils.close_session()


@pytest.fixture
def reader(monkeypatch):
    """Logs the clients in with a token that may only read."""
    monkeypatch.setenv("HF_TOKEN", READER)
