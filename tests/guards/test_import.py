"""Importing does nothing, and the command line answers at once."""

import os
import subprocess
import sys

HEAVY = ("torch", "transformers", "numpy", "sklearn", "xllamacpp", "datasets", "rich", "jinja2", "gguf", "pyarrow")


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout


def test_importing_the_package_and_reading_settings_loads_nothing_heavy() -> None:
    loaded = _python(
        "import sys, werkmeister, werkmeister.cli, werkmeister.pipeline;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_consulting_loads_no_torch() -> None:
    loaded = _python(
        "import sys, werkmeister.consulting.expert, werkmeister.engines.llama;"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_help_answers_in_under_three_tenths_of_a_second() -> None:
    """In processor time, which is the time on an idle machine and does not hang on the neighbours of a busy one."""
    took = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, "-m", "werkmeister.cli", "--help"], capture_output=True, check=True)
        after = os.times()
        took.append(after.children_user - before.children_user + after.children_system - before.children_system)
    assert min(took) < 0.3, took
