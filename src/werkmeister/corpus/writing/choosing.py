"""Which passages are written about when not all are."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from werkmeister.memory import name_of
from werkmeister.passage import Passage


def choose(passages: Sequence[Passage], limit: int, seed: int) -> list[Passage]:
    """All passages, or `limit` of them: every document in turn gives one of its own at random, in document order."""
    if not limit or limit >= len(passages):
        return list(passages)
    waiting: dict[str, list[Passage]] = {}
    for passage in passages:
        waiting.setdefault(passage.document, []).append(passage)
    for name, own in waiting.items():
        Random(f"{seed} limit {name}").shuffle(own)
    names = sorted(waiting, key=lambda name: name_of([seed, name]))
    taken: set[str] = set()
    while len(taken) < limit:
        for name in names:
            if waiting[name] and len(taken) < limit:
                taken.add(waiting[name].pop().id)
    return [passage for passage in passages if passage.id in taken]
