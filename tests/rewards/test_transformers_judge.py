"""The judge in the training process, with a tiny model made on the spot: batches, deadline, cache, errors."""

import asyncio
import pickle
import time

import pytest
import torch
from tiny import save_tiny

from qwenlong_trl.rewards import Comparison, TransformersJudge
from qwenlong_trl.rewards.judge_prompt import CUT_OFF


COMPARISONS = [Comparison("Q?", "w5 " * n, "w7") for n in (1, 30, 2, 60, 3)]


@pytest.fixture
def folder(tmp_path):
    # Most words of the prompt are unknown to the tiny vocabulary; what counts is that every message arrives.
    return save_tiny(tmp_path / "judge", "{% for m in messages %}{{ m['content'] }} {% endfor %}w3")


def texts(judge, comparisons=COMPARISONS):
    return [judgement.text for judgement in asyncio.run(judge.judge(comparisons))]


def test_batches_do_not_change_the_answers(folder):
    """Greedy, sorted by length, padded on the left: the same words whatever the batch."""
    alone = texts(TransformersJudge(folder, batch_size=1, max_new_tokens=5, device="cpu"))
    assert texts(TransformersJudge(folder, batch_size=3, max_new_tokens=5, device="cpu")) == alone
    assert all(alone)


def test_answers_without_a_verdict_are_invalid_and_no_failures(folder):
    judgements = asyncio.run(TransformersJudge(folder, max_new_tokens=3, device="cpu").judge(COMPARISONS))
    assert [(j.verdict, j.error) for j in judgements] == [(None, None)] * 5
    assert all(judgement.seconds > 0 for judgement in judgements)


def test_an_answer_that_does_not_end_was_cut_off(folder, tmp_path):
    judge = TransformersJudge(folder, max_new_tokens=3, device="cpu", cache=tmp_path / "cache")
    first = texts(judge)
    assert all(text.endswith(CUT_OFF) and len(text.removesuffix(CUT_OFF).split()) == 3 for text in first)
    assert texts(judge) == first  # now from the cache
    # The last word of the first answer now ends an answer, and nothing else changes.
    last = first[0].removesuffix(CUT_OFF).split()[-1]
    tokenizer, model = judge._loaded
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(last)]
    judge.cache = None
    again = texts(judge)
    assert not again[0].endswith(CUT_OFF)
    for before, after in zip(first, again, strict=True):
        assert after.endswith(CUT_OFF) == (last not in before.split())


def test_the_model_is_asked_once(folder, tmp_path):
    judge = TransformersJudge(folder, max_new_tokens=3, device="cpu", cache=tmp_path / "cache")
    first = texts(judge)
    copy = pickle.loads(pickle.dumps(judge))
    copy.load = lambda: None  # without a model, only the cache can answer
    assert texts(copy) == first


def test_the_deadline_ends_a_batch(folder):
    judge = TransformersJudge(folder, batch_size=1, max_new_tokens=400, deadline=0.2, device="cpu")
    judge.load()
    started = time.monotonic()
    judgements = asyncio.run(judge.judge(COMPARISONS))
    assert time.monotonic() - started < 1.2
    assert judgements[3].error == "deadline"  # the longest comes last


def test_an_error_of_one_batch_leaves_the_others(folder, monkeypatch):
    judge = TransformersJudge(folder, batch_size=2, max_new_tokens=3, device="cpu")
    judge.load()
    generate, calls = judge._loaded[1].generate, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(*args, **kwargs)

    monkeypatch.setattr(judge._loaded[1], "generate", failing)
    judgements = asyncio.run(judge.judge(COMPARISONS))
    assert [judgement.error is None for judgement in judgements].count(False) == 2
    assert {judgement.error for judgement in judgements} == {None, "OutOfMemoryError: CUDA out of memory"}


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path):
    judge = TransformersJudge(save_tiny(tmp_path), device="cpu")
    with pytest.raises(ValueError, match="has no chat template; a judge is a chat model"):
        asyncio.run(judge.judge(COMPARISONS))


@pytest.mark.parametrize("option", ["batch_size", "max_new_tokens"])
def test_wrong_options(option):
    with pytest.raises(ValueError, match=f"{option} must be positive, got 0"):
        TransformersJudge("model", **{option: 0})
