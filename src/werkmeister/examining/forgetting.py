"""What a training cost in general: the same simple questions put to the base before it and to the adapter after it.

Small bases answer few questions in free text, and an expert that answers everything in its own form answers none. So
each question has four answers, and the model has it right when it gives the right one the highest probability: bases
of 135 million parameters are far above chance there and below the ceiling, and a loss shows. Beside it stands the
probability of the right answer itself (nats a token), which tells of small changes, and of a change of form.
"""

from __future__ import annotations

import dataclasses
import json
import statistics as means
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkmeister.artefact import Artefact
from werkmeister.bases.base import Base
from werkmeister.chat import Example, conversation, read_examples
from werkmeister.examining import statistics
from werkmeister.examining.marks import Mark, Marking
from werkmeister.examining.results import interval, points
from werkmeister.examining.sitting import Job, Sitting, sit_apart
from werkmeister.progress import Progress

QUESTIONS = Path(__file__).with_name("general.jsonl")
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Question:
    """A general question; the first of its `answers` is the right one."""

    language: str
    question: str
    answers: tuple[str, ...]


def general_questions(known: Iterable[str] = ()) -> list[Question]:
    """The questions that ship with Werkmeister, German and English, but for those that training has seen (`known`)."""
    seen = {_plain(text) for text in known}
    lines = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    found = [Question(line["language"], line["question"], tuple(line["answers"])) for line in lines]
    return [one for one in found if _plain(one.question) not in seen]


def seen_in_training(data: Artefact, trained: Artefact) -> list[str]:
    """Every question that training saw: the expert's own, and the general ones that it replayed."""
    files = [data.file("train.jsonl")]
    files += [made.file("replay.jsonl") for made in (data, trained) if "replay.jsonl" in made.outputs]
    return [example.question for file in files for example in read_examples(file)]


def examine_forgetting(
    base: Base, data: Artefact, trained: Artefact, folder: Path, seed: int, progress: Progress
) -> dict[str, Any]:
    """Put general questions to base and adapter, each in a process of its own, without any system message.

    The result has a row each ("base", "adapter") with the share of right answers, its interval and the mean
    log-probability of the right answer in `nats` a token; `difference` and `nats_difference`, adapter minus base,
    paired; `words`; the `questions` with what each took for right; and `seconds`.
    """
    begin = time.perf_counter()
    questions = general_questions(seen_in_training(data, trained))
    examples = [Example(prompt=conversation(q.question), target=q.answers[0], group=q.language) for q in questions]
    asked = {example.id: example.prompt for example in examples}
    sittings = [
        sit_apart(_job(name, base, path, questions), asked, examples, _CHOICES, folder / name, progress=progress)
        for name, path in (("general-base", None), ("general-adapter", trained.path / "adapter"))
    ]
    found = judge_forgetting(sittings, seed=seed)
    progress.say(found["words"])
    return found | {"seconds": round(time.perf_counter() - begin, 1)}


def judge_forgetting(sittings: Sequence[Sitting], *, seed: int) -> dict[str, Any]:
    """The result of `examine_forgetting` (without its seconds) from the sittings of base and adapter."""
    scores = [[answered.mark.score for answered in sitting.answered] for sitting in sittings]
    nats = [[float(answered.mark.detail["nats"]) for answered in sitting.answered] for sitting in sittings]
    rows = []
    for name, own, logs in zip(("base", "adapter"), scores, nats, strict=True):
        share = dataclasses.asdict(statistics.estimate(own, seed=seed))
        rows.append({"answerer": name, **share, "right": int(sum(own)), "nats": means.fmean(logs)})
    before, after = scores
    difference = dataclasses.asdict(statistics.paired_difference(after, before, seed=seed))
    moved = dataclasses.asdict(statistics.paired_difference(nats[1], nats[0], seed=seed))
    found = {"rows": rows, "difference": difference, "nats_difference": moved}
    return found | {"words": _words(rows, difference, moved), "questions": _compared(sittings)}


def _compared(sittings: Sequence[Sitting]) -> list[dict[str, Any]]:
    return [
        {
            "question": one.example.question,
            "language": one.example.group,
            "right": one.example.target,
            "base": one.mark.detail["chosen"],
            "adapter": other.mark.detail["chosen"],
            "base_nats": one.mark.detail["nats"],
            "adapter_nats": other.mark.detail["nats"],
        }
        for one, other in zip(*(sitting.answered for sitting in sittings), strict=True)
    ]


def _words(rows: Sequence[Mapping[str, Any]], gap: Mapping[str, Any], moved: Mapping[str, Any]) -> str:
    base, expert = rows
    told = (
        f"{base['n']} general questions: the base has {interval(base)} right, the expert {interval(expert)}; "
        f"{points(gap['value'])} points ({points(gap['low'])} to {points(gap['high'])}, p = {gap['p']:.2g})"
    )
    form = (
        f"the right answers moved by {moved['value']:+.2f} nats a token ({moved['low']:+.2f} to {moved['high']:+.2f})"
    ).replace("-", "−")
    if _lower(gap):
        return f"The expert forgot: {told}; {form}. train.replay is meant against it."
    if _lower(moved):
        return (
            f"No knowledge is proven lost: {told}. But it gives general answers less readily: {form}; "
            "train.replay is meant against it."
        )
    return f"No forgetting is proven: {told}; {form}."


def _lower(gap: Mapping[str, Any]) -> bool:
    return bool(gap["high"] < 0 and gap["p"] < SIGNIFICANT)


def _job(name: str, base: Base, adapter: Path | None, questions: Sequence[Question]) -> Job:
    fields = dataclasses.asdict(base) | {"folder": str(base.folder), "gguf": None}
    answers = {question.question: list(question.answers) for question in questions}
    return Job(
        name=name,
        kind="choices",
        options={"base": fields, "adapter": str(adapter) if adapter else None, "answers": answers},
    )


def _choice(answer: str, example: Example) -> Mark:
    told = json.loads(answer)
    return Mark(float(told["chosen"] == example.target), told)


_CHOICES = Marking(
    name="choices",
    function=_choice,
    graded=False,
    meaning="the right answer is the likeliest of four, by the sum of its tokens' log-probabilities",
)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
