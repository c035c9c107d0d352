"""A context compressor to the Hub, and its pipeline in a process that has not got this package."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from huggingface_hub import ModelCard


sys.path.insert(0, str(Path(__file__).parents[1] / "cprs"))
from cprs_tiny import tiny_critic_tokenizer  # noqa: E402
from critic_runs import example, make_args, make_trainer  # noqa: E402


INPUT = {"context": ["The winter was long. Ada was born in 1900.", "🧑‍🚀 e\u0301 外面"], "query": "When was Ada born?"}
PROGRAM = """
import json, sys
try:
    import qwenlong_trl
except ImportError:
    pass
else:
    sys.exit("the package is importable: " + qwenlong_trl.__file__)
from transformers import pipeline

repo, revision, inputs = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
cprs = pipeline("context-compression", model=repo, revision=revision, trust_remote_code=True, device="cpu")
print(json.dumps([type(cprs).__module__, cprs(inputs), cprs(inputs, target_tokens=20, granularity="sentence")]))
"""


def run_without_package(tmp_path, url: str, *argv: str) -> subprocess.CompletedProcess:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "clean"], check=True)
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": sysconfig.get_paths()["purelib"]}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": url, "HF_TOKEN": os.environ["HF_TOKEN"]}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    command = [tmp_path / "clean" / "bin" / "python", "-c", PROGRAM, *argv]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)


def test_code_and_pipeline_from_the_hub_without_the_package(hub, tmp_path):
    from qwenlong_trl import ContextCompressionPipeline

    held_out = [example(i) for i in range(16, 20)]
    pushed = {"push_to_hub": True, "hub_model_id": "ns/critic", "hub_strategy": "every_save", "hub_private_repo": True}
    args = make_args(tmp_path / "out", max_steps=2, save_strategy="steps", save_steps=1, eval_strategy="steps",
                     eval_steps=2, eval_budgets=[0.5], hub_always_push=True, **pushed)  # fmt: skip
    trainer = make_trainer(args, eval_dataset=held_out)
    trainer.train()
    during = set(hub.store.tree("model", "ns/critic"))
    assert {"config.json", "model.safetensors", "modeling_cprs.py", "pipeline_cprs.py"} <= during

    commit = trainer.push_to_hub()
    done = run_without_package(tmp_path, hub.url, "ns/critic", commit.oid, json.dumps(INPUT))
    assert done.returncode == 0, done.stderr[-3000:]
    module, *outputs = json.loads(done.stdout.splitlines()[-1])
    assert module.startswith("transformers_modules.")
    ours = ContextCompressionPipeline(
        model=trainer.model.eval(), tokenizer=tiny_critic_tokenizer(), device="cpu", task="context-compression"
    )
    assert outputs == [ours(INPUT), ours(INPUT, target_tokens=20, granularity="sentence")]
    again = ContextCompressionPipeline.from_pretrained("ns/critic", revision=commit.oid, device="cpu")
    assert again(INPUT) == outputs[0]

    card = ModelCard.load("ns/critic")
    assert 'pipeline("context-compression", model="ns/critic", trust_remote_code=True)' in card.text
    assert card.data.pipeline_tag == "token-classification" and "cprs" in card.data.tags
    recall = next(e for e in reversed(trainer.state.log_history) if "eval_evidence_recall@0.5" in e)
    assert f"| `eval_evidence_recall@0.5` | {recall['eval_evidence_recall@0.5']:.3f} |" in card.text.replace(
        "| 1 |", "| 1.000 |"
    ).replace("| 0 |", "| 0.000 |")
    card.validate()


def test_nobody_else_sees_a_private_one(hub, tmp_path, monkeypatch):
    from transformers import AutoConfig

    trainer = make_trainer(make_args(tmp_path / "out", max_steps=1, push_to_hub=True, hub_model_id="ns/critic",
                                     hub_private_repo=True))  # fmt: skip
    trainer.push_to_hub()
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(OSError, match="ns/critic"):
        AutoConfig.from_pretrained("ns/critic", trust_remote_code=False)
