from __future__ import annotations

import base64
import http.client
import json
import math
import shutil
import statistics
import struct
import subprocess
import time

import jsonschema
import openai
import pytest

from tests.consulting.shelves import library
from tests.delivery.running import expert, running, scripted
from werkmeister.consulting.embedding import ScriptedEmbedder
from werkmeister.consulting.finding import Finding
from werkmeister.delivery import schemas
from werkmeister.delivery.gateway_page import page_routes
from werkmeister.delivery.openapi import document
from werkmeister.delivery.serving import embedder_of
from werkmeister.engines.engine import Sampling
from werkmeister.engines.scripted import ScriptedEngine
from werkmeister.grounding import open_book
from werkmeister.passage import Passage

ASK = {"model": "smith", "messages": [{"role": "user", "content": "who?"}]}


@pytest.fixture(scope="module")
def gateway():
    with running(scripted({"who?": "The smith, of course."}, logprobs={" smith": -0.7})) as opened:
        yield opened


def last_asked(gateway):
    return gateway.gateway.expert.engine.asked[-1]


def test_the_official_client_gets_an_answer_with_usage_and_finish(client):
    answer = client.chat.completions.create(**ASK)
    assert answer.object == "chat.completion" and answer.model == "smith"
    assert answer.choices[0].message.content == "The smith, of course."
    assert (answer.choices[0].message.role, answer.choices[0].finish_reason) == ("assistant", "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 7, 12)


def test_our_facts_ride_in_one_field_and_its_id_in_the_header(client):
    raw = client.chat.completions.with_raw_response.create(**ASK)
    answer = raw.parse()
    facts = answer.model_extra["werkmeister"]
    assert raw.headers["x-request-id"] == answer.id == facts["id"] == answer._request_id
    (one,) = facts["answers"]
    assert one["confidence"] == pytest.approx(math.exp(-0.7))
    assert (one["route"], one["joules"], one["cost"]) == ("local", "not measured", "not measured")
    assert (facts["expert"], facts["identity"], one["tokens"]) == ("smith", "abc123", 7)
    assert 0 <= one["first_seconds"] <= one["seconds"]
    assert "text" not in one


def test_a_stream_gives_the_text_the_end_our_facts_and_then_usage(client):
    pieces = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    assert pieces[0].choices[0].delta.role == "assistant"
    assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == "The smith, of course."
    ends = [p for p in pieces if p.choices and p.choices[0].finish_reason]
    assert [p.choices[0].finish_reason for p in ends] == ["stop"]
    assert ends[0].model_extra["werkmeister"]["answers"][0]["tokens"] == 7
    assert pieces[-1].choices == [] and pieces[-1].usage.total_tokens == 12
    assert all(p.usage is None for p in pieces[:-1])
    assert len({p.id for p in pieces}) == 1


def test_a_stream_without_include_usage_has_none_and_ends_with_done(gateway):
    status, headers, data = gateway.chat("who?", stream=True)
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    events = data.decode().strip().split("\n\n")
    assert events[-1] == "data: [DONE]" and '"usage"' not in data.decode()
    assert all(event.startswith("data: ") for event in events)


def test_slow_tokens_arrive_while_the_answer_is_made():
    with running(scripted(seconds_a_token=0.05)) as gateway, gateway.client() as client:
        pieces = list(client.chat.completions.create(**ASK, stream=True))
        assert [p.choices[0].delta.content for p in pieces if p.choices[0].delta.content] == ["one", " two", " three"]


def test_log_probabilities_are_told_token_by_token(client):
    content = client.chat.completions.create(**ASK, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert [token.token for token in content] == ["The", " smith", ",", " of", " course", "."]
    assert content[1].logprob == -0.7 and bytes(content[1].bytes) == b" smith"
    assert content[1].top_logprobs[0].token == " smith"
    assert client.chat.completions.create(**ASK).choices[0].logprobs is None


def test_a_stream_tells_the_same_log_probabilities(client):
    pieces = client.chat.completions.create(**ASK, stream=True, logprobs=True)
    tokens = [t.token for p in pieces if p.choices[0].logprobs for t in p.choices[0].logprobs.content]
    assert "".join(tokens) == "The smith, of course."


def test_several_answers_have_seeds_that_follow_one_another(gateway, client):
    before = len(gateway.gateway.expert.engine.asked)
    answer = client.chat.completions.create(**ASK, n=3, seed=41)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert sorted(s.seed for _, s in gateway.gateway.expert.engine.asked[before:]) == [41, 42, 43]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 21), "the prompt counts once"
    assert [one["index"] for one in answer.model_extra["werkmeister"]["answers"]] == [0, 1, 2]


def test_several_answers_stream_side_by_side(client):
    texts = {0: "", 1: ""}
    ended = []
    for piece in client.chat.completions.create(**ASK, n=2, stream=True):
        (choice,) = piece.choices
        texts[choice.index] += choice.delta.content or ""
        ended += [choice.index] if choice.finish_reason else []
    assert set(texts.values()) == {"The smith, of course."} and sorted(ended) == [0, 1]


def test_how_to_draw_reaches_the_engine(gateway, client):
    client.chat.completions.create(
        **ASK, temperature=0.7, top_p=0.9, seed=-3, stop=["course", "x"], max_completion_tokens=9
    )
    sampling = last_asked(gateway)[1]
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.7, 0.9, 9)
    assert sampling.stop == ("course", "x")
    assert 0 <= sampling.seed < 2**32 - 1


def test_what_a_client_leaves_open_is_as_the_expert_was_set_up():
    usual = Sampling(max_tokens=7, temperature=0.3, stop=("</s>",))
    with running(expert(ScriptedEngine({}, otherwise="ok"), sampling=usual)) as gateway:
        gateway.chat("q")
        told = last_asked(gateway)[1]
        assert (told.max_tokens, told.temperature, told.stop) == (7, 0.3, ("</s>",))
        gateway.chat("q", stop="!")
        assert last_asked(gateway)[1].stop == ("</s>", "!")


def test_an_answer_that_is_cut_says_length(client):
    assert client.chat.completions.create(**ASK, max_tokens=2).choices[0].finish_reason == "length"


def test_a_json_schema_and_json_object_reach_the_engine(gateway, client):
    schema = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
    form = {"type": "json_schema", "json_schema": {"name": "switch", "schema": schema}}
    client.chat.completions.create(**ASK, response_format=form)
    assert last_asked(gateway)[1].schema == schema
    client.chat.completions.create(**ASK, response_format={"type": "json_object"})
    assert last_asked(gateway)[1].schema == {"type": "object"}


def test_a_conversation_is_put_under_the_experts_own_system_message(gateway):
    turns = [("system", "Be kind."), ("user", "a"), ("assistant", "b"), ("user", [{"type": "text", "text": "who?"}])]
    gateway.send("POST", "/v1/chat/completions", {"messages": [{"role": r, "content": c} for r, c in turns]})
    said = [(m.role, m.content) for m in last_asked(gateway)[0]]
    assert said == [("system", "Be brief.\n\nBe kind."), ("user", "a"), ("assistant", "b"), ("user", "who?")]


def test_a_library_puts_passages_before_the_question_in_the_trained_form():
    passage = Passage(id="1" * 16, document="m.pdf", title="Manual", headings=(), text="It is red.", start=0, end=10)

    class Shelf:
        def find(self, question, history):
            return Finding(passages=(passage,))

    with running(expert(ScriptedEngine({}, otherwise="red"), library=Shelf())) as gateway:
        _, _, answer = gateway.chat("which colour?")
        assert last_asked(gateway)[0][-1].content == open_book("which colour?", [passage])
        assert answer["werkmeister"]["answers"][0]["passages"] == [
            {"id": "1" * 16, "place": "m.pdf", "title": "Manual", "text": "It is red."}
        ]
        gateway.send("POST", "/v1/completions", {"prompt": "which colour?"})
        assert last_asked(gateway)[0][-1].content == "which colour?", "a bare text is continued as it is"


def test_a_client_may_name_the_documents_that_it_stands_before(tmp_path):
    shelves = library(tmp_path / "l.sqlite")
    with running(expert(ScriptedEngine({}, otherwise="It holds."), library=shelves)) as gateway:
        for device in ("acme-ax-100", "acme-ax-200"):
            status, _, answer = gateway.chat("How is it reset?", documents=[f"manuals/{device}.md"])
            found = {one["place"].split(",")[0] for one in answer["werkmeister"]["answers"][0]["passages"]}
            assert (status, found) == (200, {f"manuals/{device}.md"})
        status, _, refused = gateway.chat("How is it reset?", documents=["acme-ax-100.md"])
        assert (status, refused["error"]["code"], refused["error"]["param"]) == (404, "document_not_found", "documents")
        assert "manuals/acme-ax-100.md" in refused["error"]["message"]
    with running(expert(ScriptedEngine({}, otherwise="It holds."))) as bare:
        status, _, refused = bare.chat("How is it reset?", documents=["x.md"])
        assert status == 404 and "no library" in refused["error"]["message"]


def test_tools_are_refused_with_the_reason(client):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ASK, tools=[tool])
    assert (caught.value.code, caught.value.param) == ("tools_not_supported", "tools")
    assert "response_format" in caught.value.message


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "poet", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"n": 17}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"5": 100}}, "logit_bias"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"stop": [""]}, "stop[0]"),
    ],
)
def test_a_wrong_value_is_refused_by_name(gateway, more, param):
    status, _, answer = gateway.chat("q", **more)
    assert status == 400 and answer["error"]["param"] == param
    assert set(answer["error"]) == {"message", "type", "param", "code"}


def test_what_clients_send_without_need_passes(gateway):
    more = {"frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}, "user": "me", "tools": [], "store": False}
    assert gateway.chat("who?", **more, metadata=None, n=None, stop=None, max_tokens=None)[0] == 200


def test_another_model_is_not_found_and_none_is_this_one(client, gateway):
    with pytest.raises(openai.NotFoundError, match="smith"):
        client.chat.completions.create(**ASK | {"model": "gpt-5"})
    assert gateway.chat("who?")[0] == 200
    assert [model.id for model in client.models.list()] == ["smith"]
    assert client.models.retrieve("smith").id == "smith"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_a_prompt_that_does_not_fit_is_a_bad_request(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="smith", messages=[{"role": "user", "content": "word " * 5000}])
    assert caught.value.code == "context_length_exceeded" and "holds 4096" in caught.value.message


def test_a_stream_that_cannot_begin_has_the_status_of_its_error(client):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model="smith", messages=[{"role": "user", "content": "word " * 5000}], stream=True
        )


def test_a_bare_text_is_continued_without_template_and_system_message(gateway, client):
    answer = client.completions.create(model="smith", prompt="who?", logprobs=1)
    assert answer.object == "text_completion" and answer.choices[0].text == "The smith, of course."
    assert [m.role for m in last_asked(gateway)[0]] == ["user"]
    logprobs = answer.choices[0].logprobs
    assert logprobs.tokens[1] == " smith" and logprobs.token_logprobs[1] == -0.7
    for token, at in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        assert answer.choices[0].text.startswith(token, at)


def test_several_bare_texts_and_a_stream_of_one(client):
    answer = client.completions.create(model="smith", prompt=["who?", "what?"], n=2)
    assert [choice.text for choice in answer.choices] == ["The smith, of course."] * 2 + ["one two three"] * 2
    assert answer.usage.prompt_tokens == 4
    text = "".join(p.choices[0].text for p in client.completions.create(model="smith", prompt="who?", stream=True))
    assert text == "The smith, of course."


def test_embeddings_without_a_model_for_them_are_not_implemented(client):
    with pytest.raises(openai.InternalServerError) as caught:
        client.embeddings.create(model="smith", input="a")
    assert caught.value.status_code == 501 and caught.value.code == "embeddings_not_supported"


def test_embeddings_come_from_the_model_that_is_given():
    class Lengths:
        name = "lengths"

        def embed(self, texts):
            assert len(texts) <= 8, "in portions, so that questions get their turn in between"
            return [[float(len(text)), 0.5] for text in texts]

    with running(scripted(), embedder=Lengths()) as gateway, gateway.client() as client:
        found = client.embeddings.create(model="smith", input=["a", "bcd"])
        assert [list(one.embedding) for one in found.data] == [[1.0, 0.5], [3.0, 0.5]]
        many = client.embeddings.create(model="smith", input=["x" * length for length in range(1, 31)])
        assert [(one.index, one.embedding[0]) for one in many.data] == [(n, n + 1.0) for n in range(30)]
        body = {"input": "ab", "encoding_format": "base64"}
        raw = json.loads(gateway.send("POST", "/v1/embeddings", body)[2])["data"][0]["embedding"]
        assert struct.unpack("<2f", base64.b64decode(raw)) == (2.0, 0.5)


def test_embeddings_of_an_expert_with_a_library_are_those_that_it_searches_by(tmp_path):
    embedder = ScriptedEmbedder(width=8)
    served = expert(ScriptedEngine({}), library=library(tmp_path / "l.sqlite", embedder=embedder))
    with running(served, embedder=embedder_of(served)) as gateway, gateway.client() as client:
        found = client.embeddings.create(model="smith", input=["the pump", "reset"], encoding_format="float")
    assert found.model == "scripted"
    assert [one.embedding for one in found.data] == embedder.questions(["the pump", "reset"]).tolist()
    assert embedder_of(expert(ScriptedEngine({}), library=library(tmp_path / "words.sqlite"))) is None


def test_embeddings_that_take_too_long_are_broken_off():
    class Slow:
        name = "slow"

        def embed(self, texts):
            time.sleep(0.2)
            return [[1.0] for _ in texts]

    with running(scripted(), embedder=Slow(), timeout=0.3) as gateway:
        begin = time.perf_counter()
        status, _, body = gateway.send("POST", "/v1/embeddings", {"input": ["a"] * 400})
        assert status == 504 and json.loads(body)["error"]["code"] == "timeout"
        assert time.perf_counter() - begin < 3
        assert gateway.send("POST", "/v1/embeddings", {"input": "a"})[0] == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_command_of_the_page_works(gateway):
    body = json.dumps({"messages": [{"role": "user", "content": "who?"}], "stream": True})
    url = f"{gateway.url}/v1/chat/completions"
    command = ["curl", "-sSN", "--fail-with-body", url, "-H", "Content-Type: application/json", "-d", body]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.rstrip().endswith("data: [DONE]")


def test_the_document_describes_every_route_and_only_valid_schemas(gateway):
    told = json.loads(gateway.send("GET", "/openapi.json")[2])
    assert told == json.loads(json.dumps(document("smith")))
    pages = {route.path for route in page_routes({})}
    assert set(told["paths"]) == {route.path for route in gateway.gateway.app.routes} - pages
    for schema in (schemas.CHAT, schemas.COMPLETION, schemas.EMBEDDING):
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_page_names_the_routes_and_escapes_what_it_shows():
    with running(expert(ScriptedEngine({}), name="<script>alert(1)</script>")) as gateway:
        status, headers, page = gateway.send("GET", "/docs")
        assert status == 200 and b"/v1/chat/completions" in page and b"max_completion_tokens" in page
        assert b"<script>" not in page and "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_gateway_itself_takes_milliseconds(gateway, stream):
    """Nagle's algorithm alone would take 40 ms an answer; the bound leaves room for a busy machine."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    took = []
    for _ in range(30):
        begin = time.perf_counter()
        body = json.dumps(ASK | {"stream": stream})
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read(10)
        took.append(time.perf_counter() - begin)
        response.read()
    connection.close()
    assert statistics.median(took) < 0.03


def test_metrics_count_requests_tokens_and_times():
    with running(scripted()) as gateway:
        for _ in range(3):
            gateway.chat("q")
        gateway.chat("q", temperature=-1)
        text = gateway.send("GET", "/metrics")[2].decode()
        assert 'werkmeister_requests_total{route="/v1/chat/completions",status="200"} 3' in text
        assert 'werkmeister_requests_total{route="/v1/chat/completions",status="400"} 1' in text
        assert "werkmeister_answer_tokens_total 12" in text
        assert 'werkmeister_first_token_seconds_bucket{le="+Inf"} 3' in text
        assert gateway.metric("slots") == 2 and gateway.metric("waiting") == 0
