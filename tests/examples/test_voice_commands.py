"""The example's data: the same every time, valid, and with nothing of the exam in training."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "voice-commands"
MODULES = ("make_examples", "grammar", "sieve", "wording")
INTENTS = ("HassTurnOn", "HassLightSet", "HassStartTimer")

pytest.importorskip("hassil")
pytest.importorskip("home_assistant_intents")


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    """The example's script as a module."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("make_examples")
    sys.path.remove(str(FOLDER))
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def rows(example: ModuleType) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """A tiny cut: rows of ``examples.jsonl`` and of ``dev.jsonl``."""
    examples, dev = example.make(example.Cut(train=240, exam=24, dev=24, own=0.25, intents=INTENTS))
    return [json.loads(row.line()) for row in examples], [json.loads(row.line()) for row in dev]


def of(rows: list[dict[str, str]], split: str, part: str | None = None) -> list[dict[str, str]]:
    return [row for row in rows if row["split"] == split and (part is None or row.get("part") == part)]


def test_the_same_rows_every_time(example: ModuleType) -> None:
    cut = example.Cut(train=40, exam=6, dev=6, own=0.25, intents=("HassTurnOn",))
    assert example.make(cut) == example.make(cut)


def test_every_completion_is_compact_json_in_canonical_order(
    example: ModuleType, rows: tuple[list[dict[str, str]], ...]
) -> None:
    for row in rows[0] + rows[1]:
        target = json.loads(row["completion"])
        assert list(target) == ["intent", "slots"]
        assert row["completion"] == example.completion(target["intent"], target["slots"])
        assert row["label"] == target["intent"]


def test_free_text_stands_in_the_sentence_as_in_the_target(rows: tuple[list[dict[str, str]], ...]) -> None:
    free = {"name", "area", "floor", "item", "message", "search_query", "conversation_command"}
    for row in rows[0] + rows[1]:
        for slot, value in json.loads(row["completion"])["slots"].items():
            assert slot not in free or value in row["prompt"]


@pytest.mark.parametrize("which", [0, 1], ids=["exam", "dev"])
def test_new_wordings_are_of_templates_that_training_has_not(
    rows: tuple[list[dict[str, str]], ...], which: int
) -> None:
    trained = {row["group"] for row in of(rows[0], "train")}
    held = of(rows[which], "exam", "new wordings")
    assert held and not trained & {row["group"] for row in held}


@pytest.mark.parametrize("which", [0, 1], ids=["exam", "dev"])
def test_new_outputs_are_not_in_training_whatever_their_case(
    rows: tuple[list[dict[str, str]], ...], which: int
) -> None:
    trained = {row["completion"].lower() for row in of(rows[0], "train")}
    held = of(rows[which], "exam", "new outputs")
    assert held and not trained & {row["completion"].lower() for row in held}


def test_no_sentence_of_the_exam_or_dev_is_in_training(rows: tuple[list[dict[str, str]], ...]) -> None:
    trained = {row["prompt"].lower().rstrip(".!?") for row in of(rows[0], "train")}
    assert not trained & {row["prompt"].lower().rstrip(".!?") for row in of(rows[0], "exam") + rows[1]}


def test_own_wording_is_halved_and_never_trained_on(
    example: ModuleType, rows: tuple[list[dict[str, str]], ...]
) -> None:
    lines = [json.loads(line) for line in (FOLDER / "own_wording.jsonl").read_text(encoding="utf-8").splitlines()]
    halves = {half: {line["prompt"] for line in lines if line["half"] == half} for half in ("dev", "exam")}
    assert len(lines) >= 120 and not halves["dev"] & halves["exam"]
    trained = {row["prompt"].lower().rstrip(".!?") for row in of(rows[0], "train")}
    assert not trained & {line["prompt"].lower().rstrip(".!?") for line in lines}
    asked = {row["prompt"] for row in of(rows[0], "exam", "own wording")}
    assert asked and asked <= halves["exam"]


def test_valid_is_no_part_of_train(rows: tuple[list[dict[str, str]], ...]) -> None:
    assert of(rows[0], "valid")
    assert not {row["prompt"] for row in of(rows[0], "valid")} & {row["prompt"] for row in of(rows[0], "train")}
