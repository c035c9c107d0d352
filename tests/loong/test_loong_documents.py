"""Documents of Loong: how names become files, in folders and zip files, and what bad ones say."""

import gc
import json
import pickle
import random
import sys
import zipfile
from pathlib import Path

import pytest

from qwenlong_trl.loong import LoongDocuments, LoongRecord, MissingDocumentsError, find_loong, read_loong, select
from qwenlong_trl.loong import documents as module
from qwenlong_trl.loong.documents import cl100k_tokens
from qwenlong_trl.loong.made_up import COMPANIES, JUDGMENTS, PAPERS, made_up, rows


@pytest.fixture
def made(tmp_path):
    """The records, and the folder of their documents."""
    return made_up(tmp_path), tmp_path / "doc"


def about(names, length=1, level=1, domain="financial") -> LoongRecord:
    row = next(row for row in rows() if row["type"] == domain)
    return LoongRecord.from_dict(row | {"doc": names, "length": length, "level": level})


def reports(folder: Path, tokens: dict[str, int]) -> LoongDocuments:
    """Reports that take so many tokens each."""
    (folder / "financial").mkdir(parents=True)
    for file, count in tokens.items():
        text = " cat" * count
        assert cl100k_tokens(text) == count
        (folder / "financial" / file).write_text(text, encoding="utf-8")
    return LoongDocuments(folder)


def zipped(doc: Path, path: Path, prefix: str = "doc/", flagged: bool = True, seed: int = 0) -> Path:
    """The folder as a zip file in random order, with what macOS adds; without `flagged` as macOS writes names."""
    files = [file for file in sorted(doc.rglob("*")) if file.is_file()]
    random.Random(seed).shuffle(files)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            name = f"{prefix}{file.relative_to(doc)}"
            archive.write(file, name)
            hidden = Path(name)
            archive.writestr(f"__MACOSX/{hidden.parent}/._{hidden.name}", b"\0\5\26\7")
        archive.writestr(f"{prefix}paper/.DS_Store", b"\0")
    if not flagged:
        data = bytearray(path.read_bytes())
        for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # of local headers and of the central directory
            at = data.find(signature)
            while at >= 0:
                data[at + flags + 1] &= ~0x08  # bit 11
                at = data.find(signature, at + 1)
        path.write_bytes(data)
    return path


def test_headers_and_texts(made):
    records, doc = made
    documents = LoongDocuments(doc)
    by_id = {record.id: record for record in records}
    assert documents.missing(records) == {}

    reports = documents.load(by_id["fin-en-2"])
    assert [one.header for one in reports] == ["《j》", "《n》", "《j》"]
    assert [one.name for one in reports] == list(by_id["fin-en-2"].doc)
    file = COMPANIES["RIVER MILL CORP"][0]
    assert reports[1].text == (doc / "financial" / file).read_text(encoding="utf-8") and reports[1].result is None
    assert [one.header for one in documents.load(by_id["fin-zh-4"])] == [
        "《2023年一季度报告》",
        "《2024年一季度报告》",
    ]
    assert [one.header for one in documents.load(by_id["fin-en-4"])] == ["《k_north》"] * 3

    paper = documents.load(by_id["paper-3"])[0]
    assert paper.header == "Windows: A {Survey} of Long Contexts"
    assert paper.render() == f"{paper.header}\n{(doc / 'paper' / paper.name).read_text(encoding='utf-8')}\n\n"

    judgments = documents.load(by_id["legal-2-range"])
    assert [one.header for one in judgments] == [f"《判决文书{i}》" for i in range(1, 5)]
    assert [(one.name, one.text, one.result) for one in judgments] == [(n, *JUDGMENTS[n]) for n in reversed(JUDGMENTS)]
    first = judgments[0]
    assert first.render() == f"《判决文书1》\n{first.text}{first.result}\n\n"
    assert first.render(with_result=False) == f"《判决文书1》\n{first.text}\n\n"


@pytest.mark.parametrize("flagged", [True, False])
@pytest.mark.parametrize("prefix", ["doc/", "", "release/data/doc/"])
def test_a_zip_file_gives_what_its_folder_gives(made, tmp_path, flagged, prefix):
    records, doc = made
    path = zipped(doc, tmp_path / "doc.zip", prefix, flagged)
    if not flagged:  # the names do look broken
        assert not any("青木电器" in name for name in zipfile.ZipFile(path).namelist())
    documents, folder = LoongDocuments(path), LoongDocuments(doc)
    before = sorted(tmp_path.rglob("*"))
    assert [documents.load(record) for record in records] == [folder.load(record) for record in records]
    assert sorted(tmp_path.rglob("*")) == before  # nothing is unpacked


def test_a_zip_file_may_hold_strays(made, tmp_path):
    records, doc = made
    path = zipped(doc, tmp_path / "doc.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../financial/2024-Escape.txt", "x")
        archive.writestr("old/paper/2101.00001.md", "# Another version")
        archive.writestr("notes.txt", "x")
        for i in range(50):
            archive.writestr(f"__MACOSX/doc/paper/._{i}.md", "x")
            archive.writestr(f"__MACOSX/doc/paper/{i}.md", "x")
    documents = LoongDocuments(path)
    hidden = [".DS_Store", "._1.md"]
    assert documents.missing([about(hidden, level=4, domain="paper")]) == {"paper-3": hidden}
    assert documents.load(records[10]) == LoongDocuments(doc).load(records[10])
    assert documents.missing([about(["Escape"])]) == {"fin-en-1": ["Escape"]}


def test_ambiguous_names_take_the_files_whose_tokens_give_the_length(tmp_path):
    # The names of the release that fit several files, and which of them its records mean.
    documents = reports(
        tmp_path,
        {
            **{"2024-C-Bond Systems, Inc-j.txt": 601, "2024-CLEARONE INC-j.txt": 55, "2024-CIRTRAN CORP-j.txt": 77},
            **{"2024-GRANT PARK FUTURES FUND-j.txt": 351, "2024-GRANT PARK FUTURES FUND-n.txt": 420},
            **{"2024-BRAINSTORM CELL-k.txt": 90, "2024-BRAINSTORM CELL-j.txt": 120},
            **{"2024-BLUE DOLPHIN ENERGY CO-j.txt": 200, "2024-BLUE DOLPHIN ENERGY CO-n.txt": 310},
        },
    )

    def files(names, length):
        return [file.removeprefix("2024-") for file in documents.files(about(names, length))]

    assert files(["C", "CLEARONE INC"], 656) == ["C-Bond Systems, Inc-j.txt", "CLEARONE INC-j.txt"]
    assert files(["C"], 77) == ["CIRTRAN CORP-j.txt"]
    assert files(["GRANT PARK FUTURES FUND"], 351) == ["GRANT PARK FUTURES FUND-j.txt"]
    assert files(["BRAINSTORM CELL"], 120) == ["BRAINSTORM CELL-j.txt"]
    assert files(["BLUE DOLPHIN ENERGY CO"], 200) == ["BLUE DOLPHIN ENERGY CO-j.txt"]
    assert files(["BLUE DOLPHIN ENERGY CO"], 310) == ["BLUE DOLPHIN ENERGY CO-n.txt"]
    both = ["BLUE DOLPHIN ENERGY CO", "C", "GRANT PARK FUTURES FUND"]
    assert files(both, 310 + 601 + 420) == [
        *("BLUE DOLPHIN ENERGY CO-n.txt", "C-Bond Systems, Inc-j.txt", "GRANT PARK FUTURES FUND-n.txt")
    ]
    # No combination has that length: the first by name.
    assert files(both, 5) == [
        *("BLUE DOLPHIN ENERGY CO-j.txt", "C-Bond Systems, Inc-j.txt", "GRANT PARK FUTURES FUND-j.txt")
    ]


def test_too_many_combinations_are_not_tried(tmp_path):
    documents = reports(tmp_path, {f"2024-C{i:02}.txt": i + 1 for i in range(41)})
    assert documents.files(about(["C", "C"], 82)) == ("2024-C40.txt", "2024-C40.txt")  # 1,681 are
    assert documents.files(about(["C", "C", "C"], 123)) == ("2024-C00.txt",) * 3  # 68,921 are not


def test_level_4_names_files_of_any_year(tmp_path):
    documents = reports(tmp_path, {"report_1-2023-甲-2023年报.txt": 3, "report_1-2024-甲-2024年报.txt": 4})
    assert documents.files(about(["甲-2023年报"], level=4)) == ("report_1-2023-甲-2023年报.txt",)
    assert documents.files(about(["甲"])) == ("report_1-2024-甲-2024年报.txt",)
    assert documents.missing([about(["甲-2023年报"])]) == {"fin-en-1": ["甲-2023年报"]}


@pytest.mark.parametrize("name", ["A [B] & CO'S (NEW)", "A*B", "A?B", "SAVINGS CORP \\DE\\", "[!a]", "Cafe\u0301 SA"])
def test_names_are_no_patterns(tmp_path, name):
    documents = reports(tmp_path, {f"2024-{name}-j.txt": 5, "2024-AXB-j.txt": 6, "2024-Zzz-j.txt": 7})
    assert [one.text for one in documents.load(about([name]))] == [" cat" * 5]
    assert documents.missing([about(["?zz", "Zz*", "[Z]zz"])]) == {"fin-en-1": ["?zz", "Zz*", "[Z]zz"]}


@pytest.mark.parametrize("domain", ["paper", "financial", "legal"])
@pytest.mark.parametrize("name", ["../../secret.md", "../paper/../../secret.md", "/etc/passwd", "..", "sub/x.md"])
def test_a_name_leads_to_no_file_outside(made, tmp_path, name, domain):
    _, doc = made
    (tmp_path / "secret.md").write_text("# Secret", encoding="utf-8")
    (doc / "paper" / "sub").mkdir()
    (doc / "paper" / "sub" / "x.md").write_text("# Inner", encoding="utf-8")
    record = about([name], level=4, domain=domain)
    with pytest.raises(MissingDocumentsError) as caught:
        LoongDocuments(doc).load(record)
    assert caught.value.missing == {record.id: [name]}


def test_missing_documents_are_named(made):
    records, doc = made
    (doc / "legal" / "legal.json").unlink()
    (doc / "paper" / "2103.00003.md").unlink()
    documents = LoongDocuments(doc)
    missing = documents.missing(records)
    legal = {record.id: list(record.doc) for record in records if record.type == "legal"}
    assert missing == {"paper-3": ["2103.00003.md"], "paper-4": ["2103.00003.md"], **legal}
    rest = [record for record in records if record.id not in missing]
    assert len(rest) == 10 and all(documents.load(record) for record in rest)
    with pytest.raises(MissingDocumentsError, match="lacks documents of 1 records, such as paper-4: 2103.00003.md"):
        documents.load(records[11])
    error = pickle.loads(pickle.dumps(MissingDocumentsError(missing, "here")))
    assert error.missing == missing and str(error).startswith("here lacks documents of 8 records")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", r"legal/legal.json must be an object of judgments, got \[1\]"),
        ("{", r"legal/legal.json is no JSON"),
        ('{"a": "text"}', r"judgment 'a' is 'text', expected an object with `content` and `result`"),
        ('{"a": {"content": "x"}}', r"judgment 'a': field `result` is None, expected a text"),
        ('{"a": {"content": 3, "result": "x"}}', r"judgment 'a': field `content` is 3, expected a text"),
    ],
)
def test_a_bad_file_of_judgments_is_named(tmp_path, content, message):
    (tmp_path / "legal").mkdir()
    (tmp_path / "legal" / "legal.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        LoongDocuments(tmp_path).load(about(["a"], domain="legal"))
    assert str(tmp_path) in str(caught.value)


def test_judgments_that_are_nested_too_deep_are_named(tmp_path):
    (tmp_path / "legal").mkdir()
    (tmp_path / "legal" / "legal.json").write_text("[" * 100_000, encoding="utf-8")
    gc.disable()  # hypothesis hooks into collections, and its hook has no stack left in the depth of the parser
    try:
        with pytest.raises(ValueError, match="legal/legal.json is no JSON"):
            LoongDocuments(tmp_path).missing([about(["a"], domain="legal")])
    finally:
        gc.enable()


def test_texts_are_utf_8_with_line_feeds(made):
    records, doc = made
    path = doc / "paper" / "2104.00004.md"
    path.write_bytes(b"# One \r\ntwo\rthree\n")
    assert LoongDocuments(doc).load(records[10])[3].render() == "One\n# One \ntwo\nthree\n\n\n"
    path.write_bytes("# 标题".encode("gb18030"))
    with pytest.raises(ValueError, match="paper/2104.00004.md is no UTF-8 text"):
        LoongDocuments(doc).load(records[10])


def test_bad_sources_are_named(tmp_path):
    with pytest.raises(FileNotFoundError):
        LoongDocuments(tmp_path / "absent")
    with pytest.raises(ValueError, match="holds none of the folders financial, paper, legal"):
        LoongDocuments(tmp_path)
    (tmp_path / "doc.zip").write_bytes(b"no zip file")
    with pytest.raises(ValueError, match="neither a folder nor a zip file"):
        LoongDocuments(tmp_path / "doc.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(ValueError, match="holds none of the folders"):
        LoongDocuments(tmp_path / "empty.zip")


def test_a_damaged_entry_is_named(made, tmp_path):
    records, doc = made
    path = tmp_path / "doc.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in PAPERS:
            archive.write(doc / "paper" / file, f"paper/{file}")
    path.write_bytes(path.read_bytes().replace(b"We measure step", b"We measure stop"))
    with pytest.raises(ValueError, match="cannot be unpacked .*CRC"):
        LoongDocuments(path).load(records[10])


def test_an_entry_that_claims_any_size_is_refused(made, tmp_path):
    records, doc = made
    path = zipped(doc, tmp_path / "doc.zip")
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\1\2")
    while at >= 0:  # the sizes in the central directory
        data[at + 24 : at + 28] = (2**30).to_bytes(4, "little")
        at = data.find(b"PK\1\2", at + 1)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="claims 1,073,741,824 bytes, more than any document has"):
        LoongDocuments(path).load(records[10])


def test_find_loong(made, tmp_path, monkeypatch):
    _, doc = made
    assert find_loong(tmp_path) == (tmp_path / "loong.jsonl", doc)
    other = tmp_path / "other" / "data"
    other.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="holds no loong.jsonl"):
        find_loong(other.parent)
    (tmp_path / "loong.jsonl").rename(other / "loong.jsonl")
    with pytest.raises(FileNotFoundError, match="holds no doc or doc.zip"):
        find_loong(other.parent)
    zipped(doc, other / "doc.zip")
    monkeypatch.setenv("LOONG_DATA", str(other.parent))
    assert find_loong() == (other / "loong.jsonl", other / "doc.zip")
    assert find_loong(other) == find_loong()
    monkeypatch.delenv("LOONG_DATA")
    with pytest.raises(FileNotFoundError, match="set LOONG_DATA"):
        find_loong()


def test_tokens_are_cl100k_with_special_tokens_as_text():
    assert cl100k_tokens("hello world") == 2
    assert cl100k_tokens("<|endoftext|>") > 1
    assert cl100k_tokens("") == 0
    assert cl100k_tokens("\ud800") >= 1


def test_tiktoken_is_needed_for_ambiguous_names_alone(tmp_path, monkeypatch):
    (tmp_path / "financial").mkdir()
    for file in ("2024-ALONE-j.txt", "2024-TWICE-j.txt", "2024-TWICE-n.txt"):
        (tmp_path / "financial" / file).write_text(f"{file}, not counted before", encoding="utf-8")
    documents = LoongDocuments(tmp_path)
    module.cl100k_encoding.cache_clear()
    try:
        monkeypatch.setitem(sys.modules, "tiktoken", None)
        assert len(documents.load(about(["ALONE"]))) == 1
        with pytest.raises(ValueError, match=r'pip install "qwenlong-trl\[evaluation\]"'):
            documents.load(about(["TWICE"]))
    finally:
        module.cl100k_encoding.cache_clear()


def test_the_financial_records_of_set_1_have_all_their_documents(shared_data):
    records = select(read_loong(shared_data / "loong" / "loong.jsonl"), sets=[1], domains=["financial"])
    documents = LoongDocuments(shared_data / "loong" / "doc")
    assert len(records) == 103 and documents.missing(records) == {}
    exact = 0
    for record in records:
        loaded = documents.load(record)
        for name, file, document in zip(record.doc, documents.files(record), loaded, strict=True):
            path = shared_data / "loong" / "doc" / "financial" / file
            assert name in file and document.text == path.read_text(encoding="utf-8")
        exact += sum(cl100k_tokens(document.text) for document in loaded) == record.length
    # Of the other 17 one report each (four companies in all) was released in another version than was counted.
    assert exact == 86
    everything = documents.missing(read_loong(shared_data / "loong" / "loong.jsonl"))
    assert not set(everything) & {record.id for record in records} and len(everything) > 1000


def test_the_layout_of_the_official_zip_file(made, tmp_path):
    """Folder entries, and names that are CP437 indeed, do no harm."""
    _, doc = made
    path = tmp_path / "doc.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("doc/", "")
        archive.writestr("doc/paper/", "")
        archive.writestr("doc/paper/2101.00001.md", "# One")
        archive.writestr("doc/legal/legal.json", json.dumps({}))
    documents = LoongDocuments(path)
    assert documents.load(about(["2101.00001.md"], level=4, domain="paper"))[0].header == "One"
    assert documents.missing([about(["a"], domain="legal")]) != {}
