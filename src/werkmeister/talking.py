"""What the verbs ask and chat print: text as it comes, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from werkmeister.chat import Conversation
from werkmeister.console import show_json
from werkmeister.consulting.chat_loop import below, continued, converse
from werkmeister.consulting.expert import Answer, Expert, ask, stream_answer
from werkmeister.errors import UserError


def show_answer(expert: Expert, question: str, *, as_json: bool) -> None:
    """Answer one question on stdout, and its sources below; a cut answer and other notes are told on stderr."""
    if as_json:
        show_json(ask(expert, question).record())
        return
    for piece in stream_answer(expert, question):
        if not isinstance(piece, Answer):
            _write(piece)
            continue
        _write("\n")
        for line in below(piece):
            print(line, file=sys.stdout if line.startswith("[") else sys.stderr)


def talk(expert: Expert, *, as_json: bool) -> None:
    """Converse on stdin and stdout until the input ends."""
    if as_json:
        history: Conversation = ()
        for line in filter(None, map(str.strip, _lines())):
            try:
                answer = ask(expert, line, history=history)
            except UserError as error:
                print(json.dumps({"error": error.message}, ensure_ascii=False), flush=True)
                continue
            history = continued(history, line, answer)
            print(json.dumps(answer.record(), ensure_ascii=False), flush=True)
        return
    lines = _lines()
    converse(expert, lambda: next(lines, None), _write)


def _lines() -> Iterator[str]:
    """Lines of a terminal with editing and history, or of a pipe."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    import contextlib

    with contextlib.suppress(ImportError):  # Windows has line editing of its own.
        import readline  # noqa: F401
    while True:
        try:
            yield input("> ")
        except EOFError:
            return


def _write(text: str) -> None:
    print(text, end="", flush=True)
