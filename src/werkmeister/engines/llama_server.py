"""Starts llama.cpp's server in this process, quiet and closed to others.

The library opens a port on 127.0.0.1, which only its tokeniser needs here; a random key of this process guards it.
Answers never pass through that port.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from werkmeister.errors import EngineError, MachineError


def start_server(
    path: Path, adapter: Path | None, context: int, threads: int, slots: int, cache: int = 0
) -> tuple[Any, Tokeniser]:
    """A running `xllamacpp.Server` for a file that was checked to be whole, and its tokeniser.

    `context` is in tokens a slot, `cache` in MiB (0: none). Raises EngineError with llama.cpp's reason when it
    refuses the file, MachineError when xllamacpp is not installed.
    """
    # Waiting OpenMP threads that spin take the core from whoever else needs it; read when the library loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import xllamacpp
    except ImportError as error:
        raise MachineError("xllamacpp is not installed", hint='pip install "werkmeister[run]"') from error

    key = secrets.token_hex(16)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx = context * slots
    parameters.n_parallel = slots
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.ctx_shift = False
    parameters.fit_params = False
    parameters.warmup = False
    parameters.cache_ram_mib = cache  # beside the slots' own; llama.cpp itself would take up to 8 GB
    parameters.n_batch = parameters.n_ubatch  # a prompt can be stopped, and other slots go on, between two batches
    parameters.n_ctx_checkpoints = 2  # each holds a whole sliding window: 32 of them are gigabytes on Gemma 3
    parameters.api_keys = [key]
    parameters.ui = False
    parameters.endpoint_slots = False
    parameters.endpoint_metrics = True
    parameters.n_threads_http = 2
    parameters.verbosity = -1
    if adapter is not None:
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:
        parameters.verbosity = 1
        reason = _reason(lambda: xllamacpp.Server(parameters))
        files = str(path) if adapter is None else f"{path} with {adapter}"
        raise EngineError(
            f"llama.cpp cannot load {files}: {reason or error}",
            hint="check that this version of xllamacpp knows the architecture, and that enough memory is free",
        ) from error
    # A server that is let go of before its loop runs never ends. The loop answers this, so it runs from here on.
    server.handle_metrics()
    return server, Tokeniser(server.listening_address, key)


def _reason(load: Callable[[], object]) -> str:
    """What the native library writes to stderr while `load` fails: its exception tells nothing."""
    with tempfile.TemporaryFile() as caught:
        kept = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            load()
        except RuntimeError:
            pass
        finally:
            # The library writes its log from a thread of its own.
            deadline, size = time.monotonic() + 1.0, -1
            while time.monotonic() < deadline and (size <= 0 or size != os.fstat(caught.fileno()).st_size):
                size = os.fstat(caught.fileno()).st_size
                time.sleep(0.05)
            os.dup2(kept, 2)
            os.close(kept)
        caught.seek(0)
        lines = caught.read().decode("utf-8", "replace").splitlines()
    errors = [line.partition(" E ")[2] for line in lines if " E " in line]
    return errors[0].partition(": ")[2] or errors[0] if errors else ""


class Tokeniser:
    """The server's tokeniser, which only its port offers. One connection, shared by all threads."""

    def __init__(self, url: str, key: str) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=60)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._lock = threading.Lock()

    def ids(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids; special tokens in the text count as such. `special` adds those that the model begins with."""
        body = json.dumps({"content": text, "add_special": special, "parse_special": True})
        with self._lock:
            try:
                answer = self._post(body)
            except (http.client.HTTPException, ConnectionError):
                # The server drops a connection that was idle for some seconds.
                self._connection.close()
                answer = self._post(body)
        if "tokens" not in answer:
            raise EngineError(f"llama.cpp's tokeniser answered {answer}")
        return list(answer["tokens"])

    def _post(self, body: str) -> dict[str, Any]:
        self._connection.request("POST", "/tokenize", body, self._headers)
        answer: dict[str, Any] = json.loads(self._connection.getresponse().read())
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
