from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from werkmeister.chat import conversation
from werkmeister.engines import isolated
from werkmeister.engines.engine import Finished, Sampling, Stop, Stoppable, collect, reply
from werkmeister.engines.isolated import IsolatedEngine
from werkmeister.engines.llama import LlamaEngine
from werkmeister.errors import BaseModelError, ContextError, EngineError, SchemaError

QUESTIONS = [conversation(text) for text in ("the land", "in and out", "a", "who is there?", "sand and hand", "thin")]
SHORT = Sampling(max_tokens=12)
LONG = Sampling(max_tokens=220, temperature=5.0)


@pytest.fixture(scope="module")
def engine(tiny):
    with IsolatedEngine(tiny, threads=1, slots=2, cache=8) as opened:
        yield opened


@pytest.fixture(scope="module")
def inside(tiny):
    with LlamaEngine(tiny, threads=1) as opened:
        yield opened


def test_it_answers_like_the_engine_in_this_process(engine, inside):
    for sampling in (SHORT, Sampling(max_tokens=30, temperature=1.0, seed=4, stop=("b",)), Sampling(max_tokens=5)):
        for question in QUESTIONS:
            found, expected = reply(engine, question, sampling), reply(inside, question, sampling)
            assert (found.text, found.finish, found.prompt_tokens, found.answer_tokens) == (
                (expected.text, expected.finish, expected.prompt_tokens, expected.answer_tokens)
            )
            assert [t.logprob for t in found.tokens] == pytest.approx([t.logprob for t in expected.tokens], abs=1e-3)
    assert (engine.context_length, engine.slots, engine.name) == (256, 2, "tiny.gguf")
    assert isinstance(engine, Stoppable)


def test_it_takes_a_template_as_the_engine_in_this_process_does(tiny, engine):
    template = "{{ messages[-1].content }}"
    with (
        IsolatedEngine(tiny, threads=1, template=template) as bare,
        LlamaEngine(tiny, threads=1, template=template) as own,
    ):
        found, expected = reply(bare, QUESTIONS[0], SHORT), reply(own, QUESTIONS[0], SHORT)
    assert (found.text, found.prompt_tokens) == (expected.text, expected.prompt_tokens)
    assert found.prompt_tokens < reply(engine, QUESTIONS[0], SHORT).prompt_tokens


def test_alternatives_are_the_likeliest_tokens_at_their_place(engine, inside):
    found = reply(engine, QUESTIONS[0], Sampling(max_tokens=1, alternatives=4))
    expected = inside.next_logprobs(QUESTIONS[0], 4)
    assert [value for _, value in found.tokens[0].alternatives] == pytest.approx(list(expected.values()), abs=1e-3)
    assert reply(engine, QUESTIONS[0], SHORT).tokens[0].alternatives == ()


def test_a_bare_text_is_continued_without_the_template(engine):
    end = list(engine.stream_until("the land", SHORT, Stop()))[-1]
    assert isinstance(end, Finished) and end.prompt_tokens < len("the land") < 12
    assert reply(engine, QUESTIONS[0], SHORT).prompt_tokens > end.prompt_tokens


def test_many_threads_get_the_answers_that_they_get_alone(engine, inside):
    expected = [reply(inside, question, SHORT).text for question in QUESTIONS]
    found: dict[int, str] = {}

    def work(index):
        found[index] = reply(engine, QUESTIONS[index % len(QUESTIONS)], SHORT).text

    threads = [threading.Thread(target=work, args=(index,)) for index in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(24)] == expected * 4


def test_a_prompt_that_was_computed_before_is_not_computed_again(tiny):
    """Three conversations on one slot: the memory beside it keeps those that wait."""
    for cache, expected in ((0, 0), (16, 1)):
        with IsolatedEngine(tiny, threads=1, slots=1, cache=cache) as engine:
            texts = [f"{start}{' and in the hand' * 12}" for start in ("a", "zzz", "q?")]
            for text in texts:
                reply(engine, conversation(text), SHORT)
            end = list(engine.stream(conversation(texts[0]), SHORT))[-1]
            assert min(1, end.cached_tokens // 20) == expected, (cache, end)


def test_refusals_arrive_as_they_are_and_at_once(engine):
    with pytest.raises(ContextError, match="together 257"):
        room = 256 - reply(engine, QUESTIONS[0], SHORT).prompt_tokens
        engine.stream(QUESTIONS[0], Sampling(max_tokens=room + 1))
    with pytest.raises(SchemaError, match="cannot enforce"):
        engine.stream(QUESTIONS[0], Sampling(max_tokens=9, schema={"type": "nonsense"}))


def test_a_missing_file_is_named_by_this_process(tmp_path):
    with pytest.raises(BaseModelError, match=r"gone\.gguf"):
        IsolatedEngine(tmp_path / "gone.gguf")


def test_an_asked_stop_ends_the_stream_without_a_finished(engine):
    stop = Stop()
    items = engine.stream_until(QUESTIONS[2], LONG, stop)
    assert next(items).logprob <= 0
    stop.ask()
    assert not any(isinstance(item, Finished) for item in items)
    assert reply(engine, QUESTIONS[0], SHORT).text


def test_leaving_a_stream_early_stops_the_work(engine):
    items = engine.stream(QUESTIONS[2], LONG)
    next(items)
    items.close()
    assert not any(isinstance(item, Finished) for item in items)
    assert reply(engine, QUESTIONS[0], SHORT).text


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_crash_costs_the_answers_under_way_and_the_next_question_is_answered(tiny, inside):
    with IsolatedEngine(tiny, threads=1, slots=2) as engine:
        first = engine.process
        under_way = [engine.stream(QUESTIONS[2], LONG) for _ in range(2)]
        next(under_way[0])
        os.kill(first, signal.SIGKILL)
        for items in under_way:
            with pytest.raises(EngineError, match="exit code -9"):
                collect(items)
        assert reply(engine, QUESTIONS[0], SHORT).text == reply(inside, QUESTIONS[0], SHORT).text
        assert engine.restarts == 1 and engine.process != first


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_process_that_hangs_is_killed_when_it_does_not_stop(tiny, monkeypatch):
    monkeypatch.setattr(isolated, "_STUCK", 0.3)
    monkeypatch.setattr(isolated, "_LOOK", 0.05)
    with IsolatedEngine(tiny, threads=1) as engine:
        items = engine.stream(QUESTIONS[2], LONG)
        psutil.Process(engine.process).suspend()
        with pytest.raises(EngineError, match="exit code -9"):
            stop = Stop()
            threading.Timer(0.1, stop.ask).start()
            list(engine.stream_until(QUESTIONS[0], SHORT, stop))
        items.close()
        assert reply(engine, QUESTIONS[0], SHORT).text and engine.restarts == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_and_a_service_manager_leave_the_child_to_its_parent(engine):
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(engine.process, number)
    time.sleep(0.1)
    assert reply(engine, QUESTIONS[0], SHORT).text and engine.alive


def test_closing_ends_the_child_and_refuses_further_questions(tiny):
    engine = IsolatedEngine(tiny, threads=1)
    child = psutil.Process(engine.process)
    engine.close()
    assert not child.is_running()
    with pytest.raises(EngineError, match="is closed"):
        reply(engine, QUESTIONS[0], SHORT)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_child_does_not_outlive_a_killed_parent(tiny):
    code = (
        "import sys, time; from pathlib import Path; from werkmeister.engines.isolated import IsolatedEngine\n"
        f"engine = IsolatedEngine(Path({str(tiny)!r}), threads=1)\n"
        "print(engine.process, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        gone, _ = psutil.wait_procs([child], timeout=5)
        assert gone or child.status() == psutil.STATUS_ZOMBIE


def test_nothing_that_is_printed_passes_for_a_message(tiny):
    """The child keeps standard output to itself: a line of JSON and no more answers the first line."""
    command = [sys.executable, "-P", "-m", "werkmeister.engines.isolated_process"]
    job = {"path": str(tiny), "context_length": 0, "threads": 1, "slots": 1, "adapter": None, "cache": 0}
    done = subprocess.run(command, input=json.dumps(job) + "\n", capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert [list(json.loads(line)) for line in done.stdout.splitlines()] == [["ready"]]


def test_an_adapter_answers_like_the_merged_model_whatever_was_cached_and_however_many_ask(
    tiny, tiny_adapter, tiny_merged
):
    """The trap: a request that omits its adapter is answered from another adapter's cache, in the slot or beside it."""
    with LlamaEngine(tiny_merged, threads=1) as merged, LlamaEngine(tiny, threads=1) as plain:
        expected = [reply(merged, question, SHORT).text for question in QUESTIONS]
        assert expected != [reply(plain, question, SHORT).text for question in QUESTIONS]
    with IsolatedEngine(tiny, adapter=tiny_adapter, threads=1, slots=2, cache=16) as engine:
        for _ in range(3):
            found: list[str] = [""] * len(QUESTIONS)

            def work(index, found=found, engine=engine):
                found[index] = reply(engine, QUESTIONS[index], SHORT).text

            threads = [threading.Thread(target=work, args=(index,)) for index in range(len(QUESTIONS))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert found == expected
