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

from werkmeister.bases.gguf_header import read_gguf_header
from werkmeister.building.trained import ROOM, Point, Prompt, Reference
from werkmeister.engines.engine import Sampling, reply
from werkmeister.engines.llama import LlamaEngine
from werkmeister.errors import ParityError
from werkmeister.progress import Progress

# Tokens whose probabilities are fetched from llama.cpp; all others count as one.
_TOP = 256
# max |Δ logprob| is taken over tokens that the trained model gives at least this probability.
_LIKELY = 0.01
# A first choice counts where it is clear: twice as likely as the next. Below that, rounding may swap equals.
_CLEAR = math.log(2)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a file of a type may differ by: mean KL divergence (nats), largest |Δ logprob| of a likely token, least
    share of equal first choices among the clear ones, and how far the adapter's effect may be from the trained one (1:
    the same, 0: none; None: not judged, since rounding of the base's own weights outweighs a gentle adapter)."""

    kl: float
    delta: float
    top1: float
    effect: float | None = None


# Measured on SmolLM2-135M (base in Q4_1), 32 places each, as (trained adapter on its task; random adapter on texts that
# are new to it, where distributions are flat and rounding shows most):
#   F16     KL 3e-6; 1e-5   |Δ| 0.000; 0.02   effect 1.000; 0.999
#   Q8_0    KL 1e-5; 4e-3   |Δ| 0.000; 0.4    effect 1.000; 1.17
#   Q6_K    KL 3e-5; 1e-2   |Δ| 0.001; 0.8    effect 1.02; 0.97
#   Q4_K_M  KL 3e-4; 5e-2   |Δ| 0.004; 2.4    effect 0.98; 1.32
#   Q4_0    KL 2e-2; 2e-1   |Δ| 0.43; 3.1     effect 0.82; 0.25
# and the first choice equal at every clear place. Broken on purpose, F16: q and k in the wrong row order give an effect
# of 0.92 (all layers adapted), 0.75 (attention alone), half the scale 0.60, no adapter 0.00 with KL 2.3. So a row order
# is judged where nothing is rounded (the F16 proof of `export`), what is in a rounded file by its weights (`applied`),
# and here each type gets some times its own worst reading: room for a larger or smaller model, and below what a
# forgotten adapter, a damaged tensor or wrong hyperparameters give.
BOUNDS: Mapping[str, Bound] = {
    "F16": Bound(kl=1e-3, delta=0.1, top1=0.9, effect=0.05),
    "BF16": Bound(kl=1e-2, delta=0.5, top1=0.9, effect=0.2),
    "Q8_0": Bound(kl=0.02, delta=1.5, top1=0.85),
    "Q6_K": Bound(kl=0.04, delta=2.0, top1=0.8),
    **dict.fromkeys(("Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0"), Bound(kl=0.1, delta=3.0, top1=0.75)),
    **dict.fromkeys(("Q4_K_M", "Q4_K_S", "IQ4_XS"), Bound(kl=0.2, delta=5.0, top1=0.7)),
    **dict.fromkeys(("Q4_1", "Q4_0"), Bound(kl=0.5, delta=8.0, top1=0.5)),
}
# An effect is judged where the adapter moves logprobs by that much (nats, root mean square): below, the noise of F16
# arithmetic outweighs it (measured: 0.07 is read to 0.1 %, 0.007 to 5 %, 0.0007 not at all).
LEAST_MOVED = 0.02
# Added where the reference itself had to be computed in bfloat16 for want of memory.
_COARSE = Bound(kl=1e-2, delta=0.5, top1=-0.1, effect=0.1)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the gate measured on one file at so many `positions` of the answers: the mean KL divergence and its standard
    error, the share of equal first choices at all of them (`agree`) and at the `clear` ones (`top1`, None without any),
    `ended` of `to_end` answers that end where they should. `moved` is by how much the
    adapter changes a token's logprob (root mean square, nats), `effect` which part of that is in the file (None when it
    changes nothing)."""

    kl: float
    kl_error: float
    delta: float
    agree: float
    top1: float | None
    clear: int
    effect: float | None
    moved: float
    prompts: int
    positions: int
    ended: int
    to_end: int
    worst: str

    def measures(self) -> dict[str, float | int | str | None]:
        """The figures as the manifest keeps them."""
        return asdict(self)


def check(
    path: Path,
    kind: str,
    reference: Reference,
    *,
    context: int,
    adapter: Path | None = None,
    template: str | None = None,
    progress: Progress,
) -> Figures:
    """Compare one file (with `adapter` laid over it and `template` in place of its own, where given) with the trained
    model.

    `kind` is the file type whose row of `BOUNDS` applies, `context` the length in tokens that is promised to who serves
    it. Raises ParityError naming file, prompt, figures and next step when the file's own context is shorter, token ids
    differ (of single prompts or in a conversation that goes on), a figure is beyond its bound, or answers do not end.
    """
    _holds_context(path, context)
    room = max(len(prompt.ids) + 2 * len(prompt.answer) for prompt in reference.prompts) + 2 * ROOM
    room = min(room, reference.context_length)
    label = path.name if adapter is None else f"{adapter.name} on {path.name}"
    steps = len(reference.points) + len(reference.to_end)
    with (
        progress.track(f"checking {label}", steps) as track,
        LlamaEngine(path, context_length=room, adapter=adapter, template=template) as engine,
    ):
        for prompt in (*reference.prompts, *reference.turns):
            _same_ids(label, prompt, engine.prompt_ids(prompt.conversation))
        compared = []
        for point in reference.points:
            ids = [*point.prompt.ids, *point.prompt.answer[: point.place]]
            compared.append(_compare(point, engine.logprobs_after(ids, min(_TOP, len(point.trained)), reuse=True)))
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
    clear: bool
    along: float  # the served change along the trained change, times the latter's square
    square: float
    tokens: int


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
    second, first = np.partition(point.trained, -2)[-2:]
    changed, moved = _centred(p - point.base[ids]), _centred(q - point.base[ids])
    return _Compared(
        kl=max(kl, 0.0),
        delta=delta,
        same=int(ids[q.argmax()]) == int(point.trained.argmax()),
        clear=bool(first - second >= _CLEAR),
        along=float(changed @ moved),
        square=float(changed @ changed),
        tokens=len(ids),
    )


def _rest(logprobs: npt.NDArray[np.float64]) -> float:
    """The probability of all that is not listed; never zero, since it is divided by."""
    return max(1.0 - float(np.exp(logprobs).sum()), 1e-9)


def _centred(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    centred: npt.NDArray[np.float64] = values - values.mean()
    return centred


def _figures(reference: Reference, compared: Sequence[_Compared], ended: int) -> Figures:
    square = sum(entry.square for entry in compared)
    moved = math.sqrt(square / sum(entry.tokens for entry in compared))
    clear = [entry.same for entry in compared if entry.clear]
    divergences = [entry.kl for entry in compared]
    worst = max(range(len(compared)), key=lambda i: compared[i].kl)
    return Figures(
        kl=float(np.mean(divergences)),
        kl_error=float(np.std(divergences) / math.sqrt(len(divergences))),
        agree=float(np.mean([entry.same for entry in compared])),
        delta=max(entry.delta for entry in compared),
        top1=float(np.mean(clear)) if clear else None,
        clear=len(clear),
        effect=sum(entry.along for entry in compared) / square if moved else None,
        moved=moved,
        prompts=len(reference.prompts),
        positions=len(compared),
        ended=ended,
        to_end=len(reference.to_end),
        worst=reference.points[worst].prompt.question,
    )


def _holds_context(path: Path, promised: int) -> None:
    own = read_gguf_header(path).get("context_length")
    if not isinstance(own, int) or own < promised:
        raise ParityError(
            f"{path.name} says that it holds {own} tokens, and a context of {promised} is promised",
            hint=f"set export.context_length to {own} or less" if isinstance(own, int) else "name another base",
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


def bound_of(kind: str, arithmetic: str) -> Bound:
    """The bound of a file type for a reference computed in `arithmetic`; of a type that export does not write (a base
    may come in it), the widest."""
    exact = BOUNDS.get(kind, BOUNDS["Q4_0"])
    if arithmetic == "float32":
        return exact
    effect = None if exact.effect is None else exact.effect + (_COARSE.effect or 0.0)
    return Bound(
        kl=exact.kl + _COARSE.kl, delta=exact.delta + _COARSE.delta, top1=exact.top1 + _COARSE.top1, effect=effect
    )


def _judge(label: str, kind: str, reference: Reference, figures: Figures) -> None:
    bound = bound_of(kind, reference.arithmetic)
    problems = []
    if not figures.kl <= bound.kl:
        problems.append(f"mean KL divergence is {figures.kl:.2g} nats, the bound is {bound.kl:.2g}")
    if not figures.delta <= bound.delta:
        problems.append(
            f"the largest |Δ logprob| of a likely token is {figures.delta:.2g}, the bound {bound.delta:.2g}"
        )
    if figures.top1 is not None and not figures.top1 >= bound.top1:
        share = f"{figures.top1:.0%} of {figures.clear} clear choices"
        problems.append(f"{share} are equal, and {bound.top1:.0%} is the bound")
    off = abs(figures.effect - 1) if figures.effect is not None and figures.moved >= LEAST_MOVED else 0.0
    if bound.effect is not None and not off <= bound.effect:
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
