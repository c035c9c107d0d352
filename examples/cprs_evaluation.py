"""What a critic keeps of records, beside BM25 over sentences, the first tokens and random sentences, at equal budgets.

    python examples/cprs_evaluation.py --model my-critic --records hotpotqa-heldout.parquet musique-heldout.parquet
    python examples/cprs_evaluation.py --model my-critic --records heldout.jsonl --budgets 0.05 0.2 --limit 500 \
        --output results.json

Records may be in any format that `qwenlong-trl data convert` reads; those without evidence are left out and counted.
For each file: a table with 95 % bootstrap intervals over the records, and one of the paired differences of the critic
to the others. Needs `pip install bm25s`.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from qwenlong_trl.cprs.baselines import BASELINES, evaluate_baseline
from qwenlong_trl.cprs.evaluation import ContextCompressionEvaluator, Evaluated
from qwenlong_trl.cprs.labels import has_evidence
from qwenlong_trl.cprs.report import compression_table, difference_table, measurements
from qwenlong_trl.data import LongContextExample, read_records
from qwenlong_trl.hub import write_card, write_measurements


def evaluate_all(
    critic: ContextCompressionEvaluator,
    examples: list[LongContextExample],
    budgets: list[float],
    granularity: str,
    seed: int,
) -> dict[str, list[Evaluated]]:
    """The critic and all baselines on the same records."""
    results = {"critic": critic.evaluate(examples, budgets, granularity)}
    for name in BASELINES:
        results[name] = evaluate_baseline(name, examples, critic.tokenizer, budgets, granularity, seed)
    return results


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", required=True, help="Folder or name of a critic.")
    parser.add_argument(
        "--records", nargs="+", required=True, help="Files with records that were kept out of training."
    )
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.1, 0.2, 0.4], help="Shares of the tokens.")
    parser.add_argument("--granularity", default="sentence", choices=["token", "sentence", "paragraph"])
    parser.add_argument("--limit", type=int, help="At most so many records with evidence of each file, from its top.")
    parser.add_argument("--seed", type=int, default=0, help="Of the random sentences.")
    parser.add_argument("--output", help="File for the result of each record, as JSON.")
    parser.add_argument(
        "--card",
        action="store_true",
        help="Write the results into the folder of the model as well, and its card anew.",
    )
    parser.add_argument("--dtype", default="auto", help="Of the weights, such as bfloat16.")
    parser.add_argument("--device", help="Such as cpu or cuda:0. Defaults to an accelerator, if there is one.")
    options = parser.parse_args()
    if any(not 0 < budget <= 1 for budget in options.budgets):
        parser.error("--budgets are shares of the tokens, above 0 and up to 1")
    if options.card and not Path(options.model).is_dir():
        parser.error("--card needs --model to be a folder")
    if options.limit is not None and options.limit < 1:
        parser.error("--limit must be at least 1")

    critic = ContextCompressionEvaluator.from_pretrained(options.model, dtype=options.dtype, device=options.device)
    everything = {}
    for file in options.records:
        records = list(read_records(file))
        examples = [example for example in records if has_evidence(example)]
        without = len(records) - len(examples)
        examples = examples[: options.limit]
        if not examples:
            parser.error(f"{file} has no record with evidence, which says what to keep")
        started = time.perf_counter()
        results = evaluate_all(critic, examples, options.budgets, options.granularity, options.seed)
        print(f"\n## {file}: {len(examples)} records", end="")
        print(f" ({without} without evidence left out)" if without else "", end="")
        tokens = sorted(one.input_tokens for one in results["critic"])
        print(f"; {tokens[len(tokens) // 2]:,} tokens in the median; {time.perf_counter() - started:.0f} s\n")
        print(compression_table(results, options.budgets), end="\n\n")
        print(difference_table("critic", results, options.budgets), flush=True)
        if options.card:
            values = measurements(results, options.budgets)
            how = f"Units of a {options.granularity}; means over records, 95 % bootstrap intervals."
            name = Path(file).name.split(".")[0]
            print(f"\n{write_measurements(options.model, name, 'token-classification', name, values, how)}")
        everything[file] = {name: [asdict(one) for one in found] for name, found in results.items()}
    if options.card:
        print(write_card(options.model))
    if options.output:
        Path(options.output).write_text(json.dumps(everything, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
