"""An engine behind an OpenAI-compatible chat endpoint, reached through the `openai` package.

Nothing is sent before the policy was asked, and nothing beside the request itself: the headers of the package that
tell of this machine, and the environment variables that it reads of its own accord, are left out. No redirect is
followed, and a server on this machine is never reached through a proxy.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from werkmeister.chat import Conversation, messages_json
from werkmeister.engines.engine import Finished, Reply, Sampling, Token, collect, in_order
from werkmeister.engines.remote_errors import BrokenAnswer, Server, told
from werkmeister.engines.stopping import StopTexts
from werkmeister.errors import ContextError, EngineError, MachineError, SettingsError, WerkmeisterError
from werkmeister.governing.policy import PolicySettings, is_loopback, require_allowed

NOT_GIVEN = float("nan")
"""The logprob of a token whose server tells none."""

_HEADERS = frozenset(
    ("host", "accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "user-agent")
)
# What a request can do without. A server that refuses one of them by name is asked again without it.
_OPTIONAL = ("logprobs", "stream_options", "seed", "temperature", "top_p", "stop")
_ENDED = {"stop": "stop", "length": "length", "eos": "stop", "eos_token": "stop", "end_turn": "stop"}
_STOPS_SENT = 4  # as many stop texts as OpenAI takes
_CONNECT_SECONDS = 15.0
_CONTEXT_NAMES = ("max_model_len", "max_context_length", "context_length", "context_window")


class RemoteEngine:
    """A model behind an OpenAI-compatible endpoint. Satisfies Engine.

    `url` ends in /v1 for most servers. `model` may be empty where the server has only one. The key is read from the
    environment variable named `key_env` (empty: no key is sent), and is neither kept in a readable field nor repeated
    in an error. `concurrency` is how many conversations `replies` has under way. `timeout` is the longest silence of
    the server in seconds. Rate limits, server errors and lost connections are tried again up to `retries` times, after
    what Retry-After says, else after 0.5 s, doubled each time up to 8 s. `context_length` is in tokens; 0: as the
    server tells, and 0 where it tells none.

    A Token's logprob is what the server says: OpenAI, vLLM and llama.cpp give the model's own, before temperature and
    top_p; others may not. It is nan where the server says nothing. A schema goes out as `response_format`, and how well
    it is enforced is the server's affair: check what comes back. What the server refused to take is in `refused`
    (names of Sampling's fields, or "schema lengths"), and then has no effect. Where it tells no token counts,
    `counts_estimated` is True and they are estimated: 4 bytes a token of the prompt, one token a chunk of the answer.

    Prompts that do not fit raise ContextError as far as the server says so: one that cuts them in silence, as Ollama
    does beyond its num_ctx, cannot be caught here.

    Raises SettingsError for a host that the policy forbids, a missing or refused key, an unknown model; EngineError
    when the server cannot be reached; MachineError when the `openai` package is not installed.
    """

    def __init__(
        self,
        url: str,
        model: str = "",
        *,
        policy: PolicySettings | None = None,
        key_env: str = "",
        context_length: int = 0,
        concurrency: int = 4,
        timeout: float = 300.0,
        retries: int = 5,
    ) -> None:
        host = require_allowed(url, policy or PolicySettings())
        key = _key(key_env, url)
        self.url = url.rstrip("/")
        self.concurrency = max(1, concurrency)
        self.refused: set[str] = set()
        self.counts_estimated = False
        self._retries = retries
        self._length = "max_tokens"
        self._client: Any = _client(self.url, key, timeout, retries, proxies=not is_loopback(host))
        self._server = Server(self.url, model, key_env, key)
        try:
            self.model, told_length = self._choose(model)
        except BaseException:
            self.close()
            raise
        self._server.model = self.model
        self.context_length = context_length or told_length
        self.name = f"{self.model} at {host}"

    def __enter__(self) -> RemoteEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[Token | Finished]:
        """Yield tokens as they come and one Finished; leaving the iterator early closes the connection.

        An answer that breaks off before its first token is asked for again; later it raises EngineError.
        """
        return self._stream(self._opened(conversation, sampling), conversation, sampling)

    def replies(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Reply]:
        """Answer in order, `concurrency` at a time. Answers that break off are asked for again; the first failure
        that stays raises."""

        def answer(number: int) -> Reply:
            return self._whole(conversations[number], sampling)

        return in_order(answer, len(conversations), self.concurrency, "remote")

    def _whole(self, conversation: Conversation, sampling: Sampling) -> Reply:
        for attempt in range(self._retries + 1):
            begin = time.perf_counter()
            try:
                return collect(self.stream(conversation, sampling), begin)
            except BrokenAnswer:
                if attempt == self._retries:
                    raise
                time.sleep(min(8.0, 0.5 * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    def _stream(self, chunks: Any, conversation: Conversation, sampling: Sampling) -> Iterator[Token | Finished]:
        for attempt in range(self._retries + 1):
            begun = False
            try:
                for item in self._items(chunks, conversation, sampling):
                    begun = True
                    yield item
                return
            except BrokenAnswer as error:
                if begun:
                    raise
                if attempt == self._retries:
                    # No longer a BrokenAnswer: whoever tries those again would multiply the waiting.
                    raise EngineError(error.message, hint=error.hint) from error
            finally:
                chunks.close()
            time.sleep(min(8.0, 0.5 * 2**attempt))
            chunks = self._opened(conversation, sampling)

    def _items(self, chunks: Any, conversation: Conversation, sampling: Sampling) -> Iterator[Token | Finished]:
        texts = StopTexts(sampling.stop)
        finish, usage, count = "", None, 0
        held: Token | None = None  # the newest token, while its text may become a stop text
        for chunk in self._read(chunks):
            usage = getattr(chunk, "usage", None) or usage
            for choice in (getattr(chunk, "choices", None) or [])[:1]:
                finish = getattr(choice, "finish_reason", None) or finish
                for token in _tokens(choice):
                    count += 1
                    sure, stopped = texts.push(token.text)
                    if held:
                        yield held
                    held = Token(sure, token.logprob)
                    if stopped:
                        yield held
                        yield self._finished("stop", usage, conversation, count)
                        return
                    if not texts.holding:
                        yield held
                        held = None
        if finish not in _ENDED:
            raise self._server.ended(finish)
        if held:
            yield Token(held.text + texts.rest(), held.logprob)
        yield self._finished(_ENDED[finish], usage, conversation, count)

    def _read(self, chunks: Any) -> Iterator[Any]:
        import openai

        try:
            yield from chunks
        except openai.APIError as error:
            raise self._told(error, broken=True) from error
        except ValueError as error:
            raise BrokenAnswer(f"{self.url} sent something that is no JSON: {error}") from error

    def _finished(self, finish: str, usage: Any, conversation: Conversation, count: int) -> Finished:
        prompt, answer = (_count(getattr(usage, name, None)) for name in ("prompt_tokens", "completion_tokens"))
        if prompt is None or answer is None:
            self.counts_estimated = True
        size = sum(len(message.content.encode()) for message in conversation)
        return Finished(
            finish=finish,
            prompt_tokens=size // 4 if prompt is None else prompt,
            answer_tokens=count if answer is None else answer,
        )

    def _opened(self, conversation: Conversation, sampling: Sampling) -> Any:
        """The stream of a request, made without what the server turned down by name."""
        import openai

        if self._client is None:
            raise EngineError(f"the engine {self.name} is closed", hint="open it again")
        if 0 < self.context_length < sampling.max_tokens:
            raise ContextError(
                f"the answer may have {sampling.max_tokens} tokens, and the context of {self.name} holds "
                f"{self.context_length}",
                hint="lower max_tokens",
            )
        while True:
            request = self._request(conversation, sampling)
            try:
                chunks = self._client.chat.completions.create(**request)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                problem = self._told(error)
                if isinstance(problem, ContextError) or not self._do_without(error, request):
                    raise problem from error
            except openai.APIError as error:
                raise self._told(error) from error
            else:
                self._server.require_no_page(chunks.response.headers.get("content-type", ""))
                return chunks

    def _told(self, error: Any, *, broken: bool = False) -> WerkmeisterError:
        import openai

        lost, silent = (isinstance(error, kind) for kind in (openai.APIConnectionError, openai.APITimeoutError))
        return told(error, self._server, broken=broken, lost=lost, silent=silent)

    def _request(self, conversation: Conversation, sampling: Sampling) -> dict[str, Any]:
        optional: dict[str, Any] = {
            "logprobs": True,
            "stream_options": {"include_usage": True},
            "seed": sampling.seed,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.stop:
            optional["stop"] = list(sampling.stop[:_STOPS_SENT])
        request = {key: value for key, value in optional.items() if key not in self.refused}
        if sampling.schema is not None:
            loose = "schema lengths" in self.refused
            schema = _without_lengths(sampling.schema) if loose else sampling.schema
            form = {"name": "answer", "strict": True, "schema": schema}
            request["response_format"] = {"type": "json_schema", "json_schema": form}
        return request | {
            "model": self.model,
            "messages": messages_json(conversation),
            "stream": True,
            self._length: sampling.max_tokens,
        }

    def _do_without(self, error: Any, request: dict[str, Any]) -> bool:
        """Whether the refusal names something that the request can do without; it is left out from now on."""
        named = str(getattr(error, "param", None) or "") + " " + str(error)[:500]
        if "max_completion_tokens" in named and self._length == "max_tokens":
            self._length = "max_completion_tokens"
            return True
        for name in _OPTIONAL:
            # Another thread may have left it out meanwhile: then asking again is right as well.
            if name in request and re.search(rf"\b{name}\b", named):
                self.refused.add(name)
                return True
        lengths = "response_format" in request and "schema lengths" not in self.refused
        if lengths and re.search(r"response_format|schema", named):
            self.refused.add("schema lengths")
            return True
        return False

    def _choose(self, model: str) -> tuple[str, int]:
        """The model's name and its context in tokens (0: unknown), after a look at what the server has."""
        import openai

        try:
            # Not models.list(), which ends in an AttributeError of its own where the server sends a web page: here the
            # page comes as a text.
            answer = self._client.with_options(max_retries=1).get("/models", cast_to=object)
        except (openai.APIError, ValueError) as error:
            status = getattr(error, "status_code", None)
            lost = isinstance(error, openai.APIConnectionError)
            if lost or status == 401 or (status is not None and 300 <= status < 400):
                raise self._told(error) from error
            answer = None  # a server need not tell what it has: the first question will show
        if isinstance(answer, str):
            self._server.require_no_page(answer)
        listed = _entries(answer)
        names = [str(entry["id"]) for entry in listed if entry.get("id")]
        if not model and len(names) != 1:
            served = f"it serves {', '.join(names[:12])}" if names else "it does not tell what it serves"
            raise SettingsError(f"no model is named for {self.url}, and {served}", hint="set write.teacher_model")
        chosen = model or names[0]
        self._server.listed = tuple(names)
        for entry in listed:
            if entry.get("id") == chosen:
                values = [entry.get(name) for name in _CONTEXT_NAMES]
                return chosen, next((value for value in values if isinstance(value, int) and value > 0), 0)
        return chosen, 0


def _entries(listed: Any) -> list[dict[str, Any]]:
    """The models of a server's list, none where it is of another form."""
    entries = listed.get("data") if isinstance(listed, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _key(key_env: str, url: str) -> str:
    key = os.environ.get(key_env, "").strip() if key_env else ""
    if key_env and not key:
        raise SettingsError(
            f"the environment variable {key_env}, which is to hold the key for {url}, is not set",
            hint=f"export {key_env}=… in this shell, or set write.key_env to the variable that holds it",
        )
    return key


def _client(url: str, key: str, timeout: float, retries: int, *, proxies: bool) -> Any:
    try:
        import openai
    except ImportError as error:
        raise MachineError("openai is not installed", hint='pip install "werkmeister[build]"') from error

    def bare(request: Any) -> None:
        for name in list(request.headers):
            if name.lower() not in _HEADERS or (name.lower() == "authorization" and not key):
                del request.headers[name]

    limits = openai.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS))
    # An empty key would let the package fall back to OPENAI_API_KEY, and send that to whoever stands behind the URL.
    return openai.OpenAI(
        api_key=key or "none",
        base_url=url,
        timeout=limits,
        max_retries=retries,
        http_client=openai.DefaultHttpxClient(
            follow_redirects=False, trust_env=proxies, timeout=limits, event_hooks={"request": [bare]}
        ),
    )


def _tokens(choice: Any) -> Iterator[Token]:
    """The tokens of one chunk. Where the pieces do not make up the text (a character in halves), the last holds it."""
    text = getattr(getattr(choice, "delta", None), "content", None) or ""
    entries = getattr(getattr(choice, "logprobs", None), "content", None) or []
    pieces = [(str(getattr(entry, "token", "")), getattr(entry, "logprob", None)) for entry in entries]
    if not pieces:
        if text:
            yield Token(text, NOT_GIVEN)
        return
    if "".join(piece for piece, _ in pieces) != text:
        pieces = [("", logprob) for _, logprob in pieces[:-1]] + [(text, pieces[-1][1])]
    for piece, logprob in pieces:
        yield Token(piece, NOT_GIVEN if logprob is None else float(logprob))


def _without_lengths(schema: Any) -> Any:
    """A schema without bounds on the lengths of texts and lists, which OpenAI's strict mode may refuse."""
    if isinstance(schema, dict):
        bounds = ("minLength", "maxLength", "minItems", "maxItems")
        return {key: _without_lengths(value) for key, value in schema.items() if key not in bounds}
    return [_without_lengths(item) for item in schema] if isinstance(schema, list) else schema


def _count(value: Any) -> int | None:
    """A number of tokens as a server tells it; None for what is none, which would bend costs and budget."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
