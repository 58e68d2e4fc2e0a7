from __future__ import annotations

import pytest

from werkmeister.chat import Message
from werkmeister.consulting.conversation import standalone

THINGS = {"zw122", "fgk", "pump", "boiler"}


def names(text):
    return [word for word in text.casefold().replace("?", "").replace(".", "").split() if word in THINGS]


def talk(*turns):
    return tuple(Message("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(turns))


def test_a_first_question_stays_as_it_is():
    assert standalone("How is it reset?", (), names) == "How is it reset?"


def test_a_question_that_names_nothing_takes_the_last_thing_along():
    history = talk("How is the boiler reset?", "Press R.", "And the pump?", "Press P.")
    assert standalone("How often is its filter cleaned?", history, names) == "How often is its filter cleaned? (pump)"


def test_a_question_that_names_something_else_leaves_it_behind():
    history = talk("How is the boiler reset?", "Press R.")
    assert standalone("What pressure does the pump need?", history, names) == "What pressure does the pump need?"


def test_what_the_person_named_goes_before_what_an_answer_named():
    history = talk("How is the boiler reset?", "As the pump is.")
    assert standalone("Which battery does it take?", history, names).endswith("(boiler)")
    history = talk("What leaks here?", "The pump.")
    assert standalone("Which battery does it take?", history, names).endswith("(pump)")


@pytest.mark.parametrize("question", ["Why?", "And then?", "Und warum?", "How much?"])
def test_a_question_that_hardly_says_anything_takes_the_words_before_it_along(question):
    history = talk("When is the boiler pressure too low?", "Below 1 bar.")
    asked = standalone(question, history, names)
    assert asked.startswith(question) and {"boiler", "pressure", "low"} <= set(asked.strip(")").split("(")[1].split())


def test_the_system_message_is_no_turn():
    assert standalone("Why?", (Message("system", "You know the pump."),), names) == "Why?"
