"""What a library finds for a question."""

from __future__ import annotations

from dataclasses import dataclass

from werkmeister.passage import Passage


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The passages to put before a question, and the language of its prompt.

    `told` is False when nothing that was found reaches the bar: the documents do not tell, and no model is asked.
    Without passages and `told` the question is asked closed-book. `asked` is what was searched for: the question, with
    the words of earlier turns that it leans on.
    """

    passages: tuple[Passage, ...] = ()
    language: str = "en"
    told: bool = True
    asked: str = ""
