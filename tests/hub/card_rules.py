"""What the Hub asks of the metadata of a card, as its documentation says (hub-docs, modelcard.md and datasetcard.md).

Written for the tests' Hub, apart from the package, whose own check is `huggingface_hub`'s parser.
"""

import re

import yaml


_LICENSES = "apache-2.0 mit cc-by-4.0 cc-by-sa-4.0 cc0-1.0 openrail llama3 gemma other unknown".split()
_SIZES = "n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B n>1T".split()
_PIPELINES = "text-generation token-classification text-classification question-answering feature-extraction".split()
_TASKS = [*_PIPELINES, "summarization", "text-retrieval"]
_REPO = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")
_ISO = re.compile(r"[a-z]{2,3}|multilingual|code")
_COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")


def metadata_errors(content: str, kind: str) -> list[str]:
    """What is wrong, in words; nothing if all is well."""
    found = re.match(r"^\s*---(?:\r\n|\n)(.*?)(?:\r\n|\n)---[ \t]*(?:\r\n|\n|$)", content, re.S)
    if not found:
        return []  # a card without metadata gets a warning
    try:
        data = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return [f"not YAML: {error}"]
    if not isinstance(data, dict):
        return ["the metadata must be an object"]
    errors = []
    expect = _Expect(data, errors)
    expect("license", lambda v: v in _LICENSES)
    expect("language", lambda v: all(_ISO.fullmatch(str(one)) for one in _listed(v)))
    expect("tags", lambda v: isinstance(v, list) and all(isinstance(one, str) and one for one in v))
    if kind == "model":
        expect("base_model", lambda v: all(_REPO.fullmatch(one) for one in _listed(v)))
        expect("datasets", lambda v: all(_REPO.fullmatch(one) for one in _listed(v)))
        expect("pipeline_tag", lambda v: v in _PIPELINES)
        expect("library_name", lambda v: isinstance(v, str))
        if "model-index" in data:
            errors += _model_index(data["model-index"])
    if kind == "dataset":
        expect("size_categories", lambda v: all(one in _SIZES for one in _listed(v)))
        expect("task_categories", lambda v: all(one in _TASKS for one in _listed(v)))
        expect("pretty_name", lambda v: isinstance(v, str))
        expect("configs", lambda v: all(isinstance(c, dict) and c.get("config_name") for c in v))
    if kind == "space":
        for name in ("title", "sdk"):
            if not data.get(name):
                errors.append(f'"{name}" is required')
        expect("colorFrom", lambda v: v in _COLORS)
        expect("colorTo", lambda v: v in _COLORS)
        expect("short_description", lambda v: len(v) <= 60)
    return errors


class _Expect:
    def __init__(self, data, errors):
        self.data, self.errors = data, errors

    def __call__(self, name, holds):
        if name in self.data:
            try:
                right = holds(self.data[name])
            except TypeError:
                right = False
            if not right:
                self.errors.append(f'"{name}" must not be {self.data[name]!r}')


def _listed(value):
    return value if isinstance(value, list) else [value]


def _model_index(index) -> list[str]:
    """`model-index[].results[]` has a task with a type, a data set with type and name, and metrics with values."""
    errors = []
    if not isinstance(index, list) or not index:
        return ['"model-index" must be an array']
    for model in index:
        if not model.get("name"):
            errors.append('"model-index[0].name" is not allowed to be empty')
        for i, result in enumerate(model.get("results", [])):
            where = f"model-index[0].results[{i}]"
            if not result.get("task", {}).get("type"):
                errors.append(f'"{where}.task.type" is required')
            for name in ("type", "name"):
                if not result.get("dataset", {}).get(name):
                    errors.append(f'"{where}.dataset.{name}" is required')
            metrics = result.get("metrics")
            if not isinstance(metrics, list) or not metrics:
                errors.append(f'"{where}.metrics" is required')
                continue
            for metric in metrics:
                if not metric.get("type") or metric.get("value") is None:
                    errors.append(f'"{where}.metrics" need a type and a value')
                if not isinstance(metric.get("args", {}), dict | list):
                    errors.append(f'"{where}.metrics.args" must be an object')
    return errors
