"""Follow-up questions: what of the turns before a question has to be searched for with it.

By rule, without another model. Two rules: a question that names nothing takes along the last thing that was named
("And how is it reset?" after one about the FGK-101 searches for the FGK-101 as well), and one that hardly says anything
("Why?", "And on Mondays?") takes along the words of the question before. What the rules cannot do: tell which of two
things "it" is, where both were named in one turn, or notice that a whole new topic leaves the thing behind without a
name of its own; then it is searched for with one name too many, and the passages that fit better still win.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from werkmeister.chat import Conversation
from werkmeister.consulting.words import STOPS, words

_FEW = 2
_FURTHER = frozenset(
    {"more", "else", "another", "further", "same", "again", "too", "ok", "okay"}
    | {"auch", "mehr", "weiter", "noch", "anders", "sonst", "genau"}
)


def standalone(question: str, history: Conversation, names: Callable[[str], Sequence[str]]) -> str:
    """What to search for: the question, and after it the words of `history` that it leans on.

    `names` gives the words of a text that name a thing. The model is given the question as it was asked.
    """
    earlier = [turn for turn in reversed(history) if turn.role != "system"]
    if not earlier:
        return question
    carried: list[str] = []
    if not names(question):
        # The person's own words first; an answer may name what the person did not.
        turns = [*(turn for turn in earlier if turn.role == "user"), *(turn for turn in earlier if turn.role != "user")]
        carried += next((found for turn in turns if (found := list(names(turn.content)))), [])
    if len(_telling(question)) < _FEW:
        asked = next((turn.content for turn in earlier if turn.role == "user"), "")
        carried += _telling(asked)
    own = set(words(question))
    added = [word for word in dict.fromkeys(carried) if word not in own]
    return f"{question} ({' '.join(added)})" if added else question


def _telling(text: str) -> list[str]:
    return [word for word in words(text) if word not in STOPS and word not in _FURTHER]
