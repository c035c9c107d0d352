"""Right or wrong: sub-EM on the final answer, or the hybrid reward."""

import pytest
from fault_server import FaultServer

from qwenlong_trl.data import LongContextExample
from qwenlong_trl.generation import Completion
from qwenlong_trl.rewards import HybridReward, OpenAIJudge, get_rule_reward
from qwenlong_trl.solopo.scoring import ScoredCompletion, score_samples, score_sub_em


@pytest.mark.parametrize(
    ("completion", "golds", "right"),
    [
        ("Therefore, the answer is Norway.", ["Norway"], True),
        ("Therefore, the answer is (the Kingdom of Norway).", ["Sweden", "Kingdom of  norway"], True),
        ("**The answer is Oslo, Norway**", ["Norway"], True),
        ("Norway borders Sweden.\nTherefore, the answer is Sweden.", ["Norway"], False),  # in the reasoning alone
        ("<think>Norway?</think>The answer is Sweden.", ["Norway"], False),
        ("<think>The answer is Norway", ["Norway"], False),
        ("I like Norway.\nAnd Sweden.", ["Norway"], False),  # states no answer
        ("Norway", ["Norway"], True),
        ("The answer is a party.", ["art"], False),
        ("The answer is art.", ["party"], False),
        ("The answer is 1,250 men.", ["1250"], True),
        ("The answer is 12.5.", ["5"], False),
        ("The answer is 1990s.", ["1990"], False),
        ("答案是中华人民共和国的首都北京市。", ["北京"], True),
        ("答案是上海。", ["北京"], False),
        ("The answer is 서울은.", ["서울"], True),
        ("The answer is that no country is named.", ["Norway", "NO"], False),
        ("The answer is NO.", ["Norway", "NO"], True),
        ("The answer is no, it is not.", ["no", "NO"], True),
        ("答案是北京市。", ["Peking", "北京"], True),
        ("答案是1998年。", ["1998"], True),
        ("答案是1998年。", ["19"], False),
        ("The answer is room 5.", ["five", "5"], True),
        ("The answer is %.", ["%"], False),  # nothing to compare
        ("The answer is the.", ["Therefore, the answer is Norway."], False),
        ("The answer is Norway.", ["Therefore, the answer is Norway."], True),
        ("", ["Norway"], False),
    ],
)
def test_sub_em(completion, golds, right):
    assert score_sub_em(completion, golds).score == right


def example(task="docqa", *answers):
    return LongContextExample("a", "Which?", answers or ("Norway",), (), task=task)


def stop(*texts):
    return [Completion(text, "stop") for text in texts]


def test_only_what_can_be_used_and_each_text_once():
    samples = stop("Norway", "Sweden", "Norway", " \n", "", "Norway") + [Completion("Norway", "length")]
    assert score_samples([(example(), samples), (example(), [])]) == [
        [ScoredCompletion("Norway", "Norway", True, 3), ScoredCompletion("Sweden", "Sweden", False, 1)],
        [],
    ]


def test_numbers_and_options_have_the_rule_of_their_task():
    samples = [
        (example("docmath", "5"), stop("The answer is 5.", "The answer is 5.0", "The answer is 15.")),
        (example("multiple_choice", "B"), stop("The correct answer is (B).", "The correct answer is (A) or B")),
    ]
    verdicts = [[one.right for one in scored] for scored in score_samples(samples)]
    assert verdicts == [[True, True, False], [True, False]]


def test_the_judge_decides_where_the_rule_says_no_and_has_no_verdict_without_an_answer():
    def judged(body):
        said = body["messages"][-1]["content"]
        return "[[YES]]" if "Norge" in said else "Hm." if "Noreg" in said else "[[NO]]"

    samples = [(example(), stop("Norway", "Norge", "Noreg", "Norway or Sweden", "a\nb")), (example(), stop("Norge"))]
    with FaultServer(answer=judged) as server:
        reward = HybridReward(OpenAIJudge("test-judge", server.base_url, api_key="none"))
        scored = score_samples(samples, reward)
    assert [[one.right for one in ones] for ones in scored] == [[True, True, None, False, False], [True]]
    assert [one.answer for one in scored[0]][:4] == ["Norway", "Norge", "Noreg", "Norway or Sweden"]
    # A judge that fails makes nothing wrong.
    with FaultServer(fault="500") as server:
        judge = OpenAIJudge("test-judge", server.base_url, api_key="none", max_retries=0, deadline=5)
        scored = score_samples(samples, HybridReward(judge))
    assert [[one.right for one in ones] for ones in scored] == [[True, None, None, None, False], [None]]


def test_more_answers_than_a_judge_is_asked_at_once():
    with FaultServer(answer=lambda body: "[[YES]]" if " 7" in body["messages"][-1]["content"] else "[[NO]]") as server:
        reward = HybridReward(OpenAIJudge("test-judge", server.base_url, api_key="none"))
        (scored,) = score_samples([(example(), stop(*(f"Country {i}" for i in range(150))))], reward)
        assert server.requests == 150
    assert [i for i, one in enumerate(scored) if one.right] == [7, *range(70, 80)]


def test_a_reward_for_another_task_is_refused():
    with FaultServer() as server:
        judge = OpenAIJudge("test-judge", server.base_url, api_key="none")
        reward = HybridReward(judge, rule=get_rule_reward(task="docmath"))
        with pytest.raises(ValueError, match="record 'a' has the task 'docqa', which the reward does not score"):
            score_samples([(example(), stop("Norway"))], reward)
