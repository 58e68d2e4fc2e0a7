"""Joules that the processors of this machine took, from the counters that Linux shows for Intel and AMD (RAPL).

Source: the kernel's documentation of the power capping framework (power/powercap). Most systems let only root read the
counters, and virtual machines have none: then nothing is measured. The energy of GPUs is `building.gauge.PowerMeter`'s.
"""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class ProcessorMeter:
    """Joules of all processor packages since the meter was made: of the whole machine, other programs included.

    A counter begins again at 0 behind its `max_energy_range_uj`, at full load after some minutes to an hour: call
    `read` more often than that. Zones inside a package (cores, memory) are part of it and are not counted again, nor is
    the platform's zone ("psys").
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self._ranges: dict[Path, int] = {}
        self._last: dict[Path, int] = {}
        self._microjoules = 0
        for zone in sorted(folder.glob("intel-rapl:*")):  # the name that the kernel uses for AMD too
            if zone.name.count(":") == 1 and _text(zone / "name").startswith("package"):
                now, most = _count(zone / "energy_uj"), _count(zone / "max_energy_range_uj")
                if now is None or not most:
                    # Without one of the packages the sum would be too small.
                    self._ranges.clear()
                    return
                self._ranges[zone], self._last[zone] = most, now

    def read(self) -> float | None:
        """Joules until now; None where they cannot be read, or the counters do not move."""
        for zone, most in self._ranges.items():
            now = _count(zone / "energy_uj")
            if now is None:
                self._ranges.clear()
                return None
            moved = now - self._last[zone]
            self._microjoules += moved if moved >= 0 else moved + most
            self._last[zone] = now
        return self._microjoules / 1e6 if self._ranges and self._microjoules else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _count(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.isdecimal() else None
