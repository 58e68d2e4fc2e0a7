"""The remote engine against a server on this machine that speaks OpenAI's protocol."""

from __future__ import annotations

import json
import logging
import math
import socket
import sys
import time
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.openai_server import Drop, Raw, Refuse, Server, serving
from werkmeister.chat import Message, conversation
from werkmeister.engines.engine import Finished, Sampling, collect, reply
from werkmeister.engines.remote import RemoteEngine
from werkmeister.errors import ContextError, EngineError, MachineError, SettingsError
from werkmeister.governing.policy import PolicySettings

ASKED = conversation("What is 2 + 2?", "Be short.")
SHORT = Sampling(max_tokens=20)
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string", "maxLength": 9}},
    "required": ["a"],
    "additionalProperties": False,
}
QUICK = {"Retry-After": "0.05"}


@pytest.fixture
def server():
    with serving() as running:
        yield running


def opened(server: Server, **more) -> RemoteEngine:
    return RemoteEngine(server.url, "tiny", **{"timeout": 10.0, "retries": 2} | more)


def test_an_answer_comes_as_tokens_with_logprobs_and_counts(server):
    server.answer = lambda body: "It is four."
    with opened(server) as engine:
        items = list(engine.stream(ASKED, SHORT))
    assert "".join(token.text for token in items[:-1]) == "It is four."
    assert [token.logprob for token in items[:-1]] == [-0.25] * 4
    assert items[-1] == Finished(finish="stop", prompt_tokens=9, answer_tokens=5)
    assert engine.name == "tiny at 127.0.0.1"
    assert not engine.counts_estimated and not engine.refused


def test_the_request_says_what_the_sampling_says(server):
    sampling = Sampling(max_tokens=7, temperature=0.5, top_p=0.9, seed=3, stop=("x",), schema=SCHEMA)
    with opened(server) as engine:
        reply(engine, (*ASKED, Message("assistant", "4"), Message("user", "Sure?")), sampling)
    (sent,) = server.asked
    assert sent["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "What is 2 + 2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "Sure?"},
    ]
    given = {key: sent[key] for key in ("model", "max_tokens", "temperature", "top_p", "seed", "stop", "stream")}
    assert given == {
        **{"model": "tiny", "max_tokens": 7, "temperature": 0.5, "top_p": 0.9},
        **{"seed": 3, "stop": ["x"], "stream": True},
    }
    assert sent["response_format"]["type"] == "json_schema"
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA


def test_an_answer_cut_at_max_tokens_says_length(server):
    server.answer = lambda body: "one two three four"
    with opened(server) as engine:
        cut = reply(engine, ASKED, Sampling(max_tokens=2))
    assert (cut.text, cut.finish) == ("one two", "length")


def test_a_server_without_logprobs_gives_nan_and_without_counts_an_estimate(server):
    server.logprobs = server.usage = False
    server.answer = lambda body: "one two"
    with opened(server) as engine:
        answer = reply(engine, ASKED, SHORT)
        assert engine.counts_estimated
    assert answer.text == "one two" and len(answer.tokens) == 2
    assert all(math.isnan(token.logprob) for token in answer.tokens)
    size = sum(len(message.content.encode()) for message in ASKED)
    assert (answer.prompt_tokens, answer.answer_tokens) == (size // 4, 2)


@settings(max_examples=30, deadline=None)
@given(pieces=st.lists(st.text(st.characters(codec="utf-8"), max_size=4), max_size=8), stop=st.text("ab", max_size=3))
def test_a_stop_text_ends_the_answer_before_it_even_where_the_server_ignores_it(pieces, stop, stopping_engine):
    server, engine = stopping_engine
    server.pieces = lambda text: pieces
    whole = "".join(pieces)
    answer = reply(engine, ASKED, Sampling(max_tokens=50, stop=(stop,) if stop else ()))
    assert answer.text == (whole[: whole.index(stop)] if stop and stop in whole else whole)
    assert answer.finish == "stop"


@pytest.fixture(scope="module")
def stopping_engine():
    with serving() as server:
        server.check = lambda body: body.pop("stop", None) and None
        with opened(server) as engine:
            yield server, engine


def test_a_rate_limit_is_waited_out_as_the_server_says(server):
    server.plans.append(Refuse(429, "slow down", {"Retry-After": "0.4"}))
    with opened(server) as engine:
        begin = time.perf_counter()
        assert reply(engine, ASKED, SHORT).text == "yes"
    assert 0.4 <= time.perf_counter() - begin < 3
    assert len(server.asked) == 2


def test_a_rate_limit_that_stays_is_an_error_after_the_retries(server):
    server.plans.extend([Refuse(429, "quota used up", QUICK)] * 9)
    with opened(server) as engine, pytest.raises(EngineError, match="quota used up") as caught:
        reply(engine, ASKED, SHORT)
    assert len(server.asked) == 3
    assert "later" in caught.value.hint


def test_a_server_error_is_tried_again_and_then_told(server):
    server.plans.extend([Refuse(500, "boiler burst", QUICK), Refuse(503, "boiler burst", QUICK)])
    with opened(server) as engine:
        assert reply(engine, ASKED, SHORT).text == "yes"
        server.plans.extend([Refuse(500, "boiler burst", QUICK)] * 3)
        with pytest.raises(EngineError, match=r"HTTP 500.*boiler burst"):
            reply(engine, ASKED, SHORT)


def test_an_answer_that_breaks_off_before_its_first_token_is_asked_again(server):
    server.plans.append(Drop(0))
    with opened(server) as engine:
        assert reply(engine, ASKED, SHORT).text == "yes"
    assert len(server.asked) == 2


def test_an_answer_that_never_begins_is_given_up_after_the_retries_alone(server):
    server.plans.extend([Drop(0)] * 9)
    with opened(server, retries=1) as engine, pytest.raises(EngineError, match="broke"):
        list(engine.replies([ASKED], SHORT))
    assert len(server.asked) == 2


def test_a_stream_that_breaks_off_later_is_an_error_and_whole_replies_are_asked_again(server):
    server.answer = lambda body: "one two three"
    server.plans.append(Drop(2))
    with opened(server) as engine:
        with pytest.raises(EngineError, match="broke in the middle"):
            collect(engine.stream(ASKED, SHORT))
        server.plans.append(Drop(2))
        (answer,) = engine.replies([ASKED], SHORT)
    assert answer.text == "one two three"


def test_replies_come_in_order_with_several_under_way(server):
    server.answer = lambda body: body["messages"][-1]["content"]
    server.wait = 0.05
    questions = [conversation(f"number {number}") for number in range(12)]
    with opened(server, concurrency=4) as engine:
        found = [answer.text for answer in engine.replies(questions, SHORT)]
    assert found == [f"number {number}" for number in range(12)]
    assert 2 <= server.most_at_once <= 4


def test_a_refused_key_names_the_variable_and_never_shows_the_key(server, monkeypatch, caplog):
    monkeypatch.setenv("TEACHER_KEY", "sk-very-secret")
    server.plans.append(Refuse(401, "Incorrect API key provided: sk-very-secret."))
    with caplog.at_level(logging.DEBUG), opened(server, key_env="TEACHER_KEY") as engine:
        assert server.headers[0]["authorization"] == "Bearer sk-very-secret"
        with pytest.raises(SettingsError, match="TEACHER_KEY") as caught:
            reply(engine, ASKED, SHORT)
    assert "sk-very" not in str(caught.value) + repr(vars(engine)) + caplog.text
    assert len(server.asked) == 1
    assert "[key]" in "".join(traceback.format_exception_only(caught.value))


def test_without_a_key_none_is_sent_whatever_the_environment_holds(server, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "of another account")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: something")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://192.0.2.1/v1")
    with opened(server) as engine:
        reply(engine, ASKED, SHORT)
    assert len(server.headers) == 2
    for headers in server.headers:
        assert "another account" not in json.dumps(headers)
        usual = {"host", "accept", "accept-encoding", "connection", "content-length", "content-type", "user-agent"}
        assert set(headers) <= usual


def test_a_variable_that_is_not_set_is_named_before_anything_is_sent(server, monkeypatch):
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(SettingsError, match=r"TEACHER_KEY.*not set") as caught:
        opened(server, key_env="TEACHER_KEY")
    assert "export TEACHER_KEY" in caught.value.hint
    assert not server.headers


def test_an_unknown_model_is_told_with_the_nearest_that_is_served(server):
    server.models = ({"id": "qwen3-8b"}, {"id": "mistral-small"})
    server.plans.append(Refuse(404, "The model `qwen3-8` does not exist"))
    with (
        RemoteEngine(server.url, "qwen3-8", retries=0) as engine,
        pytest.raises(SettingsError, match="did you mean 'qwen3-8b'") as caught,
    ):
        reply(engine, ASKED, SHORT)
    assert "teacher_model" in caught.value.hint


def test_the_only_model_is_found_and_of_several_one_must_be_named(server):
    server.models = ({"id": "alone", "max_model_len": 2048},)
    with RemoteEngine(server.url) as engine:
        assert (engine.model, engine.context_length) == ("alone", 2048)
        with pytest.raises(ContextError, match="2048"):
            engine.stream(ASKED, Sampling(max_tokens=4000))
    server.models = ({"id": "one"}, {"id": "two"})
    with pytest.raises(SettingsError, match="one, two"):
        RemoteEngine(server.url)
    server.models = Refuse(404)
    with pytest.raises(SettingsError, match="does not tell"):
        RemoteEngine(server.url)
    with RemoteEngine(server.url, "named") as engine:
        assert (engine.model, engine.context_length) == ("named", 0)


@pytest.mark.parametrize(
    "refusal",
    [
        Refuse(400, "This model's maximum context length is 512 tokens. 'max_tokens' is too large"),
        Refuse(400, "too long", fields={"code": "context_length_exceeded"}),
        Refuse(400, "the request exceeds", fields={"type": "exceed_context_size_error"}),
    ],
    ids=["vLLM", "OpenAI", "llama.cpp"],
)
def test_a_prompt_that_is_too_long_is_a_context_error(server, refusal):
    server.plans.append(refusal)
    with opened(server) as engine, pytest.raises(ContextError):
        reply(engine, ASKED, SHORT)
    assert len(server.asked) == 1


def test_what_a_server_will_not_take_is_left_out_and_told(server):
    def check(body):
        for name in ("logprobs", "temperature", "stream_options"):
            if name in body:
                return Refuse(400, f"Unsupported parameter: '{name}'", fields={"param": name})
        if "max_tokens" in body:
            return Refuse(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return None

    server.check = check
    server.answer = lambda body: "one two three"
    with opened(server) as engine:
        assert reply(engine, ASKED, Sampling(max_tokens=2)).text == "one two"
        asked = len(server.asked)
        assert reply(engine, ASKED, Sampling(max_tokens=2)).text == "one two"
        assert engine.refused == {"logprobs", "temperature", "stream_options"}
    assert len(server.asked) == asked + 1


def test_bounds_on_lengths_are_left_out_where_a_server_refuses_them(server):
    def check(body):
        schema = json.dumps(body.get("response_format", {}))
        return (
            Refuse(400, "Invalid schema for response_format: 'maxLength' is not permitted")
            if "maxL" in schema
            else None
        )

    server.check = check
    with opened(server) as engine:
        reply(engine, ASKED, Sampling(schema=SCHEMA))
        assert engine.refused == {"schema lengths"}
    sent = server.asked[-1]["response_format"]["json_schema"]["schema"]
    assert sent == SCHEMA | {"properties": {"a": {"type": "string"}}}


def test_a_server_that_takes_no_schema_is_an_error_with_the_next_step(server):
    server.check = lambda body: Refuse(400, "response_format is unavailable") if "response_format" in body else None
    with opened(server) as engine, pytest.raises(EngineError, match="JSON schema") as caught:
        reply(engine, ASKED, Sampling(schema=SCHEMA))
    assert ".gguf" in caught.value.hint


def test_a_redirect_is_not_followed(server):
    with serving() as other:
        target = f"{other.url}/chat/completions"
        server.plans.append(Refuse(307, "moved", {"Location": target}))
        with opened(server) as engine, pytest.raises(SettingsError, match="redirects") as caught:
            reply(engine, ASKED, SHORT)
        assert target in caught.value.message
        assert not other.asked and not other.headers


def test_a_server_on_this_machine_is_not_reached_through_a_proxy(server, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with opened(server) as engine:
        assert reply(engine, ASKED, SHORT).text == "yes"


def test_a_host_that_the_policy_does_not_name_is_refused_before_any_connection(monkeypatch):
    def connect(*args):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    with pytest.raises(SettingsError, match=r"\[policy\] allow"):
        RemoteEngine("https://llm.example.com/v1", "big", policy=PolicySettings(allow=("other.example.com",)))


def test_a_server_that_is_not_there_is_told_with_its_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EngineError, match=f"127.0.0.1:{port}.*refused") as caught:
        RemoteEngine(f"http://127.0.0.1:{port}/v1", "tiny", retries=0)
    assert "start the server" in caught.value.hint


def test_a_server_that_stays_silent_is_given_up(server):
    server.wait = 1.0
    with opened(server, timeout=0.2, retries=0) as engine, pytest.raises(EngineError, match="in time"):
        reply(engine, ASKED, SHORT)


@pytest.mark.parametrize(
    "body",
    [b"<html>hello</html>", b"data: {broken\n\n", b"data: [DONE]\n\n", b""],
    ids=["a web page", "broken JSON", "an empty stream", "nothing"],
)
def test_what_is_no_answer_is_an_error_not_an_empty_answer(server, body):
    server.plans.append(Raw(body))
    with opened(server, retries=0) as engine, pytest.raises(EngineError):
        reply(engine, ASKED, SHORT)


def test_a_web_page_in_the_place_of_an_endpoint_is_told_as_one_at_once(server):
    page = b"<!DOCTYPE html><html><body>Welcome</body></html>"
    server.plans.append(Raw(page, "text/html"))
    with opened(server) as engine, pytest.raises(SettingsError, match="web page") as chat:
        reply(engine, ASKED, SHORT)
    assert "/v1" in chat.value.hint and len(server.asked) == 1
    server.models = Raw(page, "text/html; charset=utf-8")
    with pytest.raises(SettingsError, match="web page"):
        opened(server)


def test_an_answer_that_a_content_filter_took_is_an_error(server):
    server.finish = "content_filter"
    with opened(server) as engine, pytest.raises(EngineError, match="content filter"):
        reply(engine, ASKED, SHORT)


def test_an_error_in_the_middle_of_a_stream_is_told(server):
    body = b'data: {"error": {"message": "the GPU fell out"}}\n\n'
    server.plans.append(Raw(body))
    with opened(server, retries=0) as engine, pytest.raises(EngineError, match="the GPU fell out"):
        reply(engine, ASKED, SHORT)


def test_leaving_a_stream_early_leaves_the_engine_usable(server):
    server.answer = lambda body: "one two three"
    with opened(server) as engine:
        stream = engine.stream(ASKED, SHORT)
        assert next(stream).text == "one"
        stream.close()
        assert reply(engine, ASKED, SHORT).text == "one two three"


def test_without_the_package_the_command_that_installs_it_is_told(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MachineError, match="openai") as caught:
        opened(server)
    assert "pip install" in caught.value.hint


def test_a_closed_engine_says_so(server):
    engine = opened(server)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        reply(engine, ASKED, SHORT)


def test_llama_cpp_behind_its_own_port_keeps_to_a_schema_and_tells_logprobs_and_counts(tiny):
    xllamacpp = pytest.importorskip("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(tiny)
    parameters.n_ctx, parameters.n_parallel, parameters.verbosity = 256, 1, -1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.warmup = parameters.fit_params = False
    parameters.use_jinja = True
    native = xllamacpp.Server(parameters)
    native.handle_metrics()
    schema = {
        "type": "object",
        "properties": {"on": {"type": "boolean"}, "room": {"enum": ["bath", "hall"]}},
        "required": ["on", "room"],
        "additionalProperties": False,
    }
    with RemoteEngine(f"{native.listening_address}/v1", retries=0) as engine:
        answer = reply(engine, conversation("the land"), Sampling(max_tokens=60, schema=schema))
        value = json.loads(answer.text)
        assert set(value) == {"on", "room"} and value["room"] in ("bath", "hall")
        assert answer.finish == "stop" and answer.prompt_tokens > 0 and answer.answer_tokens > 4
        assert all(token.logprob <= 0 for token in answer.tokens)
        with pytest.raises(ContextError):
            reply(engine, conversation("the land " * 200), SHORT)
        assert not engine.counts_estimated and engine.refused == set()
