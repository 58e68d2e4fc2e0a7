"""Duplicates and leakage: which examples say the same, which contradict each other, which give an exam item away.

Three rules, each deterministic and each naming the example that was kept:

- *exact*: prompt and target equal after Unicode NFC and with runs of white space as one space. The first is kept.
- *conflict*: the prompt is equal and the target is not. A person's target is kept before a written one, then the one
  given most often, then the first.
- *near*: the target is equal, and the prompts' sets of character 5-grams have a Jaccard similarity at or above the
  threshold. Twins with different targets ("turn on the light", "turn off the light") are what an expert must learn to
  tell apart, and never count as near.

Examples that were written from a passage hold their question alone here, and are compared with those of the same
passage: the same question put to another passage is another example.

Held-out examples win: a twin in train of an exam item, or of a valid item, is dropped from train and called leakage.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from werkmeister.chat import Example
from werkmeister.corpus.shapes import Given
from werkmeister.progress import Progress, Silent

EXACT, CONFLICT, NEAR, LEAKAGE, LONG = "exact duplicate", "conflicting answer", "near duplicate", "leakage", "too long"

_WIDE = 5
_PERMUTATIONS = 128
_MISSED = 1e-6
_BATCH = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """An example that was left out, why, and the source of the one kept in its place where there is one.

    `similarity` is the Jaccard similarity for near duplicates and leakage; `tokens` the length for too long ones.
    """

    example: Example
    reason: str
    kept: str = ""
    similarity: float | None = None
    tokens: int | None = None


def drop_exact(given: Sequence[Given]) -> tuple[list[Given], list[Dropped]]:
    """Leave out exact duplicates and conflicts; order is kept. One example is left of every prompt."""
    keys = [_keys(one.example) for one in given]
    ranks = [_rank(one) for one in given]
    counts = Counter(keys)
    best: dict[bytes, tuple[int, bool, int, int]] = {}
    for index, key in enumerate(keys):
        candidate = (ranks[index], given[index].written, -counts[key], index)
        if key[0] not in best or candidate < best[key[0]]:
            best[key[0]] = candidate
    kept, dropped = [], []
    for index, one in enumerate(given):
        winner = best[keys[index][0]][3]
        if winner == index:
            kept.append(one)
            continue
        same = keys[winner] == keys[index]
        leak = ranks[winner] < ranks[index]
        reason = (LEAKAGE if leak else EXACT) if same else CONFLICT
        similarity = 1.0 if reason == LEAKAGE else None
        source = given[winner].example.source
        dropped.append(Dropped(example=one.example, reason=reason, kept=source, similarity=similarity))
    return kept, dropped


def drop_near(
    given: Sequence[Given], threshold: float, progress: Progress | None = None
) -> tuple[list[Given], list[Dropped]]:
    """Leave out near duplicates within train and near twins of held-out examples; order is kept.

    Expects what `drop_exact` kept. A given exam is never touched; a valid item falls only to a twin in the exam.
    Afterwards no train item has a similarity at or above `threshold` with any kept item of the same target. A threshold
    of 0 turns this off. Candidates come from MinHash with locality-sensitive hashing, whose bands are chosen so that a
    pair at the threshold is missed with a probability below 1e-6; each is then verified by its exact similarity.
    """
    members = _same_target(given)
    if threshold <= 0 or not members:
        return list(given), []
    pieces = lru_cache(maxsize=1 << 11)(lambda index: frozenset(shingles(given[index].example)))
    fallen: dict[int, Dropped] = {}
    standing: set[int] = set()
    for index, candidates in _candidates(given, members, threshold, progress or Silent()):
        rank = _rank(given[index])
        rivals = [other for other in candidates if other in standing and (rank == 2 or _rank(given[other]) < rank)]
        scored = [(jaccard(pieces(index), pieces(other)), -other) for other in rivals]
        near, twin = max(scored, default=(0.0, 0))
        if near < threshold:
            standing.add(index)
            continue
        twin = -twin
        fallen[index] = Dropped(
            example=given[index].example,
            reason=LEAKAGE if _rank(given[twin]) < rank else NEAR,
            kept=given[twin].example.source,
            similarity=near,
        )
    return [one for index, one in enumerate(given) if index not in fallen], [fallen[i] for i in sorted(fallen)]


def shingles(example: Example) -> set[str]:
    """Character 5-grams of the prompt: folded case, punctuation and white space as single spaces.

    Shorter ones would hardly see the order of words: with trigrams "turn the kitchen light on" is 0.92 alike to "turn
    on the kitchen light", with 5-grams 0.64. System messages do not count: they are the same everywhere.
    """
    return question_shingles(" ".join(message.content for message in example.prompt if message.role != "system"))


def question_shingles(text: str) -> set[str]:
    """Character 5-grams of a text: folded case, punctuation and white space as single spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(c if c.isalnum() else " " for c in folded).split()
    line = f" {' '.join(words)} " if words else f" {folded} "
    return {line[at : at + _WIDE] for at in range(max(1, len(line) - _WIDE + 1))}


def jaccard(left: frozenset[object], right: frozenset[object]) -> float:
    """Shared elements over all elements; 1 for two empty sets."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared) if left or right else 1.0


def bands(threshold: float) -> tuple[int, int]:
    """Rows a band and number of bands: the most selective within 128 permutations that misses almost nothing.

    A pair of similarity s becomes a candidate with probability 1 - (1 - s^rows)^bands (Leskovec, Rajaraman, Ullman:
    Mining of Massive Datasets, chapter 3).
    """
    fitting = [rows for rows in range(1, 17) if (1 - threshold**rows) ** (_PERMUTATIONS // rows) <= _MISSED]
    rows = max(fitting, default=1)
    return rows, _PERMUTATIONS // rows


def _candidates(
    given: Sequence[Given], members: Sequence[int], threshold: float, progress: Progress
) -> Iterator[tuple[int, list[int]]]:
    """Each member with the earlier members that share a band with it."""
    import rensa

    rows, count = bands(threshold)
    index = rensa.RMinHashLSH(threshold, rows * count, count)
    with progress.track("compare prompts", len(members)) as track:
        for start in range(0, len(members), _BATCH):
            batch = members[start : start + _BATCH]
            # Salted with the target, so that prompts of different targets share no token and never meet.
            tokens = [_salted(given[member].example) for member in batch]
            for member, hashed in zip(batch, rensa.RMinHash.from_token_sets(tokens, rows * count, 1), strict=True):
                yield member, sorted(index.query(hashed))
                index.insert(member, hashed)
            track.advance(len(batch))


def _salted(example: Example) -> list[str]:
    salt = _digest(f"{example.target}{_passage(example)}").hex()[:12]
    return [shingle + salt for shingle in shingles(example)]


def _same_target(given: Sequence[Given]) -> list[int]:
    """Examples whose target another has too, target by target; within one, held-out examples come first."""
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, one in enumerate(given):
        groups[_digest(f"{one.example.target}{_passage(one.example)}")].append(index)
    together = [sorted(group, key=lambda index: (_rank(given[index]), index)) for group in groups.values()]
    return [index for group in together if len(group) > 1 for index in group]


def _rank(one: Given) -> int:
    """0 exam, 1 valid, 2 the rest: a lower one wins against a higher one."""
    return {"exam": 0, "valid": 1}.get(one.split, 2)


def _keys(example: Example) -> tuple[bytes, bytes]:
    prompt = "\0".join(f"{message.role}\0{message.content}" for message in example.prompt)
    return _digest(prompt + _passage(example)), _digest(example.target)


def _passage(example: Example) -> str:
    return f"\0passage {example.passage}" if example.passage else ""


def _digest(text: str) -> bytes:
    # Sixteen bytes instead of a second copy of every text.
    plain = " ".join(unicodedata.normalize("NFC", text).split())
    return hashlib.blake2b(plain.encode(), digest_size=16).digest()
