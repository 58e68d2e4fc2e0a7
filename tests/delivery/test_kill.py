"""`kill -9` of a server under load, again and again: no database is damaged, and it is soon back."""

from __future__ import annotations

import http.client
import json
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.consulting import shelves
from tests.delivery.served import served
from werkmeister.consulting.indexing import IndexSettings, index
from werkmeister.delivery.keys import Keys, new_key
from werkmeister.progress import Silent

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals")]
TIMES, CLIENTS = 20, 6


@pytest.fixture
def expert(tiny_expert, tmp_path):
    """A copy with a library to search, keys, and room for measured slots."""
    folder = shutil.copytree(tiny_expert, tmp_path / "tiny-expert")
    documents = shelves.documents_artefact(folder / "artefacts", None)
    settings = IndexSettings(embedding="none", refused=0.0)
    index(documents, folder / "artefacts" / "index", settings, home=folder / "artefacts", progress=Silent())
    new_key(folder, "anna")
    return folder


def databases_are_whole(folder):
    files = sorted(folder.rglob("*.sqlite"))
    assert files, "an expert with a library has one at least"
    for file in files:
        connection = sqlite3.connect(file)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], file
        connection.close()
    assert len(Keys(folder)) == 1


def hammer(port, stop, answered):
    """Ask one question after the other, as a whole and as a stream, until the server is gone."""
    number = 0
    while not stop.is_set():
        number += 1
        body = {"messages": [{"role": "user", "content": f"reset {number}"}], "stream": number % 2 == 0}
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            answered.append(response.status)
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()


def test_no_database_is_damaged_and_it_starts_again_in_seconds(expert, record_property):
    chance, took, statuses = random.Random(5), [], []
    for time_of_it in range(TIMES):
        begin = time.perf_counter()
        with served(expert, slots=0 if time_of_it == 0 else 2, cache=16) as server:
            if time_of_it:
                took.append(time.perf_counter() - begin)
            engine = server.engine
            stop, answered = threading.Event(), []
            with ThreadPoolExecutor(CLIENTS) as pool:
                load = [pool.submit(hammer, server.port, stop, answered) for _ in range(CLIENTS)]
                time.sleep(chance.uniform(0.1, 0.6))
                server.process.send_signal(signal.SIGKILL)
                stop.set()
                for one in load:
                    one.result()
            assert psutil.wait_procs([engine], timeout=5)[1] == [], "the engine outlived its server"
            statuses += answered
        databases_are_whole(expert)
    assert set(statuses) == {200} and len(statuses) > TIMES
    record_property("median seconds to the start", round(statistics.median(took), 2))
    bare = bare_seconds()
    print(f"start: median {statistics.median(took):.2f} s, most {max(took):.2f} s; a bare Python {bare:.3f} s")
    assert statistics.median(took) < 3.0 * max(1.0, bare / 0.05), "seconds; more where Python itself is slow to start"


def bare_seconds():
    """How long this machine, as busy as it is, takes to start a Python that does nothing."""

    def one():
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", ""], check=True)
        return time.perf_counter() - begin

    return statistics.median(one() for _ in range(5))
