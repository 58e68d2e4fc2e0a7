from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from werkmeister.chat import conversation
from werkmeister.engines.engine import Finished, Sampling, Token, reply
from werkmeister.engines.scripted import ScriptedEngine, words
from werkmeister.errors import ContextError, EngineError


@given(st.text())
def test_words_joined_are_the_text_again(text):
    assert "".join(words(text)) == text


def test_the_mapping_answers_word_by_word_with_given_logprobs_and_ends_with_an_empty_token():
    engine = ScriptedEngine({"who?": "The smith, of course."}, logprobs={" smith": -2.5}, logprob=-0.5)
    items = list(engine.stream(conversation("who?", "Be short."), Sampling()))
    assert [item.text for item in items if isinstance(item, Token)] == ["The", " smith", ",", " of", " course", ".", ""]
    assert [item.logprob for item in items if isinstance(item, Token)][:3] == [-0.5, -2.5, -0.5]
    assert items[-1] == Finished(finish="stop", prompt_tokens=5, answer_tokens=7)


def test_a_function_answers_from_the_whole_conversation_and_a_gap_in_the_mapping_gets_otherwise():
    engine = ScriptedEngine(lambda turns: f"{len(turns)} turns")
    assert reply(engine, conversation("a", "b"), Sampling()).text == "2 turns"
    assert reply(ScriptedEngine({}, otherwise="no idea"), conversation("a"), Sampling()).text == "no idea"


def test_max_tokens_and_stop_texts_cut():
    engine = ScriptedEngine({"q": "one two three four"})
    cut = reply(engine, conversation("q"), Sampling(max_tokens=2))
    assert (cut.text, cut.finish, cut.answer_tokens) == ("one two", "length", 2)
    assert reply(engine, conversation("q"), Sampling(stop=(" three", "four"))).text == "one two"
    assert reply(engine, conversation("q"), Sampling(stop=("four",))).finish == "stop"


def test_it_fails_when_told_to_overflows_when_too_long_and_refuses_when_closed():
    with ScriptedEngine({}, otherwise="yes", fail_on=frozenset({"bad"}), context_length=6) as engine:
        with pytest.raises(EngineError, match="'bad'"):
            engine.stream(conversation("bad"), Sampling(max_tokens=3))
        with pytest.raises(ContextError, match="together 7, and the context of scripted holds 6"):
            engine.stream(conversation("a b c d"), Sampling(max_tokens=3))
        assert [r.text for r in engine.replies([conversation("a")] * 2, Sampling(max_tokens=3))] == ["yes", "yes"]
        assert len(engine.asked) == 4
    with pytest.raises(EngineError, match="closed"):
        engine.stream(conversation("a"), Sampling(max_tokens=3))


def test_a_slow_engine_takes_its_time():
    engine = ScriptedEngine({}, otherwise="a b c", seconds_a_token=0.02)
    begin = time.perf_counter()
    assert reply(engine, conversation("q"), Sampling()).seconds >= 0.08
    assert time.perf_counter() - begin >= 0.08
