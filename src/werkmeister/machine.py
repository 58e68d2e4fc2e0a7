"""What this machine has and what this process may use of it: cores, memory, disk, bf16, load.

In a container the machine's own figures mislead: a CPU affinity, and the control groups of Linux (cgroup v1 and v2,
documented in the kernel's admin-guide), say what this process gets. Both are honoured here, and only here.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from werkmeister.errors import MachineError

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A reading of the machine; memory and disk in bytes."""

    system: str
    processor: str
    cores: int
    memory: int
    memory_free: int
    bf16: bool


@dataclass(frozen=True, kw_only=True)
class CpuLook:
    """One look at the clocks of the CPUs that this process may use, all in seconds.

    `busy` is what anybody used on these CPUs, and `group` what the processes under the tightest CPU quota used, this
    process among them (0 where there is no quota).
    """

    at: float
    busy: float
    group: float


@dataclass(frozen=True, kw_only=True)
class _Quota:
    """A limit on CPU time: `cores` may be a fraction, `used` is in seconds since the group began."""

    cores: float
    used: float


def read_machine() -> Machine:
    """Read the machine once.

    Memory honours the limits of the control groups around this process, where what the group uses already (without
    the file cache that the kernel gives back) is not free. `bf16` says that the CPU multiplies bfloat16 natively.
    """
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    for limit, used in _memory_limits():
        total, free = min(total, limit), min(free, max(0, limit - used))
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=cores(),
        memory=total,
        memory_free=free,
        bf16=_cpu_has_bf16(),
    )


def cores() -> int:
    """Cores that this process may use: its CPU affinity, and no more than its CPU quota, at least one.

    A quota of 2.5 cores counts as two: a third thread would be stopped in the middle of a product while the others
    wait for it.
    """
    quota = _quota()
    return max(1, min(len(_own_cpus()), int(quota.cores) if quota else len(_own_cpus())))


def threads_by_load() -> int:
    """How many of this process's cores are idle at this moment, at least one.

    Two spinning threads on one core run ten times slower than one (EXPERIMENTS.md), so busy cores are left to their
    owners. The load average of the last minute would still count a training that has just ended.
    """
    before = look_at_cpus()
    time.sleep(0.1)
    return threads_for(free_cores(before, look_at_cpus()))


def threads_for(free: float) -> int:
    """The number of threads for so many free cores: at least one, and no more than this process may use."""
    return max(1, min(cores(), round(free)))


def look_at_cpus() -> CpuLook:
    """Read the clocks; two looks tell what was free between them."""
    import psutil

    times, own = psutil.cpu_times(percpu=True), _own_cpus()
    # CPUs that were taken offline are missing in the list, and its places are no numbers of CPUs then.
    counted = [times[cpu] for cpu in own] if max(own) < len(times) else times
    busy = sum(float(getattr(one, name, 0.0)) for one in counted for name in _BUSY)
    quota = _quota()
    return CpuLook(at=time.monotonic(), busy=busy, group=quota.used if quota else 0.0)


def free_cores(before: CpuLook, now: CpuLook, *, own: float = 0.0) -> float:
    """Cores that others left to this process between two looks; may be a fraction, and below zero by rounding.

    `own` are the CPU seconds that this process itself used in between: they count as free. Under a quota the rest of
    it counts too, since the other processes of a container draw on the same one.
    """
    passed = max(1e-3, now.at - before.at)
    free = len(_own_cpus()) - max(0.0, now.busy - before.busy - own) / passed
    quota = _quota()
    if quota:
        free = min(free, quota.cores - max(0.0, now.group - before.group - own) / passed)
    return free


def peak_memory() -> int:
    """The largest resident size of this program so far, in bytes.

    On Linux getrusage says at least the size of the parent at the time of the fork, which may just have trained a
    model; VmHWM belongs to the program itself.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB", "\n".join(_lines(Path("/proc/self/status"))), re.MULTILINE)
    if found:
        return int(found[1]) * 1024
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


def _own_cpus() -> set[int]:
    """Numbers of the CPUs on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    import psutil

    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):
        return set(process.cpu_affinity())
    return set(range(os.cpu_count() or 1))


def _groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups around this process that `controller` may limit, innermost first."""
    for line in _lines(OWN_CGROUP):
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        # Version 2 has one tree for all controllers; where both are in use it stands in a folder of its own.
        roots = (CGROUPS / names, CGROUPS / controller) if names else (CGROUPS, CGROUPS / "unified")
        for root in dict.fromkeys(roots):
            # A container sees its own group as the root, whatever longer path the line may name.
            folder = root / path.lstrip("/") if ".." not in path else root
            yield from (group for group in (folder, *folder.parents) if group.is_relative_to(root) and group.is_dir())


def _memory_limits() -> Iterator[tuple[int, int]]:
    """Limit and use in bytes of every control group with a limit on memory; file cache out of use is not counted."""
    forms = (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    for group in _groups("memory"):
        for limit_name, used_name, cache in forms:
            limit = _number(group / limit_name)
            if limit is not None:
                yield limit, (_number(group / used_name) or 0) - _entry(group / "memory.stat", cache)


def _quota() -> _Quota | None:
    """The tightest CPU quota around this process; None where there is none."""
    found = []
    for group in _groups("cpu"):
        limit, _, period = "".join(_lines(group / "cpu.max")).partition(" ")
        if limit.isdigit() and period.isdigit():
            found.append(_Quota(cores=int(limit) / int(period), used=_entry(group / "cpu.stat", "usage_usec") / 1e6))
        quota, length = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
        if quota is not None and length:
            found.append(_Quota(cores=quota / length, used=(_number(group / "cpuacct.usage") or 0) / 1e9))
    return min(found, key=lambda one: one.cores, default=None)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _number(file: Path) -> int | None:
    """The whole number in a file; None for no file, "max", and the -1 that stands for no quota."""
    text = "".join(_lines(file)).strip()
    return int(text) if text.isdigit() else None


def _entry(file: Path, name: str) -> int:
    """One row of a file of names and numbers; 0 where it is missing."""
    rows = (line.split() for line in _lines(file))
    return next((int(row[1]) for row in rows if len(row) == 2 and row[0] == name), 0)


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
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return MachineError(f"{where} stands where a folder is needed", hint="move that file away")
    return None
