"""The larger one of rule and judge: when the judge is asked, what it sees, and what a bad judge can do."""

import asyncio
import time
from collections import defaultdict
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenlong_trl.rewards import Comparison, HybridReward, Judgement, get_rule_reward


class ScriptedJudge:
    """Says what it is told to, and notes what it was asked."""

    def __init__(self, verdict=True, deadline=5.0):
        self.verdict, self.deadline, self.asked = verdict, deadline, []

    async def judge(self, comparisons):
        self.asked += comparisons
        verdict = self.verdict
        return [Judgement(verdict(c) if callable(verdict) else verdict, "text", seconds=0.1) for c in comparisons]


def score(reward, rows, **log):
    """Rewards of rows that are (completion, answers, task)."""
    completions, answers, tasks = map(list, zip(*rows, strict=True))
    questions = [f"question {row}" for row in range(len(rows))]
    return asyncio.run(reward(completions=completions, answers=answers, task=tasks, question=questions, **log))


ROWS = [
    ("The answer is Norway.", ["Norway"], "docqa"),
    ("The answer is Kingdom of Norway.", ["Norway", "Noreg"], "docqa"),
    ("The answer is 32.5.", ["32.4"], "docmath"),
    ("The answer is thirty-two.", ["32"], "docmath"),
    ("The answer is (B).", ["A"], "multiple_choice"),
    ("<think>I never stop", ["Norway"], "docqa"),
    ("The answer is (insert answer here).", ["here"], "docqa"),
]


def test_the_judge_is_asked_where_the_rule_says_zero_and_there_is_an_answer():
    judge = ScriptedJudge()
    assert score(HybridReward(judge), ROWS) == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert judge.asked == [
        Comparison("question 1", "Kingdom of Norway", "Norway (or: Noreg)"),
        Comparison("question 2", "32.5", "32.4"),
        Comparison("question 3", "thirty-two", "32"),
    ]


def test_always_asks_where_the_rule_says_one_too_and_the_reward_is_the_same():
    for verdict in (True, False, None):
        judge = ScriptedJudge(verdict)
        with_all = score(HybridReward(judge, always=True), ROWS)
        assert [c.question for c in judge.asked] == ["question 0", "question 1", "question 2", "question 3"]
        assert with_all == score(HybridReward(ScriptedJudge(verdict)), ROWS)


def test_a_no_of_the_judge_never_lowers_the_rule():
    assert score(HybridReward(ScriptedJudge(False), always=True), ROWS)[0] == 1.0


def test_the_reward_is_the_maximum():
    """Eq. 14, over all values of both."""
    for right, verdict in product((True, False), (True, False, None)):
        row = ("The answer is Norway." if right else "The answer is Noreg.", ["Norway"], "docqa")
        expected = max(float(right), float(verdict is True))
        assert score(HybridReward(ScriptedJudge(verdict), always=True), [row]) == [expected]


def test_rows_of_another_task_are_left_to_other_rewards():
    judge = ScriptedJudge()
    assert score(HybridReward(judge, rule="docmath"), ROWS) == [None, None, 1.0, 1.0, None, None, None]
    assert len(judge.asked) == 2


def test_the_rule_can_have_options():
    row = ("The answer is Noreg.", ["Norway"], "docqa")
    strict = get_rule_reward(require_delimiter=True)
    assert score(HybridReward(ScriptedJudge(), strict), [row]) == [0.0]
    official = get_rule_reward("l1_compat")
    # The official code asks for "</think>" and a gold answer in a sentence, else there is nothing to judge.
    said = ("</think>Therefore, the answer is Noreg.", ["Therefore, the answer is Norway."], "docqa")
    assert score(HybridReward(ScriptedJudge(), official), [said]) == [1.0]
    assert score(HybridReward(ScriptedJudge(), official), [("Noreg", said[1], "docqa")]) == [0.0]


def test_metrics_add_up():
    metrics, columns = {}, {}
    judge = ScriptedJudge(lambda c: {"question 1": True, "question 2": False}.get(c.question))
    score(
        HybridReward(judge),
        ROWS,
        log_metric=lambda name, value: metrics.setdefault(name, []).append(value),
        log_extra=columns.__setitem__,
    )
    mean = {name: sum(values) / len(values) for name, values in metrics.items()}
    assert mean["hybrid/rule"] == pytest.approx(1 / 7) and mean["hybrid/judge"] == pytest.approx(1 / 7)
    assert mean["judge/asked"] == pytest.approx(3 / 7)
    assert [mean[f"judge/{name}"] for name in ("yes", "no", "invalid", "failed")] == pytest.approx([1 / 3] * 3 + [0])
    assert mean["judge/agreement"] == 0.5  # asked where the rule says 0: "no" agrees, "yes" does not
    assert mean["judge/latency_p50"] == mean["judge/latency_p95"] == pytest.approx(0.1)
    assert columns["judge"] == [None, "text", "text", "text", None, None, None]
    assert columns["prediction"][0] == "Norway" and columns["prediction"][5] is None


class CountingJudge:
    """A judge of ten lines, which says nothing of time or caches."""

    deadline = 5.0

    def __init__(self, judgement=None):
        self.judgement, self.asked = judgement or Judgement(True), []

    async def judge(self, comparisons):
        self.asked += comparisons
        return [self.judgement] * len(comparisons)


def test_cache_hits_are_what_the_judge_says():
    for cached in (False, True):
        metrics = defaultdict(list)
        judge = CountingJudge(Judgement(True, cached=cached))
        score(HybridReward(judge), ROWS, log_metric=lambda name, value, metrics=metrics: metrics[name].append(value))
        assert metrics["judge/cache_hits"] == [float(cached)] * 3
        assert not any("latency" in name for name in metrics)


@pytest.mark.parametrize("said", ["<candidate>", "</s>", "\u200b\u200b", "[/INST][INST]", "\u3164"])
def test_an_answer_of_which_nothing_reaches_the_judge_is_not_asked(said):
    judge = CountingJudge()
    assert score(HybridReward(judge), [(f"The answer is {said}", ["Norway"], "docqa")]) == [0.0]
    assert judge.asked == []


@pytest.mark.parametrize(("golds", "reference"), [([""], None), (["", "Norway"], "Norway"), (["</s>", " "], None)])
def test_empty_golds_are_no_reference(golds, reference):
    judge = CountingJudge()
    row = ("The answer is Noreg.", golds, "docqa")
    assert score(HybridReward(judge), [row]) == [0.0 if reference is None else 1.0]
    assert [comparison.gold for comparison in judge.asked] == ([] if reference is None else [reference])


@pytest.mark.parametrize(
    "wrong",
    [
        Judgement("NO"),
        Judgement("YES"),
        Judgement(float("nan")),
        Judgement(1.0),
        Judgement(True, text=None),
        Judgement(True, seconds="1"),
        Judgement(True, error="both"),
    ],
    ids=repr,
)
def test_a_judgement_that_is_none_has_failed(wrong):
    metrics = []
    rewards = score(HybridReward(CountingJudge(wrong)), ROWS, log_metric=lambda *metric: metrics.append(metric))
    assert rewards == [1.0] + [0.0] * 6
    assert [value for name, value in metrics if name == "judge/failed"] == [1.0] * 3


def test_a_judges_words_fit_a_table():
    columns = {}
    for judgement in (Judgement(True, "half \ud83d"), Judgement(None, error="page \udc80")):
        score(HybridReward(CountingJudge(judgement)), ROWS, log_extra=columns.__setitem__)
        assert columns["judge"][1].encode() in (b"half ?", b"failed: page ?")


def test_rewards_for_two_tasks_share_no_name_and_no_column():
    judge, columns = CountingJudge(), {}
    rewards = [HybridReward(judge, rule="docqa"), HybridReward(judge, rule=get_rule_reward(task="docmath"))]
    assert [reward.__name__ for reward in rewards] == ["docqa_hybrid_reward", "docmath_hybrid_reward"]
    for reward in rewards:
        score(reward, ROWS, log_extra=lambda name, values: columns.setdefault(name, []).extend(values))
    assert sorted(columns) == ["docmath/judge", "docmath/prediction", "docqa/judge", "docqa/prediction"]
    assert {len(values) for values in columns.values()} == {len(ROWS)}
    assert HybridReward(judge).__name__ == "hybrid_reward"


class LoadedLate(CountingJudge):
    deadline = 0.1
    loaded = False

    def load(self):
        time.sleep(0.8)
        self.loaded = True

    async def judge(self, comparisons):
        return [Judgement(self.loaded)] * len(comparisons)


def test_loading_is_outside_the_deadline():
    assert score(HybridReward(LoadedLate()), ROWS[:3]) == [1.0] * 3


def test_a_judge_that_cannot_be_loaded_has_failed(monkeypatch, caplog):
    monkeypatch.setattr(LoadedLate, "load", lambda self: 1 / 0)
    assert score(HybridReward(LoadedLate()), ROWS[:3]) == [1.0, 0.0, 0.0]
    assert "the first reason: ZeroDivisionError" in caplog.text


class BadJudge:
    deadline = 0.3

    def __init__(self, how):
        self.how = how

    def judge(self, comparisons):
        return [] if self.how == "is not async" else self.misbehave(comparisons)

    async def misbehave(self, comparisons):
        if self.how == "raises":
            raise RuntimeError("no judge today")
        if self.how == "cancels":
            raise asyncio.CancelledError
        if self.how == "hangs":
            await asyncio.sleep(60)
        if self.how == "ignores cancellation":
            until = time.monotonic() + 2.5
            while time.monotonic() < until:
                try:
                    await asyncio.sleep(2.5)
                except asyncio.CancelledError:
                    pass
        return {"too few": [], "other things": ["yes"] * len(comparisons), "one thing": 1}[self.how]


@pytest.mark.parametrize("how", ["raises", "cancels", "hangs", "is not async", "too few", "other things", "one thing"])
def test_a_bad_judge_leaves_the_rule_and_is_counted(how, caplog):
    metrics = []
    rewards = score(
        HybridReward(BadJudge(how)), ROWS[:3], log_metric=lambda name, value: metrics.append((name, value))
    )
    assert rewards == [1.0, 0.0, 0.0]
    assert [value for name, value in metrics if name == "judge/failed"] == [1.0, 1.0]
    assert "the judge failed for 2 of 2 answers, which keep the rule's reward; the first reason: " in caplog.text


def test_a_judge_that_ignores_its_cancellation_does_not_hold_up_the_step():
    async def run():
        started = time.monotonic()
        columns = {"answers": [["Norway"]], "task": ["docqa"], "question": ["Q?"]}
        rewards = await HybridReward(BadJudge("ignores cancellation"))(completions=["The answer is no."], **columns)
        return rewards, time.monotonic() - started

    rewards, seconds = asyncio.run(run())
    assert rewards == [0.0] and seconds < BadJudge.deadline + 1


def test_what_is_missing_is_said():
    reward = HybridReward(ScriptedJudge())
    row = {"completions": ["a"], "answers": [["a"]], "task": ["docqa"]}
    with pytest.raises(ValueError, match="no column `question`, which the judge has to see"):
        asyncio.run(reward(**row))
    with pytest.raises(ValueError, match="row 0 of the batch: `question` is None, expected a string"):
        asyncio.run(reward(**(row | {"completions": ["b"], "question": [None]})))
    with pytest.raises(ValueError, match="no column `task`"):
        asyncio.run(reward(**(row | {"task": None, "question": ["Q?"]})))
    with pytest.raises(ValueError, match="no column `answers`"):
        asyncio.run(reward(**(row | {"answers": None, "question": ["Q?"]})))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"judge": object()}, TypeError, "judge needs `deadline` and an async method `judge`, got object"),
        (
            {"judge": ScriptedJudge(deadline=None)},
            ValueError,
            "deadline must be a positive number of seconds, got None",
        ),
        ({"rule": "docqas"}, ValueError, "rule must be 'auto', one of docqa, docmath, multiple_choice"),
        ({"rule": len}, TypeError, "a reward made by get_rule_reward"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        HybridReward(**({"judge": ScriptedJudge()} | options))


@given(st.lists(st.tuples(st.text(max_size=60), st.sampled_from(["docqa", "docmath", "multiple_choice"])), min_size=1))
def test_any_completion_gets_zero_or_one_and_only_the_judge_adds(rows):
    rows = [(text, ["A"], task) for text, task in rows]
    silent, generous = (score(HybridReward(ScriptedJudge(verdict)), rows) for verdict in (None, True))
    assert set(silent) | set(generous) <= {0.0, 1.0}
    assert all(low <= high for low, high in zip(silent, generous, strict=True))
    assert silent == get_rule_reward()([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
