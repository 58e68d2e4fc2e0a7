"""What a training derives from the number of its examples, where the person set nothing."""

from pathlib import Path

import pytest

from tests.checkpoints import tiny_expert
from werkmeister.building.presets import settle
from werkmeister.building.settings import TrainSettings
from werkmeister.pipeline import artefacts_of, read_expert, run_stage
from werkmeister.progress import Silent


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_what_a_person_set_stays_and_settling_again_changes_nothing() -> None:
    own = TrainSettings(rank=24, alpha=3.0, learning_rate=7e-5, epochs=0.5)
    assert settle(own, examples=10, width=64) == own
    once = settle(TrainSettings(), examples=1000, width=576)
    assert settle(once, examples=99_999, width=4096) == once


def test_the_rate_is_that_measured_at_width_576_and_falls_with_the_width_and_not_with_the_rank() -> None:
    rates = {
        (width, rank): settle(TrainSettings(rank=rank), examples=10_000, width=width).learning_rate
        for width in (576, 1152, 4096)
        for rank in (8, 64)
    }
    assert rates[576, 8] == rates[576, 64] == 1e-3
    assert rates[1152, 8] == rates[1152, 64] == pytest.approx(1e-3 * 2**-0.78, rel=0.01)
    assert rates[4096, 8] < rates[1152, 8]


def test_few_examples_are_seen_more_often_and_many_get_a_higher_rank() -> None:
    found = [settle(TrainSettings(), examples=n, width=576) for n in (50, 300, 301, 3_000, 30_000, 100_000)]
    epochs, ranks = [s.epochs for s in found], [s.rank for s in found]
    assert epochs == sorted(epochs, reverse=True) and epochs[-1] == 1.0
    assert ranks == sorted(ranks)
    assert all(s.alpha == 2 * s.rank for s in found)
    assert found[0].learning_rate > found[3].learning_rate, "a short run learns faster"


def test_with_rslora_the_scale_at_rank_16_is_the_same_as_without() -> None:
    plain = settle(TrainSettings(rank=16), examples=1000, width=576)
    stable = settle(TrainSettings(rank=16, rslora=True), examples=1000, width=576)
    assert plain.alpha / plain.rank == stable.alpha / stable.rank**0.5


def test_what_was_derived_is_told_and_stands_in_the_facts_while_the_settings_stay_as_given(tmp_path: Path) -> None:
    expert = tiny_expert(tmp_path / "expert", train={"epochs": 0.5, "evaluations": 1})
    run_stage(read_expert(expert), "dataset")
    said = Said()
    made = run_stage(read_expert(expert), "train", progress=said).artefact
    told = next(line for line in said.lines if "base's width of 64" in line)
    assert "rank 8" in told and "epochs" not in told
    assert made.facts["rank"] == 8 and made.facts["alpha"] == 16 and f"{made.facts['learning_rate']:g}" in told
    assert made.settings["rank"] == 0 and made.settings["epochs"] == 0.5
    assert not run_stage(read_expert(expert), "train").reason, "what is derived makes nothing stale"
    assert (artefacts_of(expert) / "train" / "adapter").is_dir()
