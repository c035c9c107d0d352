"""Models by a name that a stranger typed: from a cache of the Hub's layout, and from a server that refuses."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from cached_models import make_cache, snapshot

from qwenlong_trl.spaces.hub_models import check_files, fetch_model
from qwenlong_trl.spaces.limits import check_length, read_json_upload, read_upload
from qwenlong_trl.spaces.reader import Reader, hub_reader


@pytest.fixture
def cache(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(tmp_path / "cache"), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    make_cache(tmp_path / "cache")
    hub_reader.cache_clear()
    return tmp_path / "cache"


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc/passwd", "a/b/c", "no-namespace", "a b/c", "x" * 300])
def test_what_is_no_name_is_never_looked_for(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", None)  # whoever asks it fails
    with pytest.raises(ValueError, match="write namespace/name"):
        fetch_model(name, 10**9)


def test_a_name_that_is_a_folder_here_is_not_that_folder(cache, tmp_path, monkeypatch):
    (tmp_path / "some" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="some/folder is not on this machine"):
        fetch_model("some/folder", 10**9)


def test_from_the_cache(cache):
    reader = hub_reader("tiny/reader", 10**9, 512, 8)
    answer = reader.answer("Who built the station?\n")
    assert answer.refused is None and answer.seconds > 0 and answer.tokens > 3
    assert reader.most_tokens == 504
    assert "reads up to 504 tokens" in reader.answer("station " * 600).refused
    with pytest.raises(ValueError, match="has 0.0 GB of weights; this page takes up to 0.0 GB"):
        fetch_model("tiny/reader", 10)


def test_code_of_a_repository_does_not_run(cache, tmp_path):
    files = snapshot(cache, "evil/model")
    (files / "config.json").write_text(
        json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}})
    )
    (files / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (files / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="evil/model could not be loaded as a causal language model") as error:
        hub_reader("evil/model", 10**9, 512)
    assert not (tmp_path / "ran").exists()
    assert str(cache) not in str(error.value)


def test_positions_of_the_model_are_a_limit(cache, tmp_path):
    reader = Reader(cache / "models--tiny--words" / "snapshots" / ("0" * 40), 8_192, 28)
    assert reader.most_tokens == 100


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"adapter_config.json": 1, "adapter_model.safetensors": 9}, "is an adapter"),
        ({"pytorch_model.bin": 9}, "no weights in safetensors"),
        ({"a.safetensors": 60, "b.safetensors": 60}, "this page takes up to"),
    ],
)
def test_files_that_a_page_cannot_use(sizes, said):
    with pytest.raises(ValueError, match=said):
        check_files(sizes, "a/b", 100)
    check_files({"model.safetensors": 100, "config.json": 1}, "a/b", 100)


class Refusing(BaseHTTPRequestHandler):
    def do_GET(self):
        kind = self.path.partition("?")[0].rsplit("/", 1)[-1]
        self.server.seen.append(self.headers.get("Authorization"))
        status, code = {"none": (404, "RepoNotFound"), "gated": (403, "GatedRepo")}.get(kind, (500, ""))
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


def test_a_hub_that_refuses_and_no_token_goes_along(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    server.seen = []
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    try:
        for name, said in (
            ("a/none", "no public model a/none"),
            ("a/gated", "a/gated is gated"),
            ("a/broken", "answered 500 for a/broken"),
        ):
            with pytest.raises(ValueError, match=said):
                fetch_model(name, 10**9)
    finally:
        server.shutdown()
        server.server_close()
    assert len(server.seen) >= 3 and not any(server.seen)


def test_uploads(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('{"x": NaN, "y": [1]}')
    assert read_json_upload(file, 100) == {"x": None, "y": [1]}
    for content, said in (
        ("{", "holds no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("x" * 200_000, "up to 150,000"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=said):
            read_json_upload(file, 150_000)
    with pytest.raises(ValueError, match="is no .txt file"):
        read_upload(file, (".txt",), 10**6)
    assert check_length("It", "abc", 3) == "abc"
    with pytest.raises(ValueError, match="It has 4 characters; this page takes up to 3"):
        check_length("It", "abcd", 3)
