"""From facts to questions: which forms are asked, and how a question names the thing it is about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

from werkmeister.corpus.writing.structural.fact import Fact
from werkmeister.corpus.writing.structural.language import Language
from werkmeister.corpus.writing.structural.naming import Thing

_PREFIXED = 5  # one question of so many has the thing's name in front: "HX-200: what is …?"


@dataclass(frozen=True)
class Phrasing:
    """How the questions of one document are put: `thing` is what it is about, None where its title does not tell."""

    language: Language
    thing: Thing | None
    forms: int

    def questions(self, document: str, fact: Fact) -> Iterator[str]:
        """At most `forms` questions for a fact, the same for the same document and fact; none where it cannot be asked.

        A fact that needs the thing's name is not asked when there is none.
        """
        if self.thing is None and not fact.alone:
            return
        forms = self.language.questions[fact.ask]
        key = f"{document}\0{fact.name}"
        order = sorted(range(len(forms)), key=lambda at: crc32(f"{key}\0{at}".encode()))
        for at in order[: self.forms]:
            prefixed = fact.ask == "faq" or crc32(f"{at}\0{key}".encode()) % _PREFIXED == 0
            question = self._filled(forms[at], fact, prefixed)
            if not fact.core or fact.core.casefold() not in question.casefold():
                yield question

    def _filled(self, form: str, fact: Fact, prefixed: bool) -> str:
        named = {name: self._with_thing(value) for name, value in fact.slots.items()}
        inside = any(
            f"{{{name}}}" in form and ("{it}" in value or "{of}" in value) for name, value in fact.slots.items()
        )
        if self.thing is None or inside or self._says_it(fact):
            return _capital(form.format(**named, on=self._section(fact, ""), of=self._section(fact, "")))
        # Within a sentence, thing and section together are clumsy: "… in LinuxCNC, section "Pins" what …".
        if prefixed or (fact.where and not form.endswith(("{on}?", "{of}?"))):
            front = f"{self.thing.name}{self._section(fact, '')}: "
            return front + form.format(**named, on="", of="")
        on = self.language.on_device if self._is_device else self.language.on_topic
        of = self.language.of_device if self._is_device else self.language.of_topic
        place = self._section(fact, f" {on.format(name=self.thing.name)}")
        return _capital(form.format(**named, on=place, of=self._section(fact, f" {of.format(name=self.thing.name)}")))

    @property
    def _is_device(self) -> bool:
        return self.thing is not None and self.thing.device

    def _section(self, fact: Fact, place: str) -> str:
        return f"{place}, {self.language.section.format(where=fact.where)}" if fact.where else place

    def _with_thing(self, value: str) -> str:
        if "{" not in value:
            return value
        language, thing = self.language, self.thing
        of = (language.of_device if self._is_device else language.of_topic).format(name=thing.name) if thing else ""
        it = (
            language.device
            if thing is None
            else f"the {thing.name}"
            if thing.device and language.code == "en"
            else thing.name
        )
        return value.replace("{it}", it).replace("{of}", f" {of}" if of else "")

    def _says_it(self, fact: Fact) -> bool:
        """Whether the question names the thing of itself: a FAQ that does, the definition of the thing."""
        if self.thing is None or fact.ask not in ("faq", "define", "define many", "stands for"):
            return False
        said = " ".join(fact.slots.values()).casefold()
        telling = (word for word in self.thing.words if any(letter.isdigit() for letter in word))
        return self.thing.name.casefold() in said or any(word in said for word in telling)


def _capital(question: str) -> str:
    return question[:1].upper() + question[1:]
