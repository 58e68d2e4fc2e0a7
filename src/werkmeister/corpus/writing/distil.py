"""Distillation: a teacher's answers to prompts that a person brings, such as logs, FAQs and tickets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkmeister.chat import conversation
from werkmeister.corpus.decoding import decoded_lines
from werkmeister.corpus.documents.language import detect_language
from werkmeister.corpus.findings import Findings
from werkmeister.corpus.formats import Format, find_format, rows
from werkmeister.corpus.writing.asking import Answered, Asker, Question, Usable
from werkmeister.corpus.writing.pair import PROMPT, DroppedPair, Pair
from werkmeister.engines.engine import Sampling
from werkmeister.errors import DataError, SettingsError
from werkmeister.progress import Progress

VERSION = 1
_LONGEST_ANSWER = 1024  # tokens
_COLUMNS = ("prompt", "question", "query", "instruction", "input", "text", "message", "content")
_TURNS = ("messages", "conversations")
_ASKING = frozenset(("user", "human"))


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt of a person's file; `line` counts from 1."""

    text: str
    file: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """The teacher's answers as pairs, what was turned down, and what a person should know."""

    pairs: list[Pair]
    dropped: list[DroppedPair]
    notes: list[str]


def prompt_files(expert: Path, entries: Sequence[str]) -> list[tuple[Path, str]]:
    """The files that `write.prompts` names, with the names they are called by; what matches nothing is left out.

    An entry is a file or a pattern such as logs/*.jsonl, from the expert's folder or absolute.
    """
    found: dict[Path, str] = {}
    for entry in entries:
        given = Path(entry).expanduser()
        root, inside = (Path(given.anchor), given.relative_to(given.anchor)) if given.is_absolute() else (expert, given)
        if (root / inside).is_file():
            found.setdefault(root / inside, entry)
        elif any(sign in entry for sign in "*?["):
            for path in sorted(path for path in root.glob(inside.as_posix()) if path.is_file()):
                found.setdefault(path, str(path) if given.is_absolute() else path.relative_to(root).as_posix())
    return list(found.items())


def read_prompts(expert: Path, entries: Sequence[str], progress: Progress) -> list[Prompt]:
    """Every different prompt of these files, in order.

    A .txt file holds one prompt a line. Every other file is read by its content (JSONL, JSON, CSV and its kin,
    Parquet), and the prompt stands in the first of these columns that it has: prompt, question, query, instruction
    (with input, where there is one), input, text, message, content; or it is the one user turn of messages or
    conversations. Answers that stand beside are not read.

    Raises DataError with every mistake of all files.
    """
    findings = Findings()
    prompts: dict[str, Prompt] = {}
    for entry in entries:
        files = prompt_files(expert, [entry])
        if not files:
            findings.add(f"{entry}: no such file in {expert}", "correct write.prompts in expert.toml")
        for path, name in files:
            with progress.track(f"read {name}", path.stat().st_size) as track:
                for line, text in _texts(path, name, findings, track.advance):
                    prompts.setdefault(text, Prompt(text=text, file=name, line=line))
    findings.fail("the files of prompts")
    if entries and not prompts:
        raise DataError(f"{', '.join(entries)}: no prompt in it", hint="put one prompt a line, or take it out")
    return list(prompts.values())


def distil(
    asker: Asker, prompts: Sequence[Prompt], *, system: str = "", language: str = "", limit: int = 0
) -> Distilled:
    """Ask the teacher every prompt, under the expert's `system` message, and take its answers for pairs.

    Such a pair has the kind "prompt", the file of prompts as its document, and neither passage nor evidence. Its
    language is found by its words, and the given `language` stands in where they do not tell ("auto": none). Empty
    answers and those cut at their longest are dropped ("answer"). `limit` is how many prompts are asked, from the first
    on (0: all).

    Raises EngineError when the answers are rubbish (`asking.Usable`), SettingsError when the budget does not suffice
    for one; what was answered stays remembered.
    """
    asked = list(prompts[:limit] if limit else prompts)
    sampling = Sampling(max_tokens=_LONGEST_ANSWER)
    questions = [
        Question(conversation=conversation(p.text, system), sampling=sampling, place=f"{p.file}:{p.line}")
        for p in asked
    ]
    usable = Usable(asker, "answer")
    results: dict[int, tuple[Pair, str]] = {}
    unanswered: Counter[str] = Counter()
    with closing(asker.ask("distil", questions)) as answers:
        for number, answer in answers:
            if isinstance(answer, Answered):
                reason = _reason(answer)
                usable.note(questions[number], answer, good=not reason, why=reason)
                results[number] = (_pair(asked[number], answer.said, language), reason)
            else:
                unanswered["not asked, the budget is used up" if answer.budget else "not answered"] += 1
                if not answer.budget:
                    usable.failed(f"{questions[number].place}: {answer.reason}")
    usable.end()
    if asked and asker.idle and unanswered["not asked, the budget is used up"] == len(asked):
        raise SettingsError(
            "write.budget_tokens does not suffice for one prompt",
            hint=f"raise write.budget_tokens (--budget-tokens): an answer may take {_LONGEST_ANSWER} tokens",
        )
    notes = [f"prompts: {count:,} of {len(asked):,} {what}" for what, count in unanswered.items() if count]
    for note in notes:
        asker.progress.say(note)
    ordered = [results[number] for number in sorted(results)]
    return Distilled(
        pairs=[pair for pair, reason in ordered if not reason],
        dropped=[DroppedPair(pair=pair, check="answer", reason=reason) for pair, reason in ordered if reason],
        notes=notes,
    )


def _reason(answer: Answered) -> str:
    if not re.search(r"\w", answer.said):
        return "the answer is empty"
    return f"the answer is cut at {answer.answer_tokens} tokens" if answer.finish == "length" else ""


def _pair(prompt: Prompt, answer: str, language: str) -> Pair:
    return Pair(
        question=prompt.text,
        answer=answer,
        document=prompt.file,
        passage="",
        evidence="",
        start=0,
        end=0,
        kind=PROMPT,
        writer=f"teacher v{VERSION}",
        language=detect_language(f"{prompt.text}\n{answer}") or ("" if language == "auto" else language),
    )


def _texts(path: Path, name: str, findings: Findings, advance: Any) -> list[tuple[int, str]]:
    try:
        if path.suffix.lower() == ".txt":
            with path.open("rb") as file:
                lines = [(n, text.strip()) for n, text in decoded_lines(file, name, findings, advance)]
            return [(number, text) for number, text in lines if text]
        # A single column fits no shape of examples, and is all that prompts need.
        kind = Format("CSV", ",") if _one_column(path) else find_format(path, name, findings)
        if kind is None:
            return []
        found = [
            (number, _prompt(row, f"{name}:{number}", findings))
            for number, row in rows(path, kind, name, findings, advance)
        ]
    except OSError as error:
        findings.add(f"{name}: cannot be read: {error.strerror or error}")
        return []
    return [(number, text) for number, text in found if text]


def _one_column(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(200).decode("utf-8-sig", "replace")
    return first.strip().strip('"').lower() in _COLUMNS


def _prompt(row: Any, where: str, findings: Findings) -> str:
    """The prompt of one row; "" and a finding where there is none."""
    if not isinstance(row, Mapping):
        findings.add(f"{where}: is no object with named fields, such as prompt")
        return ""
    named = {str(column).strip().lower(): column for column in row}
    turns = next((row[named[column]] for column in _TURNS if column in named), None)
    if turns is None and isinstance(row.get(named.get("prompt", "")), list):
        turns = row[named["prompt"]]
    if turns is not None:
        return _only_turn(turns, where, findings)
    column = next((column for column in _COLUMNS if column in named), "")
    if not column:
        findings.add(
            f"{where}: none of the columns {', '.join(map(str, list(row)[:8]))} is a prompt",
            f"name the column as one of: {', '.join(_COLUMNS)}",
        )
        return ""
    text = row[named[column]]
    if not isinstance(text, str) or not text.strip():
        findings.add(f"{where}: {column} is {'empty' if text in (None, '') or isinstance(text, str) else 'no text'}")
        return ""
    more = row[named["input"]] if column == "instruction" and "input" in named else ""
    return f"{text}\n\n{more}".strip() if isinstance(more, str) else text.strip()


def _only_turn(turns: Any, where: str, findings: Findings) -> str:
    """The one user turn of a conversation: a pair is a question and an answer, and has no room for what came before."""
    asked = []
    for turn in turns if isinstance(turns, list) else []:
        role = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
        if str(role).lower() in _ASKING:
            asked.append(turn.get("content", turn.get("value")))
    if len(asked) != 1 or not isinstance(asked[0], str) or not asked[0].strip():
        findings.add(
            f"{where}: has {len(asked)} user turns, and one with a text is needed",
            "give the prompts of longer conversations as single questions",
        )
        return ""
    return asked[0].strip()
