import subprocess
import sys

import qwenlong_trl.data


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, qwenlong_trl.data as data;"
        "heavy = {'torch', 'trl', 'transformers', 'datasets', 'pyarrow', 'numpy'};"
        "print(sorted(heavy & sys.modules.keys()));"
        "data.read_records, data.prompt_view, data.drop_duplicates, data.LongContextExample;"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split("\n")[:2] == ["[]", "[]"]


def test_every_public_name_exists():
    assert qwenlong_trl.data.__all__ == sorted(qwenlong_trl.data.__all__)
    assert set(qwenlong_trl.data.__all__) <= set(dir(qwenlong_trl.data))
    for name in qwenlong_trl.data.__all__:
        assert getattr(qwenlong_trl.data, name) is not None


def test_unknown_names_are_attribute_errors():
    assert not hasattr(qwenlong_trl.data, "no_such_name")


def test_functions_win_over_modules_of_their_name():
    code = (
        "import qwenlong_trl.data.compose, qwenlong_trl.data.synthesize;"
        "from qwenlong_trl.data.compose import DocumentPool;"
        "from qwenlong_trl.data import compose, synthesize;"
        "assert callable(compose) and callable(synthesize), (compose, synthesize)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
