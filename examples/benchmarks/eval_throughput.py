"""Records per second of an evaluation: transformers one answer at a time, against our batches, and vLLM if it is here.

    python examples/benchmarks/eval_throughput.py                                   # random weights, 2 CPU cores
    python examples/benchmarks/eval_throughput.py --model HuggingFaceTB/SmolLM2-135M-Instruct --tokens 256 1024
    python examples/benchmarks/eval_throughput.py --num_samples 8 --records 8       # as for pass@k
    python examples/benchmarks/eval_throughput.py --records 8 --runs 1              # a quick look

The prompts are those of the synthetic suite (four tasks) at several lengths, answered greedily, or sampled where
there are several answers. One at a time is `generate` as most evaluation scripts call it, an answer a call. All have
the same model, type and prompts, and answers of the same length at most. Runs take turns, so that a machine that
becomes slower touches all; medians are reported. On a CPU, which is busy with reading a single prompt, batches gain
where answers are long beside prompts, or where several answers share a prompt, which is read once then. vLLM runs in
the same process and may keep a core from the others; measure without it, too.
"""

import argparse
import os
import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # in this process, so that it rests while others run
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")  # GB


def random_model(folder: Path) -> str:
    """A Llama of SmolLM2-135M's shape with random weights, and a tokenizer of its own."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from qwenlong_trl.data import render_prompt, synthesize

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [render_prompt(example) for example in synthesize("clustering", 4_000, seed=1, count=20)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=4_000, special_tokens=["<eos>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1_536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8_192,
        tie_word_embeddings=True,
        eos_token_id=0,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return str(folder)


def one_at_a_time(model: str, dtype: str):
    """`generate`, a prompt a call, with the key-value cache."""
    import torch
    from accelerate import PartialState
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from qwenlong_trl.generation.sampling import encode_prompt

    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval().to(PartialState().device)

    def run(prompts, ids, sampling) -> list[str]:
        texts = []
        drawn = {"do_sample": False}
        if sampling.temperature > 0:
            drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        for prompt in [prompt for prompt in prompts for _ in range(sampling.num_samples)]:
            tokens = torch.tensor([encode_prompt(prompt, tokenizer)], device=network.device)
            with torch.inference_mode():
                output = network.generate(
                    tokens,
                    attention_mask=torch.ones_like(tokens),
                    **drawn,
                    max_new_tokens=sampling.max_tokens,
                    pad_token_id=tokenizer.eos_token_id,
                )
            texts.append(tokenizer.decode(output[0, tokens.shape[1] :], skip_special_tokens=True))
        return texts

    return run


def with_sampler(sampler):
    def run(prompts, ids, sampling) -> list[str]:
        found = dict(sampler.sample(prompts, ids, sampling))
        return [completion.text for i in range(len(prompts)) for completion in found[i]]

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="Hub name or folder; random weights of SmolLM2-135M's shape by default")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 1024], help="lengths of the contexts")
    parser.add_argument("--records", type=int, default=32, help="records of each length")
    parser.add_argument("--num_samples", type=int, default=1, help="answers to each record")
    parser.add_argument("--max_tokens", type=int, default=64, help="longest answer")
    parser.add_argument("--rows_per_batch", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()

    from transformers import AutoTokenizer

    from qwenlong_trl.data import SYNTHETIC_TASKS, render_prompt, synthesize
    from qwenlong_trl.generation import Sampling, TransformersSampler, VLLMSampler

    with tempfile.TemporaryDirectory() as folder:
        model = args.model or random_model(Path(folder))
        tokenizer = AutoTokenizer.from_pretrained(model)
        temperature = 0.0 if args.num_samples == 1 else 0.7  # with top-p 0.95, as in the protocol of QwenLong-L1
        sampling = Sampling(args.num_samples, temperature, 0.95, args.max_tokens)
        arms = {
            "one at a time": one_at_a_time(model, args.dtype),
            "batches": with_sampler(TransformersSampler(model, dtype=args.dtype, rows_per_batch=args.rows_per_batch)),
        }
        if find_spec("vllm"):
            longest = max(args.tokens) * 2 + args.max_tokens + 512
            arms["vLLM"] = with_sampler(
                VLLMSampler(model, dtype=args.dtype, max_model_len=longest, enable_prefix_caching=False)
            )
        else:
            print("vLLM is not installed here, so that it is left out")
        per_task = -(-args.records // len(SYNTHETIC_TASKS))
        print(
            f"{args.records} records of each length, {args.num_samples} answers of up to {args.max_tokens} tokens, "
            f"{args.dtype}"
        )
        for tokens in args.tokens:
            examples = [e for task in SYNTHETIC_TASKS for e in synthesize(task, tokens, 0, per_task, tokenizer)]
            examples = examples[: args.records]
            texts = [render_prompt(example) for example in examples]
            chat = tokenizer.chat_template is not None
            prompts = [[{"role": "user", "content": text}] if chat else text for text in texts]
            ids = [example.id for example in examples]
            for run in arms.values():  # what is done once, such as compiling
                run(prompts[:2], ids[:2], sampling)
            seconds, answers = {name: [] for name in arms}, {}
            for _ in range(args.runs):
                for name, run in arms.items():
                    started = time.perf_counter()
                    answers[name] = run(prompts, ids, sampling)
                    seconds[name].append(time.perf_counter() - started)
            base = statistics.median(seconds["one at a time"])
            for name, taken in seconds.items():
                median = statistics.median(taken)
                same = sum(a == b for a, b in zip(answers[name], answers["one at a time"], strict=True))
                alike = f"; {same} of {len(ids)} answers as one at a time" if temperature == 0 else ""
                print(
                    f"{tokens:>7,} tokens  {name:<14}{len(ids) / median:8.2f} records/s  x{base / median:5.2f}  "
                    f"({min(taken):.1f} to {max(taken):.1f} s{alike})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
