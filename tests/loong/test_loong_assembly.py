"""Assembly of Loong's prompts: the published protocol recomputed, and what the fixed mode repairs."""

import ast
import glob
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loong_rows import fixed

from qwenlong_trl.loong import (
    Assembly,
    LoongDocuments,
    LoongRecord,
    MissingDocumentsError,
    assemble,
    read_loong,
    select,
)
from qwenlong_trl.loong.documents import cl100k_tokens
from qwenlong_trl.loong.made_up import JUDGMENTS, VERDICTS, made_up, rows, write_documents
from qwenlong_trl.loong.policies import SkipPolicy


def recomputed(rows: list[dict], doc: Path, max_length: int) -> dict[str, str]:
    """Id -> prompt, by the published steps one after the other, on Python's own stream of random numbers."""
    random.seed(1000000007)
    prompts = {}
    for row in rows:
        template = row["prompt_template"]
        for placeholder, value in (("{question}", row["question"]), ("{instruction}", row["instruction"])):
            template = template.replace(placeholder, value)
        contents = []
        for position, name in enumerate(row["doc"]):
            if row["type"] == "financial":
                pattern = "*" + ("" if row["level"] == 4 else "2024-") + glob.escape(name) + "*.txt"
                (path,) = (doc / "financial").glob(pattern)
                title, text = f"《{path.stem.split('-')[-1]}》", path.read_text(encoding="utf-8")
            elif row["type"] == "paper":
                text = (doc / "paper" / name).read_text(encoding="utf-8")
                title = text.split("\n")[0].strip("#").strip()
            else:
                judgment = json.loads((doc / "legal" / "legal.json").read_text(encoding="utf-8"))[name]
                title, text = f"《判决文书{position + 1}》", judgment["content"] + judgment["result"]
            contents.append(f"{title}\n{text}\n\n")
        if row["shuffle_doc"] and row["type"] == "financial":
            random.shuffle(contents)
        chosen = []
        for content in contents:
            so_far = cl100k_tokens(template) - cl100k_tokens("{docs}") + sum(map(cl100k_tokens, chosen))
            if not so_far + cl100k_tokens(content) > max_length:
                chosen.append(content)
        if row["shuffle_doc"]:
            random.shuffle(chosen)
        prompts[row["id"]] = template.replace("{docs}", "".join(chosen))
    return prompts


@pytest.mark.parametrize("max_length", [1, 300, 420, 600, 900, 1_200, 128_000])
def test_official_prompts_are_those_of_the_published_steps(records, documents, folder, max_length):
    expected = recomputed([record.to_dict() for record in records], folder / "doc", max_length)
    prompts = list(assemble(records, documents, Assembly("official", max_length)))
    assert {prompt.id: prompt.prompt for prompt in prompts} == expected
    for prompt, record in zip(prompts, records, strict=True):
        assert prompt.tokens == cl100k_tokens(prompt.prompt) and not prompt.cut
        assert sorted(prompt.kept + prompt.dropped) == list(range(len(record.doc)))
        loaded = documents.load(record)
        assert "".join(loaded[i].render() for i in prompt.kept) in prompt.prompt
    assert any(prompt.dropped for prompt in prompts) == (max_length < 1_500)


def test_official_prompts_of_the_financial_records_of_set_1(shared_data):
    folder = shared_data / "loong"
    records = select(read_loong(folder / "loong.jsonl"), sets=[1], domains=["financial"])
    documents = LoongDocuments(folder / "doc")
    for max_length, drops in ((128_000, 0), (32_000, None)):
        expected = recomputed([record.to_dict() for record in records], folder / "doc", max_length)
        prompts = list(assemble(records, documents, Assembly("official", max_length)))
        assert {prompt.id: prompt.prompt for prompt in prompts} == expected and len(expected) == 103
        assert drops is None or sum(len(prompt.dropped) for prompt in prompts) == drops


def test_a_document_that_fits_exactly_is_kept_and_one_token_less_drops_it(records, documents):
    record = next(record for record in records if record.id == "legal-1")
    contents = [document.render() for document in documents.load(record)]
    filled = record.prompt_template.replace("{question}", record.question).replace("{instruction}", record.instruction)
    exact = cl100k_tokens(filled) - cl100k_tokens("{docs}") + sum(map(cl100k_tokens, contents))
    (whole,) = assemble([record], documents, Assembly("official", exact))
    (less,) = assemble([record], documents, Assembly("official", exact - 1))
    assert (whole.kept, whole.dropped) == ((0, 1, 2, 3), ())
    assert (less.kept, less.dropped) == ((0, 1, 2), (3,))


def test_packing_goes_on_after_a_document_that_does_not_fit_and_numbers_keep_gaps(records, documents):
    record = next(record for record in records if record.id == "legal-1")
    sizes = [cl100k_tokens(document.render()) for document in documents.load(record)]
    question = cl100k_tokens(record.question) + cl100k_tokens(record.instruction) + 10
    order = [3, 0, 1, 2]  # the shortest first, so that the second is skipped and a later one fits
    assert sizes[3] + sizes[0] > sizes[3] + sizes[1]
    again = LoongRecord.from_dict(record.to_dict() | {"doc": [record.doc[i] for i in order]})
    (prompt,) = assemble([again], documents, Assembly("official", question + sizes[3] + sizes[1] + 2))
    assert prompt.kept == (0, 2) and prompt.dropped == (1, 3)
    assert "《判决文书1》\n" in prompt.prompt and "《判决文书3》\n" in prompt.prompt
    assert "《判决文书2》\n" not in prompt.prompt


@pytest.mark.parametrize("mode", ["official", "fixed"])
def test_verdicts_are_shown_officially_and_hidden_where_they_are_the_answer_in_fixed_mode(
    records, documents, tokenizer, mode
):
    assembly = Assembly("official") if mode == "official" else fixed(tokenizer)
    prompts = {prompt.id: prompt.prompt for prompt in assemble(records, documents, assembly)}
    by_id = {record.id: record for record in records}
    link = by_id["legal-4-link"]
    assert all(repr(verdict) in link.question for verdict in VERDICTS)
    shown = prompts[link.id].split(link.instruction)[0]  # the documents stand before the instruction
    leaked = {f"判决结果{i}" for i, verdict in enumerate(VERDICTS, start=1) if verdict in shown}
    assert leaked == (set(link.answer.values()) if mode == "official" else set())
    assert all(content in shown for content, _ in JUDGMENTS.values())
    assert prompts[link.id].endswith(link.question)
    # Elsewhere a verdict belongs to its judgment.
    for id in ("legal-1", "legal-3", "legal-4-solitaire"):
        assert all(content + result in prompts[id] for content, result in JUDGMENTS.values())


def solved(record: LoongRecord, prompt: str) -> dict[str, str]:
    """Answers of a reader that looks for the verdicts of the question in the judgments, as strings."""
    shown = prompt.split(record.instruction)[0]
    verdicts = ast.literal_eval(record.question[record.question.index("{") : record.question.rindex("}") + 1])
    parts = shown.split("《判决文书")[1:]
    found = {}
    for part in parts:
        for name, verdict in verdicts.items():
            if verdict in part:
                found[f"《判决文书{part.split('》')[0]}》"] = name
    return found


def test_string_matching_solves_link_the_links_officially_alone(records, documents, tokenizer):
    link = next(record for record in records if record.id == "legal-4-link")
    (official,) = assemble([link], documents, Assembly("official"))
    (repaired,) = assemble([link], documents, fixed(tokenizer))
    assert solved(link, official.prompt) == link.answer
    assert solved(link, repaired.prompt) == {}


@pytest.mark.parametrize("mode", ["official", "fixed"])
@pytest.mark.parametrize("max_tokens", [700, 128_000])
def test_wanted_prompts_are_those_of_the_whole_run(records, documents, tokenizer, mode, max_tokens):
    assembly = Assembly("official", max_tokens) if mode == "official" else fixed(tokenizer, 2 * max_tokens)
    everything = {prompt.id: prompt for prompt in assemble(records, documents, assembly)}
    wanted = {"fin-zh-3", "paper-4", "legal-1", "fin-en-4"}
    some = list(assemble(records, documents, assembly, wanted))
    assert [prompt.id for prompt in some] == [record.id for record in records if record.id in wanted]
    assert all(everything[prompt.id] == prompt for prompt in some)
    assert list(assemble(records, documents, assembly, set())) == []


def test_the_official_order_depends_on_the_records_before_and_the_fixed_one_does_not(records, documents, tokenizer):
    shuffled = [record for record in records if record.shuffle_doc and len(record.doc) > 2]

    def orders(chosen, assembly):
        return {prompt.id: prompt.kept for prompt in assemble(chosen, documents, assembly)}

    whole = orders(shuffled, fixed(tokenizer))
    for record in shuffled:
        assert orders([record], fixed(tokenizer)) == {record.id: whole[record.id]}
    assert orders(shuffled[::-1], fixed(tokenizer)) == whole
    assert orders(shuffled, fixed(tokenizer, seed=1)) != whole
    assert len(set(whole.values())) > 2 and any(order != tuple(sorted(order)) for order in whole.values())
    official = orders(shuffled, Assembly("official"))
    assert {id: order for r in shuffled for id, order in orders([r], Assembly("official")).items()} != official


def test_records_that_are_not_to_be_shuffled_keep_their_order(records, documents, tokenizer):
    for assembly in (Assembly("official"), fixed(tokenizer)):
        for prompt, record in zip(assemble(records, documents, assembly), records, strict=True):
            assert record.shuffle_doc or prompt.kept == tuple(range(len(record.doc)))


def test_missing_documents_are_told_before_anything_is_made(tmp_path, tokenizer):
    records = made_up(tmp_path)
    (tmp_path / "doc" / "legal" / "legal.json").unlink()
    documents = LoongDocuments(tmp_path / "doc")
    rest = {record.id for record in records if record.type != "legal"}
    for assembly in (Assembly("official"), fixed(tokenizer)):
        with pytest.raises(MissingDocumentsError) as caught:
            assemble(records, documents, assembly)
        assert set(caught.value.missing) == {record.id for record in records} - rest
        # Judgments are not shuffled, so that the others can be made without them.
        assert {prompt.id for prompt in assemble(records, documents, assembly, rest)} == rest
    (tmp_path / "doc" / "financial" / "2024-RIVER MILL CORP-n.txt").unlink()
    documents = LoongDocuments(tmp_path / "doc")
    assert list(assemble(records, documents, fixed(tokenizer), {"fin-zh-1"}))
    assert list(assemble(records, documents, Assembly("official"), {"fin-en-1"}))  # stands before the missing ones
    with pytest.raises(MissingDocumentsError):
        assemble(records, documents, Assembly("official"), {"fin-zh-1"})


PIECES = st.sampled_from(
    ["{docs}", "{instruction}", "{question}", "{}", "{0}", "{{x}}", "}", "{", "a", "\n", "文", "%s"]
)


@settings(max_examples=50, deadline=None)
@given(text=st.lists(PIECES, max_size=30).map("".join), question=st.lists(PIECES, max_size=5).map("".join))
def test_braces_in_documents_stay(tmp_path_factory, tokenizer, text, question):
    question = question.replace("{docs}", "").replace("{instruction}", "") or "?"
    doc = tmp_path_factory.mktemp("doc")
    write_documents(doc)
    (doc / "paper" / "2101.00001.md").write_text(text, encoding="utf-8")
    (doc / "legal" / "legal.json").write_text(json.dumps({"a": {"content": text, "result": ""}}), encoding="utf-8")
    by_id = {row["id"]: row for row in rows()}
    chosen = [
        LoongRecord.from_dict(by_id["paper-3"] | {"doc": ["2101.00001.md"], "question": question}),
        LoongRecord.from_dict(by_id["legal-1"] | {"doc": ["a"], "question": question}),
    ]
    documents = LoongDocuments(doc)
    for assembly in (Assembly("official"), fixed(tokenizer)):
        for prompt, record in zip(assemble(chosen, documents, assembly), chosen, strict=True):
            (document,) = documents.load(record)
            assert document.text == text
            before, after = record.prompt_template.split("{docs}")
            after = after.replace("{question}", question).replace("{instruction}", record.instruction)
            assert prompt.prompt == f"{before}{document.header}\n{text}\n\n{after}"


def test_describe_names_what_a_result_must_say(tokenizer):
    official, repaired = Assembly("official"), fixed(tokenizer, 4_000, seed=3)
    assert official.describe() == {
        **{"mode": "official", "max_tokens": 128_000, "policy": {"name": "skip"}, "tokenizer": "cl100k_base"},
        **{"seed": 1_000_000_007, "order": "one stream over all records", "legal_fix": False},
    }
    about = json.loads(json.dumps(repaired.describe()))
    assert about["policy"]["name"] == "skip" and about["legal_fix"] is True
    assert (about["mode"], about["max_tokens"], about["seed"]) == ("fixed", 4_000, 3)


def test_bad_options_are_refused(tokenizer):
    for options, message in (
        ({"mode": "best"}, 'mode must be "fixed" or "official"'),
        ({"mode": "official", "max_tokens": 0}, "at least 1"),
        ({"policy": SkipPolicy()}, "needs a policy and the tokenizer"),
        ({"tokenizer": tokenizer}, "needs a policy and the tokenizer"),
        ({"mode": "official", "policy": SkipPolicy()}, "leave the policy out"),
    ):
        with pytest.raises(ValueError, match=message):
            Assembly(**options)
