"""The notebook: valid, up to date with its source, in both languages, true to the CLI, and it runs."""

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from tools import make_notebook

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "notebooks" / "werkmeister_colab.md"
NOTEBOOK = SOURCE.with_suffix(".ipynb")
TINY = """
VARIANT, SOURCE, QUESTION = "small", {root!r}, "Oil drips from a hose"
EPOCHS, VOICE_EXAMPLES, VOICE_EXAM, EXAM_LIMIT = 1.0, 48, 8, 4
SETTINGS = ["train.evaluations=1", "exam.forgetting=false", "export.parity_prompts=1", "export.importance=0"]
PRICE_OF_AN_HOUR, PRICE_OF_A_KWH = 0.2, 0.3
"""


@pytest.fixture(scope="module")
def cells() -> list[dict[str, object]]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


@pytest.fixture(scope="module")
def nbformat() -> ModuleType:
    return pytest.importorskip("nbformat")


def test_the_notebook_is_valid(nbformat: ModuleType) -> None:
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))


def test_the_notebook_is_what_its_source_makes() -> None:
    made = make_notebook.notebook(SOURCE.read_text(encoding="utf-8"))
    assert json.loads(NOTEBOOK.read_text(encoding="utf-8")) == made


def test_a_source_is_cut_into_text_and_code_and_the_parameters_are_tagged() -> None:
    made = make_notebook.notebook("# A\n\ntext\n\n```python\n# parameters\nx = 1\n```\n\n```bash\nls\n```\n")
    kinds = [(cell["cell_type"], "".join(cell["source"])) for cell in made["cells"]]
    assert kinds == [
        ("markdown", "# A\n\ntext"),
        ("code", "# parameters\nx = 1"),
        ("markdown", "```bash\nls\n```"),
    ]
    assert made["cells"][1]["metadata"] == {"tags": ["parameters"]}
    assert len({cell["id"] for cell in made["cells"]}) == 3


def test_every_text_stands_in_german_and_in_english(cells: list[dict[str, object]]) -> None:
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert len(texts) >= 13
    for text in texts:
        told = re.findall(r"^\*\*(Deutsch|English)\.\*\* (.+)$", text, re.MULTILINE)
        assert told and [language for language, _ in told] == ["Deutsch", "English"] * (len(told) // 2), text
        assert len(told) == 2 * max(1, len(re.findall(r"^## ", text, re.MULTILINE)) + text.startswith("# ")), text
        for (_, german), (_, english) in zip(told[::2], told[1::2], strict=True):
            assert 0.5 < len(german) / len(english) < 2, "one language says much less"
    headings = [line for text in texts for line in text.splitlines() if line.startswith("## ")]
    assert [int(re.match(r"## (\d+) · ", line)[1]) for line in headings] == list(range(1, 14))


def test_every_command_exists_with_its_options(cells: list[dict[str, object]]) -> None:
    from werkmeister.cli import main

    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    lines = re.findall(r'run\(f?"werkmeister (\w+)([^"]*)"\)', code)
    assert len(lines) == code.count('run(f"') + code.count('run("'), "a command that this test does not see"
    assert {verb for verb, _ in lines} >= {"new", "check", "dataset", "train", "watch", "export", "exam", "ask"}
    for verb, rest in lines:
        known = {option for parameter in main.commands[verb].params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= known, verb
        assert "--set" in known or verb == "new", "SETTINGS go to every command but new"


@pytest.mark.slow
def test_the_small_variant_runs_from_the_first_cell_to_the_last(tmp_path: Path, nbformat: ModuleType) -> None:
    """The same cells with few examples and few steps, on a CPU and without a token."""
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("hassil")
    book = nbformat.read(NOTEBOOK, as_version=4)
    place = next(i for i, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", ()))
    book.cells.insert(place + 1, nbformat.v4.new_code_cell(TINY.format(root=str(ROOT))))
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "\n".join(
        output.get("text", "") + str(output.get("data", {}).get("text/html", ""))
        for cell in book.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    for name in ("instructions", "voice"):
        artefacts = tmp_path / name / "artefacts"
        assert all((artefacts / stage / "manifest.json").is_file() for stage in ("dataset", "train", "export", "exam"))
        assert f"<h3>{name}</h3>" in said
    assert "VRAM geladen" in said and "vorher · before" in said
    assert "not measured" in said and "rent 0.0" in said, "energy has no counter here, and cost has its price"
