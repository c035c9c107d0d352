"""Record sets and preference sets to the Hub and back: the same rows with the same features, and a card."""

import sys
from pathlib import Path

import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from qwenlong_trl.data import Document, Evidence, LongContextExample, from_dataset, record_features, write_records
from qwenlong_trl.hub import HubPushError, push_folder, push_records, save_record_set, write_card
from qwenlong_trl.hub.record_sets import record_set_card


sys.path.insert(0, str(Path(__file__).parents[1]))


def records(count: int = 5) -> list[LongContextExample]:
    return [
        LongContextExample(
            id=f"r{i}",
            question=f"Who found it? {i} 谁 🧑‍🚀",
            answers=("Marie Curie", "Curie"),
            documents=(Document("Radium | x", "Found by Marie Curie.\n\nÉ\u0301"), Document("", "外面" * i)),
            evidence=(Evidence(0, 9, 20),) if i % 2 else (),
            task="docqa" if i else "docmath",
            source="musique" if i < 3 else "",
        )
        for i in range(count)
    ]


def test_a_record_set_comes_back_as_it_was(hub):
    url = push_records(
        records(), "ns/questions", private=True, license="cc-by-4.0", language=["en", "zh"], how="By hand."
    )
    assert hub.store.repo("dataset", "ns/questions")["private"] and url.startswith(f"{hub.url}")
    assert len(hub.store.commits("dataset", "ns/questions")) == 2  # the first is the Hub's own
    loaded = load_dataset("ns/questions", split="train", revision=url.split("/")[-1])
    assert loaded.features == record_features()
    assert list(from_dataset(loaded)) == records()
    card = DatasetCard.load("ns/questions")
    assert (card.data.license, card.data.language, card.data.size_categories) == ("cc-by-4.0", ["en", "zh"], ["n<1K"])
    assert "5 questions over documents" in card.text and "| musique | 3 |" in card.text
    assert "2 of 5 records have evidence" in card.text and "How they were made: By hand." in card.text
    card.validate()


def test_a_push_that_fails_leaves_no_data_without_a_card(hub):
    hub.fail("POST .*/commit/", 500)
    with pytest.raises(HubPushError, match="Nothing was published"):
        push_records(records(), "ns/questions")
    assert set(hub.store.tree("dataset", "ns/questions")) == {".gitattributes"}


def test_large_sets_are_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr("qwenlong_trl.hub.record_sets.SHARD_BYTES", 700)
    save_record_set(records(9), tmp_path / "set")
    files = sorted(path.name for path in (tmp_path / "set" / "data").iterdir())
    assert len(files) > 1 and files[0] == f"train-00000-of-{len(files):05d}.parquet"
    loaded = load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))
    assert list(from_dataset(loaded)) == records(9)


def test_no_records(tmp_path):
    with pytest.raises(ValueError, match="no records to write"):
        save_record_set([], tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_preference_set_comes_back_as_it_was(hub, tmp_path):
    from solopo_rows import twins

    from qwenlong_trl.solopo.pair_statistics import PairStatistics, describe_pairs, save_pairs

    pairs, statistics = twins(6), PairStatistics()
    statistics.prompts.update({"pair": 6, "all wrong": 3})
    settings = {"model": "ns/reader", "num_samples": 8, "prompt_template": "a | b\n$Q$"}
    save_pairs(pairs, tmp_path / "pairs", describe_pairs(statistics, settings))
    (tmp_path / "pairs" / "samples.jsonl").write_text("every sample\n")
    write_card(tmp_path / "pairs", license="mit", repo_id="ns/pairs")
    url = push_folder(tmp_path / "pairs", "ns/pairs")
    tree = set(hub.store.tree("dataset", "ns/pairs"))
    assert tree == {".gitattributes", "README.md", "pairs.json", "data/train.parquet"}
    loaded = load_dataset("ns/pairs", split="train", revision=url.split("/")[-1])
    assert loaded.features == pairs.features and loaded.to_list() == pairs.to_list()
    card = DatasetCard.load("ns/pairs")
    assert "6 preference pairs" in card.text and "| `num_samples` | `8` |" in card.text
    assert 'load_dataset("ns/pairs", split="train")' in card.text and card.data.license == "mit"
    card.validate()


TEXT = st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(
    [
        "---\n# x",
        "<script>alert(1)</script>",
        "a | b\n| c |",
        "{{ 7 * 7 }}{% raw %}",
        "```\nx",
        "[a](javascript:x)",
        "*_`~",
    ]
)


def structure(markdown: str) -> list[str]:
    """The kinds of blocks and of what stands in them, without the texts."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    return [f"{t.type} {[c.type for c in t.children or () if c.type not in ('text', 'softbreak')]}" for t in tokens]


@settings(max_examples=25, deadline=None)
@given(name=TEXT, how=TEXT, source=TEXT)
def test_texts_of_any_kind_are_nothing_but_texts(name, how, source):
    """Nothing from the data ends the front matter, makes a heading, a row, a link or HTML, or is run as a template."""
    counts = {"least": 1, "most": 2, "sum": 3}
    about = {"records": 3, "sources": {source: 3}, "tasks": {"docqa": 3}, "with_evidence": 1, "documents": counts}
    about |= {"characters": counts, "split": "train"}
    card = record_set_card(about | {"name": f"n{name}", "how": f"h{how}"})
    plain = record_set_card(about | {"name": "n", "how": "h", "sources": {"s": 3}})
    assert DatasetCard(str(card)).data.pretty_name == f"n{name}"
    assert structure(card.text) == structure(plain.text)


def test_records_from_a_file(tmp_path):
    write_records(records(), tmp_path / "r.parquet")
    from qwenlong_trl.data import read_records

    save_record_set(read_records(tmp_path / "r.parquet"), tmp_path / "set", name="Questions")
    assert "# Questions" in (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
