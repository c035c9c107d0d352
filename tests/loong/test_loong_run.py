"""The folder of a Loong run: what is asked, judged and reported, also when something failed or was never finished."""

import json
import shutil
from dataclasses import asdict

import pytest
from fault_server import FaultServer
from loong_rows import fixed

from qwenlong_trl.generation import OpenAISampler, SampleStore, Sampling
from qwenlong_trl.loong.assembly import Assembly
from qwenlong_trl.loong.comparison import compare, write_comparison
from qwenlong_trl.loong.judge import LoongJudge
from qwenlong_trl.loong.report import write_report
from qwenlong_trl.loong.run import generate, judge_run, read_run, report_stem, scored_rows
from qwenlong_trl.loong.tables import warnings
from qwenlong_trl.rewards import OpenAIJudge


SAMPLING = Sampling(temperature=0, max_tokens=64)
IDS = ("fin-en-1", "fin-en-2", "fin-en-3", "fin-en-4", "fin-zh-1")
GOLD = "$412,350"  # of the first one


@pytest.fixture(scope="module")
def some(records):
    found = {record.id: record for record in records}
    return [found[id] for id in IDS]


def asked(body, record) -> bool:
    return record.question in body["messages"][-1]["content"]


def made(folder, records, documents, assembly, answer=lambda body: GOLD, refused=(), **settings):
    """A run whose model answers so, and is refused these records; returns why records have no completion."""
    folder.mkdir(exist_ok=True)
    about = {"model_name_or_path": "m", "sampling": asdict(SAMPLING), "assembly": assembly.describe(), **settings}

    def fault(body):
        return any(asked(body, record) for record in refused)

    with FaultServer(answer=answer, fault="400", fault_share=fault) as server:
        sampler = OpenAISampler("m", server.base_url, concurrency=2)
        return generate(folder, records, documents, assembly, lambda: sampler, SAMPLING, about)


def judged(folder, rate, name="judgements.jsonl", prompt="default", parse="robust"):
    """Has the run judged so; what the judge was asked."""
    with FaultServer(answer=rate) as server:
        judge = OpenAIJudge("j", server.base_url, concurrency=2)
        judge_run(folder, LoongJudge(judge, prompt, parse), name)
        return server.bodies


def rows_by_id(folder, **options):
    return {row.record.id: row for row in scored_rows(folder, options.pop("parse", "robust"), **options)[0]}


def edit(path, number, change):
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    change(lines[number])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, some, documents, tokenizer):
    """A run that nothing is wrong with."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    made(folder, some[:1], documents, fixed(tokenizer))
    assert len(scored_rows(folder, "robust")[0]) == 1
    return folder


def test_what_is_not_judged_is_no_wrong_answer(tmp_path, some, documents, tokenizer):
    for name in "ab":
        made(tmp_path / name, some, documents, fixed(tokenizer))
        judged(tmp_path / name, lambda body: "[[80]]")
    lines = (tmp_path / "b" / "judgements.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b" / "judgements.jsonl").write_text("".join(lines[:3]))  # killed while it judged
    rows, about = scored_rows(tmp_path / "b", "robust")
    assert sum(row.unjudged for row in rows) == 3 and {row.score for row in rows} == {80.0, None}
    summary = write_report(tmp_path / "b", rows, about, samples=2)
    assert (summary.overall.unjudged, summary.overall.unparsed, summary.overall.parsed) == (3, 0, 2)
    assert "3 of 5 answers have not been judged" in warnings(summary)[0]
    whole = scored_rows(tmp_path / "a", "robust")
    with pytest.raises(ValueError, match="0 of 5 in the first run and 3 in the second.*`qwenlong-trl loong judge"):
        write_comparison(tmp_path / "c", whole, (rows, about))
    assert not (tmp_path / "c").exists()
    judged(tmp_path / "b", lambda body: "[[80]]")
    found = compare(whole[0], scored_rows(tmp_path / "b", "robust")[0]).overall
    assert found.strict_average.difference == 0 and found.strict_average.interval == (0, 0)
    # A prediction that changed since is not judged either.
    edit(tmp_path / "b" / "predictions.jsonl", 1, lambda line: line["completions"][0].update(text="another"))
    assert sum(row.unjudged for row in rows_by_id(tmp_path / "b").values()) == 1


def test_fates_of_judgements_are_told_apart(tmp_path, some, documents, tokenizer):
    made(tmp_path, some, documents, fixed(tokenizer), refused=some[4:])

    def rate(body):
        if asked(body, some[0]):
            return "I cannot say."
        if asked(body, some[1]):
            return {"content": "Evidence: it goes on", "finish_reason": "length"}
        return "[[70]]"

    judged(tmp_path, rate)
    rows = rows_by_id(tmp_path)
    fates = {id: (row.answered, row.score, row.unjudged, row.judge_cut) for id, row in rows.items()}
    assert fates == {
        **{"fin-en-1": (True, None, False, False), "fin-en-2": (True, None, False, True)},
        **{"fin-en-3": (True, 70.0, False, False), "fin-en-4": (True, 70.0, False, False)},
        "fin-zh-1": (False, None, False, False),  # no judge is asked about what is not there
    }


def test_reasoning_that_never_ended_is_no_answer(tmp_path, some, documents, tokenizer):
    def answer(body):
        if asked(body, some[0]):
            return {"content": f"Okay, net sales: {GOLD}. But wait, let me", "finish_reason": "length"}
        return f"It is in the table.\n</think>\n\n{GOLD}" if asked(body, some[1]) else f"<think>hm</think> {GOLD}"

    seen = {}
    for name, settings in (("open", {"require_delimiter": True}), ("plain", {})):
        made(tmp_path / name, some[:3], documents, fixed(tokenizer), answer, **settings)
        bodies = judged(tmp_path / name, lambda body: "[[50]]")
        seen[name] = {r.id: text for r in some[:3] for b in bodies if asked(b, r) for text in [str(b["messages"])]}
    opened, plain = rows_by_id(tmp_path / "open"), rows_by_id(tmp_path / "plain")
    assert [(row.prediction, row.truncated) for row in opened.values()] == [("", True), (GOLD, False), (GOLD, False)]
    assert opened["fin-en-1"].structured == 0 and opened["fin-en-1"].answered
    assert plain["fin-en-1"].structured == 100 and plain["fin-en-1"].prediction.startswith("Okay")
    assert "<candidate></candidate>" in seen["open"]["fin-en-1"] and "But wait" in seen["plain"]["fin-en-1"]
    for texts in seen.values():
        assert all(f"<candidate>{GOLD}</candidate>" in texts[id] for id in ("fin-en-2", "fin-en-3"))
    assert opened["fin-en-1"].score == 50 and not any(row.unjudged for row in opened.values())


def test_answers_that_were_cut_off_are_counted(tmp_path, some, documents, tokenizer):
    made(tmp_path, some, documents, fixed(tokenizer), lambda body: {"content": "x", "finish_reason": "length"})
    rows, about = scored_rows(tmp_path, "robust")
    summary = write_report(tmp_path, rows, about, samples=2)
    assert summary.overall.truncated == 5 and "5 of 5 answers were cut off at 64 tokens" in warnings(summary)[0]


def test_a_failed_completion_is_judged_as_empty_in_official_mode_and_not_answered(tmp_path, some, documents):
    made(tmp_path, some, documents, Assembly("official"), refused=some[:1])
    before, _ = scored_rows(tmp_path, "official")
    assert before[0].failed and not before[0].answered and before[0].structured == 0
    bodies = judged(
        tmp_path, lambda body: "[[20]]" if asked(body, some[0]) else "[[90]]", "o.jsonl", "official", "official"
    )
    assert len(bodies) == 5
    rows, about = scored_rows(tmp_path, "official", "o.jsonl")
    summary = write_report(tmp_path, rows, about, "official", samples=2, stem=report_stem("o.jsonl"))
    assert [row.score for row in rows] == [20, 90, 90, 90, 90]
    cell = summary.overall
    assert (cell.answered, cell.parsed, cell.average) == (4, 5, 76) and cell.strict_average == 72
    data = json.loads((tmp_path / "report-o.json").read_text(encoding="utf-8"))
    assert "1 of 5 records have no completion. As in the released code" in data["losses"][0]
    assert "1 records have no completion" in data["not_comparable_with_published"]


def test_a_report_has_all_settings_and_a_comparison_those_that_differ(tmp_path, some, documents, tokenizer):
    settings = {
        **{"backend": "vllm", "dtype": "bfloat16", "model_revision": "v1", "tokenizer": None, "chat": True},
        **{"chat_template_kwargs": {"enable_thinking": True}, "data": {"loong.jsonl": "sha256 0"}},
        **{"require_delimiter": True, "vllm_options": {"quantization": "fp8"}, "limit": 5, "skipped_missing": 2},
    }
    runs = []
    for name, change in (("a", {}), ("b", {"dtype": "float16", "chat_template_kwargs": {"enable_thinking": False}})):
        made(tmp_path / name, some, documents, fixed(tokenizer), **settings | change)
        runs.append(scored_rows(tmp_path / name, "robust"))
    _, about = runs[0]
    assert {name: about[name] for name in settings} == settings
    assert about["model"] == "m" and about["mode"] == "fixed" and about["records"] == 5
    assert about["sampling"] == asdict(SAMPLING) and about["assembly"] == fixed(tokenizer).describe()
    write_report(tmp_path, *runs[0], samples=2)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for line in (
        r"- vllm options, quantization: fp8",
        "- require delimiter: true",
        "- skipped missing: 2",
        "- dtype: bf",
    ):
        assert line in text
    tables = write_comparison(tmp_path / "c", *runs)
    assert tables[0].rows == [
        ["dtype", "bfloat16", "float16"],
        ["chat template kwargs, enable thinking", "true", "false"],
    ]


def test_a_folder_covers_all_records_that_it_was_asked_for(tmp_path, records, documents, tokenizer):
    chosen = [record for record in records if record.type == "financial"]
    first, second = ([record for record in chosen if record.set == number] for number in (1, 2))
    assert first and second
    for selection in (first, second, first[:1]):
        made(tmp_path / "a", selection, documents, fixed(tokenizer))
    rows, about = scored_rows(tmp_path / "a", "robust")
    assert [row.record for row in rows] == [*first, *second] and all(row.answered for row in rows)
    assert about["records"] == len(rows) and about["selection"]["sets"] == [1, 2]
    # All records at last: in their own order, as if it had been done at once.
    made(tmp_path / "a", chosen, documents, fixed(tokenizer))
    made(tmp_path / "b", chosen, documents, fixed(tokenizer))
    assert (tmp_path / "a" / "records.jsonl").read_bytes() == (tmp_path / "b" / "records.jsonl").read_bytes()
    # Records of a run whose predictions were removed are not those of the next one.
    (tmp_path / "a" / "predictions.jsonl").unlink()
    made(tmp_path / "a", second, documents, fixed(tokenizer))
    assert [row.record for row in scored_rows(tmp_path / "a", "robust")[0]] == second


def test_judgements_that_are_not_there_are_named(tmp_path, some, documents, tokenizer):
    made(tmp_path, some, documents, fixed(tokenizer))
    assert scored_rows(tmp_path, "robust")[1]["judge"] is None
    with pytest.raises(ValueError, match="no judgements typo.jsonl; there are: none"):
        scored_rows(tmp_path, "robust", "typo.jsonl")
    judged(tmp_path, lambda body: "[[10]]", "other.jsonl")
    judged(tmp_path, lambda body: "[[20]]")
    with pytest.raises(ValueError, match="no judgements typo.jsonl; there are: judgements.jsonl, other.jsonl"):
        scored_rows(tmp_path, "robust", "typo.jsonl")
    assert {row.score for row in rows_by_id(tmp_path, name="other.jsonl").values()} == {10}
    assert (report_stem(), report_stem("other.jsonl")) == ("report", "report-other")
    for name in ("", "a/b.jsonl", ".."):
        with pytest.raises(ValueError, match="must be a file's name"):
            scored_rows(tmp_path, "robust", name)


def test_reading_a_run_takes_no_lock_and_writes_nothing(tmp_path, some, documents, tokenizer):
    made(tmp_path, some, documents, fixed(tokenizer))
    judged(tmp_path, lambda body: "[[10]]")
    with open(tmp_path / "predictions.jsonl", "ab") as file:
        file.write(b'{"id": "fin')  # half a line, of a run that goes on or was killed
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.name.startswith(".")}
    settings = read_run(tmp_path)[2]
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("copy", ".*"))
    assert len(rows_by_id(copy)) == 5 and {path.name for path in copy.iterdir()} == {*before}
    with SampleStore(copy / "predictions.jsonl", settings):  # which cuts the half line off
        assert len(rows_by_id(copy)) == 5
    assert len(rows_by_id(tmp_path)) == 5
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name in before}


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (0, lambda line: line["settings"].clear(), "line 1, field `settings.assembly`: expected an object, got None"),
        (0, lambda line: line["settings"].update(assembly=[]), r"`settings.assembly`: expected an object, got \[\]"),
        (
            0,
            lambda line: line["settings"].update(assembly={}),
            "`settings.assembly.mode`: expected one of fixed",
        ),
        (0, lambda line: line["settings"]["assembly"].update(mode=[1]), r"`settings.assembly.mode`.*got \[1\]"),
        (0, lambda line: line["settings"].pop("sampling"), "`settings.sampling`: expected an object, got None"),
        (
            0,
            lambda line: line["settings"].update(model_name_or_path=5),
            "`settings.model_name_or_path`: .*, got 5",
        ),
        (0, lambda line: line["settings"].update(data=[1]), r"`settings.data`: expected an object, got \[1\]"),
        (0, lambda line: line["settings"].update(require_delimiter="no"), "`settings.require_delimiter`: .*'no'"),
        (0, lambda line: line.update(settings=3), "predictions.jsonl, line 1"),
        (1, lambda line: line.update(completions=[]), r"'fin-en-1', field `completions`: .*got \[\]"),
        (1, lambda line: line.update(completions="text"), "field `completions`: expected a list .*'text'"),
        (1, lambda line: line.update(completions=[7]), r"field `completions\[0\]`: expected an object, got 7"),
        (1, lambda line: line["completions"][0].update(text=5), r"`completions\[0\].text`: expected a text, got 5"),
        (1, lambda line: line["completions"][0].pop("finish_reason"), r"`completions\[0\].finish_reason`: .*None"),
        (1, lambda line: line.update(about=[1]), r"field `about`: expected an object, got \[1\]"),
        (1, lambda line: line["about"].update(kept=5), "field `about.kept`: expected a list of indices .*got 5"),
        (1, lambda line: line["about"].update(dropped=["0"]), "field `about.dropped`"),
        (1, lambda line: line["about"].update(cut="no"), "field `about.cut`: expected true or false, got 'no'"),
        (
            1,
            lambda line: line["about"].update(tokens="x"),
            "`about.tokens`: expected a number of tokens, got 'x'",
        ),
        (1, lambda line: line["about"].update(tokens=float("nan")), "field `about.tokens`: .* got nan"),
    ],
)
def test_damaged_predictions_are_named(tmp_path, whole, number, change, message):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    edit(folder / "predictions.jsonl", number, change)
    with pytest.raises(ValueError, match=message):
        scored_rows(folder, "robust")


@pytest.mark.parametrize("name", ["records.jsonl", "predictions.jsonl"])
def test_a_folder_without_a_run(tmp_path, whole, name):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    with pytest.raises(ValueError, match=f"holds no {name}, so it is no folder of a run"):
        read_run(tmp_path / "run")
