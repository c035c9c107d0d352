"""Pushes of folders in one commit: what goes, what stays, what is refused, and what every fault leaves behind."""

import json
import re

import pytest
from huggingface_hub import HfApi

from qwenlong_trl.hub import HubPushError, plan_push, push_folder


SECRET = "hf_" + "Ab1" * 12
CARD = "---\nlicense: apache-2.0\ntags:\n- test\n---\n\n# A model\n"


@pytest.fixture
def model(tmp_path):
    """A folder as a training leaves it, with all that should not leave it."""
    folder = tmp_path / "out"
    files = {
        "README.md": CARD,
        "config.json": "{}",
        "model.safetensors": "w" * 9_000,
        "big.safetensors": "v" * 200_000,
    }
    files |= {"curriculum/carried_phase_2.json": "[]", "tokenizer.json": "{}"}
    kept = {
        "optimizer.pt": "state of the optimizer",
        "checkpoint-4/optimizer.pt": "a checkpoint",
        ".env": "looks like a",
    }
    kept |= {".git/config": "belongs to git", "__pycache__/a.pyc": "a cache", "training_args.bin": "a pickle"}
    kept |= {
        "notes.txt": "looks like a secret",
        "keys/id_rsa": "looks like a secret",
        ".hidden/x.json": "a hidden file",
    }
    kept |= {"runs/events.out.tfevents.1": "logs of a tracker", "model.safetensors.part": "a temporary file"}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    for name in kept:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"token = {SECRET}" if name == "notes.txt" else "x")
    (folder / "link.txt").symlink_to("/etc/hostname")
    return folder, files, kept | {"link.txt": "a link out of the folder"}


def test_what_goes_and_what_stays(model):
    folder, files, kept = model
    plan = plan_push(folder)
    assert plan.repo_type == "model"
    assert {file.path: file.size for file in plan.files} == {name: len(text) for name, text in files.items()}
    for file in plan.kept_back:
        assert file.reason.startswith(kept.pop(file.path)), file
    assert not kept
    table = plan.table()
    assert "  9.0 kB  model.safetensors" in table and f"in {len(files)} files, as a model" in table
    assert "not pushed:" in table and "notes.txt  (looks like a secret)" in table


def test_include_takes_what_would_stay_but_no_secret(model):
    folder, files, _ = model
    plan = plan_push(folder, include=["optimizer.pt", "checkpoint-4/*", "notes.txt", ".env"])
    assert {file.path for file in plan.files} == {*files, "optimizer.pt", "checkpoint-4/optimizer.pt"}


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["adapter_config.json"], "model"),
        (["data/train.parquet", "README.md"], "dataset"),
        (["report.json", "scores.jsonl"], "dataset"),
        (["README.md", "app.py", "requirements.txt"], "space"),
    ],
)
def test_the_type_is_what_the_files_say(tmp_path, names, kind):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert plan_push(tmp_path).repo_type == kind


def test_folders_that_say_nothing(tmp_path):
    with pytest.raises(ValueError, match="holds nothing to push"):
        plan_push(tmp_path)
    (tmp_path / ".env").write_text("A=1")
    with pytest.raises(ValueError, match=r"nothing to push: .env \(looks like a secret\)"):
        plan_push(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match="does not tell what it is.*--repo_type"):
        plan_push(tmp_path)
    with pytest.raises(ValueError, match="is no folder"):
        plan_push(tmp_path / "nowhere")


def test_one_commit_with_exactly_these_files(hub, model):
    folder, files, _ = model
    url = push_folder(folder, "ns/reader", private=True)
    assert url.startswith(hub.url) and hub.store.repo("model", "ns/reader")["private"]
    assert hub.store.commits("model", "ns/reader") == ["Upload out with qwenlong-trl", "initial commit"]
    assert set(hub.store.tree("model", "ns/reader")) == {*files, ".gitattributes"}
    for name, content in files.items():
        assert hub.store.file("model", "ns/reader", name) == content.encode()
    sent = len(hub.requests)
    assert push_folder(folder, "ns/reader").split("/")[-1] == url.split("/")[-1]  # nothing new: no commit
    assert not any(" /lfs/" in request for request in hub.requests[sent:])


def test_a_branch_is_made(hub, model):
    folder, files, _ = model
    push_folder(folder, "ns/reader", revision="v1")
    assert set(hub.store.tree("model", "ns/reader", "v1")) == {*files, ".gitattributes"}
    assert set(hub.store.tree("model", "ns/reader")) == {".gitattributes"}


def test_what_should_be_private_does_not_become_public(hub, model):
    HfApi().create_repo("ns/reader", private=False)
    with pytest.raises(HubPushError, match="is there already, and it is public"):
        push_folder(model[0], "ns/reader", private=True)
    assert hub.store.commits("model", "ns/reader") == ["initial commit"]


@pytest.mark.parametrize(("card", "why"), [("# no metadata\n", "no metadata"), ("---\n- a\n---\n", "dict")])
def test_a_card_that_is_none_is_found_before_the_hub_is_asked(hub, model, card, why):
    (model[0] / "README.md").write_text(card)
    with pytest.raises(ValueError, match=f"README.md: .*{why}"):
        push_folder(model[0], "ns/reader")
    assert hub.requests == []


FAULTS = [
    ("POST /api/repos/create", 401, "does not accept the token.*hf auth login.*run the same command again"),
    ("POST /api/repos/create", 403, "may not write to ns/reader.*role write"),
    ("POST /api/repos/create", 500, "answers with 500"),
    ("POST /api/validate-yaml", 400, "refuses what was sent|Invalid metadata"),
    ("POST .*/preupload/", 500, "answers with 500.*also when asked again.*run the same command again"),
    ("POST .*/preupload/", 403, "may not write to ns/reader"),
    ("POST .*/objects/batch", 500, "answers with 500"),
    ("PUT /lfs/[^/]*$", 500, "answers with 500"),
    ("PUT /lfs/.*/part/2", 500, "answers with 500"),
    ("PUT /lfs/[^/]*$", "cut", "connection to the Hub broke.*what has arrived is not sent again"),
    ("PUT /lfs/.*/part/2", "cut", "connection to the Hub broke"),
    ("POST .*/commit/", 409, "changed by someone else at the same time"),
    ("POST .*/commit/", 412, "changed by someone else"),
    ("POST .*/commit/", 500, "answers with 500"),
    ("POST .*/commit/", "cut", "connection to the Hub broke"),
]


@pytest.mark.parametrize(("request_", "kind", "told"), FAULTS)
def test_a_fault_leaves_nothing_half_published(hub, model, request_, kind, told):
    folder, files, _ = model
    hub.fail(request_, kind, times=99)
    with pytest.raises((HubPushError, ValueError), match=told) as caught:
        push_folder(folder, "ns/reader")
    if isinstance(caught.value, HubPushError):
        assert "Nothing was published" in str(caught.value)
    stored = hub.store.folder / "repos" / "model-ns--reader.json"
    if stored.is_file():  # made, and empty
        assert hub.store.commits("model", "ns/reader") == ["initial commit"]
    hub.heal()
    push_folder(folder, "ns/reader")  # the advice works
    assert set(hub.store.tree("model", "ns/reader")) == {*files, ".gitattributes"}
    assert len(hub.store.commits("model", "ns/reader")) == 2


@pytest.mark.parametrize("kind", [500, "cut"])
def test_what_passes_is_tried_again_by_itself(hub, model, kind):
    hub.fail("PUT /lfs/", kind, times=2)
    push_folder(model[0], "ns/reader")
    assert len(hub.store.commits("model", "ns/reader")) == 2


def test_when_only_the_answer_is_lost_pushing_again_makes_no_second_commit(hub, model):
    hub.fail("POST .*/commit/", "cut_after")
    with pytest.raises(HubPushError, match="unless it was only the answer to the last request"):
        push_folder(model[0], "ns/reader")
    push_folder(model[0], "ns/reader")
    assert len(hub.store.commits("model", "ns/reader")) == 2


def test_without_a_token(hub, model, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(HubPushError, match="hf auth login"):
        push_folder(model[0], "ns/reader")
    assert not list((hub.store.folder / "repos").iterdir())


def test_offline(hub, model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubPushError, match="HF_HUB_OFFLINE is set"):
        push_folder(model[0], "ns/reader")


def test_a_token_that_may_only_read(hub, model, reader):
    with pytest.raises(HubPushError, match="may not write to ns/reader"):
        push_folder(model[0], "ns/reader")


def test_errors_of_other_kinds_stay_what_they_are(hub, model, monkeypatch):
    def broken(*args, **kwargs):
        raise KeyError("ours")

    monkeypatch.setattr(HfApi, "create_commit", broken)
    with pytest.raises(KeyError, match="ours"):
        push_folder(model[0], "ns/reader")


def test_no_message_tells_the_token(hub, model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with pytest.raises(HubPushError) as caught:
        push_folder(model[0], "ns/reader")
    assert not re.search("hf_[A-Za-z0-9]{8}", str(caught.value))
    assert json.dumps(str(caught.value))
