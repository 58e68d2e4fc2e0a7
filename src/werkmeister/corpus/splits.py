"""Splits: which examples are learnt from, watched and held out for the exam.

Every example, or group, has a place in [0, 1) that depends on its id and the seed alone, not on the order of the
files. In each stratum (part and label) the lowest places go to the exam and the highest to valid. Appending an
example therefore moves at most one other over each border of its own stratum, and never one from exam to valid, as
long as the limit on the exam does not bind.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from werkmeister.chat import Example
from werkmeister.corpus.shapes import SPLITS, Given
from werkmeister.errors import DataError

FEWEST = 10


@dataclass(frozen=True)
class _Unit:
    """What never parts: one example, or all of a group."""

    key: str
    place: float
    stratum: tuple[str, str]
    members: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.members)


def split(
    given: Sequence[Given],
    *,
    valid: float,
    exam: float,
    exam_limit: int,
    seed: int,
    filled: Collection[str] = (),
) -> dict[str, list[Example]]:
    """Divide examples into train, valid and exam; each keeps the order of `given`.

    Splits that the files give are kept as they are, and a split that they do not give is cut from the examples
    without one (from train, when all have one). `valid` and `exam` are fractions of what is divided, `exam_limit` the
    largest exam that is cut (0: no limit). Without groups each stratum's exam and valid are within one example of
    their fraction; groups add up to half of the largest. Each split has at least one example, but for those of
    `filled`: others fill them, and nothing is cut for them. Raises DataError when there are too few examples, or too
    few groups, for that.
    """
    named = [one.split for one in given]
    _join_groups(given, named)
    cut = [name for name in ("exam", "valid") if name not in named and name not in filled]
    pool = [i for i, name in enumerate(named) if not name] or [i for i, name in enumerate(named) if name == "train"]
    if cut:
        units = _units([(i, given[i].example) for i in pool], seed)
        _check_enough(len(pool), len(units), len(cut))
        exams = _take(units, units, exam, exam_limit, seed) if "exam" in cut else set()
        # Highest places first, so that the two cuts never compete for one example.
        free = [replace(unit, place=1 - unit.place) for unit in units if unit.key not in exams]
        valids = _take(units, free, valid, 0, seed) if "valid" in cut else set()
        for unit in units:
            name = "exam" if unit.key in exams else "valid" if unit.key in valids else "train"
            for member in unit.members:
                named[member] = name
    else:
        named = [name or "train" for name in named]
    if "train" not in named:
        raise DataError(
            "no example is left for train: the files give every one to valid or exam",
            hint="give some rows split = train, or none a split",
        )
    return {name: [one.example for one, own in zip(given, named, strict=True) if own == name] for name in SPLITS}


def parted_groups(splits: dict[str, list[Example]]) -> list[str]:
    """Groups that stand in more than one split: only splits given by the files can do that."""
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for name, examples in splits.items():
        for example in examples:
            if example.group:
                homes[example.group].add(name)
    return sorted(group for group, names in homes.items() if len(names) > 1)


def unexamined(parts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What a person should know of the parts that train has and the exam has not; counts by part and split.

    Questions from memory are in no exam by design.
    """
    from werkmeister.corpus.writing.books import FROM_MEMORY, UNANSWERABLE

    notes = []
    for part, counts in parts.items():
        if counts.get("train") and not counts.get("exam") and part != FROM_MEMORY:
            what = "whether the expert abstains where it must" if part == UNANSWERABLE else "it"
            notes.append(
                f"the exam has no question of the part {part!r}, and train has {counts['train']:,}: {what} will not be "
                "measured; add documents or examples, or raise dataset.exam"
            )
    return notes


def _join_groups(given: Sequence[Given], named: list[str]) -> None:
    """Examples without a split follow the first of their group that has one."""
    homes: dict[str, str] = {}
    for one in given:
        if one.example.group and one.split:
            homes.setdefault(one.example.group, one.split)
    for index, one in enumerate(given):
        if not one.split:
            named[index] = homes.get(one.example.group, "") if one.example.group else ""


def _units(examples: Iterable[tuple[int, Example]], seed: int) -> list[_Unit]:
    members: defaultdict[str, list[tuple[int, Example]]] = defaultdict(list)
    for index, example in examples:
        members[f"group {example.group}" if example.group else f"example {example.id}"].append((index, example))
    units = []
    for key, own in members.items():
        strata = Counter((example.part, example.label) for _, example in own)
        stratum = min(strata, key=lambda name: (-strata[name], name))
        units.append(_Unit(key, _place(f"{seed} {key}"), stratum, tuple(index for index, _ in own)))
    return units


def _take(units: Sequence[_Unit], free: Sequence[_Unit], fraction: float, limit: int, seed: int) -> set[str]:
    """Keys of the `free` units whose places are lowest, up to `fraction` of each stratum of all `units`."""
    total = sum(unit.size for unit in units)
    if limit and fraction * total > limit:
        fraction = limit / total
    sizes: Counter[tuple[str, str]] = Counter()
    for unit in units:
        sizes[unit.stratum] += unit.size
    # Rounded by chance and not by habit: strata too small for one example each still send some.
    quotas = {name: int(fraction * size + _place(f"{seed} stratum {name}")) for name, size in sizes.items()}
    taken: list[_Unit] = []
    for unit in sorted(free, key=lambda unit: (unit.place, unit.key)):
        if quotas[unit.stratum] >= unit.size / 2:
            quotas[unit.stratum] -= unit.size
            taken.append(unit)
    while limit and sum(unit.size for unit in taken) > limit and len(taken) > 1:
        taken.pop()
    if not taken:
        taken = [min(free, key=lambda unit: (unit.size, unit.place, unit.key))]
    # One unit at least stays for every split that is still to be filled.
    spare = 2 if len(free) == len(units) else 1
    return {unit.key for unit in taken[: max(1, len(free) - spare)]}


def _check_enough(examples: int, units: int, cuts: int) -> None:
    if examples < FEWEST:
        raise DataError(
            f"{examples} example{'s are' if examples != 1 else ' is'} too few to divide; at least {FEWEST} are needed",
            hint="add examples, or give each row a split (train, valid, exam)",
        )
    if units <= cuts:
        raise DataError(
            f"{units} group{'s' * (units != 1)} cannot fill train and {cuts} more split{'s' * (cuts != 1)}:"
            " a group never parts",
            hint="use smaller groups, or give each row a split (train, valid, exam)",
        )


def _place(text: str) -> float:
    """A number in [0, 1) that looks random and is the same everywhere."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64
