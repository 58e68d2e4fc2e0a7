"""What the verbs that run stages print, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from werkmeister.artefact import Artefact
from werkmeister.console import show_json, show_table
from werkmeister.machine import in_words
from werkmeister.pipeline import Done
from werkmeister.served import served_file


def show_build(done: Sequence[Done], *, as_json: bool) -> None:
    """The stages that a build ran or kept, and the exam's table."""
    exam = next((one.artefact for one in done if one.stage == "exam"), None)
    if as_json:
        stages = [{"stage": one.stage, "reason": one.reason, "seconds": round(one.seconds, 2)} for one in done]
        show_json({"stages": stages, "exam": _exam(exam) if exam else None})
        return
    if exam:
        _show_exam(exam)
    for one in done:
        what = f"made in {one.seconds:.0f} s ({one.reason})" if one.reason else "up to date"
        print(f"{one.stage:9} {what}: {one.artefact.path}")
    if not any(one.reason for one in done):
        print("Nothing changed: every artefact is up to date.")


def show_stage(done: Done, *, as_json: bool) -> None:
    """What one stage made."""
    made = done.artefact
    if as_json:
        value = (
            _exam(made) if done.stage == "exam" else {"splits": made.facts["splits"]} if "splits" in made.facts else {}
        )
        about = {"stage": done.stage, "reason": done.reason, "seconds": round(done.seconds, 2), "path": str(made.path)}
        show_json(about | value | {"facts": made.facts, "measures": made.measures, "outputs": made.outputs})
        return
    if done.stage == "exam":
        _show_exam(made)
    elif done.stage == "dataset":
        show_table(("split", "examples"), [(n, f"{s['examples']:,}") for n, s in made.facts["splits"].items()])
    elif done.stage == "documents":
        show_table(("documents", "passages", "tokens", "not read"), [_counts(made, "documents passages tokens unread")])
    elif done.stage == "index":
        facts = done.artefact.facts
        row = (f"{facts['documents']:,}", f"{facts['passages']:,}", facts["embedder"] or "words alone")
        show_table(("documents", "passages", "found by"), [row])
    elif done.stage == "write":
        show_table(("kind", "pairs"), [(kind, f"{count:,}") for kind, count in made.measures["kinds"].items()])
        dropped = ", ".join(f"{check} {count:,}" for check, count in made.measures["checks"].items())
        print(f"Dropped by the checks: {dropped or 'none'}\nNext: werkmeister dataset, for the report on all of it")
    elif done.stage == "export":
        rows = [(name, in_words(made.outputs[file]["bytes"])) for name, file in made.facts["files"].items()]
        show_table(("file", "size"), rows)
        served = served_file(made)
        print(f"{served.name} answers: {served.why}.")
    for view in ("report.html", "loss.svg"):
        if view in made.outputs:
            print(f"See {made.path / view}")
    print(f"{done.stage}: {'made' if done.reason else 'up to date'}: {made.path}")


def _counts(made: Artefact, names: str) -> tuple[str, ...]:
    return tuple(f"{made.facts[name]:,}" for name in names.split())


def _exam(made: Artefact) -> dict[str, Any]:
    from werkmeister.examining.report import read_exam

    return dict(read_exam(made))


def _show_exam(made: Artefact) -> None:
    from werkmeister.examining.report import exam_table, headline, read_exam

    exam = read_exam(made)
    columns, rows = exam_table(exam)
    show_table(columns, rows)
    print(headline(exam))
    if exam.get("forgetting"):
        print(exam["forgetting"]["words"])
    print(f"See {made.path / 'report.html'}")
