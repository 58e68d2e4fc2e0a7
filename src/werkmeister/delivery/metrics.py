"""Counters of the gateway in Prometheus' text form. Changed on the event loop alone, so without locks.

The format is a few lines of text; a client library would bring process-wide registries for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the histograms' buckets."""


@dataclass
class Histogram:
    """Seconds, counted by bucket."""

    counts: list[int] = field(default_factory=lambda: [0] * len(SECONDS))
    count: int = 0
    total: float = 0.0

    def see(self, seconds: float) -> None:
        """Count one reading."""
        self.count += 1
        self.total += seconds
        for index, bound in enumerate(SECONDS):
            if seconds <= bound:
                self.counts[index] += 1
                break

    def lines(self, name: str) -> Iterable[str]:
        """The samples: cumulative buckets, sum and count."""
        seen = 0
        for bound, count in zip(SECONDS, self.counts, strict=True):
            seen += count
            yield f'{name}_bucket{{le="{bound:g}"}} {seen}'
        yield f'{name}_bucket{{le="+Inf"}} {self.count}'
        yield f"{name}_sum {self.total:.6f}"
        yield f"{name}_count {self.count}"


@dataclass
class Metrics:
    """What the gateway counts."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    cancelled: int = 0
    first_token: Histogram = field(default_factory=Histogram)
    answer: Histogram = field(default_factory=Histogram)

    def request(self, route: str, status: int) -> None:
        """Count a request by the route's pattern, never by the path that a client made up."""
        self.requests[(route, status)] += 1

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """The page; `gauges` are further readings: name → (meaning, value)."""
        lines: list[str] = []

        def family(name: str, kind: str, meaning: str, samples: Iterable[str]) -> None:
            lines.extend((f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *samples))

        requests = (
            f'werkmeister_requests_total{{route="{route}",status="{status}"}} {count}'
            for (route, status), count in sorted(self.requests.items())
        )
        family("werkmeister_requests_total", "counter", "Requests by route and status.", requests)
        for name, meaning in (
            ("prompt_tokens", "Tokens of prompts of whole answers."),
            ("cached_tokens", "Tokens of prompts that were not computed again."),
            ("answer_tokens", "Tokens of whole answers."),
            ("cancelled", "Requests whose client went away before the end."),
        ):
            full = f"werkmeister_{name}_total"
            family(full, "counter", meaning, [f"{full} {getattr(self, name)}"])
        for name, meaning, histogram in (
            (
                "werkmeister_first_token_seconds",
                "From the question to the first token, waiting included.",
                self.first_token,
            ),
            ("werkmeister_answer_seconds", "From the question to the whole answer, waiting included.", self.answer),
        ):
            family(name, "histogram", meaning, histogram.lines(name))
        for name, (meaning, value) in gauges.items():
            family(f"werkmeister_{name}", "gauge", meaning, [f"werkmeister_{name} {value:g}"])
        return "\n".join(lines) + "\n"
