"""Which file is chosen, and why: on answers whose outcome is known by hand."""

import json
from dataclasses import replace

import pytest

from tests.examining.test_exam import artefacts, scripted  # noqa: F401  (a fixture)
from werkmeister.artefact import making, open_artefact
from werkmeister.chat import Example, conversation
from werkmeister.examining.decision import decide, decision_picture, decision_table
from werkmeister.examining.exam import ExamSettings, exam
from werkmeister.examining.marks import MARKS, Mark
from werkmeister.examining.report import read_exam
from werkmeister.examining.sitting import Answered, Sitting
from werkmeister.served import served_file

SIZES = {"F16": 400, "Q8_0": 200, "Q4_K_M": 110, "Q4_0": 80, "adapter on Q4_1": 120}


@pytest.fixture
def exported(tmp_path):
    with making("export", tmp_path / "artefacts/export", version=1, inputs={}, settings={"default": ""}) as draft:
        files = {name: f"model-{name}.gguf" for name in SIZES if " " not in name}
        for name in files.values():
            (draft.path / name).write_bytes(b"GGUF")
        overlay = {"name": "adapter on Q4_1", "file": "", "type": "Q4_1"}
        draft.facts |= {"files": files, "default": "F16", "overlay": overlay}
        draft.measures["parity"] = {"Q4_0": {"kl": 2e-3, "kl_error": 1e-4, "agree": 0.97, "positions": 96}}
    return open_artefact(tmp_path / "artefacts/export", "export")


def sat(name, wrong, n=400):
    """A sitting of n questions of which the first `wrong` were answered wrongly."""
    answered = [
        Answered(
            example=Example(prompt=conversation(f"question {i}", ""), target="x"),
            answer="",
            finish="stop",
            mark=Mark(score=float(i >= wrong)),
        )
        for i in range(n)
    ]
    return Sitting(name=name, answered=tuple(answered), bytes=SIZES[name] * 10**6, tokens_per_second=50.0)


def chosen(exported, margin=0.02, **wrong):
    sittings = [sat(name.replace("_on_", " on "), count) for name, count in wrong.items()]
    return decide(sittings, MARKS["exact"], exported, margin, 0)


def test_the_smallest_file_that_is_proven_not_worse_is_chosen(exported):
    found = chosen(exported, F16=40, Q8_0=40, Q4_K_M=40, Q4_0=80)
    assert (found["file"], found["best"]) == ("Q4_K_M", "F16")
    assert found["why"].startswith("Q4_K_M (110.0 MB) scores 90 %, 0.0 points to F16, the best, and proven")
    assert "Q4_0 is worse (−10.0 points" in found["why"]


def test_a_loss_within_the_margin_that_is_not_proven_is_not_enough(exported):
    found = chosen(exported, F16=40, Q4_0=44)
    gone = found["rows"][-1]["difference"]
    assert gone["value"] == pytest.approx(-0.01) and gone["low"] < -0.02 < gone["high"]
    assert found["file"] == "F16" and "Q4_0 may be worse by more than 2 points" in found["why"]
    assert chosen(exported, margin=0.05, F16=40, Q4_0=44)["file"] == "Q4_0"


def test_a_small_file_that_is_the_best_needs_no_proof(exported):
    found = chosen(exported, F16=44, Q4_0=40)
    assert (found["file"], found["best"]) == ("Q4_0", "Q4_0") and "the best of the files" in found["why"]


def test_the_overlay_is_compared_and_never_chosen(exported):
    found = decide([sat("F16", 40), sat("adapter on Q4_1", 0)], MARKS["exact"], exported, 0.02, 0)
    assert [row["file"] for row in found["rows"]] == ["F16", "adapter on Q4_1"] and found["file"] == "F16"
    assert found["rows"][1]["difference"]["value"] == pytest.approx(0.1)


def test_no_file_no_decision(exported):
    assert decide([], MARKS["exact"], exported, 0.02, 0) is None


def test_the_table_tells_what_was_measured_and_what_was_not(exported):
    columns, rows = decision_table(chosen(exported, F16=40, Q4_0=80))
    small = dict(zip(columns, rows[1], strict=True))
    assert small["file"] == "Q4_0" and rows[0][0] == "F16 ✓"
    assert small["points to the best"] == "−10.0 (−13.3 to −7.4)" and rows[0][2] == "the best"
    assert small["KL (nats)"] == "2.0e-03 ± 1e-04" and small["top-1 agreement"] == "97 % of 96"
    assert (small["size"], small["tokens/s"]) == ("80.0 MB", "50")
    assert small["joules an answer"] == small["prompt tokens/s"] == small["peak memory"] == "not measured"


@pytest.mark.parametrize(("joules", "told"), [(0.456, "0.46"), (7.25, "7.2"), (123.4, "123"), (1234.0, "1234")])
def test_joules_stand_there_as_a_plain_number(exported, joules, told):
    columns, rows = decision_table(decide([replace(sat("F16", 40), joules=joules)], MARKS["exact"], exported, 0.02, 0))
    assert dict(zip(columns, rows[0], strict=True))["joules an answer"] == told


def test_the_picture_shows_each_file_at_its_size(exported):
    drawn = decision_picture(chosen(exported, F16=40, Q4_0=80), "score")
    assert all(name in drawn for name in (">F16 ✓<", ">Q4_0<", "size in MB", "90 %"))


def test_the_exam_decides_for_who_serves_and_an_older_exam_does_not(tmp_path, scripted):  # noqa: F811
    home = tmp_path / "artefacts"
    home.mkdir()
    dataset, train, export, output = artefacts(home)
    assert served_file(open_artefact(export, "export")).name == "Q4_K_M"
    made = exam(dataset, train, export, output, ExamSettings(max_tokens=80, answerers=("adapter", "files")))
    found = read_exam(made)
    assert found["decision"]["file"] == found["default_file"] == "Q8_0"
    served = served_file(open_artefact(export, "export"))
    assert (served.name, served.file) == ("Q8_0", "model-Q8_0.gguf") and "scores 95 %" in served.why
    assert "Which file answers: Q8_0" in made.file("report.html").read_text(encoding="utf-8")

    old = json.loads((export / "manifest.json").read_text(encoding="utf-8"))
    with making("export", export, version=2, inputs=old["inputs"], settings={}) as draft:
        for name in old["facts"]["files"].values():
            (draft.path / name).write_bytes(b"GGUF other")
        draft.facts |= old["facts"]
    again = served_file(open_artefact(export, "export"))
    assert again.name == "Q4_K_M" and "no exam" in again.why


def test_what_the_person_set_goes_before_the_exam(tmp_path, exported):
    with making("export", tmp_path / "other", version=1, inputs={}, settings={"default": "Q4_0"}) as draft:
        (draft.path / "m").write_text("x")
        draft.facts |= {"files": {"F16": "a", "Q4_0": "m"}, "default": "Q4_0"}
    found = served_file(open_artefact(tmp_path / "other", "export"))
    assert (found.name, found.file, found.why) == ("Q4_0", "m", "set in export.default")
