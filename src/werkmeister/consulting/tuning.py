"""How many answers an expert makes at a time, and on how many threads, chosen by measurement.

Batching may be slower than letting wait, and the second thread of a core adds little.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from werkmeister.bases.gguf_header import read_gguf_header
from werkmeister.consulting.expert import AskSettings, Expert, Found, find_expert
from werkmeister.engines.engine import Engine, Sampling, Stop, Token, stream_until
from werkmeister.engines.isolated import IsolatedEngine
from werkmeister.engines.llama import context_of
from werkmeister.errors import SettingsError
from werkmeister.machine import cores, read_machine, threads_by_load
from werkmeister.memory import Memory
from werkmeister.progress import Progress, Silent

WIDTHS = (1, 2, 4, 8)
"""Numbers of answers at a time that are tried."""

_GAIN = 1.05  # a wider batch makes each answer slower, so it must be worth it
_WINDOW = 0.75  # seconds a trial; each width is tried twice, and the second time in the opposite order
_ROOM = 512  # tokens of context a slot in a trial
_SHARE = 0.25  # of the free memory that the conversations' keys and values may take


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """How an expert is served: `rates` are the tokens/s of all answers together by their number at a time, as measured
    with the chosen number of threads (empty where a person chose)."""

    slots: int
    threads: int
    rates: dict[int, float]
    remembered: bool = False


def open_tuned(
    folder: Path,
    *,
    settings: AskSettings | None = None,
    file: str = "",
    slots: int = 0,
    cache: int = 0,
    progress: Progress | None = None,
) -> tuple[Expert, Tuned]:
    """Load the expert in `folder` in a process of its own, for many questions at a time.

    `slots` 0 measures how many, with the idle cores and with half of them unless `settings` say how many threads (some
    seconds; remembered below the expert's artefacts for this file, machine and number of idle cores). `cache` is the
    memory in MiB for computed prompts of conversations that wait. Raises as `open_expert` does, and SettingsError when
    that many slots do not fit into the memory.
    """
    settings, progress = settings or AskSettings(), progress or Silent()
    found = find_expert(folder, settings=settings, file=file)
    idle = settings.threads or threads_by_load()
    most = _most_slots(found.path, settings.context_length)
    if slots > most:
        raise SettingsError(
            f"serve.slots = {slots}: the memory that is free holds {most} conversations of this length",
            hint="lower serve.slots or ask.context_length",
        )
    choices = (idle,) if settings.threads else thread_choices(idle)
    tuned = Tuned(slots=slots, threads=idle, rates={}) if slots else _tuned(folder, found, choices, most, progress)
    engine = IsolatedEngine(
        found.path,
        context_length=settings.context_length,
        threads=tuned.threads,
        slots=tuned.slots,
        cache=cache,
    )
    return found.expert(engine), tuned


def best_width(rates: dict[int, float]) -> int:
    """The smallest number of answers at a time that no larger one beats by more than a twentieth."""
    return next(n for n in sorted(rates) if all(rates[m] <= rates[n] * _GAIN for m in rates if m > n))


def thread_choices(idle: int) -> tuple[int, ...]:
    """Numbers of threads to try: the idle cores, and half of them, since two of these may share one's arithmetic."""
    return tuple(sorted({max(1, idle // 2), idle}))


def best_threads(rates: Mapping[int, Mapping[int, float]]) -> int:
    """The smallest number of threads whose best rate no larger one's beats by more than a twentieth."""
    return best_width({threads: max(by_width.values()) for threads, by_width in rates.items()})


def measure_widths(engine: Engine, widths: Sequence[int], window: float = _WINDOW) -> dict[int, float]:
    """Tokens/s of all answers together for each number of answers at a time, prompts included; two trials each."""
    _trial(engine, 1, window / 3, "warm")
    counted = {width: _trial(engine, width, window, "up") for width in widths}
    for width in reversed(widths):
        tokens, seconds = _trial(engine, width, window, "down")
        counted[width] = (counted[width][0] + tokens, counted[width][1] + seconds)
    return {width: tokens / seconds for width, (tokens, seconds) in counted.items()}


def _tuned(folder: Path, found: Found, choices: Sequence[int], most: int, progress: Progress) -> Tuned:
    widths = [width for width in WIDTHS if width <= most]
    key = {
        **{"file": found.path.name, "expert": found.identity, "choices": list(choices), "widths": widths},
        **{"processor": read_machine().processor, "cores": cores(), "xllamacpp": metadata.version("xllamacpp")},
    }
    memory = Memory(folder / "artefacts", "serving")
    known: dict[str, Any] | None = memory.get(key)
    if known is not None:
        remembered = {int(n): {int(w): rate for w, rate in rates.items()} for n, rates in known["rates"].items()}
        return _chosen(remembered, remembered=True)
    progress.say("measuring how many answers at a time pay on this machine …")
    header = read_gguf_header(found.path)
    room = min(_ROOM, int(header.get("context_length", 0)) or _ROOM)
    rates = {}
    for threads in choices:
        with IsolatedEngine(found.path, context_length=room, threads=threads, slots=widths[-1]) as engine:
            rates[threads] = measure_widths(engine, widths, _WINDOW)
    with contextlib.suppress(OSError):  # an expert on a read-only disk is measured at each start
        memory.put(key, {"rates": rates})
    return _chosen(rates)


def _chosen(rates: dict[int, dict[int, float]], *, remembered: bool = False) -> Tuned:
    threads = best_threads(rates)
    return Tuned(slots=best_width(rates[threads]), threads=threads, rates=rates[threads], remembered=remembered)


def _trial(engine: Engine, width: int, window: float, name: str) -> tuple[int, float]:
    """Tokens that `width` threads got in some `window` seconds, and the seconds."""
    counts = [0] * width
    stop = Stop()
    sampling = Sampling(max_tokens=48, temperature=1.0)

    def work(index: int) -> None:
        number = 0
        while not stop.asked:
            prompt = f"{name} {width} {index} {number}: The"
            for item in stream_until(engine, prompt, sampling, stop):
                counts[index] += isinstance(item, Token)
            number += 1

    with ThreadPoolExecutor(width) as pool:
        begin = time.perf_counter()
        tried = [pool.submit(work, index) for index in range(width)]
        try:
            # A slow model gets the time for some tokens, or their number would be chance.
            while (passed := time.perf_counter() - begin) < window or (sum(counts) < 4 * width and passed < 8 * window):
                if any(one.done() for one in tried):  # only an error ends one before it is asked to stop
                    break
                time.sleep(0.02)
            tokens, seconds = sum(counts), time.perf_counter() - begin
        finally:
            stop.ask()  # a person's Ctrl-C too: the threads must be through before the engine closes
    for one in tried:
        one.result()
    return tokens, seconds


def _most_slots(path: Path, context_length: int) -> int:
    """How many conversations fit into a quarter of the free memory: keys and values of 16 bits, full attention."""
    header = read_gguf_header(path)
    heads = int(header.get("attention.head_count", 1))
    width = int(header.get("embedding_length", 0)) // max(1, heads)
    key_heads = header.get("attention.head_count_kv", heads)
    key_heads = max(key_heads) if isinstance(key_heads, list) else int(key_heads)
    sizes = int(header.get("attention.key_length", width)) + int(header.get("attention.value_length", width))
    each = context_of(header, context_length) * int(header.get("block_count", 1)) * key_heads * sizes * 2
    return max(1, int(read_machine().memory_free * _SHARE) // max(1, each))
