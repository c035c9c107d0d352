"""Speed of `pipeline("context-compression")`: batches of windows, growth with length, overhead, time to first token.

    python examples/benchmarks/cprs_throughput.py                   # two CPU cores: about 15 minutes
    python examples/benchmarks/cprs_throughput.py --quick           # a look at everything in two minutes
    python examples/benchmarks/cprs_throughput.py --parts bc        # some of the parts
    python examples/benchmarks/cprs_throughput.py --a_models 0.5b 7b --c_models 0.5b 7b --d_reader 7b --d_critics 7b \
        --tokens 131072 --runs 5                                    # for a GPU

Weights are random and texts synthetic; the tokenizer is trained on the spot and nothing is downloaded. A name that is
none of the sizes below is a checkpoint: a causal language model for `--d_reader`, a critic for the other options.

(a) All windows in batches, against one window at a time: each input in a call of its own, each window alone through
    the model, in order; and, with `compat="official"`, against a loop as in the released server of QwenLong-CPRS
    (arXiv 2505.18092), which also tokenises each window again from its text. A batch saves what a pass costs whatever
    its size: launching kernels, reading the weights. On a GPU that is most of the time for short windows. A CPU is
    busy with a few hundred tokens unless the model is tiny, so there only many short inputs, or small windows, can
    gain; full windows do not.
(b) Time of one text of 64K to 512K tokens.
(c) Share of a call that is not spent in the model: reading, windows, batches, decoding, writing.
(d) Time to the first token of a reader: over the whole context, and over the tenth that a compression by sentences
    leaves, with the compression. Both include tokenising. Logits of the last position alone are computed.

Every figure is the median of the runs. The ways take turns within a run, and ratios are taken within it, so that a
machine that becomes slower touches all.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging

from qwenlong_trl.cprs import ContextCompressionPipeline, CPRSConfig, CPRSForTokenCritic
from qwenlong_trl.cprs.context import read_context
from qwenlong_trl.cprs.decode import OUTSIDE
from qwenlong_trl.cprs.official import official_spans, official_windows
from qwenlong_trl.cprs.prefix import prefix_ids
from qwenlong_trl.data import synthesize


# Width, layers, heads, heads of keys and values, inner width, vocabulary.
SIZES = {
    "tiny": (64, 2, 2, 1, 256, 8_192),
    "small": (256, 8, 4, 2, 1_024, 8_192),
    "135m": (576, 30, 9, 3, 1_536, 49_152),  # SmolLM2-135M
    "0.5b": (896, 24, 14, 2, 4_864, 151_936),  # Qwen2.5-0.5B
    "7b": (3_584, 28, 28, 4, 18_944, 152_064),  # Qwen2.5-7B
}
MARKERS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QUESTION = "Which gallery opened first?"
SHORT = (200, 400)  # tokens of a short input
SENTENCES = {"granularity": "sentence", "rate": 0.1, "progress": False}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 8,000 entries, with ChatML's markers; the tag words are entries."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    settings = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=8_000, special_tokens=MARKERS, **settings)
    bpe.train_from_iterator([make_text(200_000, seed=1), *["fact", "outside"] * 500], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=MARKERS[0], extra_special_tokens=MARKERS[1:])


def make_text(tokens: int, seed: int, tokenizer=None) -> str:
    """Documents of synthetic English, cut after so many tokens; about as many without a tokenizer."""
    documents = next(synthesize("spotlight_locating", max(2 * tokens, 1_000), seed=seed)).documents
    text = "\n\n".join(document.text for document in documents)
    if tokenizer is None:
        return text
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    if len(offsets) < tokens:
        raise SystemExit(f"the synthetic text has {len(offsets)} tokens, fewer than {tokens}")
    return text[: offsets[tokens - 1][1]]


def shape(size: str) -> dict:
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    fields = dict(zip((*names, "vocab_size"), SIZES[size], strict=True))
    return fields | {"max_position_embeddings": 131_072, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": None}


def make_critic(size: str, tokenizer, options, dtype: torch.dtype | None = None) -> ContextCompressionPipeline:
    if size not in SIZES:
        return ContextCompressionPipeline.from_pretrained(size, device=options.device, dtype=options.dtype)
    dtype = dtype or options.dtype
    torch.manual_seed(0)
    with torch.device(options.device):
        model = CPRSForTokenCritic(CPRSConfig(backbone_type="qwen2", **shape(size)))
    with torch.no_grad():  # so that tokens differ in what is decided about them, and a part of them is kept
        model.cls_head.weight.normal_(std=4 / model.config.hidden_size**0.5)
        model.cls_head.bias.copy_(torch.tensor([0.0, 0.0, 6.0, 0.0]))
    model.to(dtype).cls_head.to(torch.promote_types(dtype, torch.float32))  # as a checkpoint is loaded
    where = {"device": options.device, "task": "context-compression"}
    return ContextCompressionPipeline(model=model.eval(), tokenizer=tokenizer, **where)


def seconds(function: Callable) -> tuple[float, object]:
    """Time of a call and what it returns."""
    synchronize()
    start = time.perf_counter()
    result = function()
    synchronize()
    return time.perf_counter() - start, result


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_turns(ways: dict, runs: int) -> tuple[list[dict], dict]:
    """For each run the time of each way, in an order that changes, and what the ways return."""
    names, times, results = list(ways), [], {}
    for run in range(runs):
        first = run % len(names)
        times.append({})
        for name in names[first:] + names[:first]:
            times[-1][name], results[name] = seconds(ways[name])
    return times, results


def median_of(runs: list[dict], way) -> float:
    return statistics.median(run[way] for run in runs)


def ratio_of(runs: list[dict], way, other) -> tuple[float, str]:
    """Median of the first time by the second, taken within each run, and its column and the range's of a table."""
    ratios = [run[way] / run[other] for run in runs]
    median = statistics.median(ratios)
    return median, f"{median:7.2f}{f'{min(ratios):.2f} to {max(ratios):.2f}':>15}"


def spans_of(results: list[dict]) -> list[list[tuple]]:
    return [[(span["start"], span["end"], span["tag"]) for span in result["spans"]] for result in results]


def one_at_a_time(pipe, inputs: list[dict], **settings) -> list[dict]:
    return [pipe(example, batch_tokens=1, **settings) for example in inputs]


@torch.inference_mode()
def as_the_server(pipe, inputs: list[dict], window_tokens: int) -> list[list[tuple]]:
    """Windows one after the other, each tokenised again; most probable positions; its spans."""
    model, tokenizer = pipe.model, pipe.tokenizer
    found = []
    for example in inputs:
        context = read_context(example["context"], tokenizer)
        prefix = prefix_ids(model.config.instruction, example["query"], tokenizer).tolist()
        tags = []
        windows = official_windows(context.text, context.starts, context.ends, window_tokens - len(prefix))
        for start, end in windows.tolist():
            text = context.text[context.starts[start] : context.ends[end - 1]]
            window = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            logits = model(input_ids=torch.tensor([prefix + window], device=model.device)).logits
            of_window = logits[0, len(prefix) :].argmax(-1).tolist()[: end - start]
            tags += of_window + [OUTSIDE] * (end - start - len(of_window))  # where a cut word has other tokens alone
        found.append([(*span, None) for span in official_spans(np.array(tags), context.starts, context.text)])
    return found


def workloads(tokenizer, options) -> list[tuple[str, list[dict], int]]:
    """Name, inputs, tokens of a window."""
    lengths = np.random.default_rng(0).integers(*SHORT, size=max(options.tokens * 2 // sum(SHORT), 2)).tolist()
    short = [{"context": make_text(n, i, tokenizer), "query": f"{QUESTION} {i}"} for i, n in enumerate(lengths)]
    text = [{"context": make_text(options.tokens, 0, tokenizer), "query": QUESTION}]
    found = [(f"{len(short)} inputs of {SHORT[0]} to {SHORT[1]}", short, 8192)]
    return found + [(f"a text in windows of {size}", text, size) for size in options.a_windows]


def part_a(size: str, tokenizer, options) -> None:
    pipe = make_critic(size, tokenizer, options)
    print(f"\n(a) {size}: tokens a second and ratios, {options.runs} run(s)")
    columns = "".join(f"{way:>11}{'ratio':>7}{'all runs':>15}" for way in ("one by one", "server"))
    print(f"{'':34}{'batched':>9}{columns}")
    exact = make_critic("tiny", tokenizer, options, torch.float64)
    notes = []
    for name, inputs, window in workloads(pipe.tokenizer, options):
        alone = {"window_tokens": window, "progress": False}
        batched = {**alone, "batch_tokens": options.batch_tokens}
        # In float64 rounding decides nothing: the spans have to be the same to the last character.
        if spans_of(exact(inputs, **batched)) != spans_of(one_at_a_time(exact, inputs, **alone)):
            raise SystemExit(f"{name}: batches give other spans than windows one by one")
        ways = {
            "batched": lambda i=inputs, s=batched: spans_of(pipe(i, **s)),
            "one by one": lambda i=inputs, s=alone: spans_of(one_at_a_time(pipe, i, **s)),
            "official": lambda i=inputs, s=batched: spans_of(pipe(i, compat="official", **s)),
            "server": lambda i=inputs, w=window: as_the_server(pipe, i, w),
        }
        pipe(inputs[0] | {"context": inputs[0]["context"][:2000]}, **alone)  # first calls are slower
        runs, spans = in_turns(ways, options.runs)
        tokens = sum(len(read_context(example["context"], pipe.tokenizer).ids) for example in inputs)
        line = f"{name:34}{tokens / median_of(runs, 'batched'):9,.0f}"
        for ours, theirs in (("batched", "one by one"), ("official", "server")):
            line += f"{tokens / median_of(runs, theirs):11,.0f}{ratio_of(runs, theirs, ours)[1]}"
            notes.append(agreement(f"{name}, {theirs}", spans[ours], spans[theirs]))
        print(line, flush=True)
    print(f"spans in float64 the same; in {str(options.dtype).removeprefix('torch.')}, where rounding decides ties:")
    print("\n".join(f"  {note}" for note in notes))


def agreement(name: str, ours: list[list[tuple]], theirs: list[list[tuple]]) -> str:
    ours, theirs = ({(i, *span) for i, spans in enumerate(found) for span in spans} for found in (ours, theirs))
    return f"{name}: {len(ours & theirs):,} of {len(ours | theirs):,} spans the same"


def part_b(tokenizer, options) -> None:
    pipe = make_critic(options.b_model, tokenizer, options)
    lengths = [options.b_tokens // 8 * factor for factor in (1, 2, 4, 8)]
    texts = {length: make_text(length, 0, pipe.tokenizer) for length in lengths}
    settings = {**SENTENCES, "window_tokens": 2048, "batch_tokens": options.batch_tokens}
    pipe({"context": texts[lengths[0]], "query": QUESTION}, **settings)
    ways = {n: lambda text=text: pipe({"context": text, "query": QUESTION}, **settings) for n, text in texts.items()}
    runs, _ = in_turns(ways, options.runs)
    print(f"\n(b) {options.b_model}, windows of 2048: time of one text, {options.runs} run(s)")
    for length in lengths:
        median = median_of(runs, length)
        print(f"{length:9,} tokens{median:9.2f} s{length / median:10,.0f} tokens a second", end="")
        print(f"{ratio_of(runs, length, lengths[0])[1]} times {lengths[0]:,} tokens", flush=True)
    growth = ratio_of(runs, lengths[-1], lengths[0])[0]
    print(f"goal: 8 times the text in at most 8.4 times the time, {'met' if growth <= 8.4 else 'NOT met'}")


def part_c(size: str, tokenizer, options) -> None:
    pipe = make_critic(size, tokenizer, options)
    inputs = {"context": make_text(options.tokens, 0, pipe.tokenizer), "query": QUESTION}
    settings = {**SENTENCES, "batch_tokens": options.batch_tokens}
    pipe(inputs | {"context": inputs["context"][:2000]}, **settings)
    marks = []  # when the model begins and ends

    def mark(*_) -> None:
        synchronize()
        marks.append(time.perf_counter())

    hooks = [pipe.model.register_forward_pre_hook(mark), pipe.model.register_forward_hook(mark)]
    shares, totals = [], []
    for _ in range(options.runs):
        marks.clear()
        total, result = seconds(lambda: pipe(inputs, **settings))
        inside = sum(end - start for start, end in zip(marks[::2], marks[1::2], strict=True))
        totals.append(total)
        shares.append(1 - inside / total)
    for hook in hooks:
        hook.remove()
    share, total = statistics.median(shares), statistics.median(totals)
    goal = "" if size == "tiny" else f"; goal: at most 3 %, {'met' if share <= 0.03 else 'NOT met'}"
    print(f"\n(c) {size}:{result['input_tokens']:8,} tokens,{result['windows']:3} windows{total:9.2f} s", end="")
    print(f"{share:9.2%} outside the model (all runs {min(shares):.2%} to {max(shares):.2%}){goal}", flush=True)


def make_reader(size: str, tokenizer, options):
    if size not in SIZES:
        tokenizer = AutoTokenizer.from_pretrained(size)
        return AutoModelForCausalLM.from_pretrained(size, dtype=options.dtype).to(options.device).eval(), tokenizer
    with torch.device(options.device):
        return Qwen2ForCausalLM(Qwen2Config(**shape(size))).to(options.dtype).eval(), tokenizer


def part_d(tokenizer, options) -> None:
    reader, reader_tokenizer = make_reader(options.d_reader, tokenizer, options)
    critics = {size: make_critic(size, tokenizer, options) for size in options.d_critics}

    @torch.inference_mode()
    def first_token(context: str) -> int:
        prompt = f"{context}\n\nQuestion: {QUESTION}\nAnswer:"
        ids = reader_tokenizer(prompt, return_tensors="pt", verbose=False)["input_ids"].to(reader.device)
        return reader(ids, logits_to_keep=1).logits[0, -1].argmax().item()

    def compress_first(size: str, context: str) -> int:
        settings = {**SENTENCES, "batch_tokens": options.batch_tokens, "reader_tokenizer": reader_tokenizer}
        return first_token(critics[size]({"context": context, "query": QUESTION}, **settings)["compressed"])

    print(f"\n(d) reader {options.d_reader}: seconds to the first token, {options.runs} run(s)")
    print(
        f"{'tokens':>9}{'whole':>9}"
        + "".join(f"{f'{Path(size).name} critic':>15}{'ratio':>7}{'all runs':>15}" for size in critics)
    )
    crossover = dict.fromkeys(critics)
    for size in critics:  # first calls are slower
        compress_first(size, make_text(256, 1, reader_tokenizer))
    for length in options.d_tokens:
        text = make_text(length, 0, reader_tokenizer)
        ways = {"whole": lambda t=text: first_token(t)}
        ways |= {size: lambda s=size, t=text: compress_first(s, t) for size in critics}
        runs, _ = in_turns(ways, options.runs)
        line = f"{length:9,}{median_of(runs, 'whole'):9.2f}"
        for size in critics:
            gain, columns = ratio_of(runs, "whole", size)
            line += f"{median_of(runs, size):15.2f}{columns}"
            if gain <= 1:
                crossover[size] = None
            elif crossover[size] is None:
                crossover[size] = length
        print(line, flush=True)
    for size, length in crossover.items():
        where = f"from {length:,} tokens on" if length else "at none of these lengths"
        print(f"with the {size} critic the first token comes sooner {where}")


def main():
    parser = argparse.ArgumentParser(
        description=f"{__doc__.splitlines()[0]} Sizes are {', '.join(SIZES)}, or a checkpoint.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--parts", default="abcd", help="Which parts, of `abcd`.")
    parser.add_argument("--tokens", type=int, default=16_384, help="Tokens of (a) and (c).")
    parser.add_argument("--a_models", nargs="+", default=["tiny", "small"], metavar="SIZE", help="Critics of (a).")
    parser.add_argument("--a_windows", type=int, nargs="+", default=[512, 2048, 8192], help="Window tokens of (a).")
    parser.add_argument("--b_model", default="tiny", metavar="SIZE", help="Critic of (b).")
    parser.add_argument("--b_tokens", type=int, default=524_288, help="Tokens of the longest text of (b).")
    parser.add_argument("--c_models", nargs="+", default=["tiny", "135m"], metavar="SIZE", help="Critics of (c).")
    parser.add_argument("--d_reader", default="small", metavar="SIZE", help="Reader of (d).")
    parser.add_argument("--d_critics", nargs="+", default=["small", "tiny"], metavar="SIZE", help="Critics of (d).")
    parser.add_argument("--d_tokens", type=int, nargs="+", default=[4096, 8192, 16_384, 32_768], help="Texts of (d).")
    parser.add_argument("--batch_tokens", type=int, help="Tokens that go through the critic at once.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default=None, help="Default: bfloat16 on a GPU, else float32.")
    parser.add_argument("--threads", type=int, default=None, help="Threads of PyTorch on a CPU.")
    parser.add_argument("--quick", action="store_true", help="One run of each, with less of all.")
    options = parser.parse_args()
    options.dtype = getattr(torch, options.dtype or ("float32" if options.device == "cpu" else "bfloat16"))
    if options.quick:
        options.runs, options.tokens, options.b_tokens = 1, min(options.tokens, 4096), min(options.b_tokens, 65_536)
        options.d_tokens = [length for length in options.d_tokens if length <= 8192]
    if options.threads:
        torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    name = f"CPU, {torch.get_num_threads()} thread(s)" if options.device == "cpu" else torch.cuda.get_device_name()
    print(f"{name}; torch {torch.__version__}; {' '.join(sys.argv[1:])}")
    tokenizer = make_tokenizer()
    for size in options.a_models if "a" in options.parts else ():
        part_a(size, tokenizer, options)
    if "b" in options.parts:
        part_b(tokenizer, options)
    for size in options.c_models if "c" in options.parts else ():
        part_c(size, tokenizer, options)
    if "d" in options.parts:
        part_d(tokenizer, options)


if __name__ == "__main__":
    main()
