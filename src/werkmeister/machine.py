"""What this machine has: cores, memory, disk, bf16, load."""

from __future__ import annotations

import errno
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from werkmeister.errors import MachineError


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A reading of the machine; memory and disk in bytes."""

    system: str
    processor: str
    cores: int
    memory: int
    memory_free: int
    bf16: bool


def read_machine() -> Machine:
    """Read the machine once. Memory honours a cgroup limit; `bf16` says that the CPU multiplies bfloat16 natively."""
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    limit = _cgroup_limit()
    if limit and limit < total:
        total, free = limit, min(free, limit)
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=cores(),
        memory=total,
        memory_free=free,
        bf16=_cpu_has_bf16(),
    )


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_by_load() -> int:
    """How many cores are idle at this moment, at least one.

    Two spinning threads on one core run ten times slower than one (EXPERIMENTS.md), so busy cores are left to their
    owners. The load average of the last minute would still count a training that has just ended.
    """
    import psutil

    busy: float = psutil.cpu_percent(interval=0.1) / 100 * (psutil.cpu_count() or 1)
    return max(1, min(cores(), round(cores() - busy)))


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    if platform.system() == "Windows":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def free_disk(path: Path) -> int:
    """Bytes free on the file system of `path`, or of its nearest parent that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def need_disk(path: Path, needed: int, purpose: str) -> None:
    """Raise MachineError when the file system of `path` has fewer than `needed` bytes free."""
    free = free_disk(path)
    if free < needed:
        raise MachineError(
            f"{purpose} needs {in_words(needed)} on the disk of {path}, and {in_words(free)} are free",
            hint="free some space, or put the expert's folder on a larger disk",
        )


def in_words(size: float) -> str:
    """A number of bytes as people read it: 98.0 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _cgroup_limit() -> int | None:
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            return int(text)
    return None


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _processor() -> str:
    for line in _cpuinfo().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _cpu_has_bf16() -> bool:
    return any(flag in _cpuinfo() for flag in ("avx512_bf16", "amx_bf16"))


def explain_os_error(error: OSError) -> MachineError | None:
    """A MachineError for what the person can mend (full disk, no permission, read-only), None for the rest."""
    where = str(error.filename or "a file")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(f"the disk is full: {where} could not be written", hint="free some space and run it again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MachineError(
            f"{where} cannot be written or read: {error.strerror}",
            hint="change the permissions, or copy the expert to a folder of your own",
        )
    if error.errno == errno.ENOTDIR:
        return MachineError(f"{where} stands where a folder is needed", hint="move that file away")
    return None
