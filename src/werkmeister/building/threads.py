"""How many threads training uses while other programs come and go."""

from __future__ import annotations

import time

from werkmeister.machine import cores, free_cores, look_at_cpus, threads_by_load, threads_for

_EVERY = 5.0
"""Seconds between two looks."""


class ThreadChoice:
    """Keeps torch's threads at the number of this process's cores that nobody else is using.

    Two threads that share a core with another process ran ten times slower than one (EXPERIMENTS.md): in every matrix
    product the free thread waits for the one that was put aside.
    """

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self._last = look_at_cpus()
        self._own = self._used()
        self._free = float(cores())
        self._set(threads_by_load())

    def look(self) -> None:
        """Look at what others used since the last look, and follow it; cheap enough to call after every step."""
        if time.monotonic() - self._last.at < _EVERY:
            return
        now, own = look_at_cpus(), self._used()
        # Halfway between the last look and the ones before, so that a moment's burst does not count.
        self._free = (self._free + free_cores(self._last, now, own=own - self._own)) / 2
        self._last, self._own = now, own
        self._set(threads_for(self._free))

    def _used(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    @staticmethod
    def _set(count: int) -> None:
        import torch

        if torch.get_num_threads() != count:
            torch.set_num_threads(count)
