"""Samples of a tiny model with transformers: where they end, what they depend on, what they leave as it was."""

import pytest
import torch
from tiny import WORDS, save_tiny, tiny_model, tiny_tokenizer
from transformers import MambaConfig, MambaForCausalLM, TemperatureLogitsWarper, TopPLogitsWarper

from qwenlong_trl.generation import Completion, PromptsRefusedError, Sampler, Sampling, TransformersSampler
from qwenlong_trl.generation.transformers_sampler import _Draws


PROMPTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9"]
IDS = ["a", "b", "c"]
ENDS = [1, *range(33, 43)]  # with 11 of 43 tokens as ends, many samples end and many do not


def make(seed: int = 0, **options) -> TransformersSampler:
    model = tiny_model(seed)
    model.generation_config.eos_token_id = ENDS
    return TransformersSampler(model, tiny_tokenizer(), **options)


def draw(sampler, prompts=PROMPTS, ids=IDS, **settings):
    sampling = Sampling(**{"num_samples": 6, "max_tokens": 5, **settings})
    found = list(sampler.sample(prompts, ids, sampling))
    assert sorted(index for index, _ in found) == list(range(len(prompts)))
    assert all(len(completions) == sampling.num_samples for _, completions in found)
    return {ids[index]: completions for index, completions in found}


def test_it_is_a_sampler():
    assert isinstance(make(), Sampler)


def test_samples_depend_on_prompt_id_and_seed_alone():
    everything = draw(make())
    assert draw(make()) == everything
    assert draw(make(), PROMPTS[::-1], IDS[::-1]) == everything
    assert draw(make(), PROMPTS[1:2], IDS[1:2]) == {"b": everything["b"]}
    assert draw(make(), PROMPTS, ["x", "y", "z"])["x"] != everything["a"]
    assert draw(make(), seed=1)["a"] != everything["a"]
    assert len({completion.text for completion in everything["c"]}) > 2


def test_a_shared_prompt_gives_what_a_repeated_one_gives():
    shared, repeated = make(), make()
    repeated._has_ordinary_cache = False
    prompt = " ".join(WORDS[:20])
    settings = {"prompts": [prompt], "ids": ["a"], "num_samples": 40, "max_tokens": 20}
    assert draw(shared, **settings) == draw(repeated, **settings)
    assert shared._has_ordinary_cache


@pytest.mark.parametrize("settings", [{"temperature": 0, "num_samples": 1}, {"num_samples": 3, "top_p": 0.8}])
def test_prompts_of_one_batch_give_what_each_alone_gives(settings):
    """Padding on the left changes neither positions nor what is seen."""
    prompts = [" ".join(WORDS[i : i + length]) for i, length in enumerate([1, 19, 2, 7, 30, 12, 3])]
    ids = [f"id{i}" for i in range(len(prompts))]
    alone, together = make(rows_per_batch=1), make(rows_per_batch=21)
    seen = {}
    together.model.generate = lambda x, **kw: (
        seen.update(shape=tuple(x.shape)) or type(together.model).generate(together.model, x, **kw)
    )
    expected = draw(alone, prompts, ids, max_tokens=25, **settings)
    assert draw(together, prompts, ids, max_tokens=25, **settings) == expected
    assert seen["shape"] == (7 * settings["num_samples"], 30)
    assert len({tuple(c.text for c in drawn) for drawn in expected.values()}) > 3


def test_batches_hold_prompts_of_about_the_same_length():
    sampler = make(rows_per_batch=4, tokens_per_batch=100)
    prompts = [" ".join(WORDS[:length]) for length in (1, 39, 2, 20, 21, 3, 4)]
    ids = list("abcdefg")
    sampling = Sampling(num_samples=1, max_tokens=11)
    assert sampler.batches(prompts, ids, sampling) == [[1, 4], [3, 6, 5], [2, 0]]
    assert sampler.batches(prompts, ids, Sampling(num_samples=4, max_tokens=11)) == [[1], [4], [3], [6], [5], [2], [0]]
    assert [index for index, _ in sampler.sample(prompts, ids, sampling)] == [1, 4, 3, 6, 5, 2, 0]


def test_it_draws_from_the_distribution_that_generate_draws_from():
    """Temperature, then the nucleus, over the whole vocabulary, whatever the model's own settings say."""
    sampler = make()
    model, tokenizer = sampler.model, sampler.tokenizer
    inputs = tokenizer(["w1 w2 w3"], return_tensors="pt")
    with torch.no_grad():
        scores = model(**inputs).logits[:, -1]
    warped = TopPLogitsWarper(0.9)(None, TemperatureLogitsWarper(0.7)(None, scores)).softmax(dim=-1)[0]
    model.generation_config.top_k = 1
    model.generation_config.repetition_penalty = 9.0
    count = 4000
    drawn = draw(sampler, ["w1 w2 w3"], ["a"], num_samples=count, max_tokens=1, temperature=0.7, top_p=0.9)["a"]
    words = {tokenizer.decode([token], skip_special_tokens=True): token for token in range(len(tokenizer))}
    found = torch.zeros(len(tokenizer))
    for completion in drawn:
        if completion.text:  # special tokens and ends have no text
            found[words[completion.text]] += 1 / count
    plain = [token for token in words.values() if token > 2 and token not in ENDS]
    assert (found[plain] - warped[plain]).abs().max() < 5 * (0.25 / count) ** 0.5
    assert found[plain][warped[plain] == 0].sum() == 0 and (warped[plain] == 0).any()


def test_a_token_without_probability_is_never_drawn():
    draws = _Draws(["a"], range(3), Sampling(num_samples=3), torch.device("cpu"))
    scores = torch.full((3, 5), float("-inf"))
    scores[:, [1, 3]] = 0.0
    draws.numbers[:, 0] = torch.tensor([0.0, 0.5, 1 - 2**-24])
    assert draws(None, scores).argmax(dim=-1).tolist() == [1, 3, 3]
    draws = _Draws(["a"], range(1), Sampling(top_p=0.5), torch.device("cpu"))
    draws.numbers[:] = 1 - 2**-24
    assert draws(None, torch.tensor([[0.0, 2.0, 1.0, 0.0]])).argmax().item() == 1


def test_ends_and_cuts():
    drawn = draw(make(), ["w1 w2 w3"], ["a"], num_samples=200, max_tokens=4)["a"]
    assert {completion.finish_reason for completion in drawn} == {"stop", "length"}
    for completion in drawn:
        words = completion.text.split()
        assert not {*words} & {WORDS[end - 3] for end in ENDS if end > 2} and "<" not in completion.text
        # `<pad>` and `<unk>` are tokens, but no text.
        assert len(words) <= (4 if completion.finish_reason == "length" else 3)
    assert Completion("", "stop") in drawn  # the first token is an end


def test_the_tokenizers_end_counts_too():
    sampler = make()
    sampler.model.generation_config.eos_token_id = None
    with pytest.raises(ValueError, match="neither the model nor its tokenizer has an end-of-sequence token"):
        sampler.tokenizer.eos_token = None
        draw(sampler)
    sampler.tokenizer.eos_token = "w7"
    drawn = draw(sampler, num_samples=60)["a"]
    assert not any("w7" in completion.text for completion in drawn)
    assert {completion.finish_reason for completion in drawn} == {"stop", "length"}


def test_temperature_0_takes_the_most_probable_tokens():
    sampler = make()
    inputs = torch.tensor([[4, 5, 6]])
    best = sampler.model.generate(inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=5)
    text = sampler.tokenizer.decode([t for t in best[0, 3:].tolist() if t not in ENDS], skip_special_tokens=True)
    (completion,) = draw(sampler, ["w1 w2 w3"], ["a"], temperature=0, num_samples=1)["a"]
    assert completion.text == text


def test_no_more_rows_than_allowed_and_no_part_twice(monkeypatch):
    sampler = make(rows_per_batch=4)
    rows, generate = [], sampler.model.generate
    monkeypatch.setattr(sampler.model, "generate", lambda x, **kw: rows.append(len(x)) or generate(x, **kw))
    drawn = draw(sampler, ["w1 w2 w3"], ["a"], num_samples=10, max_tokens=8)["a"]
    assert rows == [4, 4, 2]
    assert drawn[:4] != drawn[4:8]
    assert drawn[:4] == draw(make(), ["w1 w2 w3"], ["a"], num_samples=4, max_tokens=8)["a"]


def test_everything_is_left_as_it_was():
    sampler = make()
    own = sampler.model.generation_config
    sampler.model.train()
    state = torch.get_rng_state()
    for _ in sampler.sample(PROMPTS, IDS, Sampling(max_tokens=3)):
        assert torch.equal(torch.get_rng_state(), state)
        assert sampler.model.generation_config is own and sampler.model.training


def test_models_without_an_ordinary_cache():
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=43, hidden_size=16, num_hidden_layers=1, state_size=4, eos_token_id=1)
    sampler = TransformersSampler(MambaForCausalLM(config), tiny_tokenizer())
    drawn = draw(sampler, num_samples=4)
    assert not sampler._has_ordinary_cache
    assert drawn == draw(sampler, num_samples=4) and len({c.text for c in drawn["a"]}) > 1


def test_a_chat_model_of_a_folder(tmp_path):
    folder = save_tiny(tmp_path, "{% for m in messages %}{{ m['content'] }} {% endfor %}{{ last or 'w3' }}")
    sampler = TransformersSampler(folder, dtype="float32", chat_template_kwargs={"last": "w9"})
    text = TransformersSampler(folder, dtype="float32")
    chats = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    assert draw(sampler, chats) == draw(text, [f"{prompt} w9" for prompt in PROMPTS])
    with pytest.raises(ValueError, match=r"has no chat template; give prompts as plain text \(--chat false\)"):
        draw(make(), chats)


def test_a_prompt_that_is_too_much_for_the_memory_is_refused_and_a_batch_says_what_to_do(monkeypatch):
    def run(sampler, **settings):
        generate = sampler.model.generate

        def limited(inputs, **options):
            if inputs.shape[1] > 4:
                raise torch.OutOfMemoryError("made to fail")
            return generate(inputs, **options)

        monkeypatch.setattr(sampler.model, "generate", limited)
        found = {}
        with pytest.raises(ValueError) as error:
            found.update(sampler.sample(PROMPTS, IDS, Sampling(max_tokens=3, **settings)))
        return error.value, found

    error, found = run(make(rows_per_batch=1))
    assert isinstance(error, PromptsRefusedError) and error.ids == ["c"]
    assert "'c' (its 5 tokens do not fit into the memory)" in str(error)
    error, found = run(make())
    assert "lower rows_per_batch or tokens_per_batch" in str(error) and not isinstance(error, PromptsRefusedError)


def test_wrong_use():
    with pytest.raises(ValueError, match="needs its tokenizer"):
        TransformersSampler(tiny_model())
    with pytest.raises(ValueError, match="rows_per_batch must be at least 1, got 0"):
        make(rows_per_batch=0)
    with pytest.raises(ValueError, match="tokens_per_batch must be at least 1, got 0"):
        make(tokens_per_batch=0)
    with pytest.raises(ValueError, match="prompt 'b' has no tokens"):
        draw(make(), ["w1", ""], ["a", "b"])
