"""The Hub of the tests with the client library alone: what the other tests stand on."""

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


FILES = {"README.md": b"---\nlicense: mit\n---\n", "sub/small.txt": b"small", "large.bin": bytes(5_000)}
FILES["parts.bin"] = bytes(range(256)) * 800  # in parts


def push(repo="ns/model", files=FILES, **options) -> str:
    api = HfApi()
    api.create_repo(repo, exist_ok=True, private=options.pop("private", None))
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(repo, operations, commit_message="files", **options).oid


def test_files_come_back_by_branch_and_by_commit(hub, tmp_path):
    first = push()
    second = push(files={"sub/small.txt": b"other"})
    for revision, small in ((first, b"small"), (second, b"other"), ("main", b"other")):
        folder = snapshot_download("ns/model", revision=revision, local_dir=tmp_path / revision)
        for path, content in (FILES | {"sub/small.txt": small}).items():
            assert (tmp_path / revision / path).read_bytes() == content, folder
    assert hub.store.commits("model", "ns/model") == ["files", "files", "initial commit"]
    assert any("/part/" in request for request in hub.requests)
    assert any(request.startswith("PUT /lfs/") and "/part/" not in request for request in hub.requests)


def test_unchanged_files_make_no_commit(hub):
    assert push() == push()
    assert hub.store.commits("model", "ns/model") == ["files", "initial commit"]


def test_tree_info_and_deletion(hub):
    oid = push()
    api = HfApi()
    assert {item.path for item in api.list_repo_tree("ns/model", recursive=True)} == {*FILES, ".gitattributes", "sub"}
    assert {item.path for item in api.list_repo_tree("ns/model", "sub")} == {"sub/small.txt"}
    (info,) = api.get_paths_info("ns/model", ["large.bin"])
    assert (info.size, info.lfs.size) == (5_000, 5_000)
    assert api.model_info("ns/model").sha == oid
    api.create_commit("ns/model", [CommitOperationDelete("sub/")], commit_message="less")
    assert not api.file_exists("ns/model", "sub/small.txt")
    assert api.whoami()["name"] == "ns"


def test_what_is_not_there(hub):
    push()
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("ns/other", "README.md")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("ns/model", "README.md", revision="v9")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("ns/model", "nothing.txt")


def test_branches_and_conflicts(hub):
    oid = push()
    api = HfApi()
    api.create_branch("ns/model", branch="v1")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_branch("ns/model", branch="v1")
    push(files={"new.txt": b"new"}, revision="v1")
    assert api.file_exists("ns/model", "new.txt", revision="v1") and not api.file_exists("ns/model", "new.txt")
    push(files={"newer.txt": b"newer"})
    with pytest.raises(HfHubHTTPError, match="412"):
        push(files={"late.txt": b"late"}, parent_commit=oid)


def test_who_may_do_what(hub, reader, monkeypatch):
    with pytest.raises(HfHubHTTPError, match="403"):
        push()
    monkeypatch.setenv("HF_TOKEN", "token-of-ns")
    push(private=True)
    assert HfApi().model_info("ns/model").private
    monkeypatch.setenv("HF_TOKEN", "unknown")
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi().model_info("ns/model")
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=False).model_info("ns/model")


@pytest.mark.parametrize(
    "card",
    [
        "license: nonsense",
        "language: [english]",
        "base_model: a/b/c",
        "pipeline_tag: compression",
        "model-index: [{name: x, results: [{task: {type: t}, dataset: {type: d}, metrics: []}]}]",
        "- a list",
    ],
)
def test_metadata_that_the_hub_refuses(hub, card):
    with pytest.raises(ValueError, match="Invalid metadata in README"):
        push(files={"README.md": f"---\n{card}\n---\n".encode()})
    assert hub.store.commits("model", "ns/model") == ["initial commit"]
