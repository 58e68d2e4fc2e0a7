"""Conversations and examples: the one internal form of everything that is asked, answered and learnt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkmeister.errors import DataError

ROLES = ("system", "user", "assistant")
_NOTES = ("label", "group", "part", "source", "passage", "evidence")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; `role` is one of `ROLES`."""

    role: str
    content: str


Conversation = tuple[Message, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One conversation with a target answer.

    `prompt` ends with a user message; `target` is the answer to learn, or to be marked against.
    `label` names a class where there is one (stratification, macro F1); examples with one `group` never part
    between splits; `part` names the part of the exam that the example belongs to; `source` is "file:line", or the
    place in a document. `passage` is the id of the passage that supports the answer, `evidence` its words; both are
    empty for examples that a person brought. Training counts the answer's tokens `weight` times.
    """

    prompt: Conversation
    target: str
    label: str = ""
    group: str = ""
    part: str = ""
    source: str = ""
    passage: str = ""
    evidence: str = ""
    weight: float = 1.0

    @property
    def id(self) -> str:
        """Sixteen hex digits that depend on the prompt and the target alone."""
        text = json.dumps([[m.role, m.content] for m in self.prompt] + [self.target], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def question(self) -> str:
        """The last user message."""
        return self.prompt[-1].content

    def record(self) -> dict[str, Any]:
        """The JSON object that stands on one line of a dataset file."""
        kept = {key: getattr(self, key) for key in _NOTES}
        return (
            {"messages": messages_json((*self.prompt, Message("assistant", self.target)))}
            | {key: value for key, value in kept.items() if value}
            | ({"weight": self.weight} if self.weight != 1 else {})
        )


def conversation(question: str, system: str = "") -> Conversation:
    """A conversation of one question, under a system message where there is one."""
    head = (Message("system", system),) if system else ()
    return (*head, Message("user", question))


def messages_json(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Messages in the form that chat templates and OpenAI-shaped routes take."""
    return [{"role": message.role, "content": message.content} for message in messages]


def example_from_record(record: Mapping[str, Any]) -> Example:
    """The inverse of `Example.record`."""
    messages = tuple(Message(m["role"], m["content"]) for m in record["messages"])
    return Example(
        prompt=messages[:-1],
        target=messages[-1].content,
        weight=record.get("weight", 1.0),
        **{key: record.get(key, "") for key in _NOTES},
    )


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write one example a line (UTF-8 JSON) and return how many there were."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for example in examples:
            file.write(json.dumps(example.record(), ensure_ascii=False) + "\n")
            count += 1
    return count


def read_examples(path: Path) -> Iterator[Example]:
    """Read what `write_examples` wrote.

    Raises DataError with file and line when the file is not of that form (the reader of people's own files is
    `corpus.reading`; this one reads artefacts).
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield example_from_record(json.loads(line))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise DataError(f"{path}:{number}: not an example of a dataset artefact ({error})") from error
