"""How many threads training uses while other programs come and go."""

from __future__ import annotations

import time

from werkmeister.machine import cores

_EVERY = 5.0
"""Seconds between two looks."""


class ThreadChoice:
    """Keeps torch's threads at the number of cores that nobody else is using.

    Two threads that share a core with another process ran ten times slower than one (EXPERIMENTS.md): in every matrix
    product the free thread waits for the one that was put aside.
    """

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self._total = psutil.cpu_times()
        self._own = self._process.cpu_times()
        self._at = time.monotonic()
        self._others = 0.0
        self._set(self._free_now())

    def look(self) -> None:
        """Look at what others used since the last look, and follow it; cheap enough to call after every step."""
        now = time.monotonic()
        passed = now - self._at
        if passed < _EVERY:
            return
        import psutil

        total, own = psutil.cpu_times(), self._process.cpu_times()
        busy = _busy(total) - _busy(self._total) - (own.user + own.system - self._own.user - self._own.system)
        # Halfway between the last look and the ones before, so that a moment's burst does not count.
        self._others = (self._others + max(0.0, busy / passed)) / 2
        self._total, self._own, self._at = total, own, now
        self._set(max(1, min(cores(), round(cores() - self._others))))

    @staticmethod
    def _free_now() -> int:
        from werkmeister.machine import threads_by_load

        return threads_by_load()

    @staticmethod
    def _set(count: int) -> None:
        import torch

        if torch.get_num_threads() != count:
            torch.set_num_threads(count)


def _busy(times: object) -> float:
    return sum(float(getattr(times, name, 0.0)) for name in ("user", "nice", "system", "irq", "softirq"))
