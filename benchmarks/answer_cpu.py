"""Tokens/s of `ask` against bare xllamacpp calls on this machine: same file, prompts and parameters, in turns.

    python benchmarks/answer_cpu.py [model.gguf | expert folder] [--rounds N] [--tokens N] [--threads N] [--json]

Each question is put to three answerers in changing order: `ask` (our Expert on LlamaEngine), bare xllamacpp asked for
the same (token probabilities), and bare xllamacpp without probabilities. A ratio is one question's tokens/s under `ask`
over those under a bare call; printed are its median and its quartiles. Every question begins with a number of its own,
since a server keeps what prompts have in common.
Without an argument the packaged smollm2-135m is used.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from werkmeister.bases.find import find_base
from werkmeister.chat import conversation, messages_json, read_examples
from werkmeister.consulting.expert import AskSettings, Expert, ask, open_expert
from werkmeister.engines.engine import Sampling
from werkmeister.engines.llama import LlamaEngine
from werkmeister.machine import read_machine, threads_by_load
from werkmeister.progress import Silent

QUESTIONS = (
    "Explain how a door lock works.",
    "Name five tools of a carpenter and what each is for.",
    "What should one check before replacing a light switch?",
    "Write a short note that the heating will be off tomorrow.",
    "Why does a battery lose capacity in the cold?",
    "Describe the smell of rain.",
)
Answerer = Callable[[str], tuple[int, float]]


def main() -> None:
    options = parse()
    threads = options.threads or threads_by_load()
    expert, questions = opened(options.model, threads, options.tokens)
    with expert:
        engine = expert.engine
        assert isinstance(engine, LlamaEngine)
        bare = bare_server(engine)
        answerers: dict[str, Answerer] = {
            "ask": lambda question: asked(expert, question),
            "bare": lambda question: called(bare, expert, question, probabilities=True),
            "bare, no probabilities": lambda question: called(bare, expert, question, probabilities=False),
        }
        for answer in answerers.values():
            answer(questions[0])
        speeds = measure(answerers, questions, options.rounds)
        report(speeds, engine, threads, as_json=options.json)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, help="a .gguf file, or the folder of a built expert")
    parser.add_argument("--rounds", type=int, default=5, help="how often each question is put (default 5)")
    parser.add_argument("--tokens", type=int, default=96, help="longest answer in tokens (default 96)")
    parser.add_argument("--threads", type=int, default=0, help="threads; 0: by load")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return parser.parse_args()


def opened(model: Path | None, threads: int, tokens: int) -> tuple[Expert, list[str]]:
    """The expert to measure, and the questions to put: its own exam's where it has one."""
    if model is not None and model.is_dir():
        expert = open_expert(model, settings=AskSettings(max_tokens=tokens, threads=threads))
        exam = model / "artefacts" / "dataset" / "exam.jsonl"
        if exam.is_file():
            return expert, [example.question for example in islice(read_examples(exam), 12)]
        return expert, list(QUESTIONS)
    path = model or find_base("smollm2-135m", progress=Silent()).gguf
    if path is None:
        sys.exit("the base has no GGUF of its own: name a .gguf file")
    engine = LlamaEngine(path, threads=threads, context_length=2048)
    return Expert(name=path.stem, engine=engine, system="", sampling=Sampling(max_tokens=tokens)), list(QUESTIONS)


def bare_server(engine: LlamaEngine):
    """A server as xllamacpp's own documentation starts it, with the engine's file, threads and context."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(engine.path)
    parameters.n_ctx = engine.context_length
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = engine.threads
    parameters.verbosity = -1
    return xllamacpp.Server(parameters)


def asked(expert: Expert, question: str) -> tuple[int, float]:
    begin = time.perf_counter()
    answer = ask(expert, question)
    return answer.tokens, time.perf_counter() - begin


def called(server, expert: Expert, question: str, *, probabilities: bool) -> tuple[int, float]:
    request = {
        "messages": messages_json(conversation(question, expert.system)),
        "max_tokens": expert.sampling.max_tokens,
        "temperature": 0,
        **({"logprobs": True, "top_logprobs": 1} if probabilities else {}),
    }
    begin = time.perf_counter()
    result = server.handle_chat_completions(request)
    seconds = time.perf_counter() - begin
    return result["usage"]["completion_tokens"], seconds


def measure(answerers: dict[str, Answerer], questions: list[str], rounds: int) -> dict[str, list[float]]:
    """Tokens/s of each answerer, one number a question and round; the order turns so that none is always first."""
    names = list(answerers)
    speeds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds * len(questions)):
        question = questions[number % len(questions)]
        start = number % len(names)
        for place, name in enumerate(names[start:] + names[:start]):
            tokens, seconds = answerers[name](f"{number}.{place}: {question}")
            speeds[name].append(tokens / seconds)
    return speeds


def report(speeds: dict[str, list[float]], engine: LlamaEngine, threads: int, *, as_json: bool) -> None:
    machine = read_machine()
    ours = speeds["ask"]
    ratios = {
        name: statistics.quantiles([a / b for a, b in zip(ours, theirs, strict=True)], n=4)
        for name, theirs in speeds.items()
        if name != "ask"
    }
    if as_json:
        result = {
            "model": engine.name,
            "processor": machine.processor,
            "threads": threads,
            "tokens_per_second": {name: statistics.median(values) for name, values in speeds.items()},
            "ratio": {name: dict(zip(("q1", "median", "q3"), q, strict=True)) for name, q in ratios.items()},
            "n": len(ours),
        }
        print(json.dumps(result))
        return
    print(f"{engine.name} on {machine.processor}, {threads} threads, {len(ours)} answers each")
    for name, values in speeds.items():
        print(f"  {name:24} {statistics.median(values):8.1f} tokens/s (median)")
    for name, (low, middle, high) in ratios.items():
        print(f"ask / {name}: {middle:.3f} (quartiles {low:.3f} to {high:.3f})")
    print(f"overhead of ask over the same bare call: {(1 / ratios['bare'][1] - 1) * 100:+.1f} %")


if __name__ == "__main__":
    main()
