"""Marks: functions from an answer and its example to a score between 0 and 1, with the detail that explains it."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any

from werkmeister.chat import Example
from werkmeister.errors import SettingsError
from werkmeister.grounding import is_learnt_refusal, is_refusal

AUTO = "auto"
_MISSING = object()
_ARTICLES = frozenset(
    ("a", "an", "the", "der", "die", "das", "den", "dem", "des", "ein", "eine", "einen", "einem", "einer", "eines")
)
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
_WORD = re.compile(r"\d+(?:[.,]\d+)*|\w+|[%‰€$£¥°]")
_FENCED = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
# How many opening brackets of a talkative answer are tried as the start of JSON.
_BRACKETS = 40
# A class is named in few characters, and few classes are each seen again and again.
_LABEL_LENGTH, _LABEL_CLASSES, _LABEL_REPEATS = 60, 200, 4


@dataclass(frozen=True)
class Mark:
    """The grading of one answer: `score` from 0 to 1, `detail` what a person needs to understand it (JSON values)."""

    score: float
    detail: Mapping[str, Any] = field(default_factory=dict)


MarkFunction = Callable[[str, Example], Mark]


@dataclass(frozen=True, kw_only=True)
class Marking:
    """A kind of mark: `graded` says that scores lie between 0 and 1 and not only on them; `meaning` is one sentence.

    `clustered` says that examples of one group are not independent, and intervals are those of `clusters`.
    """

    name: str
    function: MarkFunction
    graded: bool
    meaning: str
    clustered: bool = False

    def __call__(self, answer: str, example: Example) -> Mark:
        """Grade one answer."""
        return self.function(answer, example)


def exact(answer: str, example: Example) -> Mark:
    """1 when answer and target are the same text after Unicode composition (NFC) and with every run of white space
    as one space, none at the ends. Case and punctuation count."""
    return Mark(float(_spaced(answer) == _spaced(example.target)))


def json_equal(answer: str, example: Example) -> Mark:
    """1 when the whole answer is one JSON value that equals the target's.

    Order of keys, white space and spelling of numbers do not count (1 = 1.0 = 1e0); true is not 1; order in lists
    counts. An answer that names a key twice, or holds NaN or text around the JSON, is no JSON value and scores 0.
    The detail holds `valid` (is it JSON), `fields` (share of right fields among the fields of both, nested ones by
    path), `wrong` (each with what was expected and got) and, for an answer that is not JSON, `inside`: the score of
    the first JSON value within the text, so that a talkative model's knowledge can be told from its form.
    Raises ValueError when the target is not JSON.
    """
    target = parse_json(example.target)
    try:
        value = parse_json(answer)
    except ValueError as error:
        found = next(_json_inside(answer), _MISSING)
        inside = float(found is not _MISSING and _same(found, target))
        return Mark(0.0, {"valid": False, "why": str(error), "fields": 0.0, "inside": inside})
    expected, got = dict(_leaves(target)), dict(_leaves(value))
    paths = list(dict.fromkeys([*expected, *got]))
    wrong = [
        {"field": _path(path), "expected": _told(expected, path), "got": _told(got, path)}
        for path in paths
        if not _same(expected.get(path, _MISSING), got.get(path, _MISSING))
    ]
    share = 1 - len(wrong) / len(paths)
    # Compared as whole values, not by fields: {} and {"a": ...} must differ whatever the fields say.
    return Mark(float(_same(target, value)), {"valid": True, "fields": share, "wrong": wrong})


def contains(answer: str, example: Example) -> Mark:
    """1 when the target occurs in the answer; case and runs of white space do not count."""
    return Mark(float(_spaced(example.target).casefold() in _spaced(answer).casefold()))


def token_f1(answer: str, example: Example) -> Mark:
    """The F1 of the bags of words of answer and target, as SQuAD defines it (Rajpurkar et al. 2016).

    Words are made alike for German and English: case folded, ß = ss, ä = ae, punctuation and articles of both
    languages dropped, decimal comma = decimal point; %, ° and currency signs are words. Where dropping the articles
    would leave nothing (the choice "A"), they stay.
    """
    got, expected = _words(answer), _words(example.target)
    if not got or not expected:
        return Mark(float(got == expected), {"precision": 0.0, "recall": 0.0} if got != expected else {})
    common = sum((Counter(got) & Counter(expected)).values())
    precision, recall = common / len(got), common / len(expected)
    return Mark(2 * common / (len(got) + len(expected)), {"precision": precision, "recall": recall})


def grounded(answer: str, example: Example) -> Mark:
    """Token F1 where the target is an answer; where it is a learnt refusal, 1 when the answer abstains and else 0.

    The detail holds `answerable` and `refused`: whether the answer abstains. An answer that reads like a refusal is
    none where the target itself reads so ("not specified by the maker"), unless it is the learnt sentence.
    """
    refused = is_refusal(answer)
    if is_learnt_refusal(example.target):
        return Mark(float(refused), {"answerable": False, "refused": refused})
    if refused and is_refusal(example.target):
        refused = is_learnt_refusal(answer)
    likeness = token_f1(answer, example)
    return Mark(likeness.score, {"answerable": True, "refused": refused, **likeness.detail})


def label(answer: str, example: Example) -> Mark:
    """1 when the answer names the target's class: compared without case, and without white space, quotes and
    punctuation at the ends."""
    got, expected = label_of(answer), label_of(example.target)
    return Mark(float(got == expected), {"class": expected, "named": got})


def label_of(text: str) -> str:
    """The class that a text names, in the form in which classes are compared."""
    return _spaced(text).casefold().strip(" \t\"'`.,;:!?*()[]„“”«»")


MARKS: Mapping[str, Marking] = {
    marking.name: marking
    for marking in (
        Marking(name="exact", function=exact, graded=False, meaning="the same text; runs of white space count as one"),
        Marking(
            name="json",
            function=json_equal,
            graded=False,
            meaning="the whole answer is JSON and equals the target as a JSON value, every field of it",
        ),
        Marking(name="contains", function=contains, graded=False, meaning="the target occurs in the answer"),
        Marking(
            name="token_f1",
            function=token_f1,
            graded=True,
            meaning="F1 of the words shared with the target, without articles and punctuation",
        ),
        Marking(
            name="grounded",
            function=grounded,
            graded=True,
            meaning="token F1 for what can be answered; for what cannot, 1 when the answer abstains and 0 when it does "
            "not",
            clustered=True,
        ),
        Marking(name="label", function=label, graded=False, meaning="the answer names the right class"),
    )
}


def choose_mark(name: str, examples: Sequence[Example]) -> tuple[Marking, str]:
    """The marking of that name, or for "auto" the one that fits the examples, and why in a few words.

    Raises SettingsError for an unknown name, and for `json` where a target is not JSON.
    """
    if name == AUTO:
        return _fitting(examples)
    if name not in MARKS:
        raise SettingsError(f"there is no mark {name!r}", hint=f"use one of: {', '.join((AUTO, *MARKS))}")
    if name == "json":
        bad = next((example.target for example in examples if not _is_json(example.target)), None)
        if bad is not None:
            raise SettingsError(
                f"exam.mark = 'json' needs JSON targets, and this one is not: {bad[:80]!r}",
                hint="mend the examples, or set exam.mark to exact, contains or token_f1",
            )
    return MARKS[name], "as set in exam.mark"


def grader_of(name: str) -> Callable[[Sequence[Example]], tuple[str, Callable[[str, Example], float]]]:
    """What training takes to choose checkpoints as the exam grades: from examples to the name of the mark for them and
    the score of an answer. `name` as in `choose_mark`."""

    def grade(examples: Sequence[Example]) -> tuple[str, Callable[[str, Example], float]]:
        marking, _ = choose_mark(name, examples)
        return marking.name, lambda answer, example: marking(answer, example).score

    return grade


def parse_json(text: str) -> Any:
    """Parse one JSON value strictly, numbers as Decimal. Raises ValueError for doubled keys, NaN and all the rest."""
    try:
        return json.loads(
            text,
            object_pairs_hook=_single_keys,
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=_no_constant,
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except InvalidOperation as error:
        raise ValueError("a number is out of range") from error


def _fitting(examples: Sequence[Example]) -> tuple[Marking, str]:
    targets = [example.target for example in examples]
    if targets and all(_is_json(target, (dict, list)) for target in targets):
        return MARKS["json"], "every target is a JSON object or list"
    if any(is_learnt_refusal(target) for target in targets):
        return MARKS["grounded"], "some targets are the learnt refusal"
    if any(example.evidence for example in examples):
        return MARKS["grounded"], "answers have their evidence in documents"
    classes = Counter(label_of(target) for target in targets)
    few = 1 < len(classes) <= min(_LABEL_CLASSES, len(targets) // _LABEL_REPEATS)
    if few and max(len(name) for name in classes) <= _LABEL_LENGTH:
        return MARKS["label"], f"the {len(targets)} targets name only {len(classes)} classes"
    return MARKS["token_f1"], "the targets are neither JSON nor few classes"


def _is_json(text: str, kinds: tuple[type, ...] = (object,)) -> bool:
    try:
        return isinstance(parse_json(text), kinds)
    except ValueError:
        return False


def _single_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        doubled = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"key {doubled!r} stands twice in one object")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    # Python holds True == 1; JSON does not.
    return type(a) is type(b) and bool(a == b)


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    else:
        yield path, value


def _path(path: tuple[str | int, ...]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".") or "(the value)"


def _told(leaves: Mapping[tuple[str | int, ...], Any], path: tuple[str | int, ...]) -> str | None:
    """A leaf as JSON text; None where it is missing."""
    return json.dumps(leaves[path], ensure_ascii=False, default=_number) if path in leaves else None


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() and abs(value) < 10**18 else float(value)


def _json_inside(text: str) -> Iterator[Any]:
    """JSON objects or lists within a text: fenced blocks first, then from each opening bracket on."""
    for block in _FENCED.findall(text):
        if _is_json(block):
            yield parse_json(block)
    decoder = json.JSONDecoder(
        object_pairs_hook=_single_keys, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_constant
    )
    for match in islice(re.finditer(r"[{\[]", text), _BRACKETS):
        try:
            yield decoder.raw_decode(text, match.start())[0]
        except (ValueError, RecursionError, InvalidOperation):
            continue


def _spaced(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_UMLAUTS)
    words = [word.replace(",", ".") for word in _WORD.findall(folded)]
    return [word for word in words if word not in _ARTICLES] or words
