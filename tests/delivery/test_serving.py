"""The real thing: `serve` in a process of its own, llama.cpp in a child of that, and the official client."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import openai
import psutil
import pytest

from tests.delivery.served import ask_it, readings, served, under_way
from werkmeister.consulting.expert import AskSettings, ask, open_expert
from werkmeister.delivery.keys import new_key

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture(scope="module")
def server(tiny_expert):
    with served(tiny_expert) as opened:
        yield opened


def test_answers_are_those_of_ask_streamed_or_not(server, tiny_expert):
    with open_expert(tiny_expert, settings=AskSettings(max_tokens=12, threads=1)) as expert, server.client() as client:
        for question in ("the land", "sand and hand", "who?"):
            expected = ask(expert, question)
            whole = ask_it(client, question)
            streamed = "".join(p.choices[0].delta.content or "" for p in ask_it(client, question, stream=True))
            assert whole.choices[0].message.content == streamed == expected.text
            facts = whole.model_extra["werkmeister"]["answers"][0]
            assert facts["confidence"] == pytest.approx(expected.confidence, rel=1e-2)
            assert whole.usage.prompt_tokens == expected.prompt_tokens
            assert whole.usage.completion_tokens == expected.tokens


def test_a_seed_decides_and_several_answers_differ(server):
    with server.client() as client:
        one, two = (ask_it(client, temperature=2, seed=5).choices[0].message.content for _ in range(2))
        assert one == two
        several = ask_it(client, temperature=3, seed=5, n=6)
        assert len({choice.message.content for choice in several.choices}) > 1


def test_log_probabilities_are_the_models(server):
    with server.client() as client:
        tokens = ask_it(client, max_tokens=4, logprobs=True, top_logprobs=5).choices[0].logprobs.content
        for token in tokens:
            values = [other.logprob for other in token.top_logprobs]
            assert len(values) == 5 and values == sorted(values, reverse=True)
            assert token.logprob == pytest.approx(values[0], abs=1e-4), "greedy takes the likeliest"


def test_a_schema_holds_and_one_that_cannot_be_enforced_is_refused(server):
    schema = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
    schema["additionalProperties"] = False
    with server.client() as client:
        form = {"type": "json_schema", "json_schema": {"name": "switch", "schema": schema}}
        jsonschema.validate(
            json.loads(ask_it(client, max_tokens=60, response_format=form).choices[0].message.content), schema
        )
        form["json_schema"]["schema"] = {"type": "nonsense"}
        with pytest.raises(openai.BadRequestError) as caught:
            ask_it(client, response_format=form)
        assert caught.value.code == "schema_not_supported"


def test_a_bare_text_is_continued(server):
    with server.client() as client:
        answer = client.completions.create(model="tiny-expert", prompt="the land", temperature=0)
        assert answer.usage.prompt_tokens < ask_it(client).usage.prompt_tokens
        assert answer.choices[0].text != ask_it(client).choices[0].message.content


def test_a_prompt_that_does_not_fit_is_refused_without_the_path_of_the_model(server, tiny_expert):
    with server.client() as client, pytest.raises(openai.BadRequestError) as caught:
        ask_it(client, "word " * 300)
    assert caught.value.code == "context_length_exceeded" and str(tiny_expert) not in str(caught.value.body)


def test_conversations_that_come_back_find_their_prompt_computed(tiny_expert):
    with served(tiny_expert, slots=1, cache=16) as server, server.client() as client:
        texts = [f"{start}{' and in the hand' * 9}" for start in ("a", "zzz", "q?")]
        for text in texts:
            ask_it(client, text)
        again = ask_it(client, texts[0])
        assert again.usage.prompt_tokens_details.cached_tokens > 0.8 * again.usage.prompt_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_is_killed_is_started_again_and_nothing_else_is_lost(tiny_expert, stream):
    with served(tiny_expert, slots=1) as server, server.client() as client, ThreadPoolExecutor(4) as pool:
        first = server.engine
        first.suspend()
        running = pool.submit(lambda: list(ask_it(client, "a", stream=stream)))
        under_way(server, 1, 0)
        waiting = [pool.submit(ask_it, client, "the land") for _ in range(3)]
        under_way(server, 1, 3)
        first.kill()
        with pytest.raises(openai.InternalServerError) as caught:
            running.result()
        assert (caught.value.status_code, caught.value.code) == (503, "engine_error")
        assert len({answer.result().choices[0].message.content for answer in waiting}) == 1
        assert server.engine.pid != first.pid and readings(server)["engine_restarts"] == 1


def test_the_official_client_does_not_even_notice_a_crash(tiny_expert):
    with (
        served(tiny_expert, slots=2) as server,
        server.client(max_retries=4) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        server.engine.suspend()
        answers = [pool.submit(ask_it, client, "a") for _ in range(3)]
        under_way(server, 2, 1)
        server.engine.kill()
        assert len({answer.result().choices[0].message.content for answer in answers}) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_answer_under_way_and_ends_in_good_order(tiny_expert, number):
    with served(tiny_expert) as server, server.client() as client, ThreadPoolExecutor(1) as pool:
        child = server.engine
        child.suspend()
        answer = pool.submit(ask_it, client)
        under_way(server, 1, 0)
        for process in (server.process, child):  # as a service manager and Ctrl-C do
            process.send_signal(number)
        time.sleep(0.3)
        child.resume()
        assert answer.result().choices[0].message.content
        assert server.process.wait(10) == 0
        assert server.process.stdout.read().strip() == "stopped" and server.process.stderr.read() == ""
        assert not child.is_running()


def test_nothing_is_left_behind_by_kill_9_and_it_starts_again_in_seconds(tiny_expert):
    for _ in range(2):
        started = time.perf_counter()
        with served(tiny_expert) as server, server.client() as client:
            assert ask_it(client).choices[0].message.content
            assert time.perf_counter() - started < 10
            child = server.engine
            ask_it(client, "a", stream=True, max_tokens=200, temperature=5)
            server.process.kill()
            gone, _ = psutil.wait_procs([child], timeout=5)
            assert gone


def test_beyond_this_machine_a_key_is_demanded(tiny_expert, tmp_path):
    copy = shutil.copytree(tiny_expert, tmp_path / "tiny-expert")
    key = new_key(copy, "anna")
    with served(copy, host="0.0.0.0") as server:
        assert "unencrypted" in server.said
        with server.client() as client, pytest.raises(openai.AuthenticationError):
            ask_it(client)
        with server.client(key=key) as client:
            assert ask_it(client).choices[0].message.content


def test_the_start_says_what_was_measured_and_where_it_listens(tiny_expert, tmp_path):
    copy = shutil.copytree(tiny_expert, tmp_path / "tiny-expert")
    with served(copy, slots=0) as server:
        assert "tokens/s by answers at a time (measured now): 1: " in server.said
        assert "at a time, 1 thread\n" in server.said and "/docs" in server.said
        assert f"chat page: http://127.0.0.1:{server.port}/\n" in server.said
    with served(copy, slots=0) as server:
        assert "as measured at an earlier start" in server.said


def test_an_expert_from_the_whole_pipeline_is_served(built):
    with served(built) as server, server.client() as client:
        answer = client.chat.completions.create(
            model=built.name, messages=[{"role": "user", "content": "What is the code of the red lamp?"}]
        )
        assert answer.choices[0].message.content and answer.model == built.name
