"""How much of the adapter is in a file, read from its weights.

Logits cannot tell a forgotten adapter from the noise of 4 bits when the adapter is gentle; weights can. Over all rows
of one kind of tensor (all attn_q) the file minus the base is projected on what the adapter adds: 1 means that it is in,
0 that it is not, or that its rows stand in another order. Rounding is a random direction in a space of millions, so its
share in that projection is small at any width, and known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from werkmeister.bases.gguf_header import Tensor
from werkmeister.building.adapter import Delta
from werkmeister.building.merge import GgufWeights, Weights
from werkmeister.errors import ParityError
from werkmeister.progress import Progress

# Root-mean-square error of a whole tensor against what was to be written, relative to it: about twice what libgguf's
# rounding gives on normally distributed weights (measured: F16 2.1e-4, BF16 1.7e-3, Q8_0 5.4e-3, Q6_K 1.8e-2,
# Q5_K 3.6e-2, Q5_1 3.8e-2, Q5_0 4.3e-2, Q4_K 7.1e-2, IQ4 7.7e-2, Q4_1 7.8e-2, Q4_0 8.6e-2).
ERRORS: Mapping[str, float] = {
    "F32": 1e-6,
    **{"F16": 1e-3, "BF16": 4e-3, "Q8_0": 0.012, "Q6_K": 0.04, "Q5_K": 0.08, "Q5_1": 0.09, "Q5_0": 0.1},
    **{"Q4_K": 0.15, "Q4_1": 0.18, "Q4_0": 0.2, "IQ4_NL": 0.18, "IQ4_XS": 0.18},
}
# How far the share may be from 1, beside five standard deviations of the reading. Rounding to 4 bits a weight that was
# rounded to 4 bits before swallows part of every small change (measured: Q4_1 base to Q4_0 keeps 0.92 of the adapter).
_TOLERANCE, _TOLERANCE_4_BITS = 0.05, 0.2
_SIGMAS = 5
# Changes smaller than this share of a tensor are not judged: the type itself rounds them away in part.
_LEAST = {"F32": 0.0, "F16": 5e-4, "BF16": 4e-3}
_LEAST_ROUNDED = 3e-3
_CHUNK = 8 * 2**20


@dataclass(frozen=True)
class Share:
    """What part of the adapter is in the tensors of one kind, the standard deviation of that reading, how far it may be
    from 1, and whether the adapter is large enough there to be told from the type's own rounding."""

    share: float
    deviation: float
    tolerance: float
    large: bool

    @property
    def wrong(self) -> bool:
        """Whether the adapter is not in; a reading that could not tell 1 from 0 never is."""
        allowed = self.tolerance + _SIGMAS * self.deviation
        return self.large and allowed < 0.9 and not abs(self.share - 1) <= allowed


def applied(path: Path, base: Weights, deltas: Mapping[str, Delta], progress: Progress) -> dict[str, Share]:
    """The share of the adapter in each kind of tensor ("attn_q") of a merged file.

    `base` and `deltas` are those of the merge, in the same row order; that this order is right is for the logits of
    the adapter on the base to show. Raises ParityError when a kind lacks it, or when a tensor was written with more
    error than its type explains.
    """
    file = GgufWeights(path)
    stored = {tensor.name: tensor for tensor in file.tensors}
    sums: dict[str, _Sums] = {}
    problems = []
    touched = [tensor for tensor in base.tensors if tensor.name in deltas and not deltas[tensor.name].is_zero]
    with progress.track(f"reading back {path.name}", len(touched)) as track:
        for tensor in touched:
            kind = stored[tensor.name].type
            found = _sums(file, stored[tensor.name], base, tensor, deltas[tensor.name])
            if not found.error <= ERRORS[kind]:
                problems.append(
                    f"{tensor.name}: error {found.error:.2g} of its size, {kind} explains {ERRORS[kind]:.2g}"
                )
            name = re.sub(r"^blk\.\d+\.|\.weight$", "", tensor.name)
            sums[name] = found if name not in sums else sums[name].plus(found)
            track.advance()
    shares = {name: entry.share for name, entry in sums.items()}
    problems += [
        f"{name}: {share.share:.3f} ± {share.deviation:.3f} of the adapter is in the file"
        for name, share in shares.items()
        if share.wrong
    ]
    if problems:
        raise ParityError(
            f"{path.name} does not hold base and adapter as they were merged",
            problems=problems[:20] + [f"and {len(problems) - 20} more"] * (len(problems) > 20),
            hint="delete the export artefact's .partial folder and export again; report it if it stays",
        )
    return shares


@dataclass(frozen=True)
class _Sums:
    along: float  # ⟨file - base, delta⟩
    delta: float  # ‖delta‖²
    rest: float  # ‖file - base - delta‖²
    whole: float  # ‖base + delta‖²
    count: int
    tolerance: float
    least: float

    def plus(self, other: _Sums) -> _Sums:
        return _Sums(
            self.along + other.along,
            self.delta + other.delta,
            self.rest + other.rest,
            self.whole + other.whole,
            self.count + other.count,
            max(self.tolerance, other.tolerance),
            max(self.least, other.least),
        )

    @property
    def error(self) -> float:
        return math.sqrt(self.rest / self.whole) if self.whole else 0.0

    @property
    def share(self) -> Share:
        deviation = math.sqrt(self.rest / self.count / self.delta)
        large = math.sqrt(self.delta / self.whole) >= self.least
        return Share(self.along / self.delta, deviation, self.tolerance, large)


def _sums(file: GgufWeights, stored: Tensor, base: Weights, tensor: Tensor, delta: Delta) -> _Sums:
    tolerance = _TOLERANCE_4_BITS if stored.type.startswith(("Q4", "IQ4")) else _TOLERANCE
    least = _LEAST.get(stored.type, _LEAST_ROUNDED)
    total = _Sums(0.0, 0.0, 0.0, 0.0, 0, tolerance, least)
    step = max(1, _CHUNK // (4 * tensor.width))
    for start in range(0, tensor.rows, step):
        stop = min(start + step, tensor.rows)
        plain, added = base.rows(tensor, start, stop), delta.rows(start, stop)
        moved = file.rows(stored, start, stop) - plain
        rest, whole = moved - added, plain + added
        total = total.plus(
            _Sums(
                float((moved * added).sum(dtype="float64")),
                float((added * added).sum(dtype="float64")),
                float((rest * rest).sum(dtype="float64")),
                float((whole * whole).sum(dtype="float64")),
                added.size,
                tolerance,
                least,
            )
        )
    return total
