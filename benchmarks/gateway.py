"""The gateway against bare xllamacpp on this machine: same file, prompts, threads and lengths, in turns.

    python benchmarks/gateway.py [model.gguf] [--rounds N] [--tokens N] [--threads N] [--json]
    python benchmarks/gateway.py [model.gguf] --load 200 --seconds 60

The first form prints tokens/s of one client (whole and streamed) and of eight at a time, the time to the first token,
and the processor time of a token, which neighbours disturb least (the gateway's client is left out): that of all
threads says what is lost where the model has every core, that of the busiest one what is lost where a core is left.
Bare is `xllamacpp.Server` called from Python, once for one answer at a time and once for eight; for eight clients the
better of both counts. It is asked for token probabilities too, which our confidence is made of (--plain: it is not,
about 1.5 %).
The gateway runs as a person starts it: in a process of its own, with the number of answers at a time that it measured.
The second form puts so many clients on it for so long and prints what came back and the memory.
Without a model the packaged smollm2-135m is used.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
from answer_cpu import QUESTIONS

from werkmeister.bases.find import find_base
from werkmeister.consulting.expert import Expert
from werkmeister.consulting.tuning import WIDTHS, best_width, measure_widths
from werkmeister.delivery.gateway import Gateway
from werkmeister.delivery.guard import Door
from werkmeister.delivery.serving import listen, run_gateway
from werkmeister.delivery.settings import ServeSettings
from werkmeister.engines.engine import Sampling
from werkmeister.engines.isolated import IsolatedEngine
from werkmeister.machine import read_machine, threads_by_load
from werkmeister.progress import Silent

CLIENTS = 8
CONTEXT = 2048
Answered = tuple[int, float, float]  # tokens, seconds to the first token, seconds
Costly = tuple[int, float, float, float, float]  # and seconds of processor time, and of its busiest thread
Clock = tuple[float, dict[int, float]]  # processor time of all, and of each thread


def main() -> None:
    options = parse()
    threads = options.threads or threads_by_load()
    model = options.model or find_base("smollm2-135m", progress=Silent()).gguf
    if options.serve:
        serve_model(model, threads, options.slots, options.cache)
        return
    with Served(model, threads, options.slots, options.cache) as served:
        if options.load:
            print(json.dumps(load_test(served, options.load, options.seconds, options.tokens), indent=2))
        else:
            compare(served, model, threads, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, help="a .gguf file")
    parser.add_argument("--rounds", type=int, default=12, help="answers of one client a way (default 12)")
    parser.add_argument("--tokens", type=int, default=96, help="longest answer in tokens (default 96)")
    parser.add_argument("--threads", type=int, default=0, help="threads; 0: by load")
    parser.add_argument("--slots", type=int, default=0, help="answers at a time of the gateway; 0: measured")
    parser.add_argument("--cache", type=int, default=256, help="MiB for computed prompts (default 256, as in [serve])")
    parser.add_argument("--load", type=int, default=0, help="load test with so many clients")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the load test (default 60)")
    parser.add_argument("--plain", action="store_true", help="bare calls without token probabilities")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def serve_model(model: Path, threads: int, slots: int, cache: int) -> None:
    """The server process: what `serve` does, for a file that is no expert's. Prints its port and slots."""
    if not slots:
        with IsolatedEngine(model, context_length=512, threads=threads, slots=WIDTHS[-1]) as engine:
            slots = best_width(measure_widths(engine, WIDTHS))
    settings = ServeSettings(port=0, cache=cache)
    engine = IsolatedEngine(model, context_length=CONTEXT, threads=threads, slots=slots, cache=settings.cache)
    expert = Expert(name="bench", engine=engine, system="", sampling=Sampling(max_tokens=96))
    door = Door(keys=None, keys_needed=False, hosts=("127.0.0.1",))
    with listen(settings) as listener, expert:
        print(listener.getsockname()[1], slots, flush=True)
        run_gateway(Gateway(expert, settings, door, slots=slots), listener)


def clock(*processes: psutil.Process) -> Clock:
    """What these processes used so far."""
    times = [process.cpu_times() for process in processes]
    threads = {one.id: one.user_time + one.system_time for process in processes for one in process.threads()}
    return sum(one.user + one.system for one in times), threads


def used(before: Clock, after: Clock) -> tuple[float, float]:
    """Seconds of all between two readings, and of the thread that used most: with one thread, the model's."""
    return after[0] - before[0], max(spent - before[1].get(number, 0.0) for number, spent in after[1].items())


class Served:
    """The gateway in a process of its own."""

    def __init__(self, model: Path, threads: int, slots: int, cache: int) -> None:
        command = [sys.executable, __file__, str(model), "--serve", "--threads", str(threads), "--slots", str(slots)]
        command += ["--cache", str(cache)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        port, found = self.process.stdout.readline().split()
        self.port, self.slots = int(port), int(found)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.terminate()
        self.process.wait(30)

    def memory(self) -> tuple[int, int]:
        """Resident MB of the server and of its engine."""
        server = psutil.Process(self.process.pid)
        engine = sum(process.memory_info().rss for process in server.children())
        return round(server.memory_info().rss / 1e6), round(engine / 1e6)

    def processor(self) -> Clock:
        """Seconds of processor time of the server and its engine so far."""
        server = psutil.Process(self.process.pid)
        return clock(server, *server.children())

    def post(self, body: dict, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        """Send a chat request."""
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse()

    def whole(self, question: str, tokens: int) -> Answered:
        """One answer in one piece."""
        begin = time.perf_counter()
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)) as connection:
            answer = json.loads(self.post(request(question, tokens), connection).read())
        seconds = time.perf_counter() - begin
        return answer["usage"]["completion_tokens"], seconds, seconds

    def streamed(self, question: str, tokens: int) -> Answered:
        """One answer as a stream."""
        begin, first, made = time.perf_counter(), 0.0, 0
        body = request(question, tokens) | {"stream": True, "stream_options": {"include_usage": True}}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)) as connection:
            for line in self.post(body, connection):
                if not line.startswith(b"data: {"):
                    continue
                piece = json.loads(line[6:])
                if not first and piece["choices"] and piece["choices"][0]["delta"].get("content"):
                    first = time.perf_counter() - begin
                made = (piece["usage"] or {}).get("completion_tokens", made)
        return made, first, time.perf_counter() - begin


def request(question: str, tokens: int) -> dict:
    messages = [{"role": "user", "content": question}]
    return {"messages": messages, "max_tokens": tokens, "temperature": 0}


class Bare:
    """`xllamacpp.Server` as its own documentation starts it."""

    def __init__(self, model: Path, threads: int, slots: int, plain: bool = False) -> None:
        import xllamacpp

        self.more = {} if plain else {"logprobs": True, "top_logprobs": 1}

        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(model)
        parameters.n_ctx, parameters.n_parallel = CONTEXT * slots, slots
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
        parameters.verbosity = -1
        self.server = xllamacpp.Server(parameters)

    def whole(self, question: str, tokens: int) -> Answered:
        """One answer in one piece."""
        begin = time.perf_counter()
        result = self.server.handle_chat_completions(request(question, tokens) | self.more)
        seconds = time.perf_counter() - begin
        return result["usage"]["completion_tokens"], seconds, seconds

    def streamed(self, question: str, tokens: int) -> Answered:
        """One answer as a stream."""
        begin, seen = time.perf_counter(), []
        made = [0]

        def on_chunk(chunk: dict) -> bool:
            if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                seen.append(time.perf_counter() - begin)
            made[0] = (chunk.get("usage") or {}).get("completion_tokens", made[0])
            return False

        body = request(question, tokens) | {"stream": True, "stream_options": {"include_usage": True}}
        self.server.handle_chat_completions(body | self.more, on_chunk)
        return made[0], seen[0], time.perf_counter() - begin


def compare(served: Served, model: Path, threads: int, options: argparse.Namespace) -> None:
    bare = {n: Bare(model, threads, n, options.plain) for n in (1, CLIENTS)}
    singles: dict[str, Callable[[str, int], Answered]] = {
        "bare, whole": bare[1].whole,
        "gateway, whole": served.whole,
        "bare, streamed": bare[1].streamed,
        "gateway, streamed": served.streamed,
    }
    ways = list(singles)
    for way in ways:
        singles[way](QUESTIONS[0], 8)
    found: dict[str, list[Costly]] = {way: [] for way in ways}
    for number in range(options.rounds):
        for place in range(len(ways)):
            way = ways[(number + place) % len(ways)]
            # A number of its own in front: a server keeps what prompts have in common.
            question = f"{number}.{place}: {QUESTIONS[number % len(QUESTIONS)]}"
            read = served.processor if way.startswith("gateway") else lambda: clock(psutil.Process())
            begin = read()
            answered = singles[way](question, options.tokens)
            found[way].append((*answered, *used(begin, read())))
    crowds = {f"bare, {n} at a time": server.whole for n, server in bare.items()} | {"gateway": served.whole}
    batches: dict[str, list[float]] = {way: [] for way in crowds}
    names = list(crowds)
    for number in range(max(2, options.rounds // 4)):
        for way in names[number % 3 :] + names[: number % 3]:
            batches[way].append(crowd(crowds[way], f"{number}", options.tokens))
    report(found, batches, served, threads, options)


def crowd(answer: Callable[[str, int], Answered], name: str, tokens: int) -> float:
    """Tokens/s of eight clients that ask two questions each, one after the other."""

    def client(index: int) -> int:
        return sum(answer(f"{name}.{index}.{turn}: {QUESTIONS[index % 6]}", tokens)[0] for turn in range(2))

    begin = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        made = sum(pool.map(client, range(CLIENTS)))
    return made / (time.perf_counter() - begin)


def report(
    found: dict[str, list[Costly]], batches: dict[str, list[float]], served: Served, threads: int, options
) -> None:
    def ratios(kind: str) -> list[float]:
        pairs = zip(found[f"gateway, {kind}"], found[f"bare, {kind}"], strict=True)
        return statistics.quantiles([(a[0] / a[2]) / (b[0] / b[2]) for a, b in pairs], n=4)

    def a_token(place: int) -> dict[str, float]:
        return {way: sum(a[place] for a in said) / sum(a[0] for a in said) * 1000 for way, said in found.items()}

    firsts = zip(found["gateway, streamed"], found["bare, streamed"], strict=True)
    later = statistics.quantiles([(a[1] - b[1]) * 1000 for a, b in firsts], n=4)
    best = max(statistics.median(rates) for way, rates in batches.items() if way != "gateway")
    result = {
        "processor": read_machine().processor,
        "threads": threads,
        "slots": served.slots,
        "n": options.rounds,
        "one client, tokens/s": {way: statistics.median(a[0] / a[2] for a in said) for way, said in found.items()},
        "processor ms a token": a_token(3),
        "of it the busiest thread": a_token(4),
        "ratio whole (quartiles)": ratios("whole"),
        "ratio streamed (quartiles)": ratios("streamed"),
        "first token later, ms (quartiles)": later,
        "eight clients, tokens/s": {way: statistics.median(rates) for way, rates in batches.items()},
        "ratio to the best bare batch": statistics.median(batches["gateway"]) / best,
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        shown = value if not isinstance(value, list) else [round(one, 3) for one in value]
        shown = {k: round(v, 2) for k, v in value.items()} if isinstance(value, dict) else shown
        print(f"{name:36} {shown}")


def load_test(served: Served, clients: int, seconds: float, tokens: int) -> dict:
    """So many clients, each of whom asks again as soon as answered, and after 429 comes back when told."""
    statuses: Counter[str] = Counter()
    took: list[float] = []
    memory: list[tuple[int, int]] = []
    end = time.perf_counter() + seconds
    lock = threading.Lock()

    def client(index: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=seconds + 300)
        number = 0
        while (begin := time.perf_counter()) < end:
            number += 1
            question = f"{index}.{number}: {QUESTIONS[number % 6]}"
            try:
                response = served.post(request(question, tokens), connection)
                response.read()
                status, wait = str(response.status), float(response.headers.get("Retry-After", 0))
            except (OSError, http.client.HTTPException) as error:
                status, wait = type(error).__name__, 1.0
                connection.close()
            with lock:
                statuses[status] += 1
                if status == "200":
                    took.append(time.perf_counter() - begin)
            time.sleep(max(0.0, min(wait, end - time.perf_counter())))
        connection.close()

    threads = [threading.Thread(target=client, args=(index,)) for index in range(clients)]
    for thread in threads:
        thread.start()
    while time.perf_counter() < end:
        memory.append(served.memory())
        time.sleep(seconds / 20)
    for thread in threads:
        thread.join()
    fifths = statistics.quantiles(took, n=20) if len(took) > 1 else [0.0]
    return {
        **{"clients": clients, "seconds": seconds, "slots": served.slots, "statuses": dict(statuses)},
        **{"median seconds": statistics.median(took) if took else None, "p95 seconds": fifths[-1]},
        **{"memory of server and engine, MB": [*memory, served.memory()]},
    }


if __name__ == "__main__":
    main()
