"""Synthetic records, answered again by brute force from the facts that the documents' text states."""

import re
from itertools import islice

import pytest

from qwenlong_trl.data import Document
from qwenlong_trl.data.compose import count_tokens
from qwenlong_trl.data.synthesize import SYNTHETIC_TASKS, estimate_tokens, synthesize
from qwenlong_trl.data.synthesize.domains import ENTITY_TYPES, FILLERS
from qwenlong_trl.data.synthesize.questions import (
    CATEGORY_WORDINGS,
    COMPARE_WORDINGS,
    DIFFERENCE_WORDINGS,
    THRESHOLD_WORDINGS,
    VALUE_WORDING,
)


NAME = r"[A-Z][a-z]+ [A-Z][a-z]+"
ATTRIBUTES = [(kind, attribute) for kind in ENTITY_TYPES.values() for attribute in kind.attributes]


def pattern(wording, **groups):
    """A regular expression for a wording; its `{x}` become named groups."""
    parts = re.split(r"\{(\w+)\}", wording)
    return re.compile(
        "".join(f"(?P<{part}>{groups[part]})" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    )


def value_pattern(attribute):
    return {"number": r"[\d,]+", "link": NAME, "category": "|".join(attribute.values)}[attribute.kind]


SENTENCES = [
    (attribute, pattern(sentence, s=f"{NAME}|[Tt]he {kind.noun}", v=value_pattern(attribute)))
    for kind, attribute in ATTRIBUTES
    for sentence in attribute.sentences
] + [(None, pattern(filler, s=".+")) for filler in FILLERS]


def read_facts(documents):
    """`{(entity, noun): value}` from titles and sentences alone; fails on a sentence that can be read in two ways."""
    facts = {}
    for document in documents:
        for sentence in re.split(r"(?<=\.) ", document.text):
            readings = [(attribute, m) for attribute, regex in SENTENCES if (m := regex.fullmatch(sentence))]
            assert len(readings) == 1, sentence
            attribute, match = readings[0]
            subject = match["s"]
            assert subject == document.title or subject.lower().startswith("the "), sentence
            if attribute is not None:
                assert (document.title, attribute.noun) not in facts, "the same fact is stated twice"
                facts[document.title, attribute.noun] = (
                    number(match["v"]) if attribute.kind == "number" else match["v"]
                )
    return facts


def number(text):
    return int(text.replace(",", ""))


def resolve(phrase, facts):
    """The name that "the town in which the company that X works for is headquartered" means, or `None`."""
    if re.fullmatch(NAME, phrase):
        return phrase
    for _, attribute in ATTRIBUTES:
        if attribute.phrase and (m := pattern(attribute.phrase, e=".+").fullmatch(phrase)):
            if (inner := resolve(m["e"], facts)) is not None:
                return facts.get((inner, attribute.noun))
    return None


def names_in(text):
    return re.findall(NAME, text)


def answer(question, facts):
    """The answer as text, or `None` where the facts do not give it."""
    for kind, attribute in ATTRIBUTES:
        noun = attribute.noun
        for wording in (attribute.question, VALUE_WORDING.replace("{noun}", noun)):
            if m := pattern(wording, e=".+").fullmatch(question):
                value = facts.get((resolve(m["e"], facts), noun))
                return None if value is None else attribute.show(value)
        if attribute.kind == "category":
            for wording in CATEGORY_WORDINGS:
                wording = wording.replace("{member}", attribute.member).replace("{plural}", kind.plural)
                if m := pattern(wording, v=value_pattern(attribute)).fullmatch(question):
                    return listing(name for (name, key), value in facts.items() if key == noun and value == m["v"])
        if attribute.kind == "number":
            for wording in THRESHOLD_WORDINGS:
                wording = wording.replace("{noun}", noun).replace("{plural}", kind.plural)
                if m := pattern(wording, v=r"[\d,]+").fullmatch(question):
                    above = number(m["v"])
                    return listing(name for (name, key), value in facts.items() if key == noun and value > above)
            for wording in DIFFERENCE_WORDINGS:
                if m := pattern(wording.replace("{noun}", noun), a=NAME, b=NAME).fullmatch(question):
                    a, b = facts.get((m["a"], noun)), facts.get((m["b"], noun))
                    return None if a is None or b is None else str(a - b)
            for sign, most in zip((1, -1), attribute.superlatives, strict=True):
                for wording in COMPARE_WORDINGS:
                    wording = wording.replace("{noun}", noun).replace("{most}", most).replace("{type}", kind.noun)
                    if m := pattern(wording, either=".+", all=".+").fullmatch(question):
                        named = {name: facts.get((name, noun)) for name in names_in(m[1])}
                        if None in named.values():
                            return None
                        best = max(named.values(), key=lambda value: sign * value)
                        winners = [name for name, value in named.items() if value == best]
                        assert len(winners) == 1, "a tie"
                        return winners[0]
    raise AssertionError(f"no wording matches {question!r}")


def listing(names):
    *head, last = sorted(names) or [""]
    return f"{', '.join(head)} and {last}" if head else last


@pytest.mark.parametrize("task", SYNTHETIC_TASKS)
@pytest.mark.parametrize(("target", "count"), [(100, 60), (500, 40), (3_000, 12), (20_000, 2)])
@pytest.mark.parametrize("seed", [0, 1])
def test_brute_force_from_the_text_gives_the_gold_answer_and_needs_all_evidence(task, target, count, seed):
    for example in synthesize(task, target, seed, count):
        example.validate()
        facts = read_facts(example.documents)
        gold = answer(example.question, facts)
        assert gold == example.answers[0], example.question
        assert len(set(example.answers)) == len(example.answers)

        # The evidence suffices, and no document of it can be spared.
        needed = example.evidence_documents
        assert answer(example.question, read_facts([example.documents[i] for i in needed])) == gold
        for removed in needed:
            without = {key: v for key, v in facts.items() if key[0] != example.documents[removed].title}
            assert answer(example.question, without) != gold
        # Sentences that the evidence points at suffice too, each standing alone.
        spans = [Document(example.documents[e.document].title, example.evidence_text(e)) for e in example.evidence]
        assert answer(example.question, read_facts(spans)) == gold
        assert all(span.title in span.text for span in spans)
        assert len(example.documents) > len(needed), "no distractor"
        assert example.task == ("docmath" if re.search("difference|exceed|Subtract", example.question) else "docqa")
        assert example.source == f"synthetic/{task}"


@pytest.mark.parametrize("task", SYNTHETIC_TASKS)
def test_near_duplicate_names_are_there_and_leave_no_ambiguity(task):
    for example in synthesize(task, 2_000, seed=5, count=15):
        titles = [document.title for document in example.documents]
        assert len(set(titles)) == len(titles)
        for i in example.evidence_documents:
            others = [title for title in titles if title != titles[i]]
            assert any(one_apart(titles[i], other) for other in others)
            assert not any(
                titles[i].lower() in title.lower() or title.lower() in titles[i].lower() for title in others
            )


def one_apart(a, b):
    """Whether two names differ in one letter or in one word."""
    words = sum(x != y for x, y in zip(a.split(), b.split(), strict=True))
    return words == 1 or (len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) == 1)


def test_all_shapes_of_a_task_occur():
    questions = {task: list(synthesize(task, 4_000, seed=0, count=150)) for task in SYNTHETIC_TASKS}
    assert {len(e.evidence) for e in questions["comparison"]} == {2, 3, 4, 5}
    assert {e.task for e in questions["comparison"]} == {"docqa", "docmath"}
    assert {len(e.evidence) for e in questions["clustering"]} == set(range(2, 9))
    assert {len(e.evidence) for e in questions["chain_of_reasoning"]} == {2, 3, 4}
    assert {len(e.evidence) for e in questions["spotlight_locating"]} == {1}
    firsts = {e.question.split()[0] for e in questions["clustering"]}
    assert {"List,", "Which", "For", "Find"} <= firsts
    listed = next(e for e in questions["clustering"] if len(e.evidence) == 3)
    a, b, c = sorted(listed.documents[i].title for i in listed.evidence_documents)
    assert listed.answers == (f"{a}, {b} and {c}", f"{a}, {b}, {c}", f"{a}; {b}; {c}")


@pytest.mark.parametrize("task", SYNTHETIC_TASKS)
@pytest.mark.parametrize("target", [100, 333, 1_000, 16_000])
def test_length_estimated(task, target):
    for example in synthesize(task, target, seed=3, count=10):
        costs = estimate_tokens(example.documents)
        assert target - max(costs) < sum(costs) <= target or 0.95 * target <= sum(costs) <= target


@pytest.mark.parametrize("task", SYNTHETIC_TASKS)
@pytest.mark.parametrize("target", [150, 1_000, 16_000])
def test_length_counted(task, target, tokenizer):
    for example in synthesize(task, target, seed=3, count=4, tokenizer=tokenizer):
        costs = count_tokens(example.documents, tokenizer)
        assert target - max(costs) < sum(costs) <= target or 0.95 * target <= sum(costs) <= target


@pytest.mark.parametrize("task", SYNTHETIC_TASKS)
def test_a_million_tokens(task):
    (example,) = synthesize(task, 1_000_000, seed=0, count=1)
    assert 950_000 <= sum(estimate_tokens(example.documents)) <= 1_000_000
    titles = [document.title for document in example.documents]
    assert len(set(titles)) == len(titles) > 10_000


def test_record_depends_on_its_place_alone():
    whole = list(synthesize("clustering", 600, seed=4, count=6))
    assert list(islice(synthesize("clustering", 600, seed=4), 6)) == whole  # endless
    assert [example.id for example in whole] == [f"clustering-600-4-{i}" for i in range(6)]
    assert next(synthesize("clustering", 600, seed=5)).documents != whole[0].documents
    assert len({example.question for example in whole}) == 6


def test_seeding_is_the_same_in_every_process():
    """A pinned record: it changes only when the generator does, which must then be said in the changelog."""
    example = next(synthesize("spotlight_locating", 100, seed=0))
    assert (example.question, example.answers) == ("In which year was Psalter Cupamal completed?", ("1096",))


def test_wordings_can_be_told_apart():
    nouns = [attribute.noun for _, attribute in ATTRIBUTES]
    assert len(set(nouns)) == len(nouns)
    for _, attribute in ATTRIBUTES:
        assert all(s.count("{s}") == 1 and s.count("{v}") == 1 for s in attribute.sentences)
        assert len(set(attribute.sentences)) >= 3


@pytest.mark.parametrize("task", SYNTHETIC_TASKS)
def test_too_small_a_budget_says_what_to_ask_for(task):
    with pytest.raises(ValueError, match=r"target_tokens=12 is too small .* ask for at least 100"):
        next(synthesize(task, 12, seed=0))


def test_wrong_arguments_fail_at_the_call():
    with pytest.raises(ValueError, match="unknown task 'needle'.*chain_of_reasoning"):
        synthesize("needle", 1_000, seed=0)
    with pytest.raises(ValueError, match="count must be at least 0, got -1"):
        synthesize("comparison", 1_000, seed=0, count=-1)


@pytest.fixture(scope="module")
def tokenizer():
    """A byte-level BPE trained here on synthetic text."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    texts = (d.text for e in synthesize("chain_of_reasoning", 4_000, seed=9, count=10) for d in e.documents)
    bpe.train_from_iterator(texts, vocab_size=1_000, show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer)
