"""The parity gate: does the served file do what the trained model does?

The trained model (transformers and PEFT, float32) is the reference. The served file is read by llama.cpp, which shares
no code with it, so a wrong row order, a forgotten adapter, another template or a lost end token shows in the figures
and not in front of a customer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from werkmeister.building.trained import ROOM, Point, Prompt, Reference
from werkmeister.engines.engine import Sampling, reply
from werkmeister.engines.llama import LlamaEngine
from werkmeister.errors import ParityError
from werkmeister.progress import Progress

# Tokens whose probabilities are fetched from llama.cpp; all others count as one.
_TOP = 256
# max |Δ logprob| is taken over tokens that the trained model gives at least this probability.
_LIKELY = 0.01


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a file may differ by: mean KL (nats), max |Δ logprob| of likely tokens, share of equal first choices, and
    how far the adapter's effect may be from the trained one (1 = the same, 0 = ignored)."""

    kl: float
    delta: float
    top1: float
    effect: float


# PLACEHOLDER-TABLE
BOUNDS: Mapping[str, Bound] = {
    "F16": Bound(kl=1e-4, delta=0.05, top1=0.95, effect=0.05),
}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the gate measured on one file; `effect` is None when the adapter changes nothing at these positions."""

    kl: float
    delta: float
    top1: float
    effect: float | None
    prompts: int
    positions: int
    ended: int
    to_end: int
    worst: str

    def measures(self) -> dict[str, float | int | str | None]:
        """The figures as the manifest keeps them."""
        return asdict(self)


def check(path: Path, kind: str, reference: Reference, *, adapter: Path | None = None, progress: Progress) -> Figures:
    """Compare one file (with `adapter` laid over it, where given) with the trained model.

    `kind` is the file type whose row of `BOUNDS` applies. Raises ParityError naming file, prompt, figures and next
    step when token ids differ, a figure is beyond its bound, or answers do not end.
    """
    context = max(len(prompt.ids) + 2 * len(prompt.answer) for prompt in reference.prompts) + 2 * ROOM
    label = path.name if adapter is None else f"{adapter.name} on {path.name}"
    steps = len(reference.points) + len(reference.to_end)
    with (
        progress.track(f"checking {label}", steps) as track,
        LlamaEngine(path, context_length=min(context, reference.context_length), adapter=adapter) as engine,
    ):
        for prompt in reference.prompts:
            _same_ids(label, prompt, engine.prompt_ids(prompt.conversation))
        compared = []
        for point in reference.points:
            ids = [*point.prompt.ids, *point.prompt.answer[: point.place]]
            compared.append(_compare(point, engine.logprobs_after(ids, min(_TOP, len(point.trained)))))
            track.advance(1, kl=f"{np.mean([entry.kl for entry in compared]):.1e}")
        ended = 0
        for prompt, tokens in reference.to_end:
            sampling = Sampling(max_tokens=min(2 * tokens + ROOM, engine.context_length - len(prompt.ids)))
            ended += reply(engine, prompt.conversation, sampling).finish == "stop"
            track.advance(1)
    figures = _figures(reference, compared, ended)
    _judge(label, kind, reference, figures)
    return figures


@dataclass(frozen=True)
class _Compared:
    kl: float
    delta: float
    same: bool
    along: float  # the served change along the trained change, times the latter's square
    square: float


def _compare(point: Point, served: Mapping[int, float]) -> _Compared:
    ids = np.fromiter(served.keys(), dtype=np.int64)
    q = np.fromiter(served.values(), dtype=np.float64)
    p = point.trained[ids].astype(np.float64)
    rest_p, rest_q = _rest(p), _rest(q)
    kl = float(np.sum(np.exp(p) * (p - q)))
    if len(ids) < len(point.trained):
        kl += rest_p * math.log(rest_p / rest_q)
    likely = np.flatnonzero(point.trained >= math.log(_LIKELY))
    lowest = float(q.min())
    delta = max((abs(float(point.trained[i]) - served.get(int(i), lowest)) for i in likely), default=0.0)
    changed, moved = _centred(p - point.base[ids]), _centred(q - point.base[ids])
    return _Compared(
        kl=max(kl, 0.0),
        delta=delta,
        same=int(ids[q.argmax()]) == int(point.trained.argmax()),
        along=float(changed @ moved),
        square=float(changed @ changed),
    )


def _rest(logprobs: npt.NDArray[np.float64]) -> float:
    """The probability of all that is not listed; never zero, since it is divided by."""
    return max(1.0 - float(np.exp(logprobs).sum()), 1e-9)


def _centred(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    centred: npt.NDArray[np.float64] = values - values.mean()
    return centred


def _figures(reference: Reference, compared: Sequence[_Compared], ended: int) -> Figures:
    square = sum(entry.square for entry in compared)
    worst = max(range(len(compared)), key=lambda i: compared[i].kl)
    return Figures(
        kl=float(np.mean([entry.kl for entry in compared])),
        delta=max(entry.delta for entry in compared),
        top1=float(np.mean([entry.same for entry in compared])),
        effect=sum(entry.along for entry in compared) / square if square > 1e-9 else None,
        prompts=len(reference.prompts),
        positions=len(compared),
        ended=ended,
        to_end=len(reference.to_end),
        worst=reference.points[worst].prompt.question,
    )


def _same_ids(label: str, prompt: Prompt, served: Sequence[int]) -> None:
    if list(served) == list(prompt.ids):
        return
    pairs = zip(prompt.ids, served, strict=False)
    place = next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), min(len(prompt.ids), len(served)))
    raise ParityError(
        f"{label} reads another prompt than the trained model",
        problems=[
            f"prompt: {prompt.question!r}",
            f"{len(prompt.ids)} token ids in training and {len(served)} in the file; the first difference is at "
            f"token {place}: {list(prompt.ids[place : place + 5])} and {list(served[place : place + 5])}",
        ],
        hint="the chat template or the tokenizer of the file differs; name another base, or its own .gguf",
    )


def _judge(label: str, kind: str, reference: Reference, figures: Figures) -> None:
    bound = BOUNDS[kind]
    problems = []
    if not figures.kl <= bound.kl:
        problems.append(f"mean KL divergence is {figures.kl:.2g} nats, the bound is {bound.kl:.2g}")
    if not figures.delta <= bound.delta:
        problems.append(f"the largest |Δ logprob| of a likely token is {figures.delta:.2g}, the bound {bound.delta:.2g}")
    if not figures.top1 >= bound.top1:
        problems.append(f"the first choice is equal at {figures.top1:.0%} of places, the bound is {bound.top1:.0%}")
    if figures.effect is not None and not abs(figures.effect - 1) <= bound.effect:
        problems.append(
            f"the adapter's effect is {figures.effect:.3f} of the trained one (0: ignored), and 1 ± {bound.effect} is "
            "the bound"
        )
    if 2 * figures.ended < figures.to_end:
        problems.append(
            f"{figures.to_end - figures.ended} of {figures.to_end} answers do not end where the trained model ends "
            "its own: the file lacks the end token"
        )
    if problems:
        raise ParityError(
            f"{label} does not do what the trained model does",
            problems=[*problems, f"worst prompt: {figures.worst!r}"],
            hint=f"take {kind} out of export.files and keep the others, or report it when F16 fails as well",
        )
