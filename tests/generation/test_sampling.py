"""Settings of samples, seeds of examples, and prompts as token ids."""

import pytest
from tiny import tiny_tokenizer

from qwenlong_trl.generation import Sampling, example_seed
from qwenlong_trl.generation.sampling import encode_prompt, opens_reasoning


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"temperature": -0.1}, "temperature must be at least 0 and finite, got -0.1"),
        ({"temperature": float("inf")}, "temperature must be at least 0 and finite, got inf"),
        ({"temperature": float("nan")}, "temperature must be at least 0 and finite, got nan"),
        ({"top_p": 0}, "top_p must be above 0 and at most 1, got 0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, got 1.5"),
        ({"temperature": 0, "num_samples": 2}, "at temperature 0 all 2 samples are the same"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)


def test_seeds_are_the_same_everywhere_and_differ_between_examples():
    assert example_seed(0, "a") == 150417036  # here as anywhere
    assert example_seed(0, "Łódź \ud800") == example_seed(0, "Łódź \ud800")  # ids may hold anything
    seeds = {example_seed(seed, id, part) for seed in range(5) for id in ("a", "b", "1/a") for part in (0, 8, "pair")}
    assert len(seeds) == 45 and all(0 <= seed < 2**31 for seed in seeds)


def test_a_prompt_has_the_tokens_that_trainers_give_it():
    tokenizer = tiny_tokenizer()
    assert encode_prompt("w1 w2", tokenizer) == tokenizer("w1 w2")["input_ids"]
    tokenizer.chat_template = (
        "{% if messages[0]['role'] != 'system' %}w9 {% endif %}{% for m in messages %}{{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}{{ 'w5' if thinking else 'w6' }}{% endif %}"
    )
    user = [{"role": "user", "content": "w1 w2"}]
    assert tokenizer.decode(encode_prompt(user, tokenizer)) == "w9 w1 w2 w6"
    assert tokenizer.decode(encode_prompt(user, tokenizer, {"thinking": True})) == "w9 w1 w2 w5"
    assert tokenizer.decode(encode_prompt([{"role": "system", "content": "w3"}, *user], tokenizer)) == "w3 w1 w2 w6"


@pytest.mark.parametrize(
    ("end", "opens"),
    [("A:", False), ("A:<think>\n", True), ("A:<think>\n\n</think>\n\n", False), ("<think></think>A:<think>", True)],
)
def test_whether_a_template_opens_the_reasoning(end, opens):
    tokenizer = tiny_tokenizer()
    assert opens_reasoning(tokenizer) is False
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}" + end
    assert opens_reasoning(tokenizer) is opens
