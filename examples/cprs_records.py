"""Records to train a context compressor on, and others that are kept out: from NQ, HotpotQA and MuSiQue.

    python examples/cprs_records.py --nq nq-open-oracle.jsonl.gz --hotpotqa hotpotqa.json --musique musique.jsonl \
        --tokenizer HuggingFaceTB/SmolLM2-135M-Instruct --output cprs-records

Writes cprs-train.parquet: short contexts of 200 to 420 tokens, each question several times, among other documents each
time. And heldout-nq.parquet (contexts of 1,000 tokens), heldout-hotpotqa.parquet and heldout-musique.parquet (contexts
as published). No question and no document of the kept-out records is trained on.
"""

import argparse
import random
from dataclasses import replace
from pathlib import Path

from transformers import AutoTokenizer

from qwenlong_trl.data import DocumentPool, LongContextExample, compose, read_records, shorten, write_records
from qwenlong_trl.data.compose import ContextBudgetError, normalize_text


def texts_of(examples: list[LongContextExample]) -> set[str]:
    """What the documents say, whatever their spacing and punctuation."""
    return {normalize_text(document.text) for example in examples for document in example.documents}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--nq", required=True, help="nq-open-oracle.jsonl.gz of Lost in the Middle.")
    parser.add_argument("--hotpotqa", required=True, help="HotpotQA, distractor setting.")
    parser.add_argument("--musique", required=True, help="MuSiQue.")
    parser.add_argument("--tokenizer", required=True, help="Counts tokens.")
    parser.add_argument("--output", default="cprs-records", help="Folder for the four files.")
    parser.add_argument("--train_share", type=float, nargs=2, default=[0.8, 0.6], help="Of NQ; of the two others.")
    parser.add_argument(
        "--repeats", type=int, nargs=2, default=[3, 6], help="Contexts per question: NQ; the two others."
    )
    parser.add_argument("--nq_heldout", type=int, default=150, help="Most kept-out questions of NQ.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    sources = [list(read_records(path)) for path in (options.nq, options.hotpotqa, options.musique)]
    shares = [options.train_share[0], *[options.train_share[1]] * 2]
    cuts = [round(share * len(examples)) for share, examples in zip(shares, sources, strict=True)]
    train = [examples[:cut] for examples, cut in zip(sources, cuts, strict=True)]
    nq, *others = (examples[cut:] for examples, cut in zip(sources, cuts, strict=True))

    # Several questions of NQ share a passage.
    seen, questions = texts_of(train[0]), {example.question for example in train[0]}
    nq = [example for example in nq if not texts_of([example]) & seen and example.question not in questions]
    pool = DocumentPool((document for example in nq for document in example.documents), tokenizer)
    nq = [compose(example, pool, 1000, seed=options.seed) for example in nq[: options.nq_heldout]]
    for name, examples in zip(("nq", "hotpotqa", "musique"), (nq, *others), strict=True):
        count = write_records(examples, folder / f"heldout-{name}.parquet")
        print(f"heldout-{name}.parquet: {count} records")

    kept_out = texts_of([*nq, *others[0], *others[1]])
    documents = (document for examples in train for example in examples for document in example.documents)
    pool = DocumentPool((d for d in documents if normalize_text(d.text) not in kept_out), tokenizer)
    rng = random.Random(options.seed)
    rows = []
    for repeat in range(options.repeats[0]):
        for example in train[0]:
            try:
                context = compose(example, pool, rng.choice([200, 300, 420]), seed=repeat)
            except ContextBudgetError:  # the passage alone is longer
                continue
            rows.append(replace(context, id=f"{example.id}/{repeat}"))
    for example in (*train[1], *train[2]):
        for repeat in range(options.repeats[1]):
            short = shorten(example, keep_distractors=rng.randint(1, 3), seed=repeat)
            try:
                context = compose(short, pool, rng.choice([300, 420]), seed=repeat, exclude=example.documents)
            except ContextBudgetError:
                context = short
            rows.append(replace(context, id=f"{example.source}/{example.id}/{repeat}"))
    rng.shuffle(rows)
    print(f"cprs-train.parquet: {write_records(rows, folder / 'cprs-train.parquet')} records")


if __name__ == "__main__":
    main()
