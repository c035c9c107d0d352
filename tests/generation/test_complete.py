"""Prompts completed into a store: what a run that was interrupted leaves to the next one, and what fails."""

import logging
import weakref

import pytest
from tiny import WORDS, tiny_model, tiny_tokenizer

from qwenlong_trl.generation import (
    Completion,
    GenerationError,
    SampleStore,
    Sampling,
    SettingsMismatchError,
    TransformersSampler,
)
from qwenlong_trl.generation.complete import complete


IDS = [f"id{i}" for i in range(11)]
PROMPTS = {id: " ".join(WORDS[i : i + 1 + 3 * i % 13]) for i, id in enumerate(IDS)}
SAMPLING = Sampling(num_samples=2, max_tokens=6)


class Stopped(Exception):
    pass


class StoppingStore(SampleStore):
    """A store that ends the run at a certain prompt, as a kill would."""

    left = 10**9

    def add(self, *args):
        if self.left == 0:
            raise Stopped
        self.left -= 1
        super().add(*args)


def sampler() -> TransformersSampler:
    return TransformersSampler(tiny_model(), tiny_tokenizer(), rows_per_batch=6)


@pytest.mark.parametrize("stop", range(0, 11, 2))
def test_going_on_gives_the_bytes_of_a_run_without_a_stop(tmp_path, stop, monkeypatch):
    monkeypatch.setattr("qwenlong_trl.generation.complete._CHUNK", 4)
    with SampleStore(tmp_path / "whole.jsonl", {"a": 1}) as store:
        assert complete(IDS, PROMPTS.__getitem__, sampler, SAMPLING, store, about_of=lambda id: {"n": id}) == {}
    with StoppingStore(tmp_path / "parts.jsonl", {"a": 1}) as store, pytest.raises(Stopped):
        store.left = stop
        complete(IDS, PROMPTS.__getitem__, sampler, SAMPLING, store, about_of=lambda id: {"n": id})
    shapes = []

    def recording():
        own = sampler()
        generate = own.model.generate
        own.model.generate = lambda x, **kw: shapes.append(tuple(x.shape)) or generate(x, **kw)
        return own

    with SampleStore(tmp_path / "parts.jsonl", {"a": 1}) as store:
        complete(IDS, PROMPTS.__getitem__, recording, SAMPLING, store, about_of=lambda id: {"n": id})
        assert store.about("id3") == {"n": "id3"} and store.completions("id3") == store.get("id3", PROMPTS["id3"])
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert len(shapes) == {0: 5, 2: 5, 4: 3, 6: 3, 8: 1, 10: 1}[stop]  # 3 and 1, 3 and 1, 3


def test_nothing_is_started_where_nothing_is_missing(tmp_path):
    with SampleStore(tmp_path / "s.jsonl", {}) as store:
        for id in IDS:
            store.add(id, PROMPTS[id], [Completion("x", "stop")])
        assert complete(IDS, lambda id: 1 / 0, lambda: 1 / 0, SAMPLING, store) == {}


class Failing:
    """Completes the prompts that are not in `bad`, and raises for the others."""

    def __init__(self, bad):
        self.bad, self.asked = bad, []

    def sample(self, prompts, ids, sampling):
        self.asked += ids
        for index, id in enumerate(ids):
            if id not in self.bad:
                yield index, [Completion(id, "stop")] * sampling.num_samples
        reasons = {id: "too long" for id in ids if id in self.bad}
        if reasons:
            raise GenerationError(f"{len(reasons)} failed", reasons)


def test_failures_are_told_and_asked_for_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("qwenlong_trl.generation.complete._CHUNK", 4)
    with SampleStore(tmp_path / "s.jsonl", {}) as store, caplog.at_level(logging.WARNING):
        failed = complete(IDS, PROMPTS.__getitem__, lambda: Failing({"id1", "id9"}), SAMPLING, store)
        assert failed == {"id1": "too long", "id9": "too long"}
        assert "2 of 11 prompts got no completions; the first: 'id1' (too long)" in caplog.text
        again = Failing({"id9"})
        assert complete(IDS, PROMPTS.__getitem__, lambda: again, SAMPLING, store) == {"id9": "too long"}
        assert again.asked == ["id1", "id9"] and len(store) == 10


def test_refused_prompts_do_not_stop_the_others(tmp_path):
    """Not even where a run that goes on has only refused ones left of what it had asked for."""
    refused = set(IDS[:4])
    with SampleStore(tmp_path / "s.jsonl", {}) as store:
        assert set(complete(IDS[:5], PROMPTS.__getitem__, lambda: Failing(refused), SAMPLING, store)) == refused
        assert set(complete(IDS, PROMPTS.__getitem__, lambda: Failing(refused), SAMPLING, store)) == refused
        assert len(store) == 7
    with SampleStore(tmp_path / "t.jsonl", {}) as store, pytest.raises(GenerationError, match="11 failed"):
        complete(IDS, PROMPTS.__getitem__, lambda: Failing(set(IDS)), SAMPLING, store)
    with SampleStore(tmp_path / "u.jsonl", {}) as store, pytest.raises(ValueError, match="ids of the prompts must"):
        complete(["a", "a"], PROMPTS.__getitem__, sampler, SAMPLING, store)


def test_what_is_not_asked_for_is_told(tmp_path):
    class Leaving(Failing):
        """Completes three prompts and gives up."""

        def sample(self, prompts, ids, sampling):
            yield from ((index, [Completion(prompts[index], "stop")] * 2) for index in range(3))
            raise GenerationError("gone", {ids[3]: "no connection"})

    with SampleStore(tmp_path / "s.jsonl", {}) as store:
        failed = complete(IDS, PROMPTS.__getitem__, lambda: Leaving(()), SAMPLING, store)
    assert failed == {"id3": "no connection"} | dict.fromkeys(IDS[4:], "not asked for")


def test_prompts_that_changed_are_noticed(tmp_path, monkeypatch):
    with SampleStore(tmp_path / "s.jsonl", {}) as store:
        complete(IDS[:5], PROMPTS.__getitem__, sampler, SAMPLING, store)
        for make in (sampler, lambda: Failing(())):
            with pytest.raises(SettingsMismatchError, match="belong to another prompt"):
                complete(IDS, lambda id: "w1 w2", make, SAMPLING, store)


def test_prompts_are_let_go_when_they_are_stored(tmp_path):
    """Those of long contexts have a megabyte each."""
    alive: dict[str, weakref.ref] = {}

    class Text(list):
        pass

    def prompt(id):
        text = Text([{"role": "user", "content": id}])
        alive[id] = weakref.ref(text)
        return text

    class Counting(Failing):
        def sample(self, prompts, ids, sampling):
            for index in range(len(ids)):
                yield index, [Completion(prompts[index][0]["content"], "stop")] * 2
                assert sum(ref() is not None for ref in alive.values()) <= 1

    with SampleStore(tmp_path / "s.jsonl", {}) as store:
        assert complete(IDS, prompt, lambda: Counting(()), SAMPLING, store) == {}
