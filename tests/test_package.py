"""The package as a whole: what importing it costs, and that its public names are there and explained."""

import ast
import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import qwenlong_trl


HEAVY = {"torch", "trl", "transformers", "datasets", "accelerate", "peft", "numpy", "pandas", "matplotlib"}
PUBLIC = [name for name in qwenlong_trl.__all__ if not name.startswith("__")]


def imported_by(statement: str) -> set[str]:
    """Modules that a statement loads in a fresh interpreter; of other packages, their names alone."""
    code = f"import sys; before = set(sys.modules); {statement}; print(set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    modules = ast.literal_eval(done.stdout)
    return {name if name.startswith("qwenlong_trl") else name.partition(".")[0] for name in modules}


@pytest.mark.parametrize(
    "statement",
    ["import qwenlong_trl", "import qwenlong_trl; dir(qwenlong_trl); qwenlong_trl.__version__"],
)
def test_importing_loads_nothing_heavy(statement):
    imported = imported_by(statement)
    assert "qwenlong_trl" in imported
    assert not imported & HEAVY


def test_a_name_loads_its_own_module_and_records_need_no_torch():
    imported = imported_by("from qwenlong_trl import LongContextExample")
    assert "qwenlong_trl.data.record" in imported
    assert "qwenlong_trl.phased_grpo" not in imported
    assert not imported & {"torch", "trl", "transformers"}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_resolve_and_are_explained(name):
    value = getattr(qwenlong_trl, name)
    assert value.__module__.startswith("qwenlong_trl.")
    assert inspect.isclass(value) or inspect.isfunction(value)
    assert explained(value), name
    if inspect.isclass(value):
        for method, function in vars(value).items():
            if inspect.isfunction(function) and not method.startswith("_") and is_new(value, method):
                assert explained(function), f"{name}.{method}"


def explained(value) -> bool:
    """Whether it has a docstring of its own: a dataclass without one gets its signature instead."""
    text = value.__doc__ or ""
    return bool(text.strip()) and not text.startswith(f"{value.__name__}(")


def is_new(owner: type, method: str) -> bool:
    """Whether no parent has it: an override means what it means there."""
    return not any(hasattr(parent, method) for parent in owner.__mro__[1:])


def test_every_lazy_name_is_public():
    assert set(qwenlong_trl._MODULE_OF) == set(PUBLIC)
    assert dir(qwenlong_trl) == sorted(qwenlong_trl.__all__)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="'qwenlong_trl' has no attribute 'PhasedDPOTrainer'"):
        _ = qwenlong_trl.PhasedDPOTrainer


def test_the_version_is_that_of_the_distribution():
    assert qwenlong_trl.__version__ == version("qwenlong-trl")
