"""Threads of a training follow what others leave of this process's own cores."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch

from werkmeister.building import threads
from werkmeister.building.threads import ThreadChoice
from werkmeister.machine import CpuLook


@pytest.fixture
def before() -> Iterator[None]:
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.mark.usefixtures("before")
def test_threads_follow_others_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = CpuLook(at=0.0, busy=0.0, group=0.0)
    used = 0.0

    def pass_time(*, others: float) -> None:
        nonlocal clock, used
        used += 10 * torch.get_num_threads()
        clock = dataclasses.replace(
            clock, at=clock.at + 10, busy=clock.busy + 10 * others + 10 * torch.get_num_threads()
        )

    monkeypatch.setattr("werkmeister.machine._own_cpus", lambda: {0, 1, 2, 3})
    monkeypatch.setattr("werkmeister.machine._quota", lambda: None)
    monkeypatch.setattr(threads, "look_at_cpus", lambda: clock)
    monkeypatch.setattr(threads, "threads_by_load", lambda: 4)
    monkeypatch.setattr(ThreadChoice, "_used", lambda _: used)
    monkeypatch.setattr("time.monotonic", lambda: clock.at)
    choice = ThreadChoice()
    assert torch.get_num_threads() == 4
    counts = []
    for others in (0.0, 2.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0):
        pass_time(others=others)
        choice.look()
        counts.append(torch.get_num_threads())
    assert counts == [4, 3, 2, 2, 2, 3, 4, 4]
