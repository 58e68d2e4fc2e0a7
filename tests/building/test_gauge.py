"""Power and memory beside a training: what a tool reports is summed over time, and nothing is made up without one."""

import sys
import time
from pathlib import Path

import pytest

from werkmeister.building.gauge import Gauge, PowerMeter

STEADY = "import time\nwhile True:\n print('{}', flush=True); time.sleep(0.02)"


def until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_energy_is_power_over_time_of_all_cards() -> None:
    script = "import time\nwhile True:\n print('100.0'); print('50.0', flush=True); time.sleep(0.02)"
    begin = time.monotonic()
    meter = PowerMeter((sys.executable, "-c", script), cards=2)
    until(lambda: meter.joules is not None and meter.joules > 30)
    meter.close()
    assert meter.watts == 150
    assert 30 < meter.joules <= 150 * (time.monotonic() - begin)


def test_a_card_without_a_sensor_and_a_machine_without_the_tool_measure_nothing(tmp_path: Path) -> None:
    meter = PowerMeter((sys.executable, "-c", STEADY.format("[N/A]")), cards=1)
    time.sleep(0.2)
    meter.close()
    assert meter.watts is None and meter.joules is None
    absent = PowerMeter((str(tmp_path / "no-such-tool"),), cards=1)
    absent.close()
    assert absent.watts is None


def test_the_tool_is_ended_with_the_run() -> None:
    meter = PowerMeter((sys.executable, "-c", STEADY.format("10")), cards=1)
    process = meter._process
    meter.close()
    assert process.poll() is not None


def test_without_a_gpu_the_gauge_reads_the_memory_of_the_process_alone() -> None:
    psutil = pytest.importorskip("psutil")
    with Gauge() as gauge:
        found = gauge.read()
    assert set(found) == {"memory"}
    assert found["memory"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_the_gauge_reads_power_where_the_drivers_tool_is_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        f'#!{sys.executable}\nimport sys, time\nopen(r"{tmp_path}/asked", "w").write(" ".join(sys.argv[1:]))\n'
    )
    with tool.open("a") as file:
        file.write("while True:\n    print('70.5', flush=True)\n    time.sleep(0.02)\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3_000_000_000)
    with Gauge(["GPU-1"]) as gauge:
        until(lambda: "gpu_joules" in gauge.read())
        found = gauge.read()
    assert (found["gpu_power"], found["gpu_memory"]) == (70.5, 3_000_000_000)
    asked = (tmp_path / "asked").read_text()
    assert "--id=GPU-1" in asked and "power.draw" in asked
