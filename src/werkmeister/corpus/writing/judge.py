"""The judge: a teacher says whether a passage supports an answer, and its agreement with the checks is counted."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from werkmeister.corpus.writing.asking import Answered, Asker, Question
from werkmeister.corpus.writing.pair import DroppedPair, Pair
from werkmeister.corpus.writing.prompts import judging
from werkmeister.engines.engine import Sampling
from werkmeister.errors import EngineError
from werkmeister.passage import Passage

CHECK = "judge"
_LONGEST = 24  # tokens of a verdict
_SAMPLE = 100  # pairs that the checks turned down and that are judged all the same
_ENOUGH, _MOST_TURNED_DOWN = 20, 0.9
_VERDICT = re.compile(r"\W*(?:json)?\W*(?:supported|answered)?\W*\b(yes|no|ja|nein)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How the judge's verdicts stand to those of the mechanical checks, in numbers of pairs.

    The first word of a count is what the checks did, the second what the judge says. Of the pairs that the checks
    turned down only a sample was judged. `unjudged` are pairs without a verdict (budget, failure, no readable answer).
    """

    kept_right: int = 0
    kept_wrong: int = 0
    dropped_right: int = 0
    dropped_wrong: int = 0
    unjudged: int = 0

    @property
    def n(self) -> int:
        """Pairs with a verdict."""
        return self.kept_right + self.kept_wrong + self.dropped_right + self.dropped_wrong

    @property
    def agreed(self) -> int:
        """Pairs that both keep or both turn down."""
        return self.kept_right + self.dropped_wrong

    def record(self) -> dict[str, Any]:
        """JSON values for the report: the table of counts, and `agreed` of `of`."""
        table = {
            "kept by the checks": {"right": self.kept_right, "wrong": self.kept_wrong},
            "dropped by the checks": {"right": self.dropped_right, "wrong": self.dropped_wrong},
        }
        return {"agreed": self.agreed, "of": self.n, "unjudged": self.unjudged, "table": table}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a judge leaves: `kept` pairs in their order, those that it turned down, and its agreement."""

    kept: list[Pair]
    dropped: list[DroppedPair]
    agreement: Agreement


def judge_pairs(
    asker: Asker,
    kept: Sequence[Pair],
    dropped: Sequence[DroppedPair],
    passages: Mapping[str, Passage],
    *,
    seed: int = 0,
) -> Judged:
    """Ask the teacher about every pair that the mechanical checks kept, and drop what it says is wrong.

    An answer is right when its passage (by id in `passages`) supports it; a pair that is not answerable, when its
    passage does not answer it. Pairs without a passage are kept unasked, and so are those without a verdict. Up to a
    hundred of the pairs that the checks `dropped`, drawn by `seed`, are judged as well, for the agreement alone.

    Raises EngineError when no verdict can be read, or when a judge turns down nine in ten of what all checks kept
    (twenty or more): it cannot tell, and would leave nothing. Verdicts stay remembered.
    """
    sample = sorted(dropped, key=lambda one: hashlib.sha256(f"{seed} {one.pair.id}".encode()).hexdigest())
    sample = [one for one in sample if one.pair.passage in passages][:_SAMPLE]
    places = [number for number, pair in enumerate(kept) if pair.passage in passages]
    pairs = [kept[number] for number in places] + [one.pair for one in sample]
    verdicts, unread = _verdicts(asker, pairs, passages)
    if unread and not verdicts:
        raise EngineError(
            f"no verdict of the judge {asker.found.name} can be read",
            problems=unread[:3],
            hint="set write.judge = false, or choose a larger teacher in write.teacher",
        )
    if len(verdicts) < len(pairs):
        asker.progress.say(
            f"judge: {len(pairs) - len(verdicts):,} of {len(pairs):,} pairs have no verdict, and are kept"
        )
    of_kept = {place: verdicts[number] for number, place in enumerate(places) if number in verdicts}
    of_dropped = [verdicts[number] for number in range(len(places), len(pairs)) if number in verdicts]
    agreement = Agreement(
        kept_right=sum(of_kept.values()),
        kept_wrong=len(of_kept) - sum(of_kept.values()),
        dropped_right=sum(of_dropped),
        dropped_wrong=len(of_dropped) - sum(of_dropped),
        unjudged=len(pairs) - len(verdicts),
    )
    if len(of_kept) >= _ENOUGH and agreement.kept_wrong > _MOST_TURNED_DOWN * len(of_kept):
        raise EngineError(
            f"the judge {asker.found.name} turns down {agreement.kept_wrong} of {len(of_kept)} pairs that all "
            "mechanical checks kept",
            problems=[f"{kept[place].question!r}: {kept[place].answer!r}" for place in list(of_kept)[:3]],
            hint="set write.judge = false, or choose a larger teacher in write.teacher",
        )
    return Judged(
        kept=[pair for number, pair in enumerate(kept) if of_kept.get(number, True)],
        dropped=[_turned_down(kept[place], asker.found.name) for place, right in of_kept.items() if not right],
        agreement=agreement,
    )


def _verdicts(
    asker: Asker, pairs: Sequence[Pair], passages: Mapping[str, Passage]
) -> tuple[dict[int, bool], list[str]]:
    """Index of the pair → whether it is right, and the answers that are no verdict."""
    questions = []
    for pair in pairs:
        asked, schema = judging(pair, passages[pair.passage])
        sampling = Sampling(max_tokens=_LONGEST, schema=schema)
        questions.append(Question(conversation=asked, sampling=sampling, place=passages[pair.passage].place))
    verdicts: dict[int, bool] = {}
    unread: list[str] = []
    with closing(asker.ask("judge", questions)) as answers:
        for number, answer in answers:
            if not isinstance(answer, Answered):
                if not answer.budget:
                    unread.append(f"{questions[number].place}: {answer.reason}")
                continue
            said = read_verdict(answer.said)
            if said is None:
                unread.append(f"{questions[number].place}: {answer.text[:100]!r}")
            else:
                verdicts[number] = said == pairs[number].answerable
    return dict(sorted(verdicts.items())), unread


def read_verdict(text: str) -> bool | None:
    """Yes or no as a judge says it, in the JSON that was asked for or as a bare word; None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        found = _VERDICT.match(text)
        return None if found is None else found[1].lower() in ("yes", "ja")
    said = next(iter(value.values()), None) if isinstance(value, dict) else value
    if isinstance(said, bool):
        return said
    word = said.strip().lower() if isinstance(said, str) else ""
    return {"yes": True, "ja": True, "no": False, "nein": False}.get(word)


def _turned_down(pair: Pair, name: str) -> DroppedPair:
    what = "does not support this answer" if pair.answerable else "does answer this question"
    return DroppedPair(pair=pair, check=CHECK, reason=f"the judge ({name}) says that the passage {what}")
