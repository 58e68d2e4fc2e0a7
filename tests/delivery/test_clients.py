"""The clients that people use, and every example of docs/serve.md, on a real gateway."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.delivery.running import expert, running
from werkmeister.engines.engine import Sampling
from werkmeister.engines.scripted import ScriptedEngine

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
TEXT = "The smith, of course."
CALL = '<tool_call>\n{"name": "weather", "arguments": {"town": "Ulm"}}\n</tool_call>'
# They need another version of the openai package than ours: an environment of their own.
OTHERS = os.environ.get("WERKMEISTER_CLIENTS", str(ROOT / ".clients" / "bin" / "python"))
WANTED = {"langchain": "langchain-openai", "llama_index": "llama-index-llms-openai-like"}


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def gateway():
    def answer(turns):
        last = turns[-1].content
        found = {"weather?": CALL, "switch": '{"on": true}', "How is the lock reset?": "Press it for 10 s."}
        return "It rains." if last.startswith("<tool_response>") else found.get(last, TEXT)

    # Slow enough that the words are not all there when the first is sent.
    engine = ScriptedEngine(answer, calls_tools=True, seconds_a_token=0.02)
    with running(expert(engine, name="smith", sampling=Sampling(max_tokens=60))) as opened:
        yield opened


@pytest.fixture(scope="module")
def documented():
    with running(expert(ScriptedEngine({}, otherwise="Press it for 10 s."), name="my-expert")) as opened:
        yield opened


def here(text, gateway):
    """An example of the page, on the gateway of this test."""
    assert "http://127.0.0.1:8000" in text
    return text.replace("http://127.0.0.1:8000", gateway.url)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_of_the_page_gets_what_it_asks_for(documented):
    (block,) = (block for block in blocks("sh") if block.startswith("curl"))
    commands = here(block, documented).strip().split("\n\n")
    answers = []
    for command in commands:
        done = subprocess.run(["sh", "-ec", f"{command} --fail-with-body"], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        answers.append(done.stdout)
    models, whole, stream, bare = answers
    assert json.loads(models)["data"][0]["id"] == "my-expert"
    assert json.loads(whole)["choices"][0]["message"]["content"] == "Press it for 10 s."
    pieces = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    assert "".join(p["choices"][0]["delta"].get("content", "") for p in pieces) == "Press it for 10 s."
    assert stream.rstrip().endswith("data: [DONE]")
    assert json.loads(bare)["choices"][0]["text"]


def test_the_python_of_the_page_runs(documented):
    (block,) = (block for block in blocks("python") if "from openai" in block)
    done = subprocess.run([sys.executable, "-c", here(block, documented)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "Press it for 10 s." and 0 < float(done.stdout.splitlines()[1]) <= 1


def python_with(package):
    """A Python that has the package; skips where there is none."""
    if importlib.util.find_spec({"langchain": "langchain_openai"}.get(package, package)):
        return sys.executable
    if not Path(OTHERS).exists():
        pytest.skip(f"no Python with {WANTED[package]} in .clients or WERKMEISTER_CLIENTS")
    return OTHERS


@pytest.mark.slow
@pytest.mark.parametrize("package", list(WANTED))
def test_langchain_and_llama_index_find_all_that_they_use(gateway, documented, package):
    python = python_with(package)
    script = [python, str(Path(__file__).with_name("other_clients.py")), package, f"{gateway.url}/v1"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.strip() == "held", done.stderr[-3000:]
    (block,) = (block for block in blocks("python") if f"from {package}" in block)
    done = subprocess.run([python, "-c", here(block, documented)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.strip() == "Press it for 10 s.", done.stderr[-3000:]
