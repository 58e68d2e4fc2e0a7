"""What asking a teacher costs: tokens, seconds, and money where its prices are told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class TeacherCosts:
    """What asking has cost. Tokens and `seconds` (of wall clock) are those of this run; `remembered_tokens` were paid
    for in earlier ones. `requests` counts answers of this run. `prices` are what a million tokens of prompts and of
    answers cost; without them money is not measured."""

    requests: int = 0
    remembered: int = 0
    failed: int = 0
    not_asked: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    remembered_tokens: int = 0
    seconds: float = 0.0
    remembered_cost: float = 0.0
    prices: tuple[float, float] = (0.0, 0.0)
    facts: dict[str, Any] = field(default_factory=dict)

    def remember(self, prompt_tokens: int, answer_tokens: int) -> None:
        """Enter an answer of an earlier run."""
        self.remembered += 1
        self.remembered_tokens += prompt_tokens + answer_tokens
        self.remembered_cost += self._price_of(prompt_tokens, answer_tokens)

    def _price_of(self, prompt: int, answer: int) -> float:
        return (prompt * self.prices[0] + answer * self.prices[1]) / 1e6

    def record(self) -> dict[str, Any]:
        """JSON values for the manifest and the report."""
        figures = asdict(self)
        facts, prices = figures.pop("facts"), figures.pop("prices")
        figures["seconds"] = round(self.seconds, 2)
        figures["remembered_cost"] = round(self.remembered_cost, 6) if any(prices) else None
        figures["cost"] = round(self._price_of(self.prompt_tokens, self.answer_tokens), 6) if any(prices) else None
        notes = {} if any(prices) else {"cost_note": "not measured", "remembered_cost_note": "not measured"}
        record: dict[str, Any] = facts | figures | notes
        return record
