"""The exam for people: a table, a Markdown table, and one self-contained page with pictures and errors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from werkmeister.artefact import Artefact
from werkmeister.chat import Example
from werkmeister.drawing import Bar, Point, bar_chart, point_chart
from werkmeister.examining.decision import decision_picture, decision_table
from werkmeister.examining.results import (
    ALL_PARTS,
    ONLY_PART,
    RIVALS,
    cost,
    interval,
    on_part,
    only_abstention,
    part_of,
    percent,
    span,
)
from werkmeister.examining.sitting import Sitting
from werkmeister.grounding import read_open_book
from werkmeister.machine import in_words

_ERRORS_A_PART, _RIGHTS_A_PART = 6, 2
_BEFORE = 300
_NONE = "–"
_MARKS = {"json": "JSON equality", "exact": "exact match", "token_f1": "token F1", "label": "accuracy"}
_COSTS = {"size": "bytes", "load": "load_seconds", "tokens/s": "tokens_per_second"}
_COSTS |= {"prompt tokens/s": "prompt_tokens_per_second"}
_COSTS |= {"first token": "first_token_seconds", "peak memory": "peak_memory"}
_MARKS |= {"contains": "contains the target", "macro_f1": "macro F1", "grounded": "token F1 or abstention"}


Table = tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]
"""Headings, and rows of as many texts; all columns but `answerer` and `note` hold figures, which stand to the right."""
_TEXTS = ("answerer", "note")
_ABSTENTION = (
    "an answer abstains when it begins with the learnt refusal, or says in words of its own that it cannot be told "
    "(English and German). “abstained” is the share of the unanswerable questions on which it did, “refused” the share "
    "of the answerable ones; “over base” is the paired difference of token F1 to the untrained base, in points."
)
_SHOTS = (
    "the {shots} training examples with the most similar prompts (TF-IDF) stand in front of each question, the most "
    "similar one last."
)
_SHORT_SHOTS = (
    "{shots} training examples stand in front of each question: of the shorter half those with the most similar "
    "question (TF-IDF), the most similar one last, the first of them an unanswerable one where there is any."
)
_OVER, _REFUSED = "over base", "answerable, refused"


def read_exam(made: Artefact) -> dict[str, Any]:
    """The content of exam.json of an exam artefact."""
    found: dict[str, Any] = json.loads(made.file("exam.json").read_text(encoding="utf-8"))
    return found


def headline(exam: Mapping[str, Any]) -> str:
    """Whether fine-tuning pays, in one or two sentences with the figures."""
    return str(exam["headline"])


def answer_rows(sitting: Sitting) -> list[dict[str, Any]]:
    """Every answer of one answerer, as it stands on a line of answers.jsonl.

    An open-book question stands there bare, and beside it the `passage` that it was asked with, the place of that
    passage (`source`) and the words that hold the answer (`evidence`).
    """
    return [
        {
            "answerer": sitting.name,
            "part": part_of(answered.example),
            "id": answered.example.id,
            **_asked(answered.example),
            "target": answered.example.target,
            "answer": answered.answer,
            "score": answered.mark.score,
            "finish": answered.finish,
            "detail": dict(answered.mark.detail),
        }
        for answered in sitting.answered
    ]


def exam_table(exam: Mapping[str, Any]) -> Table:
    """One row for each answerer: the score and interval on each part, n, a note, then size, load time and speed.

    A grounded exam has more: behind the token F1 of a part the gain over the base in points, and at the end of the
    scores the share of answerable questions that were refused.
    """
    rows = [row for row in exam["rows"] if row["part"] != ALL_PARTS]
    kinds = list(dict.fromkeys((row["part"], row["mark"]) for row in rows))
    several = len({mark for _, mark in kinds}) > 1
    scores = {kind: _heading(*kind, several, _abstains(rows, kind[0])) for kind in kinds}
    gains = {part for part, _ in kinds if any(row.get("gain") for row in rows if row["part"] == part)}
    gains -= {part for part, _ in kinds if _abstains(rows, part)}
    refused = any(row.get("refused") for row in rows)
    columns = [name for kind, name in scores.items() for name in (name, *([_OVER] if kind[0] in gains else []))]
    costs = {word: key for word, key in _COSTS.items() if any(row[key] is not None for row in rows)}
    lines = []
    for name in dict.fromkeys(row["answerer"] for row in rows):
        own = {(row["part"], row["mark"]): row for row in rows if row["answerer"] == name}
        told = []
        for kind in kinds:
            told += [_score(own.get(kind)), *([_gained(own.get(kind))] if kind[0] in gains else [])]
        asked = [str(row["n"]) for row in own.values() if row["mark"] == exam["mark"]]
        first, note = next(iter(own.values())), _note(exam, list(own.values()))
        told += [_refused(exam, name)] if refused else []
        lines.append((name, *told, " + ".join(asked), note, *(cost(first, key, _NONE) for key in costs.values())))
    return ("answerer", *columns, *([_REFUSED] if refused else []), "n", "note", *costs), tuple(lines)


def markdown(exam: Mapping[str, Any]) -> str:
    """The table in Markdown, for a README or a model card."""
    columns, rows = exam_table(exam)
    rules = ["---" if column in _TEXTS else "--:" for column in columns]
    return (
        "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (columns, rules, *rows)
        )
        + "\n"
    )


def page(exam: Mapping[str, Any], answers: Sequence[Mapping[str, Any]], *, training: str = "") -> str:
    """The whole report as one HTML page without any reference to the network.

    `exam` is the content of exam.json, `answers` that of answers.jsonl, `training` the way from here to the page of the
    training, where there is one.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html").render(
        exam=exam,
        headline=exam["headline"].replace(" %", "\u00a0%"),
        table=exam_table(exam),
        texts=_TEXTS,
        mark=_MARKS[exam["mark"]],
        pays=all(exam["pays"].values()) if exam["pays"] else None,
        pictures=[Markup(picture) for picture in _pictures(exam)],
        errors=_errors(exam, answers),
        decision=exam["decision"],
        decided=decision_table(exam["decision"]) if exam["decision"] else None,
        forgetting=exam.get("forgetting"),
        forgotten=_forgotten(exam.get("forgetting")),
        facts=_facts(exam),
        training=training,
    )


def _forgotten(found: Mapping[str, Any] | None) -> Table | None:
    """What became of general questions: base, expert and their difference."""
    if not found:
        return None
    gap, moved = found["difference"], found["nats_difference"]
    lines = [
        (row["answerer"], interval(row), f"{row['right']} of {row['n']}", _signed(row["nats"])) for row in found["rows"]
    ]
    change = f"{_signed(moved['value'])} ({_signed(moved['low'])} to {_signed(moved['high'])})"
    columns = ("answerer", "right answer likeliest", "n", "nats a token of the right answer")
    return columns, (*lines, ("adapter − base", span(gap), str(gap["n"]), change))


def _signed(nats: float) -> str:
    return f"{nats:+.2f}".replace("-", "−")


def _asked(example: Example) -> dict[str, str]:
    passage, question = read_open_book(example.question)
    found = {"question": question}
    if passage:
        found |= {"passage": passage, "source": example.source, "evidence": example.evidence}
    return found


def _abstains(rows: Sequence[Mapping[str, Any]], part: str) -> bool:
    """Whether a part holds unanswerable questions alone, so that its score is the share of abstentions."""
    return all(only_abstention(row) for row in rows if row["part"] == part)


def _heading(part: str, mark: str, several: bool, abstains: bool) -> str:
    name = "score" if part == ONLY_PART else part
    if abstains:
        return f"{name}, abstained"
    return f"{name}, {_MARKS[mark]}" if several else name


def _score(row: Mapping[str, Any] | None) -> str:
    return interval({**row, "value": row["score"]}) if row else _NONE


def _gained(row: Mapping[str, Any] | None) -> str:
    gain = row["gain"] if row else None
    return span(gain) if gain else _NONE


def _refused(exam: Mapping[str, Any], name: str) -> str:
    """The share of all answerable questions that an answerer refused."""
    own = [row for row in exam["rows"] if row["answerer"] == name]
    whole = next((row for row in own if row["part"] == ALL_PARTS), own[0])
    return interval(whole["refused"]) if whole["refused"] else _NONE


def _note(exam: Mapping[str, Any], own: Sequence[Mapping[str, Any]]) -> str:
    """What a person should know of an answerer: how it compares with the reference or what it is, and its form."""
    name = own[0]["answerer"]
    notes = [str(own[0]["about"])] if name in RIVALS else [_compared(exam, own)]
    if name == exam["reference"]:
        notes = ["what the files are compared with"]
    told = [row for row in own if row["mark"] == exam["mark"]]
    asked = sum(row["n"] for row in told)
    cut = sum(row["cut"] for row in told)
    if cut:
        notes.append(f"{cut} of {asked} answers cut off at {exam['max_tokens']} tokens")
    if exam["mark"] == "json":
        inside = sum(row["right_inside"] * row["n"] for row in told) / asked
        if inside > sum(row["score"] * row["n"] for row in told) / asked + 1e-9:
            notes.append(f"{percent(inside)} if JSON inside other text counted")
    return "; ".join(note for note in notes if note)


def _compared(exam: Mapping[str, Any], own: Sequence[Mapping[str, Any]]) -> str:
    margin = f"{exam['margin'] * 100:g} points"
    compared = [row for row in own if row["difference"]]
    worse = [row for row in compared if row["worse"]]
    if worse:
        told = [f"{-row['difference']['value'] * 100:.1f} points" + on_part(row["part"]) for row in worse]
        return "worse by " + ", ".join(told)
    if not compared:
        return ""
    if all(row["proven"] for row in compared):
        return f"not worse by more than {margin}"
    return f"no loss beyond {margin} seen; n is too small to rule it out"


def _pictures(exam: Mapping[str, Any]) -> list[str]:
    rows = [row for row in exam["rows"] if row["mark"] == exam["mark"] and row["part"] != ALL_PARTS]
    names = list(dict.fromkeys(row["answerer"] for row in rows))
    rows.sort(key=lambda row: names.index(row["answerer"]))
    told = f"{_MARKS[exam['mark']]}, with {exam['confidence'] * 100:g} % interval"
    single = {row["part"] for row in rows} == {ONLY_PART}
    bars = [
        Bar(
            label=row["answerer"],
            value=row["score"],
            low=row["low"],
            high=row["high"],
            group="" if single else row["part"],
        )
        for row in rows
    ]
    pictures = [bar_chart(bars, title="Score of each answerer", x_label=told, percent=True)]
    points = [
        Point(
            label=row["answerer"],
            x=row["bytes"] / 1e6,
            y=row["score"],
            low=row["low"],
            high=row["high"],
            group="" if single else row["part"],
        )
        for row in rows
        if row["bytes"] is not None and row["answerer"] != "base few-shot"
    ]
    if exam["decision"] and len(exam["decision"]["rows"]) > 1:
        pictures.append(decision_picture(exam["decision"], told))
    elif len({point.x for point in points}) > 1:
        pictures.append(
            point_chart(points, title="Score by size", x_label="size of the model in MB", y_label="score", percent=True)
        )
    return pictures


def _errors(exam: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each part: how many answers of the reference are wrong, and a few of them beside what others said.

    Of grounded answers a few that are right stand there too: whether they rest on the passage shows in them alone.
    """
    reference, served = exam["reference"], exam["default_file"]
    beside = [name for name in (reference, served, "baseline") if name]
    by_key = {(row["answerer"], row["id"]): row for row in answers}
    right = _RIGHTS_A_PART if exam["mark"] == "grounded" else 0
    parts = []
    for part in exam["parts"]:
        own = [row for row in answers if row["answerer"] == reference and row["part"] == part]
        wrong = [row for row in own if row["score"] < 1]
        if not own:
            continue
        shown = [*wrong[:_ERRORS_A_PART], *[row for row in own if row["score"] == 1][:right]]
        cases = [
            {
                "question": row["question"],
                "target": row["target"],
                "source": row.get("source", ""),
                "passage": _marked(row.get("passage", ""), row.get("evidence", "")),
                "answers": [by_key[name, row["id"]] for name in dict.fromkeys(beside) if (name, row["id"]) in by_key],
            }
            for row in shown
        ]
        on = "" if part == ONLY_PART else f"{part}: "
        parts.append({"on": on, "wrong": len(wrong), "n": len(own), "cases": cases})
    return parts


def _marked(passage: str, evidence: str) -> tuple[str, str, str] | None:
    """A passage in three pieces, the evidence in the middle; None where there is no passage."""
    start = passage.find(evidence) if evidence else -1
    if start < 0:
        return (passage, "", "") if passage else None
    before, after = passage[:start], passage[start + len(evidence) :]
    if len(before) > _BEFORE:
        # The evidence must be seen without scrolling; the first line says which document it is.
        title, _, rest = before.partition("\n")
        before = f"{title}\n…\n{rest[-_BEFORE:].partition(chr(10))[2]}"
    return before, evidence, after


def _facts(exam: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How it was measured, as pairs of a word and a sentence."""
    rows, machine = exam["rows"], exam["machine"]
    methods = sorted({row["interval"] for row in rows})
    compared = sorted({row["difference"]["method"] for row in rows if row["difference"]})
    asked = [
        f"{max(row['n'] for row in rows if row['part'] == part)} of {counts['examples']} examples of “{part}” "
        f"(from {counts['groups']} groups)"
        for part, counts in exam["parts"].items()
    ]
    facts = [
        ("Mark", f"{_MARKS[exam['mark']]}: {exam['mark_meaning']}. Why this mark: {exam['mark_why']}."),
        ("Examples", f"{'; '.join(asked)}; drawn with seed {exam['seed']}, none of them seen in training."),
        (
            "Intervals",
            f"{exam['confidence'] * 100:g} %: {', '.join(methods)}; examples of one group "
            f"{'count together' if exam['mark'] == 'grounded' else 'are treated as independent'}. "
            f"Comparisons are paired, on the examples that both answered: {', '.join(compared) or 'none'}.",
        ),
        (
            "Speed",
            "tokens/s is the rate behind the first token, of answers made one at a time after a first one to warm up; "
            "first token is the mean wait for it, and prompt tokens/s the tokens of the prompt that were computed over "
            "that wait. Load time and peak memory are those of a process of its own. Joules an answer are those of the "
            "processors of the whole machine while it answered (Linux RAPL), other programs included, GPUs not.",
        ),
        (
            "Machine",
            f"{machine['processor'] or 'unknown processor'}, {machine['cores']} cores, {in_words(machine['memory'])} "
            f"memory, {machine['system']}. Other programs may have been running.",
        ),
    ]
    if exam["base"]:
        facts.insert(1, ("Base", f"{exam['base']['name']}, identity {exam['base']['identity'][:12]}…"))
    if exam["mark"] == "grounded":
        facts.insert(2, ("Abstention", _ABSTENTION))
    if exam["shots"] and any(row["answerer"] == "base few-shot" for row in rows):
        told = _SHORT_SHOTS if exam["mark"] == "grounded" else _SHOTS
        facts.insert(3, ("Few-shot", told.format(shots=exam["shots"])))
    return facts
