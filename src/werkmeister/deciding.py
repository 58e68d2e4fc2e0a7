"""What `werkmeister export --table` shows: every file with its score, size and speed, and which of them answers."""

from __future__ import annotations

from werkmeister.config import Settings


def show_decision(settings: Settings, *, as_json: bool) -> None:
    """Bring export and exam up to date, and show the decision between the files of the export."""
    from werkmeister.building.export import ALL
    from werkmeister.console import live, show_json, show_table
    from werkmeister.examining.decision import decision_table
    from werkmeister.examining.report import read_exam
    from werkmeister.pipeline import run_stage
    from werkmeister.served import served_file

    progress = live()
    built = run_stage(settings, "export", progress=progress).artefact
    exam = run_stage(settings, "exam", progress=progress).artefact
    decision, served = read_exam(exam)["decision"], served_file(built)
    if as_json:
        show_json({"answers": served.name, "why": served.why, "decision": decision})
        return
    if decision:
        show_table(*decision_table(decision))
    print(f"{served.name} answers: {served.why}.")
    if ALL not in settings.table("export").files:
        print(f'All types side by side: files = ["{ALL}"] in [export] of expert.toml.')
    print(f"See {exam.path / 'report.html'}")
