from __future__ import annotations

import shutil

import pytest

from werkmeister.consulting import tuning
from werkmeister.consulting.expert import AskSettings, ask, open_expert
from werkmeister.consulting.tuning import best_threads, best_width, measure_widths, open_tuned, thread_choices
from werkmeister.engines.scripted import ScriptedEngine
from werkmeister.errors import SettingsError

SHORT = AskSettings(max_tokens=12, threads=1)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({1: 100.0, 2: 80.0, 4: 104.0, 8: 103.0}, 1),
        ({1: 100.0, 2: 80.0, 4: 140.0, 8: 141.0}, 4),
        ({1: 100.0, 2: 120.0, 4: 140.0, 8: 160.0}, 8),
        ({1: 100.0}, 1),
    ],
)
def test_the_fewest_answers_at_a_time_that_no_larger_number_clearly_beats(rates, expected):
    assert best_width(rates) == expected


def test_an_engine_that_answers_in_parallel_is_measured_to_do_so():
    engine = ScriptedEngine({}, otherwise="word " * 30, seconds_a_token=0.005)
    rates = measure_widths(engine, (1, 4), window=0.2)
    assert rates[4] > 2.5 * rates[1] > 0


def test_the_idle_cores_are_tried_against_half_of_them_and_the_fewest_that_are_as_good_win():
    assert [thread_choices(idle) for idle in (1, 2, 3, 8)] == [(1,), (1, 2), (1, 3), (4, 8)]
    assert best_threads({4: {1: 100.0, 4: 150.0}, 8: {1: 130.0, 4: 152.0}}) == 4
    assert best_threads({1: {1: 50.0, 4: 80.0}, 2: {1: 90.0, 4: 120.0}}) == 2


@pytest.fixture
def copy(built, tmp_path):
    return shutil.copytree(built, tmp_path / "copy")


def test_the_number_of_answers_is_measured_once_and_remembered(copy, monkeypatch):
    monkeypatch.setattr(tuning, "_WINDOW", 0.05)
    expert, first = open_tuned(copy, settings=SHORT)
    with expert:
        assert set(first.rates) == {1, 2, 4, 8} and not first.remembered
        assert first.slots == best_width(first.rates) == expert.engine.slots
    expert, again = open_tuned(copy, settings=SHORT)
    with expert, open_expert(copy, settings=SHORT) as plain:
        assert again.remembered and again.rates == first.rates
        assert ask(expert, "the land").text == ask(plain, "the land").text
        assert (expert.name, expert.identity, expert.system) == (plain.name, plain.identity, plain.system)


def test_without_a_choice_of_threads_the_better_number_is_measured_and_remembered(copy, monkeypatch):
    monkeypatch.setattr(tuning, "_WINDOW", 0.05)
    monkeypatch.setattr(tuning, "threads_by_load", lambda: 2)
    settings = AskSettings(max_tokens=12)
    expert, first = open_tuned(copy, settings=settings)
    with expert:
        assert first.threads in (1, 2) and expert.engine.threads == first.threads
    expert, again = open_tuned(copy, settings=settings)
    with expert:
        assert again.remembered and (again.threads, again.rates) == (first.threads, first.rates)


def test_a_number_that_a_person_chose_is_taken_without_measuring(copy):
    expert, tuned = open_tuned(copy, settings=SHORT, slots=3)
    with expert:
        assert (tuned.slots, tuned.rates, expert.engine.slots, expert.engine.threads) == (3, {}, 3, 1)
    assert not (copy / "artefacts" / "memory").exists()


def test_more_conversations_than_the_memory_holds_are_refused(copy, monkeypatch):
    monkeypatch.setattr(tuning, "_SHARE", 1e-9)
    with pytest.raises(SettingsError, match=r"serve\.slots = 2"):
        open_tuned(copy, settings=SHORT, slots=2)
