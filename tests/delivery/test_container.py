"""The Dockerfile without an engine for containers: its steps as a script, then its start and its health check."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest

ROOT = Path(__file__).parents[2]
KNOWN = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def steps():
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(" ", 1)) for line in lines]


def said(name):
    """The list of words of ENTRYPOINT, CMD or HEALTHCHECK."""
    return json.loads(re.search(r"\[.*\]", dict(steps())[name])[0])


def test_every_step_is_understood_and_what_is_copied_exists():
    assert {name for name, _ in steps()} == KNOWN and steps()[0] == ("FROM", "python:3.11-slim")
    for name, words in steps():
        if name == "COPY":
            assert all((ROOT / word).exists() for word in words.split()[:-1]), words
    assert dict(steps())["USER"].split(":")[0] not in ("0", "root")
    assert int(dict(steps())["EXPOSE"]) == 8000 and "serve.port=8000" in said("CMD")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the steps are those of a shell")
def test_the_steps_install_a_server_that_answers_with_a_key_alone(tmp_path, tiny_expert):
    environment = tmp_path / "python"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    path = os.environ | {"PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    for hidden in ("PYTHONPATH", "VIRTUAL_ENV"):
        path.pop(hidden, None)
    folder = tmp_path / "app"
    folder.mkdir()
    for name, words in steps():
        if name == "COPY":
            *sources, target = words.split()
            for source in sources:
                subprocess.run(["cp", "-r", ROOT / source, folder / target], check=True)
        elif name == "RUN" and not words.startswith("apt-get"):  # the system's own packages are no test's to install
            subprocess.run(words, shell=True, check=True, cwd=folder, env=path, capture_output=True)
    expert = shutil.copytree(tiny_expert, tmp_path / "expert")
    port = free_port()
    here = {"/expert": str(expert), "serve.port=8000": f"serve.port={port}"}
    start = [here.get(word, word) for word in [*said("ENTRYPOINT"), *said("CMD")]]
    refused = subprocess.run(start, env=path, cwd="/", capture_output=True, text=True)
    assert refused.returncode == 2 and "no API key" in refused.stderr
    new_key = [*said("ENTRYPOINT"), "serve", str(expert), "--new-key", "anna"]
    key = subprocess.run(new_key, env=path, cwd="/", capture_output=True, text=True, check=True).stdout.strip()
    healthy = [word.replace("8000", str(port)) for word in said("HEALTHCHECK")]
    with subprocess.Popen(start, env=path, cwd="/", stderr=subprocess.PIPE) as server:
        try:
            end = time.monotonic() + 60
            while subprocess.run(healthy, env=path, capture_output=True).returncode:
                assert server.poll() is None and time.monotonic() < end, server.stderr.read()
                time.sleep(0.2)
            with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key) as client:
                ask = {"model": "expert", "messages": [{"role": "user", "content": "a"}], "max_tokens": 5}
                assert client.chat.completions.create(**ask).usage.completion_tokens > 0
        finally:
            server.terminate()
            assert server.wait(20) == 0
