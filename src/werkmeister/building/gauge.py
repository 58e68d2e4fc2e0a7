"""Memory and power while a model trains: what is read beside the steps, and left out where nothing can be read."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from types import TracebackType

INTERVAL = 0.5
"""Seconds between two readings of the power; what a card draws changes little within one."""


class PowerMeter:
    """Watts and joules of some GPUs, as their driver's own tool (nvidia-smi, over NVML) reports them twice a second.

    Power is integrated over time between readings. `command` prints a line with the watts of one card for each of
    `cards`, again and again; where it cannot be run, or a card tells no power, `watts` and `joules` stay None.
    """

    def __init__(self, command: Sequence[str], cards: int) -> None:
        self.watts: float | None = None
        self.joules: float | None = None
        self._cards = cards
        try:
            self._process: subprocess.Popen[str] | None = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True
            )
        except OSError:
            self._process = None
            return
        self._thread = threading.Thread(target=self._read, name="power meter", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the tool."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._thread.join()
            if self._process.stdout:
                self._process.stdout.close()
            self._process = None

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        now: list[float] = []
        before: tuple[float, float] | None = None
        for line in self._process.stdout:
            try:
                now.append(float(line))
            except ValueError:
                return  # "[N/A]": a part of a card (MIG), or one without a sensor.
            if len(now) < self._cards:
                continue
            at, watts = time.monotonic(), sum(now)
            if before is not None:
                self.joules = (self.joules or 0.0) + (at - before[0]) * (watts + before[1]) / 2
            self.watts, before, now = watts, (at, watts), []


class Gauge:
    """The readings of one training run; use it as a context, so that the power meter ends with the run."""

    def __init__(self, cards: Sequence[str] = ()) -> None:
        self._cards = tuple(cards)
        self._meter: PowerMeter | None = None

    def __enter__(self) -> Gauge:
        tool = shutil.which("nvidia-smi")
        if self._cards and tool:
            asked = ("--query-gpu=power.draw", "--format=csv,noheader,nounits", f"-lms={INTERVAL * 1000:.0f}")
            self._meter = PowerMeter((tool, f"--id={','.join(self._cards)}", *asked), len(self._cards))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._meter is not None:
            self._meter.close()

    def read(self) -> dict[str, float]:
        """What can be read now: `memory` and `gpu_memory` in bytes, `gpu_power` in watts, `gpu_joules` of this run.

        `memory` is the resident size of this process, `gpu_memory` the most that was allocated so far on its card.
        """
        import psutil

        found: dict[str, float] = {"memory": psutil.Process().memory_info().rss}
        if self._cards:
            import torch

            found["gpu_memory"] = torch.cuda.max_memory_allocated()
        if self._meter is not None and self._meter.watts is not None:
            found["gpu_power"] = round(self._meter.watts, 1)
            if self._meter.joules is not None:
                found["gpu_joules"] = round(self._meter.joules, 1)
        return found


def cards_here(count: int) -> list[str]:
    """The names by which nvidia-smi knows the first `count` GPUs that torch sees; none without CUDA."""
    import torch

    if not torch.cuda.is_available() or torch.version.hip:
        return []
    return [f"GPU-{torch.cuda.get_device_properties(i).uuid}" for i in range(min(count, torch.cuda.device_count()))]
