"""Whatever a client sends, it gets an error in OpenAI's form, and never a 500."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.delivery.running import running, scripted

ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
KEYS = (
    *(
        "model",
        "messages",
        "prompt",
        "input",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "seed",
    ),
    *("temperature", "top_p", "stop", "n", "logprobs", "top_logprobs", "response_format", "tools", "echo", "best_of"),
    *("logit_bias", "suffix", "frequency_penalty", "encoding_format", "dimensions", "functions", "user"),
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": JSON}),
    max_size=3,
)


@pytest.fixture(scope="module")
def gateway():
    with running(scripted()) as opened:
        yield opened


def holds(gateway, route, body):
    status, _, data = gateway.send("POST", route, body)
    assert status < 500 or status == 501, (status, data)
    if status != 200:
        error = json.loads(data)["error"]
        assert set(error) == {"message", "type", "param", "code"} and "Traceback" not in error["message"]
    return status


@QUICK
@given(route=st.sampled_from(ROUTES), body=st.binary(max_size=60))
def test_bytes(gateway, route, body):
    assert holds(gateway, route, body) == 400


@QUICK
@given(route=st.sampled_from(ROUTES), body=JSON)
def test_any_json(gateway, route, body):
    holds(gateway, route, json.dumps(body).encode())


@QUICK
@given(route=st.sampled_from(ROUTES), more=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3))
def test_known_keys_with_any_value(gateway, route, more):
    whole = {"messages": [{"role": "user", "content": "q"}], "prompt": "q", "input": "q"}
    holds(gateway, route, json.dumps(whole | more).encode())


@QUICK
@given(messages=MESSAGES)
def test_any_messages(gateway, messages):
    holds(gateway, ROUTES[0], json.dumps({"messages": messages}).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"messages":' + b"[" * 50_000,
        b'{"messages":' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "q"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "q"}], "temperature": 1e999}',
        b'{"messages": [{"role": "user", "content": "q"}], "seed": ' + b"9" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "q"}], "seed": ' + b"9" * 500 + b"}",
        '{"messages": [{"role": "user", "content": "ä"}]}'.encode("latin-1"),
        b"\xff\xfe{}",
    ],
)
def test_what_parsers_stumble_over(gateway, body):
    assert holds(gateway, ROUTES[0], body) == 400


@pytest.mark.parametrize("text", ["\0", "<|im_start|>", "é" * 100, "\N{PILE OF POO}", "‮", "a\r\nb: c"])
def test_odd_texts_are_questions_like_others(gateway, text):
    assert gateway.chat(text)[0] == 200
    assert gateway.chat(text, stream=True)[0] == 200


@QUICK
@given(
    path=st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=20),
    method=st.sampled_from(["GET", "PUT", "DELETE"]),
)
def test_any_path(gateway, path, method):
    from urllib.parse import quote

    status, _, data = gateway.send(method, "/v1/" + quote(path))
    assert status in (200, 404, 405, 307)
    assert b"Traceback" not in data
