"""A saved pipeline: what lies in its folder, and that it loads with and without this package."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from cprs_tiny import tiny_critic, tiny_critic_tokenizer, tiny_pipeline
from transformers import AutoConfig, AutoModel, pipeline

from qwenlong_trl.cprs import ContextCompressionPipeline, CPRSForTokenCritic


INPUT = {
    "context": [
        {"title": "Pole", "text": "The station stands on a glacier. It was built in 1987."},
        "🧑‍🚀 e\u0301 外面",
    ],
    "query": "When was it built?",
}
# Not this package's: what is saved has to do. The modules of a repository go to a cache of their own.
PROGRAM = """
import json, sys
try:
    import qwenlong_trl
except ImportError:
    pass
else:
    sys.exit("the package is importable: " + qwenlong_trl.__file__)
import torch
from transformers import AutoModel, pipeline

folder, again, inputs = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
cprs = pipeline(model=folder, trust_remote_code=True, device="cpu")
outputs = [cprs(inputs), cprs(inputs, target_tokens=20, granularity="sentence")]
cprs.save_pretrained(again)
AutoModel.from_pretrained(folder, trust_remote_code=True).save_pretrained(again + "-model")
cprs.tokenizer.save_pretrained(again + "-model")
outputs += [pipeline(model=path, trust_remote_code=True, device="cpu")(inputs) for path in (again, again + "-model")]
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
with torch.no_grad():
    logits = model(torch.arange(40)[None], tag_ids=torch.tensor([3, 4]))
kinds = [type(cprs).__module__, cprs.task, type(model).__name__]
print(json.dumps([kinds, outputs, logits.logits.tolist(), logits.tag_logits.tolist()]))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("hub") / "cprs"
    tiny_pipeline().save_pretrained(folder)
    return str(folder)


def run_without_package(tmp_path, *argv: str) -> subprocess.CompletedProcess:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "clean"], check=True)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        # An editable install hangs on a .pth file, which is not read in folders of PYTHONPATH.
        "PYTHONPATH": sysconfig.get_paths()["purelib"],
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [tmp_path / "clean" / "bin" / "python", "-c", PROGRAM, *argv]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)


def test_the_folder_holds_code_and_says_how_to_load_it(saved):
    config = json.load(open(f"{saved}/config.json", encoding="utf-8"))
    assert config["model_type"] == "cprs"
    assert config["auto_map"] == {
        "AutoConfig": "configuration_cprs.CPRSConfig",
        "AutoModel": "modeling_cprs.CPRSForTokenCritic",
    }
    custom = config["custom_pipelines"]["context-compression"]
    assert custom == {"impl": "pipeline_cprs.ContextCompressionPipeline", "pt": ["AutoModel"], "type": "text"}
    code = {name for name in os.listdir(saved) if name.endswith(".py")}
    wanted = "configuration_cprs modeling_cprs pipeline_cprs context windows units decode selection official prefix"
    assert {f"{name}.py" for name in wanted.split()} <= code


@pytest.mark.slow
def test_loads_where_the_package_is_not_installed(saved, tmp_path):
    import torch

    again = str(tmp_path / "again")
    done = run_without_package(tmp_path, saved, again, json.dumps(INPUT))
    assert done.returncode == 0, done.stderr[-2000:]
    kinds, outputs, logits, tag_logits = json.loads(done.stdout.splitlines()[-1])
    assert kinds[0].startswith("transformers_modules.") and kinds[1:] == ["context-compression", "CPRSForTokenCritic"]
    cprs = tiny_pipeline()
    assert outputs[0]["spans"]
    # What was saved from there, as a pipeline or as a model alone, is as good as the first.
    wanted = cprs(INPUT)
    assert outputs == [wanted, cprs(INPUT, target_tokens=20, granularity="sentence"), wanted, wanted]
    with torch.no_grad():
        own = cprs.model(torch.arange(40)[None], tag_ids=torch.tensor([3, 4]))
    torch.testing.assert_close(torch.tensor(logits), own.logits)
    torch.testing.assert_close(torch.tensor(tag_logits), own.tag_logits)
    assert {path.name for path in Path(again).glob("*.py")} == {path.name for path in Path(saved).glob("*.py")}


def test_a_model_alone_brings_the_pipeline(saved, tmp_path):
    tiny_critic().save_pretrained(tmp_path / "fresh")
    AutoModel.from_pretrained(saved).save_pretrained(tmp_path / "again")
    for folder in (tmp_path / "fresh", tmp_path / "again"):
        assert {path.name for path in folder.glob("*.py")} == {path.name for path in Path(saved).glob("*.py")}
        assert "context-compression" in json.loads((folder / "config.json").read_text())["custom_pipelines"]


def test_a_backbone_is_no_compressor(tmp_path):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
    Qwen2ForCausalLM(Qwen2Config(**shape, vocab_size=400, num_hidden_layers=2)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no `cls_head`: it is a backbone and no critic"):
        ContextCompressionPipeline.from_pretrained(str(tmp_path), tokenizer=tiny_critic_tokenizer(), device="cpu")


def test_weights_on_disk(saved, tmp_path):
    where = {"model": "cpu", "cls_head": "cpu", "lm_head": "disk"}
    cprs = ContextCompressionPipeline.from_pretrained(
        saved, device_map=where, model_kwargs={"offload_folder": str(tmp_path)}
    )
    assert cprs(INPUT) == tiny_pipeline()(INPUT)


def test_code_of_a_folder_runs_only_when_allowed(saved):
    with pytest.raises(ValueError, match="trust_remote_code"):
        pipeline("context-compression", model=saved)


def test_loads_with_the_package_and_without_foreign_code(saved):
    model = AutoModel.from_pretrained(saved)
    assert type(model) is CPRSForTokenCritic
    assert type(AutoConfig.from_pretrained(saved)) is type(model.config)
    cprs = ContextCompressionPipeline.from_pretrained(saved, device="cpu", granularity="sentence", dtype="float32")
    assert type(cprs) is ContextCompressionPipeline
    assert cprs(INPUT) == tiny_pipeline()(INPUT, granularity="sentence")


def test_the_task_is_known_for_a_model_in_memory():
    cprs = pipeline("context-compression", model=tiny_critic(), tokenizer=tiny_critic_tokenizer(), device="cpu")
    assert cprs(INPUT) == tiny_pipeline()(INPUT)


def test_a_repository_in_the_layout_of_the_release_loads(tmp_path):
    """Its configuration is that of a plain Qwen2, and nothing in it names a critic."""
    model = tiny_critic()
    model.save_pretrained(tmp_path)
    config = json.load(open(tmp_path / "config.json", encoding="utf-8"))
    own = {"auto_map", "backbone_type", "bidirectional_start_layer", "instruction", "window_tokens", "id2label"}
    config = {name: value for name, value in config.items() if name not in own | {"label2id"}}
    config |= {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    cprs = ContextCompressionPipeline.from_pretrained(
        str(tmp_path), tokenizer=tiny_critic_tokenizer(), device="cpu", window_tokens=512
    )
    assert type(cprs.model) is CPRSForTokenCritic
    assert cprs(INPUT) == tiny_pipeline()(INPUT)
