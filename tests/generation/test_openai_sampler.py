"""Samples over HTTP, from a server that answers in all ways."""

import asyncio
import sys
import time

import pytest
from fault_server import FaultServer

from qwenlong_trl.generation import (
    Completion,
    GenerationError,
    OpenAISampler,
    PromptsRefusedError,
    Sampler,
    Sampling,
    example_seed,
)


SAMPLING = Sampling(num_samples=3, temperature=0.85, top_p=0.9, max_tokens=7, seed=5)
PROMPTS = [f"prompt {i}" for i in range(20)]
IDS = [f"p{i}" for i in range(20)]


def seen(body: dict) -> str:
    return body["prompt"] if "prompt" in body else body["messages"][-1]["content"]


def echoes(body: dict) -> list[str]:
    return [f"{seen(body)} {body['seed']} {i}" for i in range(body["n"])]


def make(server: FaultServer, **options) -> OpenAISampler:
    return OpenAISampler("m", server.base_url, **{"api_key": "none", "timeout": 5, "max_retries": 1, **options})


def expected(prompt: str, id: str) -> list[Completion]:
    return [Completion(f"{prompt} {example_seed(5, id)} {i}", "stop") for i in range(3)]


@pytest.mark.parametrize("chat", [True, False])
def test_all_samples_of_a_prompt_in_one_request(chat):
    prompts = [[{"role": "user", "content": prompt}] for prompt in PROMPTS] if chat else PROMPTS
    with FaultServer(answer=echoes, latency=0.05) as server:
        sampler = make(server, concurrency=4, chat_template_kwargs={"enable_thinking": False})
        assert isinstance(sampler, Sampler)
        found = dict(sampler.sample(prompts, IDS, SAMPLING))
        assert server.requests == 20 and 1 < server.most_at_once <= 4
    assert found == {i: expected(PROMPTS[i], IDS[i]) for i in range(20)}
    body = next(body for body in server.bodies if seen(body) == "prompt 3")
    settings = {"model": "m", "temperature": 0.85, "top_p": 0.9, "max_tokens": 7, "n": 3}
    of_kind = {"prompt": "prompt 3"}
    if chat:
        of_kind = {"messages": prompts[3], "chat_template_kwargs": {"enable_thinking": False}}
    assert body == settings | of_kind | {"seed": example_seed(5, "p3")}


def test_a_server_that_gives_fewer_is_asked_for_the_rest():
    with FaultServer(answer=lambda body: [str(body["seed"])] * min(2, body["n"])) as server:
        ((_, completions),) = make(server).sample(["a"], ["x"], Sampling(num_samples=5, seed=5))
        assert [body["n"] for body in server.bodies] == [5, 3, 1]
    assert [c.text for c in completions] == [str(example_seed(5, "x", part)) for part in (0, 0, 2, 2, 4)]
    with FaultServer(answer=lambda body: ["a"] * 9) as server:  # more than asked for
        ((_, completions),) = make(server).sample(["a"], ["x"], SAMPLING)
    assert len(completions) == 3 and server.requests == 1


def test_how_completions_end():
    reasons = {"stop": "stop", "length": "length", "content_filter": "length", "abort": "length", None: "length"}
    reply = [{"content": "a", "finish_reason": reason} for reason in reasons]
    reply.append({"content": None, "finish_reason": "length"})
    reply.append({"content": "half \ud83d", "finish_reason": "stop"})
    with FaultServer(answer=lambda body: reply) as server:
        for prompt in ("a", [{"role": "user", "content": "a"}]):
            ((_, completions),) = make(server).sample([prompt], ["x"], Sampling(num_samples=7))
            assert [c.finish_reason for c in completions[:5]] == list(reasons.values())
            assert completions[5] == Completion("", "length") and completions[6] == Completion("half ?", "stop")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_a_server_that_takes_the_reasoning_out_is_refused(name):
    with FaultServer(answer=lambda body: {"content": "a", name: "Well."}) as server:
        with pytest.raises(GenerationError, match="start it without --reasoning-parser"):
            list(make(server).sample([[{"role": "user", "content": "a"}]], ["x"], Sampling()))


def test_reasoning_that_the_server_takes_out_can_be_dropped():
    with FaultServer(answer=lambda body: {"content": "a", "reasoning_content": "Well."}) as server:
        sampler = make(server, reasoning="drop")
        ((_, completions),) = sampler.sample([[{"role": "user", "content": "a"}]], ["x"], Sampling())
    assert completions == [Completion("a", "stop")]
    with pytest.raises(ValueError, match="reasoning must be 'refuse' or 'drop', got 'keep'"):
        make(server, reasoning="keep")


def test_fields_of_a_request_can_be_added_and_taken_out():
    with FaultServer(answer=echoes) as server:
        extra = {"max_tokens": None, "max_completion_tokens": 7}
        list(make(server, extra_body=extra).sample(PROMPTS[:1], IDS[:1], SAMPLING))
        (body,) = server.bodies
    assert body["max_completion_tokens"] == 7 and "max_tokens" not in body and "temperature" in body


def test_one_bad_attempt_is_no_failure():
    with FaultServer(answer=echoes, fault="429_once") as server:
        found = dict(make(server).sample(PROMPTS, IDS, SAMPLING))
        assert server.requests == 40 and len(found) == 20


FAULTS = ("429", "500", "wrong_shape", "not_json", "truncated_json", "empty_choices", "close_mid_answer", "hang")


@pytest.mark.parametrize("fault", FAULTS)
def test_other_prompts_are_done_before_a_failure_is_raised(fault):
    with FaultServer(answer=echoes, fault=fault, fault_share=lambda body: body["prompt"] == "prompt 3") as server:
        found = {}
        with pytest.raises(GenerationError, match=r"^1 of 20 prompts got no completions; the first: 'p3' \(") as error:
            for index, completions in make(server, timeout=2.0, max_retries=0).sample(PROMPTS, IDS, SAMPLING):
                found[index] = completions
        assert len(str(error.value)) < 500
    assert found == {i: expected(PROMPTS[i], IDS[i]) for i in range(20) if i != 3}


def test_prompts_that_are_refused_are_told_apart():
    refused = ("prompt 3", "prompt 7")
    with FaultServer(answer=echoes, fault="400", fault_share=lambda body: body["prompt"] in refused) as server:
        found = {}
        with pytest.raises(PromptsRefusedError, match="^2 of 20 prompts got no completions") as error:
            found.update(make(server).sample(PROMPTS, IDS, SAMPLING))
        assert sorted(error.value.ids) == ["p3", "p7"]
        assert server.requests == 20  # not tried again
    # However many: a run that goes on may have only such ones left.
    with FaultServer(answer=echoes, fault="400") as server, pytest.raises(PromptsRefusedError, match="20 of 20"):
        list(make(server, concurrency=1).sample(PROMPTS, IDS, SAMPLING))
    assert server.requests == 20


def test_prompts_are_made_in_order_and_not_before_they_are_needed():
    class Made(list):
        def __getitem__(self, index):
            made.append((index, server.requests))
            return super().__getitem__(index)

    made: list[tuple[int, int]] = []
    with FaultServer(answer=echoes, latency=0.05) as server:
        assert len(list(make(server, concurrency=2).sample(Made(PROMPTS), IDS, SAMPLING))) == 20
    assert [index for index, _ in made] == list(range(20))
    assert all(index - requests < 3 for index, requests in made)


def test_a_server_that_is_gone_is_not_asked_for_ever():
    with FaultServer(answer=echoes, fault="500") as server:
        with pytest.raises(GenerationError, match="8 of 20 prompts got no completions, 12 were not asked for"):
            list(make(server, concurrency=1, max_retries=0).sample(PROMPTS, IDS, SAMPLING))
        assert server.requests == 8
    with pytest.raises(GenerationError, match=r"1 of 1 .*APIConnectionError"):
        list(make(server, max_retries=0).sample(["a"], ["x"], SAMPLING))


def test_each_prompt_comes_as_soon_as_it_is_done():
    def slow_first(body):
        time.sleep(1.0 if body["prompt"] == "prompt 0" else 0)
        return echoes(body)

    with FaultServer(answer=slow_first) as server:
        assert [index for index, _ in make(server).sample(PROMPTS, IDS, SAMPLING)][-1] == 0


def test_a_caller_that_stops_early_stops_the_requests():
    with FaultServer(answer=echoes, latency=0.05) as server:
        samples = make(server, concurrency=2).sample(PROMPTS, IDS, SAMPLING)
        next(samples)
        samples.close()
        time.sleep(0.2)  # for requests that were on their way
        asked = server.requests
        time.sleep(0.3)
        assert server.requests == asked < 20


def test_inside_a_running_event_loop():
    async def notebook(server):
        return dict(make(server).sample(PROMPTS[:2], IDS[:2], SAMPLING))

    with FaultServer(answer=echoes) as server:
        assert len(asyncio.run(notebook(server))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency must be positive, got 0"),
        ({"timeout": 0}, "timeout must be positive, got 0"),
        ({"max_retries": -1}, "max_retries must be at least 0, got -1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        OpenAISampler("m", **options)


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r'pip install "qwenlong-trl\[judge\]"'):
        OpenAISampler("m")
