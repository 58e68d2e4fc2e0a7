"""llama.cpp in a process of its own: a crash of native code takes the answers under way with it and nothing else."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Unpack

from werkmeister import errors
from werkmeister.chat import Conversation, messages_json
from werkmeister.engines.engine import Finished, Reply, Sampling, Stop, Token, reply
from werkmeister.errors import EngineError, WerkmeisterError

if TYPE_CHECKING:
    from werkmeister.engines.llama import Loading

_PATIENCE = 10.0  # seconds that a process may take to end by itself
_STUCK = 180.0  # and seconds to stop an answer: a portion of a prompt takes a large model a minute
_LOOK = 1.0  # seconds between two looks for answers that do not stop


class IsolatedEngine:
    """A LlamaEngine in a child process, started again by the next question when it crashed.

    Arguments are those of LlamaEngine. May be asked from many threads: `slots` answers are made at a time, and
    llama.cpp lets the rest wait. Answers under way when the process dies raise EngineError; `restarts` counts the
    deaths that were followed by a new start. A child that does not stop an answer within minutes is killed, and each
    ends with this process, even after `kill -9`. Satisfies Engine and Stoppable.

    Raises what LlamaEngine raises, and EngineError when the process does not start.
    """

    def __init__(self, path: Path, **loading: Unpack[Loading]) -> None:
        adapter = loading.get("adapter")
        self._job: dict[str, Any] = {**loading, "path": str(path), "adapter": str(adapter) if adapter else None}
        self._lock = threading.Lock()
        self._closed = False
        self.restarts = 0
        self._child = _Child(self._job)
        facts = self._child.facts
        self.name: str = facts["name"]
        self.context_length: int = facts["context_length"]
        self.threads: int = facts["threads"]
        self.slots: int = facts["slots"]
        self.load_seconds: float = facts["load_seconds"]
        self.calls_tools: bool = facts["calls_tools"]
        # A restart must not choose again by the load of that moment.
        self._job["threads"] = self.threads

    def __enter__(self) -> IsolatedEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def process(self) -> int:
        """The process id of the child at this moment."""
        return self._child.process.pid

    @property
    def alive(self) -> bool:
        """Whether the child runs; a dead one is started by the next question."""
        return not self._child.dead

    def close(self) -> None:
        """End the child; answers under way raise EngineError."""
        with self._lock:
            self._closed = True
            self._child.end()

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[Token | Finished]:
        """Yield tokens as they come and one Finished; leaving the iterator early stops the work."""
        return self.stream_until(conversation, sampling, Stop())

    def stream_until(self, prompt: Conversation | str, sampling: Sampling, stop: Stop) -> Iterator[Token | Finished]:
        """Like `stream`, until `stop` is asked. Raises at once what the child's engine refuses."""
        child = self._running()
        number, messages = child.ask({"prompt": _prompt_json(prompt), "sampling": _sampling_json(sampling)})
        stop.then(partial(child.stop, number))
        try:
            first = messages.get()
        except BaseException:
            child.stop(number)
            raise
        if "error" in first:
            child.forget(number)
            raise _raised(first["error"])
        return _Items(child, number, messages)

    def replies(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Reply]:
        """Answer one after the other."""
        for conversation in conversations:
            yield reply(self, conversation, sampling)

    def _running(self) -> _Child:
        with self._lock:
            if self._closed:
                raise EngineError(f"the engine {self.name} is closed", hint="open it again")
            if self._child.dead:
                self._child.end()
                self._child = _Child(self._job)
                self.restarts += 1
            return self._child


class _Items(Iterator[Token | Finished]):
    """The items of one answer as the child sends them, several a message."""

    def __init__(self, child: _Child, number: int, messages: queue.SimpleQueue[dict[str, Any]]) -> None:
        self._child, self._number, self._messages = child, number, messages
        self._ready: Iterator[Token] = iter(())
        self._finished: Finished | None = None
        self._ended = False

    def __next__(self) -> Token | Finished:
        while True:
            for token in self._ready:
                return token
            if self._finished is not None:
                last, self._finished = self._finished, None
                return last
            if self._ended:
                raise StopIteration
            self._take(self._messages.get())

    def _take(self, message: dict[str, Any]) -> None:
        if "error" in message:
            self._end()
            raise _raised(message["error"])
        self._ready = iter([_token(entry) for entry in message["items"]])
        if "finished" in message:
            self._finished = Finished(**message["finished"])
        if "finished" in message or "stopped" in message:
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._child.forget(self._number)

    def close(self) -> None:
        """Stop the work and wait until it has stopped."""
        if self._ended:
            return
        self._child.stop(self._number)
        while not self._ended:
            try:
                self._take(self._messages.get())
            except WerkmeisterError:
                return

    def __del__(self) -> None:
        if not self._ended:
            self._child.stop(self._number)


class _Child:
    """One process and its two pipes: a JSON object a line each way."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.dead = False
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._stopping: dict[int, float] = {}
        self._gone = threading.Event()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `end`)
        # -P: a file of the working directory must not pass for a module. Waiting threads that spin would take the core.
        command = [sys.executable, "-P", "-X", "utf8", "-m", "werkmeister.engines.isolated_process"]
        environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._input, self._output = self.process.stdin, self.process.stdout
        self.tell(job)
        first = self._output.readline()
        if not first.endswith(b"\n"):
            reason = self._last_words()
            self.end()
            raise EngineError(f"the process of llama.cpp did not start: {reason}", hint="is enough memory free?")
        said = json.loads(first)
        if "error" in said:
            self.end()
            raise _raised(said["error"])
        self.facts: dict[str, Any] = said["ready"]
        threading.Thread(target=self._read, name="llama.cpp process", daemon=True).start()
        threading.Thread(target=self._watch, name="llama.cpp watch", daemon=True).start()

    def ask(self, question: dict[str, Any]) -> tuple[int, queue.SimpleQueue[dict[str, Any]]]:
        """Send a question; what is said about it arrives in the queue."""
        number, messages = next(self._numbers), queue.SimpleQueue[dict[str, Any]]()
        with self._lock:
            self._waiting[number] = messages
            dead = self.dead
        if dead or not self.tell({"ask": number, **question}):
            messages.put(self._death())
        return number, messages

    def tell(self, message: dict[str, Any]) -> bool:
        """Send a line; False when nobody listens any more."""
        line = json.dumps(message).encode() + b"\n"
        with self._writing:
            try:
                self._input.write(line)
                self._input.flush()
            except (OSError, ValueError):
                return False
        return True

    def stop(self, number: int) -> None:
        """Let the work on a question end; its last message says that it has. Nothing happens when it has ended."""
        with self._lock:
            if number not in self._waiting or number in self._stopping:
                return
            self._stopping[number] = time.monotonic()
        self.tell({"stop": number})

    def forget(self, number: int) -> None:
        """Nothing more will be read about a question."""
        with self._lock:
            self._waiting.pop(number, None)
            self._stopping.pop(number, None)

    def end(self) -> None:
        """Close the pipes and see the process off."""
        with self._lock:
            self.dead = True
        with contextlib.suppress(OSError):  # the last line could not be written: nobody listens
            self._input.close()
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def _read(self) -> None:
        for line in self._output:
            if not line.endswith(b"\n"):
                break  # killed in the middle of a word
            message = json.loads(line)
            with self._lock:
                waiting = self._waiting.get(message["ask"])
            if waiting is not None:
                waiting.put(message)
        self._gone.set()
        with self._lock:
            self.dead = True
            left = list(self._waiting.values())
        death = self._death()
        for waiting in left:
            waiting.put(death)

    def _watch(self) -> None:
        """Kill a process that does not stop an answer: native code hangs, and would hold its slot for ever."""
        while not self._gone.wait(_LOOK):
            with self._lock:
                since = min(self._stopping.values(), default=None)
            if since is not None and time.monotonic() - since > _STUCK:
                self.process.kill()
                return

    def _death(self) -> dict[str, Any]:
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
        message = f"the process of llama.cpp ended (exit code {self.process.returncode}): {self._last_words()}"
        return {"error": {"type": "EngineError", "message": message, "hint": "ask again: it is started anew"}}

    def _last_words(self) -> str:
        try:
            self._log.seek(0)
            lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        except ValueError:  # the file is closed
            return "it was ended"
        return lines[-1] if lines else "it left no message"


def _prompt_json(prompt: Conversation | str) -> str | list[dict[str, str]]:
    return prompt if isinstance(prompt, str) else messages_json(prompt)


def _sampling_json(sampling: Sampling) -> dict[str, Any]:
    return {key: getattr(sampling, key) for key in sampling.__dataclass_fields__}


def _token(entry: list[Any]) -> Token:
    text, logprob, *more = entry
    return Token(text, logprob, tuple((other, value) for other, value in more[0]) if more else ())


def _raised(error: dict[str, Any]) -> WerkmeisterError:
    raised = getattr(errors, error["type"], EngineError)(error["message"], hint=error["hint"])
    assert isinstance(raised, WerkmeisterError)
    return raised
