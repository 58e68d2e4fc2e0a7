from __future__ import annotations

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.delivery.running import expert, running, scripted
from werkmeister.delivery.guard import Door
from werkmeister.delivery.keys import Keys, new_key
from werkmeister.engines.scripted import ScriptedEngine

CHAT = "/v1/chat/completions"
LONG = " ".join(f"w{number}" for number in range(400))


def slow(seconds=0.02, **options):
    return scripted({"long": LONG}, seconds_a_token=seconds, **options)


def body(question, **more):
    return {"messages": [{"role": "user", "content": question}], "max_tokens": 500, **more}


def begin(gateway, question="long", key="none", **more):
    """Send a request without reading the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    connection.request("POST", CHAT, json.dumps(body(question, **more)), headers)
    return connection


def until(condition, seconds=5.0):
    """Seconds until the condition holds."""
    started = time.perf_counter()
    while not condition():
        assert time.perf_counter() - started < seconds
        time.sleep(0.005)
    return time.perf_counter() - started


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_stops_the_generation(stream):
    with running(slow(), slots=1) as gateway:
        connection = begin(gateway, stream=stream)
        if stream:
            connection.getresponse().read(50)
        until(lambda: gateway.gateway.dispatcher.running == 1)
        time.sleep(0.1)
        connection.close()
        assert until(lambda: gateway.gateway.dispatcher.running == 0) < 1.0, "400 tokens would take 8 s"
        assert gateway.metric("cancelled_total") == 1
        assert gateway.chat("q")[0] == 200


def test_a_client_that_goes_away_while_it_waits_is_never_answered():
    with running(slow(), slots=1) as gateway:
        first = begin(gateway)
        until(lambda: gateway.gateway.dispatcher.running == 1)
        second = begin(gateway, "never asked")
        until(lambda: gateway.gateway.dispatcher.waiting == 1)
        second.close()
        until(lambda: gateway.gateway.dispatcher.waiting == 0)
        first.close()
        until(lambda: gateway.gateway.dispatcher.running == 0)
        assert [turns[-1].content for turns, _ in gateway.gateway.expert.engine.asked] == ["long"]


def test_a_full_queue_answers_429_with_retry_after_and_the_rest_is_answered():
    with running(slow(), slots=1, queue=2) as gateway:
        first = begin(gateway)
        until(lambda: gateway.gateway.dispatcher.running == 1)
        with ThreadPoolExecutor(6) as pool:
            answers = [pool.submit(gateway.chat, "q") for _ in range(6)]
            until(lambda: sum(answer.done() for answer in answers) == 4)
            first.close()
            statuses = sorted(answer.result()[0] for answer in answers)
        assert statuses == [200, 200, 429, 429, 429, 429]
        refused = next(answer.result() for answer in answers if answer.result()[0] == 429)
        assert 1 <= int(refused[1]["retry-after"]) <= 60
        assert refused[2]["error"]["code"] == "queue_full" and refused[2]["error"]["type"] == "rate_limit_error"


def test_clients_with_keys_take_turns_whatever_address_they_share(tmp_path):
    anna, ben = new_key(tmp_path, "anna"), new_key(tmp_path, "ben")
    door = Door(keys=Keys(tmp_path), keys_needed=True, hosts=())
    with running(slow(), slots=1, door=door) as gateway, ThreadPoolExecutor(5) as pool:
        first = begin(gateway, key=anna)
        until(lambda: gateway.gateway.dispatcher.running == 1)
        for number, (name, key) in enumerate([("anna", anna)] * 3 + [("ben", ben)], 1):
            pool.submit(gateway.send, "POST", CHAT, body(f"{name} {number}"), Authorization=f"Bearer {key}")
            until(lambda number=number: gateway.gateway.dispatcher.waiting == number)
        first.close()
        until(lambda: gateway.gateway.dispatcher.waiting + gateway.gateway.dispatcher.running == 0)
        asked = [turns[-1].content for turns, _ in gateway.gateway.expert.engine.asked]
    assert asked == ["long", "anna 1", "ben 4", "anna 2", "anna 3"]


def test_nobody_jumps_the_queue_by_naming_other_addresses():
    with running(slow(), slots=1, queue=2) as gateway, ThreadPoolExecutor(2) as pool:
        first = begin(gateway)
        until(lambda: gateway.gateway.dispatcher.running == 1)
        waiting = [pool.submit(gateway.chat, "q") for _ in range(2)]
        until(lambda: gateway.gateway.dispatcher.waiting == 2)
        assert gateway.send("POST", CHAT, body("q"), X_Forwarded_For="10.0.0.9")[0] == 429
        first.close()
        assert [answer.result()[0] for answer in waiting] == [200, 200]


def test_the_official_client_waits_and_tries_again_after_429():
    with running(slow(), slots=1, queue=0) as gateway:
        first = begin(gateway)
        until(lambda: gateway.gateway.dispatcher.running == 1)
        threading.Timer(0.3, first.close).start()
        with gateway.client().with_options(max_retries=3) as client:
            answer = client.chat.completions.create(model="smith", messages=[{"role": "user", "content": "q"}])
        assert answer.choices[0].message.content == "one two three"


def test_several_answers_of_which_one_finds_no_place_are_refused_together():
    with running(slow(), slots=1, queue=1) as gateway:
        status, _, _ = gateway.chat("long", n=3)
        assert status == 429
        until(lambda: gateway.gateway.dispatcher.running == 0)
        assert gateway.chat("q")[0] == 200


def test_so_many_answers_are_made_at_a_time_as_there_are_slots():
    busiest = 0
    with running(slow(0.01), slots=3) as gateway:
        with ThreadPoolExecutor(9) as pool:
            answers = [pool.submit(gateway.chat, "q") for _ in range(9)]
            while not all(answer.done() for answer in answers):
                busiest = max(busiest, gateway.gateway.dispatcher.running)
                time.sleep(0.002)
        assert busiest == 3 and {answer.result()[0] for answer in answers} == {200}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_takes_too_long_ends_with_504_or_an_error_in_the_stream(stream):
    with running(slow(), slots=1, timeout=0.4) as gateway:
        started = time.perf_counter()
        connection = begin(gateway, stream=stream)
        response = connection.getresponse()
        data = response.read().decode()
        assert time.perf_counter() - started < 2
        if stream:
            last = json.loads(data.strip().split("\n\n")[-1].removeprefix("data: "))
            assert response.status == 200 and last["error"]["code"] == "timeout" and "[DONE]" not in data
        else:
            assert response.status == 504 and json.loads(data)["error"]["code"] == "timeout"
        until(lambda: gateway.gateway.dispatcher.running == 0)
        connection.close()


def test_waiting_counts_towards_the_time_limit():
    with running(slow(), slots=1, timeout=0.5) as gateway:
        first = begin(gateway)
        until(lambda: gateway.gateway.dispatcher.running == 1)
        assert gateway.chat("long")[0] == 504
        first.close()


def test_shutting_down_finishes_what_runs_and_refuses_what_waits():
    with running(scripted({"long": " ".join(LONG.split()[:40])}, seconds_a_token=0.02), slots=1) as gateway:
        with ThreadPoolExecutor(3) as pool:
            runs = pool.submit(gateway.chat, "long", max_tokens=500)
            until(lambda: gateway.gateway.dispatcher.running == 1)
            streams = pool.submit(gateway.chat, "long", stream=True, max_tokens=500)
            until(lambda: gateway.gateway.dispatcher.waiting == 1)
            gateway.server.should_exit = True
            assert streams.result()[0] == 503
            status, _, answer = runs.result()
        assert status == 200 and answer["choices"][0]["message"]["content"].endswith(" w39")
        gateway.stop()


def test_a_stream_under_way_is_finished_at_shutdown():
    with running(scripted({"long": " ".join(LONG.split()[:40])}, seconds_a_token=0.02), slots=1) as gateway:
        connection = begin(gateway, stream=True)
        response = connection.getresponse()
        response.read(80)
        gateway.server.should_exit = True
        assert response.read().decode().endswith("data: [DONE]\n\n")
        connection.close()
        gateway.stop()


def test_shutting_down_does_not_wait_for_ever():
    with running(slow(0.05), slots=1, shutdown=1.0) as gateway:
        connection = begin(gateway)
        until(lambda: gateway.gateway.dispatcher.running == 1)
        started = time.perf_counter()
        gateway.stop()
        assert time.perf_counter() - started < 5, "the answer would take 20 s"
        connection.close()


def test_an_engine_that_breaks_costs_its_own_request_and_says_nothing_of_itself():
    engine = ScriptedEngine({}, otherwise="ok", fail_on=frozenset({"secret question"}), name="private.gguf")
    with running(expert(engine)) as gateway:
        status, headers, answer = gateway.chat("secret question")
        assert status == 503 and headers["retry-after"] == "1" and answer["error"]["code"] == "engine_error"
        assert "secret" not in json.dumps(answer) and "private" not in json.dumps(answer)
        assert gateway.chat("secret question", stream=True)[0] == 503
        assert gateway.chat("other")[0] == 200


def test_a_mistake_of_ours_is_a_500_without_its_reason(caplog):
    def broken(turns):
        raise ZeroDivisionError("in the kitchen")

    with running(expert(ScriptedEngine(broken))) as gateway:
        status, _, answer = gateway.chat("q")
        assert status == 500 and "kitchen" not in json.dumps(answer) and "Traceback" not in json.dumps(answer)
        until(lambda: gateway.gateway.dispatcher.running == 0)
    assert "kitchen" in caplog.text, "our own log has it"


def test_a_stream_that_breaks_in_the_middle_tells_so_in_an_event():
    class Breaking(ScriptedEngine):
        def stream_until(self, prompt, sampling, stop):
            from werkmeister.errors import EngineError

            for number, item in enumerate(super().stream_until(prompt, sampling, stop)):
                if number == 2:
                    raise EngineError("the process at /secret/place ended")
                yield item

    with running(expert(Breaking({}, otherwise="a b c d", seconds_a_token=0.05))) as gateway:
        status, _, data = gateway.chat("q", stream=True)
        last = json.loads(data.decode().strip().split("\n\n")[-1].removeprefix("data: "))
        assert status == 200 and last["error"]["code"] == "engine_error" and "secret" not in data.decode()


def test_a_body_that_does_not_come_is_not_waited_for_when_its_client_leaves():
    with running(scripted()) as gateway:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)
        connection.putrequest("POST", "/v1/chat/completions")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "100")
        connection.endheaders(b'{"mess')
        time.sleep(0.1)
        connection.close()
        until(lambda: gateway.metric("cancelled_total") == 1)
