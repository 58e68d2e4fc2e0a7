"""A conversation in the terminal; reading a line and writing text are the caller's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from werkmeister.chat import Conversation, Message
from werkmeister.consulting.expert import Answer, Expert, stream_answer
from werkmeister.errors import ContextError, EngineError, UserError

COMMANDS = "/new starts anew, /quit or Ctrl-D ends, Ctrl-C stops an answer"


def converse(expert: Expert, read: Callable[[], str | None], write: Callable[[str], None]) -> None:
    """Talk until the person ends it.

    `read` gives the next line, or None at the end of input; `write` takes text as it comes, line ends included.
    Nothing is left out in silence: when the conversation outgrows the context the oldest turns go, and this is said.
    A turn that Ctrl-C stopped is forgotten; Ctrl-C while reading ends. Errors of the engine itself are raised.
    """
    write(f"{expert.name} ({expert.engine.name}). {COMMANDS}.\n")
    history: Conversation = ()
    while True:
        try:
            line = read()
        except KeyboardInterrupt:
            line = None
        if line is None:
            write("\n")
            return
        question = line.strip()
        if not question:
            continue
        if question == "/quit":
            return
        if question == "/new":
            history = ()
            write("(The conversation starts anew.)\n")
        elif question.startswith("/") and " " not in question:
            write(f"({question} is no command: {COMMANDS}.)\n")
        else:
            history = _turn(expert, history, question, write)


def _turn(expert: Expert, history: Conversation, question: str, write: Callable[[str], None]) -> Conversation:
    """Answer one question and return the conversation with it."""
    kept, left_out = history, 0
    while True:
        try:
            answer = _answer(expert, kept, question, write, left_out)
        except ContextError as error:
            if kept:
                kept, left_out = kept[2:], left_out + 1
                continue
            write(f"({error})\n")
            return history
        except UserError as error:
            write(f"({error})\n")
            return history
        except KeyboardInterrupt:
            write("\n(Stopped; this turn is forgotten.)\n")
            return kept
        write("\n")
        if answer.finish == "length":
            write(f"(Cut at {answer.tokens} tokens: raise ask.max_tokens for longer answers.)\n")
        return (*kept, Message("user", question), Message("assistant", answer.text))


def _answer(
    expert: Expert, history: Conversation, question: str, write: Callable[[str], None], left_out: int
) -> Answer:
    with closing(stream_answer(expert, question, history=history)) as pieces:
        for piece in pieces:
            if left_out:
                write(_left_out(left_out, expert.engine.context_length))
                left_out = 0
            if isinstance(piece, Answer):
                return piece
            write(piece)
    raise EngineError(f"{expert.engine.name} ended its answer without a last word", hint="ask again")


def _left_out(turns: int, context: int) -> str:
    which = "oldest turn was" if turns == 1 else f"{turns} oldest turns were"
    return f"(The {which} left out: the conversation no longer fits {context} tokens. /new starts anew.)\n"
