"""What went wrong at an OpenAI-compatible endpoint, told as the project's errors, each with the next step."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from werkmeister.errors import ContextError, EngineError, SettingsError, WerkmeisterError

if TYPE_CHECKING:
    import openai

_CONTEXT = re.compile(r"context[ _](?:length|size|window)|maximum context|exceed_context_size|too many tokens", re.I)
_LONGEST = 300


class BrokenAnswer(EngineError):
    """The connection broke in the middle of an answer; asking again may help."""


@dataclass
class Server:
    """The endpoint that errors tell of; `listed` are the models that it says it has. The key is never shown."""

    url: str
    model: str
    key_env: str
    key: str = field(repr=False)
    listed: tuple[str, ...] = ()

    def says(self, error: Exception) -> str:
        """The server's own words on one line, shortened, without the key."""
        body: Any = getattr(error, "body", None)
        inner = body.get("error", body) if isinstance(body, dict) else body
        words = inner.get("message") or inner.get("detail") if isinstance(inner, dict) else None
        text = " ".join(str(words or getattr(error, "message", "") or error).split())
        if self.key:
            text = text.replace(self.key, "[key]")
        return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

    def require_no_page(self, told: str) -> None:
        """Raise SettingsError when the server sent a web page, by the content type or the text that it sent."""
        if "html" in told[:_LONGEST].lower():
            raise SettingsError(
                f"{self.url} answers with a web page, and an OpenAI-compatible endpoint is needed",
                hint="correct the URL in write.teacher: for most servers it ends in /v1",
            )

    def ended(self, finish: str) -> EngineError:
        """The error of an answer that ended in no usual way; `finish` is the reason given, "" for none."""
        if finish == "content_filter":
            return EngineError(f"{self.url} withheld an answer of {self.model}: its content filter took it")
        if finish:
            return EngineError(
                f"{self.url} ended an answer of {self.model} with {finish!r}", hint="name a model that answers in text"
            )
        return BrokenAnswer(
            f"{self.url} ended an answer of {self.model} without saying why",
            hint="check that the URL is that of an OpenAI-compatible endpoint, which for most servers ends in /v1",
        )


def told(error: openai.APIError, server: Server, *, broken: bool, lost: bool, silent: bool) -> WerkmeisterError:
    """The project's error for one of the `openai` package.

    `broken`: it came in the middle of an answer; `lost`: there is no connection; `silent`: the wait was too long.
    """
    says, where = server.says(error), f"{server.model or 'the endpoint'} at {server.url}"
    kind = BrokenAnswer if broken else EngineError
    if silent:
        return kind(f"{where} did not answer in time", hint="check its load, or lower write.concurrency")
    if lost:
        return _unreachable(error, server, broken)
    status = getattr(error, "status_code", None)
    if status in (401, 403):
        which = f"the key in {server.key_env}" if server.key_env else "a request without a key"
        return SettingsError(
            f"{where} refuses {which}: {says}",
            hint="set write.key_env to the environment variable that holds a valid key for this endpoint and model",
        )
    if status == 404:
        return _not_found(server, says)
    if status == 429:
        return EngineError(
            f"{where} refuses more requests for now: {says}",
            hint="what was answered is kept: run the same command later, with a lower write.concurrency, or with more "
            "quota",
        )
    code = str(getattr(error, "code", "") or "")
    if _CONTEXT.search(code) or _CONTEXT.search(says) or _CONTEXT.search(str(getattr(error, "type", "") or "")):
        return ContextError(
            f"a prompt does not fit the context of {where}: {says}",
            hint="lower documents.passage_tokens, or raise the server's context",
        )
    if isinstance(status, int) and 300 <= status < 400:
        target = error.response.headers.get("location", "another place") if hasattr(error, "response") else ""
        return SettingsError(
            f"{server.url} redirects to {target}, and redirects are not followed",
            hint="set write.teacher to the endpoint's own URL",
        )
    if "response_format" in says or "schema" in says:
        return EngineError(
            f"{where} does not take a JSON schema: {says}",
            hint="name a server that enforces JSON schemas (llama.cpp, vLLM, Ollama, OpenAI), or a local .gguf file",
        )
    number = f" (HTTP {status})" if status else ""
    return kind(f"{where} failed{number}: {says}", hint="look into the server's log; what was answered is kept")


def _unreachable(error: openai.APIError, server: Server, broken: bool) -> EngineError:
    reason = str(error.__cause__ or error)
    if broken:
        return BrokenAnswer(
            f"the connection to {server.url} broke in the middle of an answer: {reason}",
            hint="run the same command again: what was answered is kept",
        )
    return EngineError(
        f"{server.url} cannot be reached: {reason}", hint="start the server, or correct the URL in write.teacher"
    )


def _not_found(server: Server, says: str) -> SettingsError:
    near = difflib.get_close_matches(server.model, server.listed, n=1, cutoff=0.3)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    served = f"it serves {', '.join(server.listed[:12])}" if server.listed else ""
    return SettingsError(
        f"{server.url} does not know the model {server.model!r}, or is not the right URL: {says}{guess}",
        problems=[served] if served else [],
        hint="correct write.teacher_model, or the URL in write.teacher: for most servers it ends in /v1",
    )
