"""Decisions through a spreadsheet: pairs out as CSV, a person's decisions and edits back in.

Spreadsheets change what they take for formulas, numbers and dates (=1+1, 0815, 3-4, 1E5), and save the change. Such
cells get an apostrophe in front, which is taken off again on the way back; `guarded` and `unguarded` are inverses.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from werkmeister.corpus.decisions import DROP, EDIT, KEEP, UNDECIDED, VERDICTS, Decision, Decisions, Record, decide
from werkmeister.corpus.decoding import decoded_lines
from werkmeister.corpus.findings import Findings

COLUMNS = ("id", "decision", "question", "answer", "evidence", "place", "flags", "reason")
_READ = COLUMNS[:4]
LARGEST_CELL = 32_767
"""Characters that a cell of Excel and LibreOffice holds; what is longer is cut by them, and so never leaves here."""

_PAIR = re.compile(r"[0-9a-f]{16}")
_PLAIN = re.compile(r"0|[1-9]\d{0,14}")
_MONTH = (
    r"(?:jan(?:uary?)?|feb(?:ruary?)?|m[aä]r(?:z|ch)?|apr(?:il)?|ma[iy]|jun[ei]?|jul[iy]?|aug(?:ust)?|sept?(?:ember)?"
    r"|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)"
)
_RISKY = re.compile(
    r"[=+\-@\t\r＝＋－＠]"  # a formula, or what some spreadsheets take for one
    r"|[($€£]*[\d.,][\d.,:/\-\s%]*(?:e[+\-]?\d+)?\s*(?:[ap]m?|[)€$£%]+)?$"  # a number, date, time, price or share
    rf"|(?=.*\d)[\d.,\s\-/]*{_MONTH}[\d.,\s\-/]*$"  # a date with its month in letters
    r"|(?:true|false|wahr|falsch)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What a sheet brought: decisions that are new, and how many of them replace another one in force; `gone` are rows
    that decide nothing on pairs that are gone."""

    decisions: tuple[Decision, ...]
    replaced: int
    rows: int
    gone: int = 0


def guarded(text: str) -> str:
    """A cell that no spreadsheet changes or runs."""
    return f"'{text}" if _risky(text) else text


def unguarded(cell: str) -> str:
    """The inverse of `guarded`; a cell that a person typed without an apostrophe stays as it is."""
    return cell[1:] if cell.startswith("'") and _risky(cell) else cell


def write_sheet(
    path: Path, records: Iterable[Record], decisions: Decisions, place: Callable[[Record], str], *, delimiter: str = ","
) -> int:
    """Write one row a pair with the decision in force and the texts as they stand after it; return how many.

    UTF-8 with a byte order mark, which Excel needs; `delimiter` is what the person's spreadsheet expects (";" where
    the decimal sign is a comma). The file is replaced as a whole, or not at all.
    """
    part = path.with_name(path.name + ".part")
    count = 0
    with part.open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file, delimiter=delimiter, lineterminator="\r\n")
        rows.writerow(COLUMNS)
        for record in records:
            decision = decisions.of.get(record["id"])
            question, answer = decision.shown if decision else (record["question"], record["answer"])
            check, flags = record.get("check", ""), ", ".join(record.get("flags", ()))
            reason = f"{check}: {record['reason']}" if check else ""
            verdict = decision.verdict if decision else ""
            cells = (record["id"], verdict, question, answer, record["evidence"], place(record), flags, reason)
            rows.writerow([_cell(cell) for cell in cells])
            count += 1
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return count


def read_sheet(path: Path, records: Sequence[Record], decisions: Decisions) -> Imported:
    """Read a sheet that `write_sheet` wrote and a person changed, in whatever delimiter it was saved.

    The cell `decision` says keep, edit or drop; `undecided` takes a decision back, and an empty one leaves all as it
    is. A question or answer that differs from the pair's is an edit, whether the cell says so or not. Rows may be
    missing and columns moved, and a row without a decision may be of a pair that is gone. Raises DataError with every
    mistake by line and column; nothing is decided then.
    """
    findings = Findings()
    known = {record["id"]: record for record in records}
    new: list[Decision] = []
    lines: dict[str, int] = {}
    gone = 0
    for line, row in _rows(path, findings):
        where = f"{path.name}:{line}"
        record = known.get(row["id"])
        earlier = decisions.of.get(row["id"])
        if record is None and earlier is None and _PAIR.fullmatch(row["id"]) and not row["decision"].strip():
            gone += 1
            continue
        if record is None and earlier is None:
            findings.add(f"{where}: column id: no pair is called {row['id']!r}", _HINT)
            continue
        if row["id"] in lines:
            findings.add(f"{where}: column id: {row['id']} stands on line {lines[row['id']]} already", _HINT)
            continue
        lines[row["id"]] = line
        seen = record or {name: getattr(earlier, name) for name in ("id", "document", "question", "answer")}
        decision = _decision(row, seen, earlier, where, findings)
        if decision and (earlier is None or _said(decision) != _said(earlier)):
            new.append(decision)
    findings.fail(path.name)
    replaced = sum(decision.id in decisions.of for decision in new)
    return Imported(decisions=tuple(new), replaced=replaced, rows=len(lines) + gone, gone=gone)


_HINT = "mend these cells and import the sheet again; nothing was decided"


def _decision(
    row: Mapping[str, str], record: Record, earlier: Decision | None, where: str, findings: Findings
) -> Decision | None:
    """The decision of one row, None where the row says nothing or a mistake was noted."""
    verdict = row["decision"].strip().casefold()
    if verdict and verdict not in VERDICTS:
        findings.add(f"{where}: column decision: {row['decision']!r} is none of {', '.join(VERDICTS)}", _HINT)
        return None
    edited = [name for name in ("question", "answer") if not _same(row[name], record[name])]
    empty = [name for name in edited if not row[name].strip()]
    if empty and verdict != DROP:
        findings.add(f"{where}: column {empty[0]}: is empty; to leave the pair out, write {DROP} under decision", _HINT)
        return None
    long = [name for name in edited if len(record[name]) >= LARGEST_CELL]
    if long:
        findings.add(f"{where}: column {long[0]}: is longer than a cell holds; edit it in the browser instead", _HINT)
        return None
    # The sheet shows an earlier edit: its texts differ from the pair's without anybody having touched them.
    shown = earlier is not None and all(_same(row[n], t) for n, t in zip(_READ[2:], earlier.shown, strict=True))
    if verdict in (DROP, UNDECIDED):
        if edited and not shown:
            findings.add(
                f"{where}: column {edited[0]}: was changed, and column decision says {verdict}; write {EDIT}, or"
                " restore the text",
                _HINT,
            )
            return None
        return decide(record, verdict) if verdict == DROP or earlier else None
    if edited:
        texts = {name: _lines_of(row[name]) if name in edited else record[name] for name in ("question", "answer")}
        return decide(record, EDIT, **texts)
    if verdict == EDIT and not (earlier and earlier.verdict == EDIT):
        findings.add(f"{where}: column decision: says {EDIT}, and question and answer are as they were", _HINT)
        return None
    return decide(record, KEEP) if verdict else None


def _rows(path: Path, findings: Findings) -> Iterable[tuple[int, dict[str, str]]]:
    """Rows by the line they begin on; mistakes of form are noted."""
    text = _text(path, findings)
    if text is None:
        return
    first = text.lstrip("\r\n").splitlines()[:1]
    delimiter = max(",;\t|", key=lambda sign: first[0].count(sign)) if first else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    begins = 1
    limit = csv.field_size_limit(1 << 27)
    try:
        for cells in reader:
            line, begins = begins, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip().casefold() for cell in cells]
                missing = [name for name in _READ if header.count(name) != 1]
                if missing:
                    findings.add(f"{path.name}:{line}: must have each column once: {', '.join(missing)}", _HINT)
                    return
            elif len(cells) > len(header) and any(cells[len(header) :]):
                findings.add(f"{path.name}:{line}: has {len(cells)} cells under {len(header)} columns", _HINT)
            else:
                # Spreadsheets leave out empty cells at the end of a row.
                filled = cells + [""] * (len(header) - len(cells))
                row = dict(zip(header, filled, strict=False))
                yield line, {name: unguarded(row[name]) for name in _READ} | {"id": unguarded(row["id"].strip())}
    except csv.Error as error:
        findings.add(f"{path.name}:{begins}: is not valid CSV: {error}; nothing after it could be read", _HINT)
    finally:
        csv.field_size_limit(limit)
    if not header:
        findings.add(f"{path.name}: is empty", f"export it again; it begins with the columns {', '.join(COLUMNS)}")


def _text(path: Path, findings: Findings) -> str | None:
    """The sheet's text, None where a mistake was noted. Excel saves "Unicode Text" as UTF-16."""
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            findings.add(f"{path.name}: is UTF-16 that breaks off at byte {error.start + 1}", 'save it as "CSV UTF-8"')
            return None
    before = findings.count
    text = "".join(line for _, line in decoded_lines(io.BytesIO(data), path.name, findings, lambda amount: None))
    if findings.count > before:
        findings.add(f"{path.name}: is not UTF-8", 'save it as "CSV UTF-8"')
        return None
    return text


def _risky(text: str) -> bool:
    core = text.lstrip("'")
    return bool(_RISKY.match(core)) and not _PLAIN.fullmatch(core)


def _cell(text: str) -> str:
    cell = guarded(text)
    return cell if len(cell) <= LARGEST_CELL else cell[: LARGEST_CELL - 1] + "…"


def _same(cell: str, text: str) -> bool:
    """Equal as far as a spreadsheet can keep it: line ends, white space at the ends and what no cell holds are lost."""
    one, other = _lines_of(cell).strip(), _lines_of(text).strip()
    return one == other or (len(text) >= LARGEST_CELL and one == unguarded(_cell(other)))


def _lines_of(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _said(decision: Decision) -> tuple[str, str, str]:
    return decision.verdict, decision.new_question, decision.new_answer
