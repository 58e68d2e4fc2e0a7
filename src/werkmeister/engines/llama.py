"""The engine that consults: llama.cpp's server, in this process, through `xllamacpp`.

The prompt is rendered with the same Jinja as in training and handed over as token ids, not left to llama.cpp's own
Jinja: so the two cannot differ, nobody cuts the prompt, and its length is known before the work.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from werkmeister.bases.gguf_header import GgufHeader, read_gguf_header
from werkmeister.bases.templates import TemplateRefusal, render
from werkmeister.chat import Conversation, messages_json
from werkmeister.engines.engine import Finished, Reply, Sampling, Stop, Token, in_order
from werkmeister.engines.llama_server import start_server
from werkmeister.engines.stopping import StopTexts
from werkmeister.errors import BaseModelError, ContextError, DataError, EngineError, SchemaError, WerkmeisterError
from werkmeister.machine import threads_by_load

USUAL_CONTEXT = 8192
"""The longest context (tokens) that is set up without being asked for: the memory for it is taken at once."""

_SURE = 1000.0  # a logit bias that outweighs every logit
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_NO_JSON = "Z"  # no JSON text begins with it


class Loading(TypedDict, total=False):
    """How a LlamaEngine is loaded: its arguments behind the path."""

    context_length: int
    threads: int
    slots: int
    adapter: Path | None
    template: str | None
    cache: int


class LlamaEngine:
    """A GGUF file under llama.cpp on the CPU. Satisfies Engine, Stoppable and Inspectable.

    `context_length` is in tokens a conversation, 0 for the model's own up to `USUAL_CONTEXT`; memory grows with
    `context_length * slots`. `threads` 0 means by load. `slots` is how many conversations `replies` answers at a time.
    `adapter` is a LoRA adapter in GGUF form, in force for every answer. `template` replaces the file's chat template.
    `cache` is the memory in MiB for the computed prompts of conversations that hold no slot at the moment.

    A Token's logprob is llama.cpp's pre-sampling value: the softmax of the raw logits. Tokens that leave a UTF-8
    character incomplete have none (they are counted in `answer_tokens`). A schema's answer is one line of JSON with the
    properties in the schema's order. A greedy answer is the same in every run up to rounding: the cached prefix of the
    prompt, and with several slots the batch, decide in which portions it is computed.

    Raises BaseModelError for a file that is missing, damaged, or has no chat template; EngineError when llama.cpp
    refuses it, with llama.cpp's reason.
    """

    def __init__(
        self,
        path: Path,
        *,
        context_length: int = 0,
        threads: int = 0,
        slots: int = 1,
        adapter: Path | None = None,
        template: str | None = None,
        cache: int = 0,
    ) -> None:
        started = time.perf_counter()
        header = _header(path, "model")
        if adapter is not None:
            _header(adapter, "adapter")
        self.path = path
        self.name = path.name if adapter is None else f"{path.name} + {adapter.name}"
        self.size = path.stat().st_size + (adapter.stat().st_size if adapter else 0)
        self.context_length = context_of(header, context_length)
        self.threads = threads or threads_by_load()
        self.slots = max(1, slots)
        self._template = template if template is not None else header.metadata.get("tokenizer.chat_template", "")
        if not self._template:
            raise BaseModelError(
                f"{path} has no chat template", hint="give one, or export the model again with a standard template"
            )
        self.calls_tools = "tools" in self._template and "<tool_call>" in self._template
        self._special_tokens = _special_tokens(header)
        # The full list goes with every request: one that omits it would be answered from another adapter's cache.
        self._lora = [{"id": 0, "scale": 1.0}] if adapter else []
        self._server: Any
        self._server, self._tokeniser = start_server(
            path, adapter, self.context_length, self.threads, self.slots, cache
        )
        # What llama.cpp puts in front of every prompt: the begin token, where the model was trained with one.
        self._begin = self._tokeniser.ids("", special=True)[:1]
        self._checked: set[str] = set()
        self.load_seconds = time.perf_counter() - started

    def __enter__(self) -> LlamaEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory. Streams that still run keep it until they end."""
        self._tokeniser.close()
        self._server = None

    def prompt_ids(self, conversation: Conversation, tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Token ids of the rendered conversation up to where the answer begins; the begin token stands there once."""
        self._open_server()
        turns = messages_json(conversation)
        try:
            text = render(self._template, turns, self._special_tokens, generation=True, tools=tools)
        except TemplateRefusal as error:
            roles = ", ".join(message.role for message in conversation)
            raise DataError(
                f"the chat template of {self.name} refuses a conversation of the turns {roles}: {error}",
                hint="let user and assistant take turns, after at most one system message",
            ) from error
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        ids = self._tokeniser.ids(text)
        return ids if ids[:1] == self._begin else self._begin + ids

    def next_logprobs(self, conversation: Conversation, top: int) -> dict[int, float]:
        """The `top` likeliest first tokens (up to the whole vocabulary): token id → logprob, likeliest first."""
        return self.logprobs_after(self.prompt_ids(conversation), top)

    def logprobs_after(self, ids: list[int], top: int, *, reuse: bool = False) -> dict[int, float]:
        """The same after any token ids: along a given answer, for one. `reuse` keeps what the last call computed for a
        common beginning; in which portions a prompt is computed shows in the last digits."""
        self._check_room(len(ids), 1)
        # llama.cpp reports nothing for a token that is half a character, so another one is forced upon it: the
        # reported probabilities are those of the logits before the bias.
        request = self._request(ids, Sampling(max_tokens=1)) | {
            "n_probs": top,
            "cache_prompt": reuse,
            "logit_bias": [[self._tokeniser.ids(_NO_JSON)[-1], _SURE]],
        }
        found = self._call(request)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return {entry["id"]: entry["logprob"] for entry in found}

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[Token | Finished]:
        """Yield tokens as they come and one Finished; leaving the iterator early stops the work.

        Raises ContextError at once when prompt and max_tokens do not fit, EngineError when the schema is none that
        llama.cpp can enforce.
        """
        return self.stream_until(conversation, sampling, Stop())

    def stream_until(self, prompt: Conversation | str, sampling: Sampling, stop: Stop) -> Iterator[Token | Finished]:
        """Like `stream`, until `stop` is asked: after a token, or between two portions (512 tokens) of the prompt."""
        # Reports of the prompt's progress are what can be answered with "stop" before the first token.
        request = self._prepared(prompt, sampling) | {"stream": True, "stop": [], "return_progress": True}
        return self._stream(request, StopTexts(sampling.stop), stop)

    def replies(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Reply]:
        """Answer in order, `slots` at a time. The first failure raises, naming the conversation that it befell.

        Ctrl-C takes effect when the answers under way have ended.
        """

        def answer(number: int) -> Reply:
            return self._reply(conversations, number, sampling)

        count = len(conversations)
        return map(answer, range(count)) if self.slots == 1 else in_order(answer, count, self.slots, "reply")

    def _reply(self, conversations: Sequence[Conversation], number: int, sampling: Sampling) -> Reply:
        try:
            return self._whole(conversations[number], sampling)
        except WerkmeisterError as error:
            if len(conversations) == 1:
                raise
            question = conversations[number][-1].content if conversations[number] else ""
            raise type(error)(
                f"conversation {number + 1} of {len(conversations)} ({_short(question)!r}): {error.message}",
                hint=error.hint,
                problems=error.problems,
            ) from error

    def _whole(self, conversation: Conversation, sampling: Sampling) -> Reply:
        """One answer in one piece: 3 % cheaper than a stream, whose every token is a message of its own."""
        begin = time.perf_counter()
        result = self._call(self._prepared(conversation, sampling))
        seconds = time.perf_counter() - begin
        choice, usage = result["choices"][0], result["usage"]
        tokens = [Token(entry["token"], entry["logprob"]) for entry in (choice["logprobs"] or {}).get("content", ())]
        # The text may go beyond the tokens, by what was held back as a possible stop text. Replacement characters are
        # left out of the comparison: broken bytes give other numbers of them in the pieces and in the whole.
        said = "".join(token.text for token in tokens)
        rest = choice["text"].replace(_BROKEN, "")[len(said.replace(_BROKEN, "")) :]
        if tokens and rest:
            tokens[-1] = Token(tokens[-1].text + rest, tokens[-1].logprob)
        return Reply(
            text=said + rest,
            tokens=tuple(tokens),
            finish=choice["finish_reason"],
            prompt_tokens=usage["prompt_tokens"],
            answer_tokens=usage["completion_tokens"],
            first_seconds=max(0.0, seconds - result["timings"]["predicted_ms"] / 1000),
            seconds=seconds,
        )

    def _prepared(self, prompt: Conversation | str, sampling: Sampling) -> dict[str, Any]:
        """The request for a conversation or a bare text, when it fits and its schema can be enforced."""
        self._open_server()
        ids = self._ids(prompt) if isinstance(prompt, str) else self.prompt_ids(prompt, sampling.tools)
        self._check_room(len(ids), sampling.max_tokens)
        if sampling.schema is not None:
            self._check_schema(sampling.schema)
        return self._request(ids, sampling)

    def _request(self, ids: list[int], sampling: Sampling) -> dict[str, Any]:
        return {
            "prompt": ids,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # The server's own defaults (top_k 40, min_p 0.05) would filter unasked. Greedy is top_k 1: without it the
            # chain softens and sorts the whole vocabulary for every token: 4 % of the time on SmolLM2.
            "top_k": 0 if sampling.temperature > 0 else 1,
            "min_p": 0.0,
            "samplers": ["temperature", "top_p"] if sampling.temperature > 0 else ["top_k"],
            "seed": sampling.seed,
            "stop": list(sampling.stop),
            "n_probs": max(1, sampling.alternatives),
            "cache_prompt": True,
            "lora": self._lora,
        } | ({"grammar": _grammar(sampling.schema)} if sampling.schema is not None else {})

    def _stream(self, request: dict[str, Any], texts: StopTexts, stop: Stop) -> Iterator[Token | Finished]:
        # The native call blocks, swallows exceptions of its callback, and so would swallow Ctrl-C: it gets a thread.
        server = self._open_server()
        chunks: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        left = threading.Event()

        def on_chunk(chunk: dict[str, Any]) -> bool:
            chunks.put(chunk)
            return left.is_set() or stop.asked

        def work() -> None:
            try:
                server.handle_completions(request, on_chunk)
            finally:
                chunks.put(None)

        worker = threading.Thread(target=work, name="llama.cpp", daemon=True)
        worker.start()
        try:
            for item in _items(chunks, request, texts, stop):
                if stop.asked:
                    return
                yield item
        finally:
            left.set()
            worker.join()

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = self._open_server().handle_completions(request)
        if "error" in result:
            raise _native_error(result)
        return result

    def _open_server(self) -> Any:
        if self._server is None:
            raise EngineError(f"the engine {self.name} is closed", hint="open it again")
        return self._server

    def _check_room(self, prompt: int, answer: int) -> None:
        if answer < 1:
            raise ContextError(f"max_tokens is {answer}, and an answer needs at least 1")
        if prompt + answer > self.context_length:
            raise ContextError(
                f"the prompt has {prompt} tokens and the answer may have {answer}: together {prompt + answer}, and the "
                f"context of {self.name} holds {self.context_length}",
                hint="shorten the question or the conversation, lower max_tokens, or raise context_length",
            )

    def _check_schema(self, schema: Mapping[str, Any]) -> None:
        """llama.cpp drops a schema that it cannot enforce without a word: ask it once for what no JSON begins with."""
        grammar = _grammar(schema)
        if grammar in self._checked:
            return
        forced = self._tokeniser.ids(_NO_JSON)
        request = self._request(forced, Sampling(max_tokens=1, schema=schema)) | {
            "cache_prompt": False,
            "logit_bias": [[forced[-1], _SURE]],
        }
        if self._call(request)["choices"][0]["text"].strip().startswith(_NO_JSON):
            raise SchemaError(
                f"llama.cpp cannot enforce the schema {_short(json.dumps(schema))}",
                hint="use types, properties, enum, items and required; avoid unknown formats and look-around patterns",
            )
        self._checked.add(grammar)


def _grammar(schema: Mapping[str, Any]) -> str:
    """The schema in one line of JSON, either with blanks after comma and colon or without any.

    Free white space would be a trap: under it a model that was not trained on the schema writes line breaks for ever.
    """
    blanks = {"whitespace_flexible": False}
    spaced = {"x-guidance": {**blanks, "item_separator": ", ", "key_separator": ": "}, **schema}
    compact = {"x-guidance": blanks, **schema}
    rules = f"spaced: %json {json.dumps(spaced)}\ncompact: %json {json.dumps(compact)}\n"
    return "%llguidance {}\nstart: spaced | compact\n" + rules


def _items(
    chunks: queue.SimpleQueue[dict[str, Any] | None], request: dict[str, Any], texts: StopTexts, stop: Stop
) -> Iterator[Token | Finished]:
    held: list[Token] = []  # the newest token, while its text may become a stop text
    count = cached = 0
    while (chunk := _next(chunks)) is not None:
        if "error" in chunk:
            raise _native_error(chunk)
        cached = chunk.get("prompt_progress", {}).get("cache", cached)
        end = Finished(finish="stop", prompt_tokens=len(request["prompt"]), answer_tokens=count, cached_tokens=cached)
        choice = chunk["choices"][0]
        if choice["finish_reason"] is not None:
            yield from (replace(token, text=token.text + texts.rest()) for token in held)
            yield replace(end, finish=choice["finish_reason"], answer_tokens=chunk["usage"]["completion_tokens"])
            return
        for entry in (choice["logprobs"] or {}).get("content", ()):
            count += 1
            text, stopped = texts.push(entry["token"])
            yield from held
            held = [Token(text, entry["logprob"], _alternatives(entry) if request["n_probs"] > 1 else ())]
            if stopped or not texts.holding:
                yield from held
                held = []
            if stopped:
                yield replace(end, answer_tokens=count)
                return
    if stop.asked:
        return
    raise EngineError("llama.cpp ended an answer without saying why", hint="run it again; report it if it stays")


def _alternatives(entry: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    return tuple((other["token"], other["logprob"]) for other in entry["top_logprobs"])


def _next(chunks: queue.SimpleQueue[dict[str, Any] | None]) -> dict[str, Any] | None:
    while True:
        try:
            return chunks.get(timeout=0.5)  # Windows delivers Ctrl-C only between waits
        except queue.Empty:
            continue


def _native_error(answer: dict[str, Any]) -> WerkmeisterError:
    error = answer["error"]
    if error.get("type") == "exceed_context_size_error":
        return ContextError(f"the prompt has {error['n_prompt_tokens']} tokens, and {error['n_ctx']} fit")
    return EngineError(f"llama.cpp refused the request: {error.get('message', error)}")


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


def _header(path: Path, kind: str) -> GgufHeader:
    """The head of a file that is whole: native code may end the process on a damaged one."""
    if not path.is_file():
        raise BaseModelError(f"there is no {kind} file {path}", hint="fetch it, or make it with: werkmeister export")
    header = read_gguf_header(path)
    found = header.metadata.get("general.type", "model")
    if found != kind:
        raise BaseModelError(f"{path} holds a GGUF of type {found!r}, and {kind!r} is needed here")
    return header


def _special_tokens(header: GgufHeader) -> dict[str, str]:
    """The texts of the special tokens under the names that chat templates use."""
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    tokens = header.metadata.get("tokenizer.ggml.tokens", [])
    ids = {name: header.metadata.get(f"tokenizer.ggml.{key}_token_id", -1) for key, name in names.items()}
    return {name: tokens[number] for name, number in ids.items() if 0 <= number < len(tokens)}


def context_of(header: GgufHeader, asked: int = 0) -> int:
    """The context (tokens) that is set up for a model: `asked`, or for 0 its own up to `USUAL_CONTEXT`.

    Raises ContextError for more than the model was trained for.
    """
    trained = int(header.get("context_length", 0))
    if asked > trained > 0:
        raise ContextError(
            f"context_length is {asked}, and {header.path.name} was trained for {trained} tokens",
            hint=f"set context_length to {trained} or less",
        )
    return asked or min(trained or USUAL_CONTEXT, USUAL_CONTEXT)
