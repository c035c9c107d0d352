"""Tiny models in a cache of the Hub's layout, so that a page finds them by their names without a network."""

from pathlib import Path

from cprs_tiny import tiny_critic, tiny_critic_tokenizer
from tiny import save_tiny
from transformers import LlamaConfig, LlamaForCausalLM


REVISION = "0" * 40


def snapshot(cache: Path, model_id: str) -> Path:
    """Where the files of a model belong."""
    folder = cache / f"models--{model_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(REVISION)
    files = folder / "snapshots" / REVISION
    files.mkdir(parents=True)
    return files


def make_cache(cache: Path) -> dict[str, str]:
    """`tiny/critic`, `tiny/reader` (any text), `tiny/words` (few positions); returns the environment for a page."""
    critic = snapshot(cache, "tiny/critic")
    tiny_critic().save_pretrained(critic)
    tiny_critic_tokenizer().save_pretrained(critic)
    reader = snapshot(cache, "tiny/reader")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
    config = LlamaConfig(vocab_size=400, max_position_embeddings=4096, **sizes, **ids)
    LlamaForCausalLM(config).save_pretrained(reader)
    tiny_critic_tokenizer().save_pretrained(reader)
    save_tiny(snapshot(cache, "tiny/words"))
    return {"HF_HUB_CACHE": str(cache)}
