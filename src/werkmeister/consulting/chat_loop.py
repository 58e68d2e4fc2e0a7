"""A conversation in the terminal; reading a line and writing text are the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from werkmeister.chat import Conversation, Message
from werkmeister.consulting.expert import Answer, Expert, stream_answer
from werkmeister.consulting.prompting import without_oldest
from werkmeister.errors import EngineError, UserError

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
    try:
        answer = _answer(expert, history, question, write)
    except UserError as error:
        write(f"({error})\n")
        return history
    except KeyboardInterrupt:
        write("\n(Stopped; this turn is forgotten.)\n")
        return history
    write("\n")
    for line in below(answer):
        write(f"{line}\n")
    return continued(history, question, answer)


def continued(history: Conversation, question: str, answer: Answer) -> Conversation:
    """The conversation with this question and its answer; a turn that no longer fitted fits no longer."""
    kept = without_oldest(history, answer.turns_left_out)
    return (*kept, Message("user", question), Message("assistant", answer.text))


def _answer(expert: Expert, history: Conversation, question: str, write: Callable[[str], None]) -> Answer:
    with closing(stream_answer(expert, question, history=history)) as pieces:
        for piece in pieces:
            if isinstance(piece, Answer):
                return piece
            write(piece)
    raise EngineError(f"{expert.engine.name} ended its answer without a last word", hint="ask again")


def below(answer: Answer) -> Iterator[str]:
    """The lines that stand below an answer: its sources, what is not supported by them, and its notes."""
    cited = [citation for citation in answer.citations if citation.supported]
    for number, citation in enumerate(dict.fromkeys(cited), 1):
        yield f"[{number}] {citation.place}: \u201c{' '.join(citation.quote.split())}\u201d"
    doubtful = [citation for citation in answer.citations if not citation.supported]
    for citation in doubtful:
        start, end = citation.sentence
        yield f"(Not supported by the documents: \u201c{' '.join(answer.text[start:end].split())}\u201d)"
    for note in answer.notes:
        yield f"({note})"
    if answer.finish == "length":
        yield f"(Cut at {answer.tokens} tokens: raise ask.max_tokens for longer answers.)"
