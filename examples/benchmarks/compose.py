"""Time of composing contexts with one shared pool, against re-tokenising every candidate context.

    python examples/benchmarks/compose.py                                                # 500 examples of 16K tokens
    python examples/benchmarks/compose.py --examples 50 --target_tokens 4096             # in half a minute

Ours is the whole of it in every run: building the pool (each document tokenised, normalised, indexed once) and
composing all examples. The baseline goes through the same kind of random order, tokenises the whole context again with
each candidate added, and stops at the first candidate that does not fit, which is less than the exact fill that ours
does. It takes seconds per example, so it runs on the first `--naive_examples` only, and time per example is compared.
Tokenizer and documents are made on the spot; nothing is downloaded.
"""

import argparse
import random
import statistics
import time

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from qwenlong_trl.data import DocumentPool, compose, render_context, shorten, synthesize


# How Qwen2 and Qwen3 cut text before byte-pair encoding.
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts):
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=8_000, initial_alphabet=alphabet, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe)


def compose_naively(example, documents, target_tokens, tokenizer, seed):
    """Adds documents in random order; the whole context is tokenised for every candidate."""
    context = list(example.documents)
    own = {document.text.lower() for document in context}
    answers = [answer.lower() for answer in example.answers]
    for document in random.Random(f"{seed}/{example.id}").sample(documents, len(documents)):
        text = document.text.lower()
        if text in own or any(answer in text or answer in document.title.lower() for answer in answers):
            continue
        candidate = [*context, document]
        if len(tokenizer(render_context(candidate) + "\n", add_special_tokens=False)["input_ids"]) > target_tokens:
            return context
        context = candidate
    raise SystemExit("the pool is too small for the baseline; raise --pool_tokens")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--naive_examples", type=int, default=5)
    parser.add_argument("--target_tokens", type=int, default=16_384)
    parser.add_argument("--pool_tokens", type=int, default=500_000, help="estimated tokens of the pool")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()

    documents = list(next(synthesize("comparison", args.pool_tokens // 2, seed=0)).documents)
    documents += next(synthesize("chain_of_reasoning", args.pool_tokens // 2, seed=0)).documents
    examples = [shorten(e) for e in synthesize("chain_of_reasoning", 1_000, seed=1, count=args.examples)]
    tokenizer = train_tokenizer(document.text for document in documents[:2_000])
    pool = DocumentPool(documents, tokenizer)  # also warms the tokenizer up
    print(f"{len(examples)} examples of {args.target_tokens:,} tokens; pool: {len(pool):,} documents, ", end="")
    print(f"{pool.tokens.sum():,} tokens; baseline on {min(args.naive_examples, len(examples))} examples")

    ours, naive, ratios = [], [], []
    for run in range(args.runs):
        start = time.perf_counter()
        pool = DocumentPool(documents, tokenizer)
        built = time.perf_counter() - start
        filled = [compose(example, pool, args.target_tokens, seed=run) for example in examples]
        total = time.perf_counter() - start

        start = time.perf_counter()
        few = examples[: args.naive_examples]
        contexts = [compose_naively(example, documents, args.target_tokens, tokenizer, run) for example in few]
        slow = (time.perf_counter() - start) / len(few)

        used = statistics.mean(pool.count(example.documents).sum() for example in filled)
        used_naively = statistics.mean(pool.count(context).sum() for context in contexts)
        ours.append(total / len(examples))
        naive.append(slow)
        ratios.append(slow / ours[-1])
        print(
            f"run {run + 1}: ours {total:.2f} s in all (pool {built:.2f} s), {1e3 * ours[-1]:.2f} ms per example, "
            f"{used:,.0f} tokens filled; baseline {1e3 * slow:.0f} ms per example, {used_naively:,.0f} tokens filled; "
            f"ratio {ratios[-1]:.0f}",
            flush=True,
        )
    print(
        f"median per example: ours {1e3 * statistics.median(ours):.2f} ms, "
        f"baseline {1e3 * statistics.median(naive):.0f} ms; "
        f"median ratio {statistics.median(ratios):.0f} (lowest {min(ratios):.0f}; goal at least 10)"
    )


if __name__ == "__main__":
    main()
