"""An axis of a drawing: values on pixels, and the round values that are written beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Values `low`..`high` on pixels `start`..`end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

    @classmethod
    def over(
        cls,
        values: Sequence[float],
        *,
        start: float,
        end: float,
        log: bool = False,
        tight: bool = False,
        whole: bool = False,
    ) -> Scale:
        """A scale that holds all `values`: ends on round numbers, or on the values themselves when `tight`."""
        low, high = float(min(values)), float(max(values))
        if low == high:
            pad = abs(low) * 0.1 or 1.0
            low, high = (low / 2, high * 2) if log else (low - pad, high + pad)
        if log and not tight:
            grow = (high / low) ** 0.04
            low, high = low / grow, high * grow
        elif not tight:
            step = round_step((high - low) / 5)
            low, high = math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step
        return cls(low=low, high=high, start=start, end=end, log=log, whole=whole)

    def at(self, value: float) -> float:
        """The pixel of a value; values outside stay at the edge."""
        low, high, v = self.low, self.high, min(max(value, self.low), self.high)
        share = math.log(v / low) / math.log(high / low) if self.log else (v - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values inside the scale, about as many as asked for."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for parts in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
                found = [m * 10.0**d for d in decades for m in parts]
                found = [t for t in found if self.low <= t <= self.high]
                if len(found) >= 4:
                    return found[:: math.ceil(len(found) / (2 * about))]
        step = round_step((self.high - self.low) / about)
        if self.whole:
            step = max(1.0, step)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def round_step(raw: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten that is at least `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * (1 - 1e-9))
