"""What is wrong with an input or a parameter is said, with its name, its value and what would be right."""

import copy

import numpy as np
import pytest
import torch
from cprs_tiny import tiny_critic, tiny_critic_tokenizer, tiny_pipeline
from transformers import pipeline

from qwenlong_trl.cprs import ContextCompressionPipeline


GOOD = {"context": "It was built in 1987. Who built it?", "query": "When?"}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"context": b"\x89PNG"}, TypeError, "`context` must be a text or a list of documents, got bytes"),
        ({"context": None}, TypeError, "`context` must be a text or a list of documents, got NoneType"),
        ({"context": 5}, TypeError, "`context` must be .* got int"),
        ({"context": {"text": "a"}}, TypeError, "`context` must be .* got dict"),
        ({"context": ["a", b"b"]}, TypeError, r"`context\[1\]` must be a text or a mapping with `text`, got bytes"),
        ({"context": [{"title": "a"}]}, TypeError, r"`context\[0\]\['text'\]` must be a text, got NoneType"),
        ({"context": [{"text": "a", "title": 3}]}, TypeError, r"`context\[0\]\['title'\]` must be a text, got int"),
        ({"query": None}, TypeError, "`query` must be a text, got NoneType"),
        ({"query": b"When?"}, TypeError, "`query` must be a text, got bytes"),
        ({"query": ["When?"]}, TypeError, "`query` must be a text, got list"),
        ({"instruction": 3}, TypeError, "`instruction` must be a text, got int"),
        ({"query": "When? " * 400}, ValueError, "have [0-9]+ tokens, more than three quarters of a window of 512"),
        ({"target_tokens": 5}, ValueError, "'target_tokens' in an input: parameters go into the call"),
        ({"compressed": "x", "spans": []}, ValueError, "'compressed', 'spans' in an input"),
        ({"tags": "fact"}, ValueError, "`tags` must be a list of words, got 'fact'"),
        ({"tags": ["fact", ""]}, ValueError, "`tags` must be a list of words"),
        ({"tags": ["fact", "facts"]}, ValueError, "'fact' and 'facts' begin with the same sub-token"),
        ({"keep": [(0, 100)]}, ValueError, r"`keep` has \(0, 100\), which is not within the context of 35 char"),
        ({"keep": [(5, 3)]}, ValueError, r"`keep` has \(5, 3\), which is not within"),
        ({"keep": [(-1, 3)]}, ValueError, r"`keep` has \(-1, 3\), which is not within"),
        ({"keep": [(0, 1, 2)]}, ValueError, r"`keep` must be a list of \(start, end\) .* got \(0, 1, 2\)"),
        ({"keep": [(0.0, 1.0)]}, ValueError, r"`keep` must be a list of \(start, end\)"),
        ({"keep": [(False, True)]}, ValueError, r"`keep` must be a list of \(start, end\)"),
        ({"keep": ["ab"]}, ValueError, r"`keep` must be a list of \(start, end\)"),
        ({"keep": 5}, ValueError, r"`keep` must be a list of \(start, end\) in characters, got int"),
        ({"context": ["a"], "keep": [(0, 1)]}, ValueError, r"`keep` must be a list of \(document, start, end\)"),
        ({"context": ["a"], "keep": [(1, 0, 1)]}, ValueError, "`keep` names document 1, there are 1"),
        ({"context": ["a"], "keep": [(0, 0, 2)]}, ValueError, "not within document 0 of 1 characters"),
    ],
)
def test_inputs(change, error, message):
    with pytest.raises(error, match=message):
        tiny_pipeline()(GOOD | change)


@pytest.mark.parametrize("missing", ["context", "query"])
def test_missing_fields(missing):
    example = {name: value for name, value in GOOD.items() if name != missing} | {"extra": 1}
    with pytest.raises(ValueError, match=f"the input has no `{missing}`; its keys are .*'extra'"):
        tiny_pipeline()(example)


@pytest.mark.parametrize("wrong", ["a text", b"bytes", 5, None])
def test_an_input_is_a_mapping(wrong):
    for inputs in (wrong, [GOOD, wrong]):
        with pytest.raises(TypeError, match="an input is a mapping with `context` and `query`, got"):
            tiny_pipeline()(inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_tokens": -1}, "`target_tokens` must be a whole number, 0 or more, got -1"),
        ({"target_tokens": True}, "`target_tokens` must be a whole number, 0 or more, got True"),
        ({"target_tokens": 10.0}, "`target_tokens` must be a whole number"),
        ({"target_tokens": "10"}, "`target_tokens` must be a whole number"),
        ({"rate": 0}, "`rate` must be above 0"),
        ({"rate": 1.01}, "`rate` must be a number between 0 and 1, got 1.01"),
        ({"rate": float("nan")}, "`rate` must be a number between 0 and 1, got nan"),
        ({"rate": True}, "`rate` must be a number"),
        ({"rate": 0.5, "target_tokens": 5}, "either target_tokens=5 or rate=0.5"),
        ({"granularity": "word"}, "`granularity` must be one of 'token', 'sentence', .* got 'word'"),
        ({"granularity": None}, "`granularity` must be one of"),
        ({"critic": "both"}, "`critic` must be one of 'auto', 'product', 'position', got 'both'"),
        ({"fallback": None}, "`fallback` must be one of 'none', 'top_span', 'head', 'full', got None"),
        ({"compat": "server"}, "`compat` must be one of None, 'official', got 'server'"),
        ({"threshold": 0}, "`threshold` must lie between 0 and 1, got 0"),
        ({"threshold": 1.5}, "`threshold` must be a number between 0 and 1, got 1.5"),
        ({"penalty": -1}, "`penalty` must be a number between 0 and inf, got -1"),
        ({"gap_threshold": 2}, "`gap_threshold` must be a number"),
        ({"max_gap": -1}, "`max_gap` must be a whole number"),
        ({"min_tokens": 0}, "`min_tokens` must be a whole number, 1 or more, got 0"),
        ({"min_spans": 1.5}, "`min_spans` must be a whole number"),
        ({"window_tokens": 1}, "`window_tokens` must be a whole number, 2 or more, got 1"),
        ({"window_tokens": 40}, "more than three quarters of a window of 40"),
        ({"overlap": -1}, "`overlap` must be a whole number"),
        ({"overlap": 400}, "overlap must be 0 or more, and less than half of the capacity"),
        ({"batch_tokens": 0}, "`batch_tokens` must be a whole number, 1 or more, got 0"),
        ({"tags": "fact"}, "`tags` must be a list of words, got 'fact'"),
        ({"min_keyword_len": 1}, "min_keyword_len goes with compat='official' only"),
        ({"complete_sentence": True}, "complete_sentence goes with compat='official' only"),
        ({"compat": "official", "rate": 0.5}, "compat='official' goes without rate"),
        ({"compat": "official", "critic": "product"}, "compat='official' goes without critic"),
        ({"compat": "official", "keep": np.array([[0, 1]])}, "compat='official' goes without keep"),
    ],
)
def test_values_of_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_pipeline()(GOOD, **options)


def test_parameters_are_checked_when_the_pipeline_is_made():
    parts = {"model": tiny_critic(), "tokenizer": tiny_critic_tokenizer(), "device": "cpu"}
    with pytest.raises(ValueError, match="`granularity` must be one of"):
        ContextCompressionPipeline(**parts, granularity="word")
    with pytest.raises(TypeError, match="no parameter `target_token`; did you mean `target_tokens`"):
        pipeline("context-compression", **parts, target_token=5)
    with pytest.raises(ValueError, match="needs the critic's tokenizer"):
        ContextCompressionPipeline(model=parts["model"], device="cpu")


def test_unknown_parameters():
    with pytest.raises(TypeError, match="no parameter `granularty`; did you mean `granularity`"):
        tiny_pipeline()(GOOD, granularty="sentence")
    with pytest.raises(TypeError, match="no parameter `xyz`; known are target_tokens, rate, "):
        tiny_pipeline()(GOOD, xyz=1)
    for name in ("separator", "document_separator"):
        with pytest.raises(TypeError, match=f"`{name}` must be a text, got NoneType"):
            tiny_pipeline()(GOOD, **{name: None})


def test_the_released_server_reads_one_text():
    with pytest.raises(ValueError, match="goes without a list of documents: join them"):
        tiny_pipeline()(GOOD | {"context": ["a"]}, compat="official")
    with pytest.raises(ValueError, match="goes without keep, tags"):
        tiny_pipeline()(GOOD | {"tags": ["fact"], "keep": [(0, 1)]}, compat="official")


def test_the_product_needs_tag_words():
    with pytest.raises(ValueError, match="critic='product' needs tag words"):
        tiny_pipeline()(GOOD | {"instruction": "Keep facts."}, critic="product")


def test_an_error_in_a_stream_comes_where_it_is():
    def stream():
        for i in range(40):
            yield GOOD | {"id": i}
        yield {"context": "no query"}

    results = tiny_pipeline()(stream())
    assert [next(results)["id"] for _ in range(40)] == list(range(40))
    with pytest.raises(ValueError, match="the input has no `query`"):
        next(results)


def test_values_that_are_not_finite_are_no_result():
    model = copy.deepcopy(tiny_critic())
    with torch.no_grad():
        model.model.embed_tokens.weight.fill_(float("nan"))
    cprs = ContextCompressionPipeline(model=model, tokenizer=tiny_critic_tokenizer(), device="cpu")
    with pytest.raises(ValueError, match="not finite in torch.float32"):
        cprs(GOOD)


def test_a_tokenizer_without_offsets_is_refused():
    from transformers import ByT5Tokenizer

    cprs = ContextCompressionPipeline(model=tiny_critic(), tokenizer=ByT5Tokenizer(), device="cpu")
    with pytest.raises(ValueError, match="ByT5Tokenizer gives no character offsets: a fast tokenizer is needed"):
        cprs(GOOD)
