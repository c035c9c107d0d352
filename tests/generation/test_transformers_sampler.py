"""Samples of a tiny model with transformers: where they end, what they depend on, what they leave as it was."""

import pytest
import torch
from tiny import WORDS, save_tiny, tiny_model, tiny_tokenizer
from transformers import MambaConfig, MambaForCausalLM

from qwenlong_trl.generation import Completion, Sampler, Sampling, TransformersSampler, example_seed


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
    assert [index for index, _ in found] == list(range(len(prompts)))
    assert all(len(completions) == sampling.num_samples for _, completions in found)
    return {id: completions for id, (_, completions) in zip(ids, found, strict=True)}


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
    repeated._repeats_cache = False
    prompt = " ".join(WORDS[:20])
    settings = {"prompts": [prompt], "ids": ["a"], "num_samples": 40, "max_tokens": 20}
    assert draw(shared, **settings) == draw(repeated, **settings)
    assert shared._repeats_cache


def test_it_draws_what_generate_draws():
    """From the whole vocabulary, whatever the model's own settings say."""
    sampler = make()
    model, tokenizer = sampler.model, sampler.tokenizer
    inputs = tokenizer(["w1 w2 w3"] * 6, return_tensors="pt")
    torch.manual_seed(example_seed(3, "a"))
    plain = {"top_k": 0, "temperature": 0.7, "top_p": 0.9, "do_sample": True, "max_new_tokens": 5, "pad_token_id": 0}
    rows = model.generate(inputs.input_ids, attention_mask=inputs.attention_mask, **plain)[:, 3:]
    expected = [tokenizer.decode([t for t in row if t not in ENDS], skip_special_tokens=True) for row in rows.tolist()]
    model.generation_config.top_k = 1
    model.generation_config.repetition_penalty = 9.0
    drawn = draw(sampler, ["w1 w2 w3"], ["a"], seed=3, temperature=0.7, top_p=0.9)["a"]
    assert [completion.text for completion in drawn] == expected


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
    assert not sampler._repeats_cache
    assert drawn == draw(sampler, num_samples=4) and len({c.text for c in drawn["a"]}) > 1


def test_a_chat_model_of_a_folder(tmp_path):
    folder = save_tiny(tmp_path, "{% for m in messages %}{{ m['content'] }} {% endfor %}{{ last or 'w3' }}")
    sampler = TransformersSampler(folder, dtype="float32", chat_template_kwargs={"last": "w9"})
    text = TransformersSampler(folder, dtype="float32")
    chats = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    assert draw(sampler, chats) == draw(text, [f"{prompt} w9" for prompt in PROMPTS])
    with pytest.raises(ValueError, match=r"has no chat template; give prompts as plain text \(--chat false\)"):
        draw(make(), chats)


def test_wrong_use():
    with pytest.raises(ValueError, match="needs its tokenizer"):
        TransformersSampler(tiny_model())
    with pytest.raises(ValueError, match="rows_per_batch must be at least 1, got 0"):
        make(rows_per_batch=0)
    with pytest.raises(ValueError, match="prompt 'b' has no tokens"):
        draw(make(), ["w1", ""], ["a", "b"])
