"""The folder in which the pages' blocks run: small models and files under the names that the pages use.

transformers takes a folder `Qwen/Qwen3-4B` of the working directory before it asks the Hub, so that a block runs as it
is printed, on a model of a few thousand parameters.
"""

import gzip
import json
import shutil
from pathlib import Path

import torch
from code_blocks import REPOSITORY
from cprs_tiny import tiny_critic, tiny_critic_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, pipeline

from qwenlong_trl.data import prompt_dataset, synthesize, write_records


MODELS = [
    *("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B-Base", "Qwen/Qwen3-4B", "Qwen/Qwen3-8B", "Qwen/Qwen2.5-0.5B-Instruct"),
    *("Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
]
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_folder(folder: Path) -> None:
    """Writes models and files, and links what a checkout has beside the README."""
    for name in ("examples", "tests"):
        (folder / name).symlink_to(REPOSITORY / name)
    _write_models(folder)
    _write_records(folder)
    from qwenlong_trl.loong.made_up import made_up

    made_up(folder / "loong")
    (folder / "report.txt").write_text("The report was signed by Ada Lovelace. It has two pages.\n" * 20)
    (folder / "contract.txt").write_text("The contract ends in May 2031. It may be prolonged.\n" * 20)


def _write_models(folder: Path) -> None:
    tokenizer = tiny_critic_tokenizer()
    tokenizer.chat_template = _CHAT
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    end = tokenizer.eos_token_id
    tokens = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": end, "pad_token_id": end}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **tokens, max_position_embeddings=131_072))
    for name in MODELS:
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    critic = pipeline("context-compression", model=tiny_critic(), tokenizer=tiny_critic_tokenizer())
    critic.save_pretrained(folder / "ns" / "cprs")


def _write_records(folder: Path) -> None:
    """Invented questions in the layouts of the public sets."""
    examples = [
        example
        for task in ("chain_of_reasoning", "comparison")
        for example in synthesize(task, 1500, count=24, tokenizer=tiny_critic_tokenizer(), seed=1)
    ]
    longer = [*synthesize("comparison", 2100, count=8, tokenizer=tiny_critic_tokenizer(), seed=3)]
    write_records([*examples[:16], *longer], folder / "records.jsonl")
    rows = prompt_dataset([*examples[:8], *longer], tiny_critic_tokenizer(), chat=False)
    rows.to_parquet(folder / "prompts.parquet")
    lines = "".join(json.dumps(_musique(example)) + "\n" for example in examples)
    for name in ("musique.jsonl", "musique_ans_v1.0_train.jsonl"):
        (folder / name).write_text(lines)
    (folder / "hotpot_train_v1.1.json").write_text(json.dumps([_hotpotqa(example) for example in examples]))
    short = synthesize("spotlight_locating", 120, count=460, tokenizer=tiny_critic_tokenizer(), seed=2)
    with gzip.open(folder / "nq-open-oracle.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(_nq(example)) + "\n" for example in short)
    shutil.copy(REPOSITORY / "tests" / "rewards" / "judge_pairs.jsonl", folder / "pairs.jsonl")
    _write_preferences(folder)


def _write_preferences(folder: Path) -> None:
    rows = [
        {"prompt": f"Fact {i} is red. What is fact {i}? ", "chosen": "It is red.", "rejected": "It is blue."}
        for i in range(8)
    ]
    more = " ".join(f"Fact {i} says nothing." for i in range(100, 130))
    with open(folder / "pairs-long.jsonl", "w") as file:
        file.writelines(json.dumps({**row, "long_prompt": f"{more} {row['prompt']}"}) + "\n" for row in rows)


def _gold(example) -> set[int]:
    return {evidence.document for evidence in example.evidence}


def _musique(example) -> dict:
    paragraphs = [
        {"idx": i, "title": one.title, "paragraph_text": one.text, "is_supporting": i in _gold(example)}
        for i, one in enumerate(example.documents)
    ]
    answers = {"answer": example.answers[0], "answer_aliases": list(example.answers[1:]), "answerable": True}
    return {
        "id": example.id,
        "paragraphs": paragraphs,
        "question": example.question,
        "question_decomposition": [],
        **answers,
    }


def _hotpotqa(example) -> dict:
    return {
        "_id": example.id,
        "question": example.question,
        "answer": example.answers[0],
        "type": "bridge",
        "supporting_facts": [[example.documents[i].title, 0] for i in sorted(_gold(example))],
        "context": [[one.title, [one.text]] for one in example.documents],
    }


def _nq(example) -> dict:
    contexts = [
        {"title": one.title, "text": one.text, "hasanswer": i in _gold(example), "isgold": i in _gold(example)}
        for i, one in enumerate(example.documents)
    ]
    return {"question": example.question, "answers": list(example.answers), "ctxs": contexts}
