"""The writer "teacher": a language model writes questions and answers about passages, with quotes that prove them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from werkmeister.corpus.documents.document import Document
from werkmeister.corpus.writing.asking import Answered, Asker, Question, Usable
from werkmeister.corpus.writing.pair import DroppedPair, Pair
from werkmeister.corpus.writing.prompts import (
    LONGEST_ANSWER,
    LONGEST_EVIDENCE,
    LONGEST_QUESTION,
    language_of,
    most_facts,
    points_at_passage,
    writing,
    writing_schema,
)
from werkmeister.engines.engine import Sampling
from werkmeister.errors import SettingsError
from werkmeister.passage import Passage

VERSION = 1
_FORMS = 3
_TOKENS_A_FACT = 260  # of an answer: quote, three questions and answer, in a tokenizer that is poor at German
_LONG_QUOTE = 20  # characters
_SHORTEST = 40  # characters below which a passage holds nothing to ask for
_SHORTEST_QUESTION = 3  # words
_LOOP_WORDS, _LOOP_SHARE = 12, 0.35
_QUOTES = "\"'“”„«»‚‘’` \t\n"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What a teacher wrote about one fact, not checked yet."""

    evidence: str
    questions: tuple[str, ...]
    answer: str


class Teacher:
    """Satisfies pair.Writer in two steps: `ask` once for all passages, then `write` for each document.

    All passages are asked for in one go, since what runs at a time must not end with a document. The order is
    shuffled by the hash of `seed` and passage, so that `limit` and a budget thin out every document alike; a larger
    limit keeps what a smaller one asked. `language` is "auto" for the passage's own. `dropped` gathers what `write`
    turned down: "evidence" (the quote is not in the passage, or proves nothing), "question" (none, or one that points
    at a passage that is not seen), "answer" (empty, cut, or going round in circles).
    """

    def __init__(self, asker: Asker, *, language: str = "auto", limit: int = 0, seed: int = 0) -> None:
        self.name = f"teacher v{VERSION}"
        self.key: Any = {"version": VERSION, "engine": asker.found.identity, "language": language}
        self.dropped: list[DroppedPair] = []
        self._asker = asker
        self._language = language
        self._limit = limit
        self._seed = seed
        self._answers: dict[str, Answered] = {}

    @property
    def asked(self) -> list[str]:
        """Ids of the passages that have an answer, remembered ones included, in the order of their coming."""
        return list(self._answers)

    def ask(self, passages: Sequence[Passage]) -> None:
        """Ask about all these passages; what was asked before is taken from memory.

        Says how many were not asked when the budget ends it. Raises EngineError when the teacher's answers are
        rubbish, naming the first of them, or when it fails again and again; SettingsError when the budget does not
        suffice for one question, and what `FoundEngine.open` raises. What was answered stays remembered in any case.
        """
        chosen = self._chosen(passages)
        questions = [self._question(passage) for passage in chosen]
        usable = Usable(self._asker, "pair of question and answer with evidence from the passage")
        not_asked, failed = 0, 0
        with closing(self._asker.ask("teacher", questions)) as answers:
            for number, answer in answers:
                passage = chosen[number]
                if isinstance(answer, Answered):
                    self._answers[passage.id] = answer
                    pairs, dropped, why = self._read(passage, answer)
                    usable.note(questions[number], answer, good=len(pairs), why=why or _first_reason(dropped))
                elif answer.budget:
                    not_asked += 1
                else:
                    failed += 1
                    usable.failed(f"{passage.place}: {answer.reason}")
        usable.end()
        self._tell(len(chosen), not_asked, failed)

    def write(self, document: Document, passages: Sequence[Passage]) -> Iterator[Pair]:
        """Yield the pairs of one document from the answers that `ask` got; what was not asked is passed over."""
        for passage in passages:
            answer = self._answers.get(passage.id)
            if answer is not None:
                pairs, dropped, _ = self._read(passage, answer)
                self.dropped += dropped
                yield from pairs

    def _chosen(self, passages: Sequence[Passage]) -> list[Passage]:
        def place(passage: Passage) -> str:
            return hashlib.sha256(f"{self._seed} {passage.id}".encode()).hexdigest()

        long_enough = {p.id: p for p in passages if len(p.text.strip()) >= _SHORTEST}
        ordered = sorted(long_enough.values(), key=place)
        return ordered[: self._limit] if self._limit else ordered

    def _question(self, passage: Passage) -> Question:
        facts = most_facts(passage)
        language = language_of(passage, self._language)
        return Question(
            conversation=writing(passage, language, facts=facts, forms=_FORMS),
            sampling=Sampling(max_tokens=_TOKENS_A_FACT * facts + 20, schema=writing_schema(facts=facts, forms=_FORMS)),
            place=passage.place,
        )

    def _read(self, passage: Passage, answer: Answered) -> tuple[list[Pair], list[DroppedPair], str]:
        """Pairs, what was turned down, and what is wrong with an answer that holds no fact at all."""
        facts, why = read_facts(answer.said)
        if facts is None:
            cut = " (cut at the longest answer)" if answer.finish == "length" else ""
            return [], [], why + cut
        pairs: list[Pair] = []
        dropped: list[DroppedPair] = []
        for fact in facts:
            for pair, check, reason in self._checked(passage, fact):
                if check:
                    dropped.append(DroppedPair(pair=pair, check=check, reason=reason))
                else:
                    pairs.append(pair)
        return pairs, dropped, "" if facts else "it finds nothing to ask for"

    def _checked(self, passage: Passage, fact: Fact) -> Iterator[tuple[Pair, str, str]]:
        """Each question of a fact as a pair, with the check that turns it down ("" for none) and the reason."""
        place = find_evidence(fact.evidence, passage.text)
        start, end = place or (0, 0)
        proof = passage.text[start:end] if place else fact.evidence
        digest = hashlib.sha256(f"{proof}\n{fact.answer}".encode()).hexdigest()[:8]
        for question in fact.questions:
            pair = Pair(
                question=question,
                answer=fact.answer,
                document=passage.document,
                passage=passage.id,
                evidence=proof,
                start=passage.start + start if place else 0,
                end=passage.start + end if place else 0,
                kind="teacher",
                writer=self.name,
                language=language_of(passage, self._language),
                fact=f"{passage.id}:{digest}",
            )
            yield pair, *_turned_down(pair, found=place is not None)

    def _tell(self, chosen: int, not_asked: int, failed: int) -> None:
        if not_asked == chosen > 0 and self._asker.idle:
            raise SettingsError(
                "write.budget_tokens does not suffice for one question to the teacher",
                hint="raise write.budget_tokens (--budget-tokens): a question takes one to three thousand tokens",
            )
        say = self._asker.progress.say
        if not_asked:
            say(
                f"teacher: the budget is used up, and {not_asked:,} of {chosen:,} passages were not asked about; with "
                "a larger write.budget_tokens or write.budget_seconds the work goes on from here"
            )
        if failed:
            say(f"teacher: {failed:,} of {chosen:,} passages could not be asked about, since the engine failed on them")


def read_facts(text: str) -> tuple[list[Fact] | None, str]:
    """The facts in a teacher's answer, or None and what is wrong with it.

    An answer that was cut off counts for the facts that are whole. Text around the JSON and code fences are passed
    over; entries that are no facts are left out.
    """
    if not text.strip():
        return None, "empty"
    begin = text.find("{")
    if begin < 0:
        return None, "no JSON"
    decoder = json.JSONDecoder()
    try:
        value, _ = decoder.raw_decode(text, begin)
    except (ValueError, RecursionError):
        value = {"pairs": _whole_entries(text, decoder)}
        if not value["pairs"]:
            return None, "no valid JSON"
    entries = value.get("pairs") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        return None, 'JSON without a list "pairs"'
    facts = [fact for entry in entries if (fact := _fact(entry)) is not None]
    if entries and not facts:
        return None, "JSON whose entries lack evidence, questions or answer"
    return facts, ""


def find_evidence(quote: str, text: str) -> tuple[int, int] | None:
    """Where in `text` a quote stands: [start, end) in characters, or None.

    It is looked for as it is, then with every run of white space taken for one space, each first as given and then
    without quotation marks around it; the place is always that of the text's own characters. A short quote must not
    begin or end within a word, or "12" would be proven by "3120"; one without a word or number proves nothing.
    """
    for tried in dict.fromkeys((quote.strip(), quote.strip(_QUOTES))):
        if not re.search(r"\w", tried):
            continue
        before, after = ("", "") if len(tried) >= _LONG_QUOTE else _edges(tried)
        for pattern in (re.escape(tried), r"\s+".join(re.escape(word) for word in tried.split())):
            found = re.search(before + pattern + after, text)
            if found:
                return found.start(), found.end()
    return None


def _edges(quote: str) -> tuple[str, str]:
    """Patterns in front of and behind a quote that keep its first and last word whole."""
    return (r"(?<!\w)" if re.match(r"\w", quote) else "", r"(?!\w)" if re.search(r"\w$", quote) else "")


def _fact(entry: Any) -> Fact | None:
    if not isinstance(entry, dict):
        return None
    evidence, questions, answer = (entry.get(name) for name in ("evidence", "questions", "answer"))
    if not isinstance(evidence, str) or not isinstance(answer, str) or not isinstance(questions, list):
        return None
    texts = [" ".join(q.split()) for q in questions if isinstance(q, str)]
    different: dict[str, str] = {}
    for text in texts:
        if 0 < len(text) <= LONGEST_QUESTION:
            different.setdefault(text.casefold(), text)
    asked = tuple(different.values())
    if not asked or len(evidence) > 2 * LONGEST_EVIDENCE or len(answer) > 2 * LONGEST_ANSWER:
        return None
    return Fact(evidence=evidence, questions=asked, answer=answer.strip())


def _whole_entries(text: str, decoder: json.JSONDecoder) -> list[Any]:
    """The complete objects of a list that breaks off."""
    opening = re.search(r'"pairs"\s*:\s*\[', text)
    entries: list[Any] = []
    position = opening.end() if opening else len(text)
    while (start := text.find("{", position)) >= 0 and not text[position:start].strip(" ,\n\r\t"):
        try:
            entry, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            break
        entries.append(entry)
    return entries


def _turned_down(pair: Pair, *, found: bool) -> tuple[str, str]:
    """The check that turns a pair down and the reason; both are empty for a good one."""
    pointing = points_at_passage(pair.question)
    if not found:
        return "evidence", "what the teacher quotes is not in the passage"
    if not re.search(r"[^\W\d_]{3}", pair.evidence):
        return "evidence", "the quote has no word that could prove anything"
    if not pair.answer:
        return "answer", "the answer is empty"
    if len(pair.answer) >= LONGEST_ANSWER:
        return "answer", f"the answer has {LONGEST_ANSWER} characters or more, or was cut there"
    if _repeats(pair.answer):
        return "answer", "the answer repeats itself"
    if pointing:
        return "question", f"it speaks of {pointing!r}, which whoever is asked does not see"
    if not pair.question.endswith("?") or len(pair.question.split()) < _SHORTEST_QUESTION or _repeats(pair.question):
        return "question", "it is no question of three words or more that ends with a question mark"
    return "", ""


def _repeats(text: str) -> bool:
    """Whether a text goes round in circles, as small models do: few different words for its length."""
    words = re.findall(r"\w+", text.lower())
    return len(words) >= _LOOP_WORDS and len(set(words)) < _LOOP_SHARE * len(words)


def _first_reason(dropped: Sequence[DroppedPair]) -> str:
    return dropped[0].reason if dropped else ""
