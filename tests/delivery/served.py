"""`serve` in a process of its own, as a person starts it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import openai
import psutil

CODE = """
import sys
from pathlib import Path
from werkmeister.consulting.expert import AskSettings
from werkmeister.delivery.serving import serve
from werkmeister.delivery.settings import ServeSettings
from werkmeister.progress import Silent
class Printing(Silent):
    def say(self, text):
        print(text, flush=True)
settings = ServeSettings(**eval(sys.argv[2]))
serve(Path(sys.argv[1]), settings, ask=AskSettings(max_tokens=12, threads=1), progress=Printing())
"""


class Served:
    def __init__(self, process, said):
        self.process, self.said = process, said
        self.port = int(re.search(r"http://[^ ]*:(\d+)/v1", said).group(1))

    def client(self, key="none", **options):
        url = f"http://127.0.0.1:{self.port}/v1"
        return openai.OpenAI(base_url=url, api_key=key, timeout=60, **{"max_retries": 0} | options)

    @property
    def engine(self):
        (child,) = psutil.Process(self.process.pid).children()
        return child


@contextmanager
def served(folder, **settings):
    chosen = {"port": 0, "slots": 2} | settings
    command = [sys.executable, "-c", CODE, str(folder), repr(chosen)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = ""
            while "Ctrl-C" not in said:
                line = process.stdout.readline()
                assert line, process.stderr.read()
                said += line
            yield Served(process, said)
        finally:
            process.kill()


def ask_it(client, question="the land", **more):
    return client.chat.completions.create(
        model="tiny-expert", messages=[{"role": "user", "content": question}], **{"temperature": 0} | more
    )


def readings(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as page:
        lines = [line.split() for line in page.read().decode().splitlines() if not line.startswith("#")]
    return {name.removeprefix("werkmeister_"): float(value) for name, value in lines}


def under_way(server, running, waiting):
    """Wait until so many requests run and wait; the engine is suspended, so that they stay there."""
    while ((now := readings(server))["running"], now["waiting"]) != (running, waiting):
        time.sleep(0.01)
