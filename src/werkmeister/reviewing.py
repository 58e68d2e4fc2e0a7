"""The verb review: a person decides on pairs in the browser, or through a spreadsheet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from werkmeister.artefact import exists, open_artefact
from werkmeister.config import Settings
from werkmeister.corpus.decisions import FILE, Record, append_decisions, load_decisions
from werkmeister.corpus.written import Written, read_written
from werkmeister.errors import ArtefactError, DataError, SettingsError
from werkmeister.pipeline import artefacts_of
from werkmeister.progress import Progress, Silent


def review_expert(
    settings: Settings,
    *,
    export: Path | None = None,
    import_: Path | None = None,
    port: int = 0,
    sample: int = 0,
    seed: int = 0,
    open_page: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Import a sheet, export one, or else serve the review page until Ctrl-C; the result says what came of it.

    With both, the import comes first, so the export shows it. `sample` > 0 takes that many verified pairs at random
    (`seed`), for the sheet as for the page. Raises SettingsError for a number that cannot be, ArtefactError
    when no pairs were written yet, DataError with every
    mistake in a sheet or in decisions.jsonl; nothing is decided then.
    """
    from werkmeister.delivery.review_session import ReviewSession

    if sample < 0 or not 0 <= port <= 65535:
        wrong = f"--sample {sample} is less than 0" if sample < 0 else f"--port {port} is not between 0 and 65535"
        raise SettingsError(wrong, hint="leave it out, or give a number that can be")
    progress = progress or Silent()
    expert = settings.folder
    written = _written(expert)
    found: dict[str, Any] = {"expert": str(expert), "decisions": str(expert / FILE), "pairs": len(written.pairs)}
    if import_ is not None:
        found["imported"] = _import(import_, expert, written)
    session = ReviewSession(expert, written, sample=sample, seed=seed)
    for note in session.notes:
        progress.say(note)
    if export is not None:
        found["exported"] = _export(export, expert, session.records, written)
    if import_ is None and export is None:
        found["made"] = _serve(session, port, open_page, progress)
    return found | {"progress": session.progress()}


def show_review(found: dict[str, Any], *, as_json: bool) -> None:
    """What a review came to, for a person or as JSON."""
    from werkmeister.console import show_json

    if as_json:
        show_json(found)
        return
    counts, progress = found["progress"]["counts"], found["progress"]
    if "imported" in found:
        said = found["imported"]
        replaced = f", {said['replaced']:,} in place of an earlier one" if said["replaced"] else ""
        print(f"{said['file']}: {said['rows']:,} rows read, {said['decisions']:,} new decisions{replaced}")
        if said["gone"]:
            print(f"{said['gone']:,} rows without a decision are of pairs that are gone, and were passed over")
    if "exported" in found:
        print(f"{found['exported']['file']}: {found['exported']['rows']:,} pairs written")
        print(f"Next: decide in it, then werkmeister review {found['expert']} --import {found['exported']['file']}")
    decided = f"{progress['decided']:,} of {progress['total']:,} decided"
    print(f"{decided}: {counts['keep']:,} kept, {counts['edit']:,} edited, {counts['drop']:,} dropped")
    if "verdict" in progress:
        verdict = progress["verdict"]
        share = f"{verdict['value']:.1%} ({verdict['confidence']:.0%} interval {verdict['low']:.1%} to"
        print(f"In the sample {verdict['right']} of {verdict['n']} are right: {share} {verdict['high']:.1%})")
    if found.get("made") or found.get("imported", {}).get("decisions"):
        print(f"Next: werkmeister dataset {found['expert']}")


def _written(expert: Path) -> Written:
    home = artefacts_of(expert)
    if not exists(home / "write"):
        raise ArtefactError(
            f"there are no pairs to review in {expert}",
            hint=f"werkmeister build {expert} writes them, when documents.files or write.prompts names some",
        )
    write = open_artefact(home / "write", "write", make_with=f"werkmeister write {expert}")
    documents = None
    if exists(home / "documents"):
        documents = open_artefact(home / "documents", "documents", make_with=f"werkmeister documents {expert}")
    return read_written(documents.path if documents else None, write.path)


def _import(sheet: Path, expert: Path, written: Written) -> dict[str, Any]:
    from werkmeister.corpus.sheet import read_sheet

    if not sheet.is_file():
        raise DataError(
            f"there is no file {sheet}", hint=f"make one with: werkmeister review {expert} --export {sheet}"
        )
    said = read_sheet(sheet, written.candidates(), load_decisions(expert))
    append_decisions(expert, said.decisions)
    return {"file": str(sheet), "rows": said.rows, "decisions": len(said.decisions)} | {
        "replaced": said.replaced,
        "gone": said.gone,
    }


def _export(sheet: Path, expert: Path, records: list[Record], written: Written) -> dict[str, Any]:
    from werkmeister.corpus.sheet import write_sheet

    delimiter = ";" if _decimal_comma() else ","
    if sheet.is_dir() or not sheet.parent.is_dir():
        what = f"{sheet} is a folder" if sheet.is_dir() else f"there is no folder {sheet.parent}"
        raise DataError(what, hint="name a file in a folder that is there, such as --export pairs.csv")
    rows = write_sheet(sheet, records, load_decisions(expert), written.place, delimiter=delimiter)
    return {"file": str(sheet), "rows": rows}


def _decimal_comma() -> bool:
    """Whether this person's spreadsheet writes 1,5: it expects ";" between cells then."""
    import locale

    before = locale.setlocale(locale.LC_NUMERIC)
    try:
        locale.setlocale(locale.LC_NUMERIC, "")
        return locale.localeconv()["decimal_point"] == ","
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_NUMERIC, before)


def _serve(session: Any, port: int, open_page: bool, progress: Progress) -> int:
    from werkmeister.delivery.review import ReviewServer

    server = ReviewServer(session, port=port)
    progress.say(f"Review {len(session.records):,} pairs at {server.url}\nCtrl-C ends it; every decision is kept.")
    if open_page and sys.stdout.isatty():
        import webbrowser

        webbrowser.open(server.url_to_open())
    server.run()
    made: int = session.made
    return made
