"""Draws with vLLM, in an environment that has it: `vllm_worker.py MODEL OUTPUT`, for `test_vllm_sampler.py`."""

import json
import sys
from dataclasses import astuple
from pathlib import Path

from qwenlong_trl.generation import PromptsRefusedError, Sampling, VLLMSampler


def main(model: str, output: str) -> None:
    sampler = VLLMSampler(model, dtype="float32", max_model_len=128, enforce_eager=True)
    chats = [[{"role": "user", "content": f"w{i} w{i + 1}"}] for i in range(4)]
    ids = ["a", "b", "c", "d"]

    def draw(prompts, ids, **settings):
        found = dict(sampler.sample(prompts, ids, Sampling(**settings)))
        return {ids[i]: [astuple(completion) for completion in completions] for i, completions in found.items()}

    drawn = {
        "greedy": draw(chats, ids, temperature=0, max_tokens=12),
        "samples": draw(chats, ids, num_samples=8, max_tokens=12, seed=1),
        "again": draw(chats[::-1], ids[::-1], num_samples=8, max_tokens=12, seed=1),
        "text": draw(["w1 w2"], ["a"], num_samples=4, max_tokens=12, seed=1),
    }
    try:
        dict(sampler.sample([" ".join(["w1"] * 200), "w1 w2"], ["long", "a"], Sampling(max_tokens=2)))
    except PromptsRefusedError as error:
        drawn["refused"] = [str(error), error.ids]
    Path(output).write_text(json.dumps(drawn))


if __name__ == "__main__":
    main(*sys.argv[1:])
