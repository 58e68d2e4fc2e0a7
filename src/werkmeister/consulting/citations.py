"""Citations that hold: where in the passages each sentence of an answer stands, and which sentences stand nowhere.

A sentence is cited when its words are found verbatim in a passage, or when one line of a passage (a run of lines, for a
sentence that lists several things) holds most of its telling words and all of its numbers; what question, title and
headings say is given. Whatever it puts in quotation marks has to stand there word for word. The quote of a citation is
always cut out of the passage's text by its characters, never taken from the answer.

What the method cannot see: an answer in another language than its passage shares only names and numbers with it, and a
sentence that uses the passage's words to say the opposite counts as supported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from werkmeister.consulting.words import STOPS, fold, stem, terms, words
from werkmeister.grounding import is_refusal
from werkmeister.passage import Passage

VERBATIM, WORDS, NONE = "verbatim", "words", "none"
"""How a sentence is supported: it stands in the passage as it is, its words and numbers do, or it does not."""

_SHARE = 0.6
_JOINED = re.compile(r"[;,(]|\b(?:and|or|und|oder|sowie)\b")  # each may bring in a further line
_LINE_COSTS, _CONTEXT = 0.01, 0.05
# Words that an answer is put into a sentence with; they say nothing that a passage would have to hold.
_FRAME = frozenset(
    stem(word)
    for word in fold(
        "value values option options setting settings set means mean meaning stand stands choose chosen select selected"
        " following answer according called number yes wert werte option optionen einstellung einstellungen stellen"
        " gestellt bedeutet bedeuten heißt folgende laut wählen nummer ja lautet"
    ).split()
)
_END = re.compile(r"(?<=[.!?…])[\"'”“»)\]]*\s+(?=[\"'„“«(\[]*[^\W_a-zäöü])|\n+")
_ABBREVIATED = re.compile(
    r"(?:\b(?:e\.g|i\.e|z\.\s?b|d\.\s?h|bzw|ca|approx|vgl|ggf|inkl|max|min|nr|no|fig|abb|usw|etc|dr|st|p|s)|\b\d+)\.$",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[\"“„«»‚]([^\"“”„«»‘]{3,400}?)[\"”“»«‘]")
_NUMBER = re.compile(r"(?<![\w.,])[-+−]?\d+(?:[.,:]\d+)*")
_TOKEN = re.compile(r"[-+−]?\d+(?:[.,:]\d+)*|[^\W_]+|[^\w\s]", re.UNICODE)
_LINE = re.compile(r"[^\n]+")
_EDGE = " \t\n-*•|#>.,;:!?\"'„“”«»()[]"


@dataclass(frozen=True, kw_only=True)
class Citation:
    """What one sentence of an answer rests on.

    `sentence` are its characters in the answer (start, end). `support` is one of VERBATIM, WORDS, NONE. With support,
    `passage` is the passage's id and `start`, `end` the characters of `quote` in its text; `document_start` and
    `document_end` are those in the document's text. `page` counts from 1; it is 0 where there are none, and for a
    passage of several pages, which does not know where its lines stand.
    """

    sentence: tuple[int, int]
    support: str
    passage: str = ""
    place: str = ""
    document: str = ""
    page: int = 0
    start: int = 0
    end: int = 0
    document_start: int = 0
    document_end: int = 0
    quote: str = ""

    @property
    def supported(self) -> bool:
        """Whether the sentence stands in a passage."""
        return self.support != NONE

    def record(self) -> dict[str, Any]:
        """The citation as a JSON object; without support there is only the sentence."""
        about = {"sentence": list(self.sentence), "support": self.support}
        if not self.supported:
            return about
        return about | {
            "passage": self.passage,
            "place": self.place,
            "document": self.document,
            "page": self.page,
            "start": self.start,
            "end": self.end,
            "document_start": self.document_start,
            "document_end": self.document_end,
            "quote": self.quote,
        }


def cite(answer: str, passages: Sequence[Passage], question: str = "") -> tuple[Citation, ...]:
    """A citation for every sentence of an answer; none for a refusal, and none without passages.

    `question` tells which of several places is meant when an answer is as short as a number; its own numbers need no
    source.
    """
    if not passages or is_refusal(answer):
        return ()
    return tuple(_cite(answer, start, end, passages, question) for start, end in sentences(answer))


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """The characters of each sentence or line of a text, blanks at the edges left out; every other character is in
    exactly one."""
    begin = 0
    for found in _END.finditer(text):
        head = text[begin : found.start()]
        if "\n" not in found.group() and _ABBREVIATED.search(head.rstrip("\"'”“»)]")):
            continue
        # A closing mark belongs to the sentence before it.
        end = found.end() - len(found.group().lstrip("\"'”“»)]"))
        yield from _trimmed(text, begin, end)
        begin = found.end()
    yield from _trimmed(text, begin, len(text))


def verbatim(words_of: str, text: str) -> list[tuple[int, int]]:
    """Every place where a text holds these words one after the other, whatever the case, blanks and marks between.

    Whole words and whole numbers only: "5" does not stand in "15" or "5.5". Marks at the edges are left out.
    """
    wanted = [token for _, _, token in _tokens(words_of)]
    if not wanted:
        return []
    given = list(_tokens(text))
    found = []
    for index in range(len(given) - len(wanted) + 1):
        if all(given[index + n][2] == token for n, token in enumerate(wanted)):
            found.append((given[index][0], given[index + len(wanted) - 1][1]))
    return found


def holds(citation: Citation, passage: Passage) -> bool:
    """Whether a citation is true of a passage: its quote stands at its characters, here and in the document."""
    at = passage.text[citation.start : citation.end] == citation.quote
    moved = (citation.start + passage.start, citation.end + passage.start)
    return (
        at
        and bool(citation.quote)
        and citation.passage == passage.id
        and moved == (citation.document_start, citation.document_end)
    )


def _cite(answer: str, start: int, end: int, passages: Sequence[Passage], question: str) -> Citation:
    sentence = answer[start:end]
    places = [(passage, place) for passage in passages for place in verbatim(sentence, passage.text)]
    if places:
        asked = _telling(question)
        passage, place = max(places, key=lambda one: len(asked & _telling(_around(one[0], one[1]))))
        return _made((start, end), VERBATIM, passage, place)
    if not _quotes_hold(sentence, passages):
        return Citation(sentence=(start, end), support=NONE)
    best: tuple[float, Passage, tuple[int, int]] | None = None
    for passage in passages:
        found = _best_run(sentence, passage, question)
        if found and (best is None or found[0] > best[0]):
            best = (found[0], passage, found[1])
    if best is None or best[0] < _SHARE:
        return Citation(sentence=(start, end), support=NONE)
    return _made((start, end), WORDS, best[1], best[2])


def _made(sentence: tuple[int, int], support: str, passage: Passage, place: tuple[int, int]) -> Citation:
    start, end = place
    return Citation(
        sentence=sentence,
        support=support,
        passage=passage.id,
        place=passage.place,
        document=passage.document,
        page=passage.first_page if passage.last_page <= passage.first_page else 0,
        start=start,
        end=end,
        document_start=passage.start + start,
        document_end=passage.start + end,
        quote=passage.text[start:end],
    )


def _best_run(sentence: str, passage: Passage, question: str) -> tuple[float, tuple[int, int]] | None:
    """The lines of a passage that a sentence says again: how well (a share of its telling words, a little less for each
    further line), and their characters. None when no run of lines has all of its numbers."""
    given = f"{passage.title} {' '.join(passage.headings)} {question}"
    asked, telling = _telling(question), _telling(sentence) - _FRAME
    # What is given names the thing; it counts where there is nothing else, but cannot be all that supports a sentence.
    wanted = telling - _telling(given) or telling
    figures = _numbers(sentence) - _numbers(given)
    most = 1 + len(_JOINED.findall(sentence))
    lines = [(found.span(), _telling(found.group()), _numbers(found.group())) for found in _LINE.finditer(passage.text)]
    best: tuple[float, tuple[int, int]] | None = None
    for first, (_, opening, numbers) in enumerate(lines):
        if not (wanted & opening or figures & numbers):
            continue
        held: set[str] = set()
        seen: set[str] = set()
        for last, ((_, end), words_held, numbers_held) in enumerate(lines[first : first + most]):
            held |= words_held
            seen |= numbers_held
            if not figures <= seen or not wanted & held:
                continue
            context = len(asked & held) / (len(asked) or 1)
            score = len(wanted & held) / len(wanted) - _LINE_COSTS * last + _CONTEXT * context
            if best is None or score > best[0]:
                best = (score, _edges(passage.text, lines[first][0][0], end))
            if wanted <= held:
                break
    return best


def _quotes_hold(sentence: str, passages: Sequence[Passage]) -> bool:
    return all(any(verbatim(quoted, passage.shown) for passage in passages) for quoted in _QUOTED.findall(sentence))


def _around(passage: Passage, place: tuple[int, int]) -> str:
    """The lines in which a place stands."""
    start = passage.text.rfind("\n", 0, place[0]) + 1
    end = passage.text.find("\n", place[1])
    return passage.text[start : end if end >= 0 else len(passage.text)]


def _telling(text: str) -> set[str]:
    return set(terms(" ".join(word for word in words(text) if word not in STOPS)))


def _numbers(text: str) -> set[str]:
    return {number.replace("−", "-").replace(",", ".").lstrip("+") for number in _NUMBER.findall(text)}


def _tokens(text: str) -> Iterator[tuple[int, int, str]]:
    """Words and numbers with their characters; marks between them do not count."""
    for found in _TOKEN.finditer(text):
        token = found.group()
        if token[-1].isalnum():
            yield found.start(), found.end(), fold(token.replace("−", "-").lstrip("+"))


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    piece = text[start:end]
    if piece.strip():
        yield start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())


def _edges(text: str, start: int, end: int) -> tuple[int, int]:
    """A line without its list marks and table bars."""
    while start < end and text[start] in _EDGE:
        start += 1
    while end > start and text[end - 1] in " \t|":
        end -= 1
    return start, end
