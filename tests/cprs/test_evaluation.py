"""What is measured on compressed contexts, and the baselines at the same budgets."""

import math

import numpy as np
import pytest
from cprs_tiny import tiny_critic, tiny_critic_tokenizer, tiny_pipeline
from critic_runs import example

from qwenlong_trl.cprs.baselines import BASELINES, evaluate_baseline
from qwenlong_trl.cprs.context import read_context
from qwenlong_trl.cprs.evaluation import ContextCompressionEvaluator, holds_answer, measure, summarize
from qwenlong_trl.cprs.labels import documents_of, evidence_ranges
from qwenlong_trl.cprs.layout import Layout
from qwenlong_trl.cprs.options import CompressionOptions
from qwenlong_trl.intervals import bootstrap_interval


EXAMPLES = [example(i, documents=4) for i in range(6)]
BUDGETS = (0.2, 0.5, 1.0)


@pytest.fixture(scope="module")
def evaluator():
    return ContextCompressionEvaluator(
        model=tiny_critic(), tokenizer=tiny_critic_tokenizer(), device="cpu", task="context-compression"
    )


def test_measures_what_the_pipeline_returns(evaluator):
    results = evaluator.evaluate(EXAMPLES, BUDGETS)
    for one, result in zip(EXAMPLES, results, strict=True):
        inputs = {"context": documents_of(one), "query": one.question}
        for budget in BUDGETS:
            out = tiny_pipeline()(inputs, rate=budget, granularity="sentence")
            kept = result.at[budget]
            assert kept.tokens == out["compressed_tokens"] <= budget * result.input_tokens
            span = one.evidence[0]
            covered = sum(
                max(0, min(s["end"], span.end) - max(s["start"], span.start))
                for s in out["spans"]
                if s["document"] == span.document
            )
            assert kept.evidence_recall == pytest.approx(covered / (span.end - span.start))
            assert kept.has_answer == (one.answers[0] in out["compressed"])
        found = tiny_pipeline()(inputs, granularity="sentence")["spans"]
        assert result.found == len(found) and result.wanted == 1
        wanted = (one.evidence[0].document, one.evidence[0].start, one.evidence[0].end)
        assert result.right == ((wanted) in {(s["document"], s["start"], s["end"]) for s in found})
        assert result.at[1.0].evidence_recall == 1.0 and result.at[1.0].has_answer


def test_the_critic_runs_once_for_all_budgets(evaluator):
    calls = []
    hook = evaluator.model.register_forward_pre_hook(lambda *_: calls.append(1))
    evaluator.evaluate(EXAMPLES[:1], BUDGETS)
    hook.remove()
    assert len(calls) == 1


def test_an_example_without_evidence_is_refused(evaluator):
    from dataclasses import replace

    with pytest.raises(ValueError, match="record 'born/0' has no evidence"):
        evaluator.evaluate([replace(EXAMPLES[0], evidence=())], BUDGETS)
    assert evaluator.evaluate([], BUDGETS) == []


def test_summary(evaluator):
    results = evaluator.evaluate(EXAMPLES, BUDGETS)
    summary = summarize(results)
    assert summary["evidence_recall@1"] == summary["answer_in_context@1"] == 1.0
    assert summary["rate@0.2"] <= 0.2
    assert summary["evidence_recall@0.2"] == pytest.approx(np.mean([r.at[0.2].evidence_recall for r in results]))
    right, all_spans = sum(r.right for r in results), sum(r.found + r.wanted for r in results)
    assert summary["span_f1"] == pytest.approx(2 * right / all_spans)
    assert math.isnan(summarize([])["span_f1"])


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_keep_to_the_budget_and_fill_it(name):
    results = evaluate_baseline(name, EXAMPLES, tiny_critic_tokenizer(), BUDGETS)
    for result in results:
        assert all(kept.tokens <= budget * result.input_tokens for budget, kept in result.at.items())
        assert result.at[0.5].tokens > 0.25 * result.input_tokens
        assert result.at[1.0].evidence_recall == 1.0
    assert results == evaluate_baseline(name, EXAMPLES, tiny_critic_tokenizer(), BUDGETS)


def test_bm25_finds_the_words_of_the_question_and_first_the_beginning():
    bm25 = summarize(evaluate_baseline("bm25", EXAMPLES, tiny_critic_tokenizer(), [0.2]))
    chance = summarize(evaluate_baseline("random", EXAMPLES, tiny_critic_tokenizer(), [0.2]))
    assert bm25["evidence_recall@0.2"] > max(0.8, chance["evidence_recall@0.2"])
    first = evaluate_baseline("first", EXAMPLES[:1], tiny_critic_tokenizer(), [0.2])[0]
    assert first.at[0.2].evidence_recall == 1.0  # the evidence of the first example is in its first document
    with pytest.raises(ValueError, match="unknown baseline 'tfidf'"):
        evaluate_baseline("tfidf", EXAMPLES, tiny_critic_tokenizer(), [0.2])


def test_recall_counts_characters():
    one = EXAMPLES[0]
    layout = Layout(read_context(documents_of(one), tiny_critic_tokenizer()), True, CompressionOptions())
    ((start, end),) = evidence_ranges(one, layout.context, "token").tolist()
    assert measure(one, np.array([[start, end]]), "1900", layout, 5).evidence_recall == 1.0
    half = measure(
        one, np.array([[0, start + (end - start) // 3], [start, start + (end - start) // 2]]), "", layout, 5
    )
    assert half.evidence_recall == pytest.approx(((end - start) // 2) / (end - start)) and not half.has_answer


@pytest.mark.parametrize(
    ("text", "answers", "found"),
    [
        ("Born in 1,907 there", ["1907"], True),
        ("The party began", ["art"], False),
        ("He met MARIE  curie.", ["Marie Curie"], True),
        ("居里夫人发现了镭。", ["镭"], True),
        ("It rose by 5 %", ["%"], True),
        ("nothing", ["%", "something"], False),
    ],
)
def test_answers_are_looked_for_by_words(text, answers, found):
    assert holds_answer(text, answers) == found


def test_bootstrap_interval():
    low, high = bootstrap_interval([0.0, 1.0] * 50)
    assert 0.35 < low < 0.45 < 0.55 < high < 0.65
    assert bootstrap_interval([0.25] * 10) == (0.25, 0.25)
    assert bootstrap_interval([0.0, 1.0, 1.0], seed=1) == bootstrap_interval([0.0, 1.0, 1.0], seed=1)
