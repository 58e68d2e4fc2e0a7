"""The library in the page against the library in Python: one node process answers what the page would."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.test_grounding import ABSTAINING, ANSWERING, UNSEEN
from werkmeister.artefact import making
from werkmeister.chat import Message
from werkmeister.consulting.citations import cite
from werkmeister.consulting.expert import AskSettings
from werkmeister.consulting.library import SqliteLibrary
from werkmeister.consulting.library_file import LIBRARY, add_meta, write_library
from werkmeister.consulting.words import STOPS, fold, language_of, stem, terms, words
from werkmeister.delivery.browser_library import library_content
from werkmeister.grounding import is_refusal, open_book, refusal
from werkmeister.passage import Passage
from werkmeister.progress import Silent

PAGE = Path(__file__).parents[2] / "src/werkmeister/delivery/page/app"
TEXTS = [
    "Die Geräte und Geraete, Größe ÜBER 20 °C; Maße in mm: 3,5–12",
    "FGK-101 and FGK 101, fgk101; MH-S314 v1.05, 0x1F, IP65, Z-Wave+ 868.42MHz",
    "Bewegungsmelder, Rauchmelderbatterie, Hauptschalter und Steuerungseinheit",
    "naïve Café ﬁne ﬂow ½ ² ３ Ⅷ İstanbul ſ ẞ straße STRASSE",
    "neue Steuer, frequently, poem, queue, Boe, Haeuser",
    "Ünïcödé 日本語のテキスト и кириллица ελληνικά ١٢٣",
    "don't can't it's under_score snake_case a.b.c 1.2.3-rc4 x",
    "What is the limit? Wie hoch ist der Druck? Tell me about this: the-long-run-of-pieces-with-9-numbers-in-it",
    "",
]
NOUNS = (
    *("Motor", "Ventil", "Schalter", "Melder", "Bewegung", "Batterie", "Pumpe", "Filter"),
    *("lamp", "switch", "valve", "sensor", "button", "cover", "LED", "relay"),
)
VERBS = (
    *("press", "hold", "open", "close", "reset", "blinks"),
    *("drücken", "halten", "öffnen", "schließen", "zurücksetzen", "ersetzt", "leuchtet"),
)


def passages():
    """Some hundred passages of made-up manuals in both languages, the same every time."""
    chance = random.Random(5)
    made = []
    for _ in range(40):
        model = f"{chance.choice('ABCXYZ')}{chance.choice('GHK')}-{chance.randint(10, 999)}"
        for number in range(chance.randint(1, 5)):
            body = " ".join(
                f"{chance.choice(VERBS)} {chance.choice(NOUNS)}{chance.choice(('', 'batterie', 'schalter', 's'))} "
                f"{chance.randint(1, 90)} {chance.choice(('Sekunden', 'seconds', 'bar', '°C'))}."
                for _ in range(chance.randint(1, 12))
            )
            headings = (chance.choice(("Inclusion", "Reset", "Parameter", "Wartung")), f"Teil {number}")[
                : 1 + number % 2
            ]
            made.append(
                Passage(
                    id=f"{len(made):016x}",
                    document=f"manuals/{model.lower()}.md",
                    title=f"Maker {model}",
                    headings=headings,
                    text=body,
                    start=0,
                    end=len(body),
                    first_page=number,
                )
            )
    return made


QUESTIONS = [
    "How do I reset the AG-101?",
    "Wie lange muss ich den Schalter drücken?",
    "Bewegungsmelder Batterie ersetzt",
    "What is the pressure of the valve in bar?",
    "Ventilschalter 20 Sekunden",
    "entirely unknown words",
    "the of and",
    "Wartung Teil 1",
]


def node(script, given):
    found = shutil.which("node")
    if found is None:
        pytest.skip("no Node.js on this machine")
    code = f"const given = JSON.parse(require('fs').readFileSync(0)); (async () => {{ {script} }})();"
    done = subprocess.run(
        [found, "-e", code], input=json.dumps(given), capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def in_page(module, script, given):
    load = f"const page = await import({(PAGE / module).as_uri()!r});"
    return node(f"{load} const answer = {script}; process.stdout.write(JSON.stringify(answer));", given)


@pytest.fixture(scope="module")
def expert(tmp_path_factory):
    """An expert folder with an index of the passages."""
    folder = tmp_path_factory.mktemp("indexed")
    with making("index", folder / "artefacts/index", version=1, inputs={}, settings={}) as draft:
        write_library(draft.path / LIBRARY, passages())
        add_meta(draft.path / LIBRARY, {"bar": {"coverage": 0.4, "similarity": None}, "language": "de"})
        draft.facts |= {"embedder": "", "weights": [1.0, 1.0]}
    return folder


@pytest.fixture(scope="module")
def held(expert):
    return json.loads(library_content(expert, AskSettings(passages=2), Silent()))


@pytest.fixture(scope="module")
def library(expert):
    opened = SqliteLibrary(expert / "artefacts/index" / LIBRARY, passages=2)
    yield opened
    opened.close()


def test_words_stems_and_terms_are_those_of_the_library():
    script = (
        "given.map((text) => [page.fold(text), page.words(text), page.terms(text), page.words(text).map(page.stem), "
        "page.languageOf(text)])"
    )
    ours = [
        [fold(text), list(words(text)), terms(text), [stem(word) for word in words(text)], language_of(text)]
        for text in TEXTS
    ]
    assert in_page("terms.js", script, TEXTS) == ours
    assert set(in_page("terms.js", "[...page.STOPS]", None)) == STOPS


def test_search_finds_the_same_passages_in_the_same_order_with_the_same_coverage(held, library):
    script = (
        "await page.Library.read(given.held).then((library) => given.questions.map((question) => "
        "library.search(question, 5).map(({number, coverage}) => [number, coverage])))"
    )
    answers = in_page("library.js", script, {"held": held, "questions": QUESTIONS})
    for question, hits in zip(QUESTIONS, answers, strict=True):
        ours = library.search(question, limit=5)
        assert [number for number, _ in hits] == [hit.number for hit in ours], question
        assert [share for _, share in hits] == pytest.approx([hit.coverage for hit in ours]), question


def test_what_is_put_before_a_question_is_what_the_library_finds_follow_ups_included(held, library):
    name = library.passage(0).title
    turns = [
        [("user", "How do I reset the pump?")],
        [("user", f"Was kann der {name}?"), ("assistant", "Viel."), ("user", "Und wie wird er zurückgesetzt?")],
        [("user", "Wie lange drücken?"), ("assistant", f"Beim {name} 3 s."), ("user", "Warum?")],
        [("user", "entirely unknown words")],
        [("user", f"Wie lange muss ich beim {name} den Schalter drücken?")],
        [("user", "Wie lange muss ich beim QQ-7777 den Schalter drücken?")],
        [("user", "Hat das Gerät von ganz unbekannten Leuten einen Sinn für Humor?")],
    ]
    script = (
        "await page.Library.read(given.held).then((library) => given.turns.map((turns) => { "
        "const history = turns.slice(0, -1).map(([role, content]) => ({role, content})); "
        "const question = turns.at(-1)[1]; "
        "const {passages, language, told} = library.find(question, history); "
        "return [library.standalone(question, history), library.openBook(question, passages, language), told, "
        "library.refusal(language)]; }))"
    )
    answers = in_page("library.js", script, {"held": held, "turns": turns})
    told = []
    for case, answer in zip(turns, answers, strict=True):
        question = case[-1][1]
        finding = library.find(question, tuple(Message(role, text) for role, text in case[:-1]))
        shown = open_book(question, finding.passages, finding.language)
        assert answer == [finding.asked, shown, finding.told, refusal(finding.language)]
        told.append(finding.told)
    assert set(told) == {True, False}


ANSWERS = [
    "Clean the filter every 3 months.",
    "clean   the FILTER every 3 months! Use warm soapy vinegar. The range is 5 to 35 °C.",
    "Reinige den Filter z. B. alle 3 Monate. Der Bereich ist 5 bis 35 °C, und E5 bedeutet kein Wasser.",
    'The manual says "clean the filter every 3 months" about it. It says "clean every filter".',
    "Zeile eins\n\n- E5: No water\n- E15 is a blocked pump (e.g. at 5.5 bar).",
    "😀 The pump is blocked: E15. “Quoted.” Nr. 5 ist richtig. −5 °C? ３ months… And 5,5 too.",
    "15",
    "5",
    "",
    "E5 of unit 77 means no water.",
]
FILTER = Passage(
    id="f",
    document="pump.pdf",
    title="Pump P7",
    headings=("Maintenance", "Filter"),
    text="😀 Clean the filter every 3 months.\n\n- Default: 20 °C\n- Range: 5 to 35 °C\n\n| Code | Meaning |\n"
    "| --- | --- |\n| E5 | No water |\n| E15 | Pump blocked |",
    start=0,
    end=200,
)


def test_citations_are_those_of_the_gateway(held):
    given = passages()[:6]
    asked = [(answer, "What does E5 mean on unit 77?") for answer in ANSWERS]
    asked += [(passage.text, "") for passage in given] + [(refusal("de"), "?"), (refusal("en") + " Sorry.", "?")]
    asked += [(" ".join(passage.text.split()[1:-2]) + ".", "reset") for passage in given]
    told = [
        {"place": one.place, **{key: getattr(one, key) for key in ("id", "title", "text", "headings")}} for one in given
    ]
    pump = {"place": FILTER.place, **{key: getattr(FILTER, key) for key in ("id", "title", "text", "headings")}}
    asked += [(answer, "?") for answer in ABSTAINING]
    refusing = f"(await import({(PAGE / 'abstaining.js').as_uri()!r})).abstainer(...given.refusing)"
    script = "(given.asked.map(([answer, question]) => page.cite(answer, given.passages, question, refuses)))"
    refusing_by = [list(held["refusals"].values()), held["own_words"]]
    theirs = in_page(
        "citing.js",
        f"((refuses) => {script})({refusing})",
        {"asked": asked, "passages": [*told, pump], "refusing": refusing_by},
    )
    kept = ("sentence", "support", "passage", "place", "start", "end", "quote")
    for (answer, question), found in zip(asked, theirs, strict=True):
        ours = [citation.record() for citation in cite(answer, [*given, FILTER], question)]
        assert found == [{key: record[key] for key in kept if key in record} for record in ours], answer
    assert {citation["support"] for found in theirs for citation in found} == {"verbatim", "words", "none"}


def test_who_abstains_in_the_page_abstains_in_the_gateway(held):
    asked = [
        *ABSTAINING,
        *ANSWERING,
        *(text for _, text in UNSEEN),
        *ANSWERS,
        *(one["text"] for one in held["passages"]),
    ]
    chance = random.Random(5)
    pieces = [" ".join(chance.sample(asked, 2)) for _ in range(300)]
    asked += [*pieces, *(piece[: chance.randrange(len(piece))].upper() for piece in pieces)]
    script = "given.asked.map(page.abstainer(Object.values(given.refusals), given.own_words))"
    found = in_page("abstaining.js", script, {"asked": asked} | {key: held[key] for key in ("refusals", "own_words")})
    assert found == [is_refusal(answer) for answer in asked]
    assert 100 < sum(found) < len(found) - 100


def test_a_library_without_a_bar_puts_every_question_to_the_expert(held):
    script = "await page.Library.read(given).then((library) => [library.find('zebra'), library.find('')])"
    found = in_page("library.js", script, held | {"off": True})
    assert [entry["told"] for entry in found] == [True, True]
    assert in_page("library.js", script, held)[0]["told"] is False


def test_an_expert_without_an_index_takes_nothing_along_and_says_why_where_it_has_documents(tmp_path):
    class Heard(Silent):
        said = ""

        def say(self, text):
            self.said += text

    heard = Heard()
    assert library_content(tmp_path, AskSettings(), heard) == b""
    assert heard.said == ""
    with making("documents", tmp_path / "artefacts/documents", version=1, inputs={}, settings={}):
        pass
    assert library_content(tmp_path, AskSettings(), heard) == b""
    assert f"werkmeister index {tmp_path}" in heard.said


def test_an_expert_that_answers_without_its_library_takes_none_along(expert):
    assert library_content(expert, AskSettings(library=False), Silent()) == b""
