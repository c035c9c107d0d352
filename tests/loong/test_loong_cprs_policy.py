import pytest
from cprs_tiny import make_text, tiny_pipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from loong_fits import BODIES, count, fit, make_documents

from qwenlong_trl.loong.policies import CPRSPolicy, _cut_lines


def test_cprs_fills_the_budget_below_headers():
    bodies = [make_text(1500, seed) for seed in range(3)]
    documents = make_documents(bodies, ["Report of a station", "《j》", "《判决文书3》"])
    policy = CPRSPolicy(tiny_pipeline())
    for budget in (40, 150, 400):
        texts = fit(policy, documents, budget)
        assert count("".join(texts)) > 0.8 * budget
        for text, document in zip(texts, documents, strict=True):
            body = text.removeprefix(document.header + "\n").removesuffix("\n\n")
            assert all(line in document.text for line in body.splitlines())
        assert texts == fit(policy, documents, budget)


def test_cprs_leaves_alone_what_fits():
    documents = make_documents(["The station was built in 1987. ", "\nIt is small.\n"])
    rendered = [document.render() for document in documents]
    assert fit(CPRSPolicy(tiny_pipeline()), documents, count("".join(rendered))) == rendered


@settings(max_examples=25, deadline=None)
@given(st.lists(BODIES, min_size=1, max_size=4), st.integers(0, 120), st.sampled_from(["", "Net income?"]))
def test_cprs_keeps_within_the_budget(bodies, budget, question):
    fit(CPRSPolicy(tiny_pipeline()), make_documents(bodies), budget, question)


class Overshooting:
    """A compressor that keeps three times what it was asked for."""

    def __init__(self):
        self.model, self._preprocess_params, self.targets = tiny_pipeline().model, {}, []

    def __call__(self, inputs, target_tokens, **options):
        self.targets.append(target_tokens)
        self.query = inputs["query"]
        found = tiny_pipeline()(inputs, target_tokens=3 * max(target_tokens, 100), granularity="sentence", **options)
        self.documents = found["documents"]
        return found


def test_cprs_cuts_lines_where_the_compressor_keeps_too_much():
    documents = make_documents([make_text(1500, seed) for seed in range(3)])
    compressor = Overshooting()
    texts = fit(CPRSPolicy(compressor), documents, 100)
    assert len(compressor.targets) == 3 and compressor.targets[0] > 2 * compressor.targets[1] > compressor.targets[2]
    assert compressor.query == "What is the net income?"
    best = next(i for i, document in enumerate(compressor.documents) if document["rank"] == 1)
    worst = next(i for i, document in enumerate(compressor.documents) if document["rank"] == 3)
    assert texts[worst] == "" != compressor.documents[worst]["compressed"]
    kept = texts[best].removeprefix(documents[best].header + "\n").rstrip("\n").split("\n")
    assert kept[0] and all(line in documents[best].text for line in kept)

    without_lines = make_documents(["x" * 800])
    assert fit(CPRSPolicy(compressor), without_lines, 90, " ") == [""]
    assert compressor.query == "Answer from the documents."


def test_cprs_counts_as_it_is_told():
    documents = make_documents([make_text(1500, seed) for seed in range(3)])
    texts = fit(CPRSPolicy(tiny_pipeline()), documents, 100, counted=lambda text: -(-len(text) // 20))
    assert len("".join(texts)) > 0.8 * 100 * 20


def test_cprs_keeps_no_text_without_its_header():
    header = "The quarterly report of a company with a very long name indeed"
    documents = make_documents([make_text(900)], [header])
    frame = count(header + "\n\n\n")
    kept = [fit(CPRSPolicy(tiny_pipeline()), documents, budget) != [""] for budget in range(frame - 8, frame + 9, 4)]
    assert kept[:2] == [False, False] and kept[-1]


@settings(max_examples=60, deadline=None)
@given(st.lists(BODIES, min_size=1, max_size=4), st.integers(0, 200))
def test_cut_lines_takes_the_worst_first(bodies, budget):
    documents = make_documents(bodies)
    rendered, heads = [document.render() for document in documents], [d.header + "\n" for d in documents]
    worst_first = list(range(len(documents)))[::-1]
    texts = _cut_lines(rendered, worst_first, heads, budget, count)
    assert count("".join(texts)) <= budget
    whole = [text == other for text, other in zip(texts, rendered, strict=True)]
    assert whole == sorted(whole, reverse=True)  # only documents from the last on lose anything
    assert sum(bool(text) and not same for text, same in zip(texts, whole, strict=True)) <= 1


def test_cprs_names_record_model_and_options():
    policy = CPRSPolicy(tiny_pipeline(), "ns/cprs")
    assert policy.describe() == {"name": "cprs", "compressor": "ns/cprs", "options": {}}
    long_question = "Who built it? " * 500
    with pytest.raises(ValueError, match="record r cannot be compressed.*raise window_tokens"):
        fit(policy, make_documents([make_text(3000)]), 100, long_question)
