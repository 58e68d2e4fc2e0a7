from __future__ import annotations

import threading

import pytest

from werkmeister.chat import conversation
from werkmeister.engines.engine import Finished, Sampling, Stop, Token, stream_until
from werkmeister.engines.scripted import ScriptedEngine
from werkmeister.errors import EngineError

QUESTION = conversation("q")
SAMPLING = Sampling(max_tokens=20)


class Plain:
    """An engine that only satisfies Engine."""

    def __init__(self):
        self.inner = ScriptedEngine({}, otherwise="one two three")
        self.name, self.context_length, self.left = "plain", 4096, False

    def stream(self, conversation, sampling):
        try:
            yield from self.inner.stream(conversation, sampling)
        finally:
            self.left = True


@pytest.mark.parametrize("engine", [Plain(), ScriptedEngine({}, otherwise="one two three")], ids=["plain", "stoppable"])
def test_a_stream_ends_after_the_token_during_which_it_was_asked_to(engine):
    whole = list(stream_until(engine, QUESTION, SAMPLING, Stop()))
    assert isinstance(whole[-1], Finished) and len(whole) == 5
    stop = Stop()
    items = stream_until(engine, QUESTION, SAMPLING, stop)
    assert isinstance(next(items), Token)
    stop.ask()
    assert list(items) == []
    assert getattr(engine, "left", True)


def test_an_engine_that_knows_conversations_alone_refuses_a_bare_text():
    with pytest.raises(EngineError, match="bare text"):
        stream_until(Plain(), "go on", SAMPLING, Stop())


def test_who_waits_for_a_stop_is_called_once_and_at_once_when_late():
    stop, called = Stop(), []
    stop.then(lambda: called.append("early"))
    thread = threading.Thread(target=stop.ask)
    thread.start()
    thread.join()
    stop.ask()
    stop.then(lambda: called.append("late"))
    assert called == ["early", "late"] and stop.asked


def test_alternatives_are_told_only_when_asked_for():
    engine = ScriptedEngine({}, otherwise="one", logprob=-0.5)
    assert next(engine.stream(QUESTION, SAMPLING)).alternatives == ()
    assert next(engine.stream(QUESTION, Sampling(alternatives=2))).alternatives == (("one", -0.5),)
