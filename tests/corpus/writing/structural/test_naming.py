"""What a document is about, by its title."""

from __future__ import annotations

import pytest

from werkmeister.corpus.writing.structural.naming import thing_of


@pytest.mark.parametrize(
    ("title", "name", "device"),
    [
        ("Heidler HX-200 Operating Manual", "Heidler HX-200", True),
        ("Heidler HX-200", "Heidler HX-200", True),
        ("LinuxCNC V2.9.0~pre1+git20230208, 28 Jun 2026", "LinuxCNC", False),
        ("LinuxCNC Documentation", "LinuxCNC", False),
        ("Betriebsanleitung für die Hydraulikpumpe HP 40", "Hydraulikpumpe HP 40", True),
        ("Betriebsanleitung: Hydraulikpumpe HP 40", "Hydraulikpumpe HP 40", True),
        ("User's Guide to the Reactor RX", "Reactor RX", True),
        ("pump_manual.pdf", "pump_manual", False),
    ],
)
def test_the_thing_is_named_without_the_kind_of_text_and_version(title: str, name: str, device: bool) -> None:
    thing = thing_of(title)
    assert thing is not None
    assert (thing.name, thing.device) == (name, device)


@pytest.mark.parametrize("title", ["User Manual", "Handbuch", "", "12", "Technische Dokumentation", "x"])
def test_a_title_that_only_says_what_kind_of_text_it_is_names_nothing(title: str) -> None:
    assert thing_of(title) is None
