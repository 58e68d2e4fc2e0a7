"""What this process may use: CPU affinity and control groups, with fake folders in place of /sys/fs/cgroup."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from werkmeister import machine
from werkmeister.machine import cores, free_cores, look_at_cpus, read_machine, threads_by_load

GIB = 1 << 30
Fake = Callable[[str, Mapping[str, object]], Path]


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Lay out control groups: the lines of /proc/self/cgroup, and the files below /sys/fs/cgroup."""

    def lay(own: str, files: Mapping[str, object]) -> Path:
        root = tmp_path / "cgroup"
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"{content}\n")
        (tmp_path / "own").write_text(own)
        monkeypatch.setattr(machine, "CGROUPS", root)
        monkeypatch.setattr(machine, "OWN_CGROUP", tmp_path / "own")
        return root

    return lay


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A host whose CPUs are as busy as said (0 to 1), in a time that runs when somebody sleeps."""
    clock = SimpleNamespace(now=100.0)

    def of(*busy: float, own: Sequence[int] = ()) -> None:
        def times(percpu: bool = False) -> list[SimpleNamespace]:
            assert percpu
            return [SimpleNamespace(user=share * clock.now, idle=(1 - share) * clock.now) for share in busy]

        def sleep(seconds: float) -> None:
            clock.now += seconds

        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(own or range(len(busy))), raising=False)
        monkeypatch.setattr(psutil, "cpu_times", times)
        monkeypatch.setattr(time, "monotonic", lambda: clock.now)
        monkeypatch.setattr(time, "sleep", sleep)

    return of


def test_free_memory_is_what_the_control_group_has_left_without_the_file_cache(groups: Fake) -> None:
    groups(
        "0::/user/app\n",
        {
            "user/app/memory.max": "max",
            "user/memory.max": GIB,
            "user/memory.current": 900 << 20,
            "user/memory.stat": f"anon 1\ninactive_file {300 << 20}",
        },
    )
    found = read_machine()
    assert found.memory == GIB
    assert found.memory_free == (1024 - 600) << 20


def test_the_tightest_of_nested_limits_counts_and_an_exhausted_group_has_nothing_free(groups: Fake) -> None:
    files = {"a/b/memory.max": 2 * GIB, "a/b/memory.current": 0, "a/memory.max": 3 * GIB, "a/memory.current": 4 * GIB}
    groups("0::/a/b\n", files)
    found = read_machine()
    assert (found.memory, found.memory_free) == (2 * GIB, 0)


def test_version_one_is_read_and_a_container_sees_its_group_as_the_root(groups: Fake) -> None:
    groups(
        "5:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n",
        {
            "memory/memory.limit_in_bytes": GIB,
            "memory/memory.usage_in_bytes": GIB // 2,
            "memory/memory.stat": f"cache 0\ntotal_inactive_file {GIB // 4}",
            "cpu,cpuacct/cpu.cfs_quota_us": 100000,
            "cpu,cpuacct/cpu.cfs_period_us": 100000,
        },
    )
    found = read_machine()
    assert (found.memory, found.memory_free, found.cores) == (GIB, GIB * 3 // 4, 1)


def test_no_limit_leaves_the_machine_as_it_is(groups: Fake) -> None:
    groups("5:memory:/\n3:cpu:/\n", {"memory/memory.limit_in_bytes": 2**63 - 4096, "cpu/cpu.cfs_quota_us": -1})
    found = read_machine()
    assert found.memory == psutil.virtual_memory().total
    assert found.cores == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("quota", "expected"), [("250000 100000", 2), ("50000 100000", 1), ("max 100000", 8)])
def test_cores_are_no_more_than_the_quota(quota: str, expected: int, groups: Fake, host: Callable[..., None]) -> None:
    host(*[0.0] * 8)
    groups("0::/\n", {"cpu.max": quota})
    assert cores() == expected


def test_what_others_do_on_other_cpus_takes_no_thread_away(groups: Fake, host: Callable[..., None]) -> None:
    groups("0::/\n", {})
    host(1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, own=(4, 5))
    assert threads_by_load() == 2
    host(1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, own=(3, 4, 5))
    assert threads_by_load() == 2
    host(1.0, 1.0, 1.0, 1.0, own=(2,))
    assert threads_by_load() == 1


def test_a_busy_host_leaves_a_small_quota_whole(groups: Fake, host: Callable[..., None]) -> None:
    groups("0::/\n", {"cpu.max": "200000 100000"})
    host(*[1.0] * 3, *[0.0] * 5)
    assert threads_by_load() == 2


def test_other_processes_of_a_container_draw_on_the_same_quota(groups: Fake, host: Callable[..., None]) -> None:
    root = groups("0::/\n", {"cpu.max": "300000 100000", "cpu.stat": "usage_usec 1000000"})
    host(*[0.25] * 8)
    before = look_at_cpus()
    time.sleep(10)
    # Of 20 CPU seconds in 10 seconds, 5 are this process's own: the others take 1.5 of the three cores.
    (root / "cpu.stat").write_text("usage_usec 21000000\n")
    assert free_cores(before, look_at_cpus(), own=5.0) == pytest.approx(1.5)
