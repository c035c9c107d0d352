"""Cards of real runs: every number is in the run's files, and what was not measured is not there."""

import json
import random
import shutil
from pathlib import Path

import pytest
from card_rules import metadata_errors
from card_runs import RUNS, evaluation_report, files_of, loong_report, numbers_in, read_card, unexplained
from huggingface_hub import DatasetCard, EvalResult, ModelCard

from qwenlong_trl.hub import Measurement, write_card, write_measurements
from qwenlong_trl.hub.measurements import read_measurements
from qwenlong_trl.hub.render import check_card, number


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of each trainer's run, made when it is first asked for; a test gets a copy."""
    made = {}

    def folder(method: str, target):
        if method not in made:
            made[method] = RUNS[method](tmp_path_factory.mktemp("runs") / method)
        shutil.copytree(made[method], target)
        return target

    return folder


@pytest.fixture(params=RUNS)
def run(request, trained, tmp_path):
    return trained(request.param, tmp_path / "model")


def measure(folder) -> None:
    values = [
        Measurement("accuracy", 0.734375, (0.6771, 0.7848), 256, "at 177 tokens"),
        Measurement("accuracy", 0.98046875, name="at 11 tokens"),
        Measurement("accuracy", 0.1234, name="at 11 tokens", method="guessing"),
    ]
    write_measurements(folder, "cards", "text-generation", "Card indexes", values, how="Greedy decoding, seed 7.")
    (folder / "evaluation" / "synthetic.json").write_text(json.dumps(evaluation_report()))
    (folder / "evaluation" / "loong.json").write_text(json.dumps(loong_report()))


def test_every_number_of_a_card_is_in_the_files_of_the_run(run):
    measure(run)
    write_card(run, license="apache-2.0", repo_id="ns/model")
    text = str(read_card(run))
    assert len(numbers_in(text)) > 60
    assert unexplained(text, run) == set()


def test_the_check_finds_a_number_that_is_invented(trained, tmp_path):
    folder = trained("phased_grpo", tmp_path / "model")
    text = str(read_card(folder))
    for invented in ("0.1234", "77,777", "4e-07", "99.5", "1.2.3"):
        assert unexplained(f"{text}\nIt reached {invented}.", folder) == {invented}


def test_numbers_follow_the_files(run):
    """With every number in the files replaced by another, the card has those, and none of a template's own."""
    measure(run)
    rng = random.Random(0)

    def changed(value, name=""):
        if isinstance(value, dict):
            return {key: changed(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [changed(one, name) for one in value]
        if isinstance(value, bool) or not isinstance(value, int | float) or name == "format":
            return value
        return rng.randrange(10_000, 10**6) if isinstance(value, int) else rng.uniform(0.05, 0.95)

    for path in [*run.glob("*.json"), *run.glob("evaluation/*.json")]:
        if not path.name.startswith("tokenizer"):
            path.write_text(json.dumps(changed(json.loads(path.read_text()))))
    write_card(run)
    assert unexplained(str(read_card(run)), run) == set()


def test_what_was_not_measured_is_absent(run):
    state = json.loads((run / "trainer_state.json").read_text())
    (run / "trainer_state.json").write_text(json.dumps({"global_step": 0, "log_history": []}))
    write_card(run)
    card = read_card(run)
    assert state["log_history"] and card.data.eval_results is None and "model-index" not in str(card)
    assert "None were given to this card" in card.text
    for word in ("None ", "nan", "Logged", "logged first", "optimizer steps", "interval", "Undefined"):
        assert word not in card.text.replace("None were given", ""), word
    (run / "trainer_state.json").unlink()
    write_card(run)
    assert str(read_card(run)) == str(card)


def test_measurements_are_metadata_with_their_intervals(trained, tmp_path):
    folder = trained("phased_grpo", tmp_path / "model")
    measure(folder)
    write_card(folder, name="reader")
    data = read_card(folder).data
    assert data.model_name == "reader"
    found = {(r.dataset_type, r.metric_name): r for r in data.eval_results}
    assert found["cards", "accuracy at 177 tokens"] == EvalResult(
        task_type="text-generation",
        dataset_type="cards",
        dataset_name="Card indexes",
        metric_type="accuracy",
        metric_name="accuracy at 177 tokens",
        metric_value=0.734375,
        metric_args={"interval_95": [0.6771, 0.7848], "count": 256},
    )
    assert 0.1234 not in {result.metric_value for result in data.eval_results}  # of another method
    report, loong = evaluation_report(), loong_report()
    overall = found["synthetic", "accuracy"]
    assert overall.metric_value == report["score"]["mean"]
    assert overall.metric_args == {"interval_95": report["score"]["interval"], "count": 12}
    assert found["MozerWang/Loong", "judge score"].metric_value == loong["overall"]["strict_average"]
    assert {r.metric_type for r in data.eval_results} == {"accuracy", "judge_score", "structured_score"}
    text = read_card(folder).text
    assert "| accuracy at 11 tokens, guessing instead | 0.123 |  |  |" in text
    assert "| accuracy at 177 tokens | 0.734 | 0.677 to 0.785 | 256 |" in text
    assert "Greedy decoding, seed 7." in text and "Not comparable with the published tables" in text


def test_a_run_without_a_judge_has_no_judges_score(tmp_path):
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "loong.json").write_text(json.dumps(loong_report(judged=False)))
    (one,) = read_measurements(tmp_path)
    assert [value.metric for value in one.values] == ["structured score"]


def test_cards_pass_the_hubs_check(run, hub):
    measure(run)
    write_card(run, license="mit", language=["en", "zh"], tags=["test"], dataset="ns/data")
    card = read_card(run)
    check_card(str(card), "model")
    card.validate()
    assert card.data.tags[-1] == "test" and card.data.datasets == ["ns/data"]


def test_texts_of_the_trainers(run):
    card, about = read_card(run), json.loads((run / "qwenlong_run.json").read_text())
    assert about["paper"]["id"] in card.text and about["paper"]["citation"] in card.text
    assert set(about["tags"]) <= set(card.data.tags)
    assert not any(str(value) in card.text for value in (run, run.parent))  # no paths of this machine
    assert "<HUB_TOKEN>" not in json.dumps(files_of(run))


def test_an_evaluation_folder(tmp_path, hub):
    folder = tmp_path / "set1"
    folder.mkdir()
    for report in (evaluation_report(), loong_report()):
        (folder / "report.json").write_text(json.dumps(report))
        (folder / "scores.jsonl").write_text("{}\n")
        write_card(folder, license="mit")
        card = DatasetCard((folder / "README.md").read_text(encoding="utf-8"))
        assert unexplained(str(card), folder) == set()
        assert "`scores.jsonl`" in card.text and card.data.viewer is False
        card.validate()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("qwenlong_run.json", None, "nothing in .* says what it is.*qwenlong_run.json"),
        ("qwenlong_run.json", "{", "is not JSON"),
        ("qwenlong_run.json", "[]", "holds a list; expected"),
        ("qwenlong_run.json", '{"format": 1}', "lacks method"),
        ("trainer_state.json", "no", "trainer_state.json is not JSON"),
        ("evaluation/x.json", '{"kind": "other"}', "holds no results that are known"),
        ("evaluation/x.json", '{"kind": "measurements"}', "is not what this version writes"),
        (
            "evaluation/x.json",
            '{"kind": "measurements", "task": "t", "dataset": "d", "dataset_id": null, "how": "", '
            '"values": [{"metric": "m", "value": NaN}]}',
            "must be finite numbers",
        ),
    ],
)
def test_files_that_are_not_what_they_should_be(trained, tmp_path, name, content, message):
    folder = trained("phased_grpo", tmp_path / "model")
    before = (folder / "README.md").read_bytes()
    (folder / name).parent.mkdir(exist_ok=True)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        write_card(folder)
    assert (folder / "README.md").read_bytes() == before and not list(folder.glob(".*.part"))


def test_a_run_file_that_lacks_a_value(trained, tmp_path):
    folder = trained("phased_grpo", tmp_path / "model")
    about = json.loads((folder / "qwenlong_run.json").read_text())
    del about["phases"][0]["max_steps"]
    (folder / "qwenlong_run.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="lacks something: .*max_steps"):
        write_card(folder)


def test_an_unknown_method(trained, tmp_path):
    folder = trained("phased_grpo", tmp_path / "model")
    about = json.loads((folder / "qwenlong_run.json").read_text())
    (folder / "qwenlong_run.json").write_text(json.dumps(about | {"method": "../../secret"}))
    with pytest.raises(ValueError, match="no card is known for the method"):
        write_card(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# A card", "no metadata"),
        ("---\na: [\n---\n", "not YAML"),
        ("---\n- a\n---\n", "should be a dict"),
        ("---\nmodel-index:\n- name: x\n  results:\n  - task: {}\n---\n", "not valid"),
    ],
)
def test_metadata_that_are_none(text, message):
    with pytest.raises(ValueError, match=message):
        check_card(text, "model")


def test_names_from_outside_do_not_become_code(trained, tmp_path):
    folder = trained("solopo", tmp_path / "model")
    write_card(folder, name='x")\nimport os\n#', repo_id='ns/a"); print("x')
    card = ModelCard((folder / "README.md").read_text(encoding="utf-8"))
    assert 'from_pretrained("owner/name")' in card.text and "print(" not in card.text


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "model_cards").glob("*-*.md")), ids=lambda p: p.name
)
def test_the_cards_of_the_examples(path):
    """As a run wrote them: metadata that the Hub takes, and the same figures there and in the tables."""
    text = path.read_text(encoding="utf-8")
    check_card(text, "model")
    assert metadata_errors(text, "model") == []
    card = ModelCard(text)
    for result in card.data.eval_results:
        assert f"| {result.metric_name} | {number(result.metric_value)} |" in card.text
    assert f"]({path.name})" in (path.parent / "README.md").read_text(encoding="utf-8")
