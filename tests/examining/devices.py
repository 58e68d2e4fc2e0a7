"""A small made-up world of devices with manuals: open-book examples for the tests of the grounded exam."""

import hashlib

from werkmeister.chat import Example, conversation
from werkmeister.grounding import open_book, refusal
from werkmeister.passage import Passage

MAKERS = ("Acme", "Borea", "Cetus", "Dorado", "Eridanus")
SETTINGS = (("Report interval", "seconds"), ("Motion sensitivity", "steps"), ("Alarm volume", "decibel"))


def manual(number: int) -> Passage:
    """The passage of one device: a table of three parameters and how it is reset."""
    name = f"{MAKERS[number % 5]} X{number}"
    rows = [f"| {label} | {value(number, index)} {unit} |" for index, (label, unit) in enumerate(SETTINGS)]
    table = "\n".join(["| Parameter | Default |", "| --- | --- |", *rows])
    text = (
        f"## Reset\nPress the {['red', 'blue', 'green'][number % 3]} button {number + 3} times.\n## Parameters\n{table}"
    )
    key = hashlib.sha256(name.encode()).hexdigest()[:16]
    return Passage(id=key, document=f"{name}.md", title=name, headings=(), text=text, start=0, end=len(text))


def value(number: int, index: int) -> int:
    return 10 * (number + 1) + index


def examples(numbers, *, closed: bool = False) -> list[Example]:
    """For each device a question on each parameter, one on the reset and one that its manual does not answer."""
    made = []
    for number in numbers:
        passage = manual(number)
        asked = [
            (f"What is the default of the {label.lower()} of the {passage.title}?", f"{value(number, index)} {unit}")
            for index, (label, unit) in enumerate(SETTINGS)
        ]
        lines = passage.text.splitlines()
        asked.append((f"How is the {passage.title} reset?", lines[1]))
        for question, answer in asked:
            evidence = next(line for line in lines if answer in line)
            made.append(example(question, answer, passage, "with passage", evidence))
            if closed:
                made.append(example(question, answer, passage, "from memory", evidence))
        made.append(example("Who sells spare fuses?", refusal("en"), passage, "unanswerable", ""))
    return made


def example(question: str, answer: str, passage: Passage, part: str, evidence: str) -> Example:
    shown = [] if part == "from memory" else [passage]
    return Example(
        prompt=conversation(open_book(question, shown)),
        target=answer,
        part=part,
        group=passage.document,
        source=passage.place,
        passage=passage.id,
        evidence=evidence,
    )
