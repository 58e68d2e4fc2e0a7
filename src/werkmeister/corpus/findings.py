"""Findings: every mistake in people's files, counted, and the first ones listed."""

from __future__ import annotations

from werkmeister.errors import DataError

LISTED = 20


class Findings:
    """Collects mistakes so that all are told at once; the first `LISTED` in words, the rest as a number."""

    def __init__(self) -> None:
        self.count = 0
        self.listed: list[str] = []
        self._hints: list[str] = []

    def add(self, problem: str, hint: str = "") -> None:
        """Note one mistake: "file:line: field what is wrong", and the next step where there is a particular one."""
        self.count += 1
        if len(self.listed) < LISTED:
            self.listed.append(problem)
        if hint and hint not in self._hints:
            self._hints.append(hint)

    def fail(self, where: str) -> None:
        """Raise DataError when there is any finding; `where` names the file or files."""
        if not self.count:
            return
        more = [f"and {self.count - len(self.listed)} more"] if self.count > len(self.listed) else []
        raise DataError(
            f"{self.count} mistake{'s' * (self.count > 1)} in {where}",
            problems=[*self.listed, *more],
            hint="; ".join(self._hints) or "mend these places and run it again",
        )
