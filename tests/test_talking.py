"""A conversation with an expert on standard input and output, as programs hold it."""

import io
import json

import pytest

from werkmeister.consulting.expert import Expert
from werkmeister.engines.engine import Sampling
from werkmeister.engines.scripted import ScriptedEngine
from werkmeister.errors import DataError, EngineError
from werkmeister.talking import talk


def spoken(monkeypatch, capsys, script, lines):
    """The engine that was talked to, and the JSON lines that came out."""
    engine = ScriptedEngine(script, context_length=40)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    talk(Expert(name="smith", engine=engine, system="", sampling=Sampling(max_tokens=4)), as_json=True)
    return engine, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_question_that_cannot_be_put_is_told_and_the_talk_goes_on(monkeypatch, capsys):
    def script(turns):
        if turns[-1].content == "odd":
            raise DataError("the template refuses these turns")
        return f"to {turns[-1].content}"

    engine, found = spoken(monkeypatch, capsys, script, ["one", "odd", "word " * 50, "", "two"])
    assert found[0]["text"] == "to one" and found[-1]["text"] == "to two"
    assert found[1] == {"error": "the template refuses these turns"}
    assert "the context of scripted holds 40" in found[2]["error"] and len(found) == 4
    assert [turn.content for turn in engine.asked[-1][0]] == ["one", "to one", "two"]


def test_an_engine_that_fails_ends_the_talk(monkeypatch, capsys):
    def script(turns):
        raise EngineError("broken")

    with pytest.raises(EngineError):
        spoken(monkeypatch, capsys, script, ["one", "two"])
