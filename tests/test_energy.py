"""The meter of the processors' energy, on folders as the kernel shows them."""

import pytest

from werkmeister.energy import ProcessorMeter

MOST = 1_000_000_000


def zone(folder, name, kind, count, most=MOST):
    made = folder / name
    made.mkdir(exist_ok=True)
    (made / "name").write_text(kind + "\n")
    (made / "energy_uj").write_text(f"{count}\n")
    (made / "max_energy_range_uj").write_text(f"{most}\n")
    return made / "energy_uj"


def test_the_packages_are_summed_and_what_is_inside_or_around_them_is_not(tmp_path):
    first, second = (zone(tmp_path, f"intel-rapl:{n}", f"package-{n}", 5_000_000) for n in (0, 1))
    others = [
        zone(tmp_path, "intel-rapl:0:0", "core", 0),
        zone(tmp_path, "intel-rapl:2", "psys", 0),
        zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0),
    ]
    meter = ProcessorMeter(tmp_path)
    first.write_text("8000000\n")
    second.write_text("5500000\n")
    for other in others:
        other.write_text("900000000\n")
    assert meter.read() == pytest.approx(3.5)


def test_a_counter_that_begins_again_goes_on_where_it_was(tmp_path):
    counter = zone(tmp_path, "intel-rapl:0", "package-0", MOST - 2_000_000)
    meter = ProcessorMeter(tmp_path)
    seen = []
    for count in (MOST - 1_000_000, 500_000, MOST - 500_000, 0):
        counter.write_text(f"{count}\n")
        seen.append(meter.read())
    assert seen == pytest.approx([1, 2.5, 1001.5, 1002])


def test_nothing_is_told_without_counters_or_where_they_stand_still(tmp_path):
    assert ProcessorMeter(tmp_path / "none").read() is None
    zone(tmp_path, "intel-rapl:0", "package-0", 7)
    assert ProcessorMeter(tmp_path).read() is None


def test_one_package_that_cannot_be_read_leaves_all_unmeasured(tmp_path):
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 7)
    other = zone(tmp_path, "intel-rapl:1", "package-1", 7)
    other.unlink()
    unread = ProcessorMeter(tmp_path)
    other.write_text("7\n")
    lost = ProcessorMeter(tmp_path)
    counter.write_text("9000000\n")
    assert unread.read() is None
    other.unlink()
    assert lost.read() is None and lost.read() is None


def test_counters_that_may_not_be_read_are_not_measured(tmp_path):
    # Many kernels show them to root alone; a folder in the file's place refuses root too.
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 7)
    counter.unlink()
    counter.mkdir()
    assert ProcessorMeter(tmp_path).read() is None
