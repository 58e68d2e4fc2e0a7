"""Tools through the official client: offered by the chat template, called in the answer, their results told back."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import jsonschema
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

import tiny_gguf

from tests.delivery.running import expert, running
from werkmeister.consulting.finding import Finding
from werkmeister.delivery.tools import HeldBack, Tools
from werkmeister.engines.engine import Sampling
from werkmeister.engines.isolated import IsolatedEngine
from werkmeister.engines.scripted import ScriptedEngine

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town",
        "parameters": {
            "type": "object",
            "properties": {"town": {"enum": ["Ulm", "Bonn"]}},
            "required": ["town"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"town": "Ulm"}}\n</tool_call>'
TWO = f'Let me look.\n{CALL}\n<tool_call>\n{{"name": "clock", "arguments": {{}}}}\n</tool_call>'
ASK = {"model": "smith", "tools": [WEATHER, CLOCK]}
# The part of a Hermes template that matters here.
HERMES = (
    "{% if tools %}Call with <tool_call>: {% for tool in tools %}{{ tool.function.name }} {% endfor %}{% endif %}"
    + tiny_gguf.TEMPLATE
)


def smith(script, **options):
    engine = ScriptedEngine(script, otherwise="It is fine.", calls_tools=True)
    return expert(engine, sampling=Sampling(max_tokens=100), **options)


def turns(question):
    return [{"role": "user", "content": question}]


@pytest.fixture(scope="module")
def gateway():
    script = {"one": CALL, "two": TWO, "broken": '<tool_call>\n{"name": "weather"', "less": "a < b and a <tool b>"}
    script |= {"unknown": CALL.replace("weather", "delete_all"), "forced": '{"name": "clock", "arguments": {}}'}
    with running(smith(script)) as opened:
        yield opened


def test_a_call_comes_as_a_call_and_the_text_before_it_as_text(client):
    one = client.chat.completions.create(**ASK, messages=turns("one")).choices[0]
    assert one.finish_reason == "tool_calls" and one.message.content is None
    (call,) = one.message.tool_calls
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == (
        "function",
        "weather",
        {"town": "Ulm"},
    )
    two = client.chat.completions.create(**ASK, messages=turns("two")).choices[0].message
    assert two.content == "Let me look." and [c.function.name for c in two.tool_calls] == ["weather", "clock"]
    assert len({c.id for c in two.tool_calls}) == 2
    single = client.chat.completions.create(**ASK, messages=turns("two"), parallel_tool_calls=False)
    assert len(single.choices[0].message.tool_calls) == 1


@pytest.mark.parametrize("question", ["broken", "less", "unknown", "no call"])
def test_what_is_no_readable_call_stays_text_streamed_or_not(client, question):
    whole = client.chat.completions.create(**ASK, messages=turns(question)).choices[0]
    assert whole.message.tool_calls is None and whole.finish_reason == "stop" and whole.message.content
    pieces = client.chat.completions.create(**ASK, messages=turns(question), stream=True)
    assert "".join(p.choices[0].delta.content or "" for p in pieces) == whole.message.content


def test_a_stream_gives_text_and_calls_apart(client):
    pieces = [p.choices[0] for p in client.chat.completions.create(**ASK, messages=turns("two"), stream=True)]
    assert "".join(p.delta.content or "" for p in pieces).strip() == "Let me look."
    calls = [call for p in pieces for call in p.delta.tool_calls or ()]
    assert [(c.index, c.function.name) for c in calls] == [(0, "weather"), (1, "clock")]
    assert pieces[-1].finish_reason == "tool_calls"


def test_the_model_is_offered_the_tools_and_told_results_as_it_was_trained(gateway, client):
    call = client.chat.completions.create(**ASK, messages=turns("two")).choices[0].message
    results = [{"role": "tool", "tool_call_id": c.id, "content": f"{c.function.name} done"} for c in call.tool_calls]
    said = client.chat.completions.create(**ASK, messages=[*turns("two"), call, *results])
    assert said.choices[0].message.content == "It is fine."
    conversation, sampling = gateway.gateway.expert.engine.asked[-1]
    assert list(sampling.tools) == [WEATHER, CLOCK] and sampling.schema is None
    assert [(turn.role, turn.content) for turn in conversation[1:]] == [
        ("user", "two"),
        ("assistant", TWO),
        ("user", "<tool_response>\nweather done\n</tool_response>\n<tool_response>\nclock done\n</tool_response>"),
    ]


def test_a_choice_limits_what_is_offered_or_forces_a_call(gateway, client):
    named = {"type": "function", "function": {"name": "clock"}}
    forced = client.chat.completions.create(**ASK, messages=turns("forced"), tool_choice=named).choices[0].message
    assert forced.tool_calls[0].function.name == "clock" and forced.content is None
    sampling = gateway.gateway.expert.engine.asked[-1][1]
    assert list(sampling.tools) == [CLOCK] and sampling.schema["anyOf"][0]["properties"]["name"] == {"const": "clock"}
    client.chat.completions.create(**ASK, messages=turns("one"), tool_choice="none")
    assert gateway.gateway.expert.engine.asked[-1][1].tools == ()


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "two words"}}]}, "tools"),
        ({"tools": [{"type": "retrieval"}]}, "tools[0].type"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "messages",
        ),
    ],
)
def test_a_wrong_offer_is_refused_by_name(gateway, more, param):
    status, _, answer = gateway.chat("q", **more)
    assert status == 400 and answer["error"]["param"] == param


def test_with_tools_the_clients_functions_stand_for_the_library():
    class Shelf:
        def find(self, question, history):
            raise AssertionError("searched")

    with running(smith({"one": CALL}, library=Shelf())) as gateway:
        assert gateway.chat("one", tools=[WEATHER])[2]["choices"][0]["message"]["tool_calls"]

    class Open(Shelf):
        def find(self, question, history):
            return Finding()

    with running(smith({}, library=Open())) as gateway:
        assert gateway.chat("one")[0] == 200


@given(text=st.text("<tool_call>{}/ x\n", max_size=60), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_however_a_text_is_cut_nothing_of_it_is_lost_or_doubled(text, cuts):
    tools = Tools(offered=(CLOCK,))
    held = HeldBack(tools)
    places = sorted({0, len(text), *(cut for cut in cuts if cut <= len(text))})
    sent = "".join(held.push(text[a:b]) for a, b in pairwise(places))
    rest, calls = held.rest(text)
    assert sent + rest == text and calls == []


@pytest.mark.parametrize("stream", [False, True])
def test_llama_cpp_calls_what_it_must(tmp_path, stream):
    path = tiny_gguf.write_model(tmp_path / "m.gguf", template=HERMES)
    with (
        IsolatedEngine(path, threads=1) as engine,
        running(expert(engine, sampling=Sampling(max_tokens=80))) as gateway,
        gateway.client() as client,
    ):
        assert engine.calls_tools
        with_tools = client.chat.completions.create(
            model="smith", messages=turns("a"), tools=[WEATHER], tool_choice="required", stream=stream
        )
        if stream:
            (call,) = [c for piece in with_tools for c in piece.choices[0].delta.tool_calls or ()]
        else:
            (call,) = with_tools.choices[0].message.tool_calls
            plain = client.chat.completions.create(model="smith", messages=turns("a"))
            assert with_tools.usage.prompt_tokens > plain.usage.prompt_tokens, "the template offered the tool"
        jsonschema.validate(json.loads(call.function.arguments), WEATHER["function"]["parameters"])


def test_a_model_whose_template_knows_no_tools_refuses_them(tmp_path):
    with IsolatedEngine(tiny_gguf.write_model(tmp_path / "m.gguf"), threads=1) as engine:
        assert not engine.calls_tools
        with running(expert(engine)) as gateway, gateway.client() as client, pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="smith", messages=turns("a"), tools=[CLOCK])
