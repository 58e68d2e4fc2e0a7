from __future__ import annotations

import pytest

from werkmeister.consulting.chat_loop import converse
from werkmeister.consulting.expert import Expert
from werkmeister.consulting.finding import Finding
from werkmeister.engines.engine import Sampling
from werkmeister.engines.scripted import ScriptedEngine
from werkmeister.errors import EngineError
from werkmeister.passage import Passage


def talk(lines, engine, *, max_tokens=4, system=""):
    """What the person saw; an exception among the lines is raised by reading."""
    shown = []
    given = iter(lines)

    def read():
        line = next(given)
        if isinstance(line, BaseException):
            raise line
        return line

    converse(
        Expert(name="smith", engine=engine, system=system, sampling=Sampling(max_tokens=max_tokens)), read, shown.append
    )
    return "".join(shown)


def echo(turns):
    return f"said {len(turns)}"


def test_each_question_sees_the_turns_before_it_and_the_system_message():
    engine = ScriptedEngine(echo)
    shown = talk(["one", "two", "/quit"], engine, system="Be brief.")
    assert "said 2\n" in shown and "said 4\n" in shown
    assert [m.content for m in engine.asked[1][0]] == ["Be brief.", "one", "said 2", "two"]


def test_the_end_of_input_and_ctrl_c_while_reading_end_the_talk():
    assert talk([None], ScriptedEngine(echo)).endswith("\n")
    assert talk([KeyboardInterrupt()], ScriptedEngine(echo)).endswith("\n")


def test_empty_lines_ask_nothing():
    engine = ScriptedEngine(echo)
    talk(["", "   ", "/quit"], engine)
    assert engine.asked == []


def test_new_forgets_the_turns_and_an_unknown_command_is_not_asked():
    engine = ScriptedEngine(echo)
    shown = talk(["one", "/new", "/nwe", "two", "/quit"], engine)
    assert [len(turns) for turns, _ in engine.asked] == [1, 1]
    assert "starts anew" in shown and "/nwe is no command" in shown


def test_a_conversation_that_outgrows_the_context_loses_its_oldest_turns_and_says_so():
    engine = ScriptedEngine(echo, context_length=12)
    shown = talk(["one", "two", "three", "four", "/quit"], engine)
    assert "The oldest turn was left out" in shown and "12 tokens" in shown
    turns = [m.content for m in engine.asked[-1][0]]
    assert turns[-1] == "four" and "one" not in turns
    assert turns[0] in ("two", "three"), "whole turns go, questions first"


def test_a_question_that_alone_does_not_fit_is_refused_and_the_conversation_stays():
    engine = ScriptedEngine(echo, context_length=12)
    shown = talk(["one", "long " * 20, "two", "/quit"], engine)
    assert "together" in shown
    assert [m.content for m in engine.asked[-1][0]] == ["one", "said 1", "two"]


def test_ctrl_c_stops_an_answer_and_forgets_its_turn():
    def interrupted(turns):
        if turns[-1].content == "stop":
            raise KeyboardInterrupt
        return echo(turns)

    engine = ScriptedEngine(interrupted)
    shown = talk(["one", "stop", "two", "/quit"], engine)
    assert "Stopped" in shown
    assert [m.content for m in engine.asked[-1][0]] == ["one", "said 1", "two"]


def test_an_answer_that_was_cut_is_marked():
    assert "Cut at 4 tokens" in talk(["q", "/quit"], ScriptedEngine({}, otherwise="a b c d e f"))


def test_an_engine_that_fails_ends_the_talk_with_its_error():
    with pytest.raises(EngineError):
        talk(["bad"], ScriptedEngine(echo, fail_on=frozenset({"bad"})))


def test_below_an_answer_stand_its_sources_and_what_they_do_not_tell():
    passage = Passage(id="1" * 16, document="m.pdf", title="T", headings=("H",), text="It is red.", start=0, end=10)

    class Shelf:
        def find(self, question, history):
            return Finding(passages=(passage,))

    shown = []
    engine = ScriptedEngine({}, otherwise="It is red. Buy it.")
    expert = Expert(name="smith", engine=engine, system="", sampling=Sampling(max_tokens=20), library=Shelf())
    lines = iter(["colour?", None])
    converse(expert, lambda: next(lines), shown.append)
    text = "".join(shown)
    assert "[1] m.pdf, H: \u201cIt is red\u201d\n" in text
    assert "(Not supported by the documents: \u201cBuy it.\u201d)\n" in text
