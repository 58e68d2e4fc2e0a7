"""The child of `IsolatedEngine`: questions from standard input, tokens to standard output, a JSON object a line.

First line in: the arguments of LlamaEngine; first line out: {"ready": facts} or {"error": …}. Then in: {"ask": number,
"prompt", "sampling"} and {"stop": number}; out: {"ask": number, "items": [[text, logprob, alternatives?], …]} with
"finished" or "stopped" in the last, or "error". The process ends when its input does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from werkmeister.chat import Message
from werkmeister.engines.engine import Finished, Sampling, Stop, Stoppable, Token
from werkmeister.errors import EngineError, WerkmeisterError

# Tokens that come faster than a person reads share a message: each costs both processes time that the model needs.
_PACE = 0.03


class Writer:
    """Standard output, one line at a time from any thread."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()

    def write(self, message: dict[str, Any]) -> None:
        """Write one JSON object."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()


def main() -> None:
    """Serve until standard input ends."""
    # Ctrl-C and a service manager reach the whole group: the parent decides when the answers under way are done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    writer = Writer(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # nothing that native code prints may pass for a message
    try:
        engine = _engine(json.loads(sys.stdin.buffer.readline()))
    except WerkmeisterError as error:
        writer.write({"error": _error(error)})
        return
    facts = ("name", "context_length", "threads", "slots", "load_seconds", "calls_tools")
    writer.write({"ready": {name: getattr(engine, name) for name in facts}})
    stops: dict[int, Stop] = {}
    for line in sys.stdin.buffer:
        if not line.endswith(b"\n"):
            break  # the parent was killed in the middle of a word
        message = json.loads(line)
        if "ask" in message:
            stops[message["ask"]] = Stop()
            threading.Thread(target=_answer, args=(engine, message, stops, writer), daemon=True).start()
        elif (stop := stops.get(message["stop"])) is not None:
            stop.ask()
    # Native threads may still compute for a parent that is gone.
    os._exit(0)


def _engine(job: dict[str, Any]) -> Any:
    from werkmeister.engines.llama import LlamaEngine

    adapter = job.pop("adapter")
    return LlamaEngine(Path(job.pop("path")), adapter=Path(adapter) if adapter else None, **job)


def _answer(engine: Stoppable, message: dict[str, Any], stops: dict[int, Stop], writer: Writer) -> None:
    number = message["ask"]
    last: dict[str, Any] = {"error": _error(EngineError("the answer broke off by a mistake of ours"))}
    try:
        last = _told(engine, message, stops[number], writer)
    except WerkmeisterError as error:
        last = {"error": _error(error)}
    finally:
        del stops[number]
        writer.write({"ask": number, **last})


def _told(engine: Stoppable, message: dict[str, Any], stop: Stop, writer: Writer) -> dict[str, Any]:
    """Write the items of an answer, and return the last message."""
    number, prompt = message["ask"], message["prompt"]
    if not isinstance(prompt, str):
        prompt = tuple(Message(turn["role"], turn["content"]) for turn in prompt)
    sampling = Sampling(**message["sampling"] | {"stop": tuple(message["sampling"]["stop"])})
    stream = engine.stream_until(prompt, sampling, stop)
    writer.write({"ask": number, "accepted": True})
    pending: list[Any] = []
    written = 0.0
    for item in stream:
        if isinstance(item, Finished):
            return {"items": pending, "finished": asdict(item)}
        pending.append(_entry(item))
        now = time.monotonic()
        if now - written >= _PACE:
            writer.write({"ask": number, "items": pending})
            pending, written = [], now
    return {"items": pending, "stopped": True}


def _entry(token: Token) -> list[Any]:
    return [token.text, token.logprob, token.alternatives] if token.alternatives else [token.text, token.logprob]


def _error(error: WerkmeisterError) -> dict[str, Any]:
    return {"type": type(error).__name__, "message": error.message, "hint": error.hint}


if __name__ == "__main__":
    main()
