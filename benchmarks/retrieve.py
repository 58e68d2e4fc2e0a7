"""How well and how fast passages are found: words alone, meaning alone, and both, in one run.

    python benchmarks/retrieve.py DOCUMENTS [--cards CARDS.jsonl] [--embedding auto|e5|none] [--passages 100000]
                                  [--each 150] [--half report] [--seed 0] [--home FOLDER] [--json]

DOCUMENTS is a documents artefact of the device manuals: copy examples/device-technician, write "full" (1,837 manuals),
"medium" or "small" (150) behind --cut in its expert.toml, and `werkmeister documents FOLDER`; CARDS a file of
other passages, one {"id", "text"} a line, the first line of each text being "# Maker MODEL - Description".

Questions are made by rule from headings and product data, or, the German ones, written by hand (german_questions.jsonl:
each names the document and the heading that answer it):

- model: "How do I reset the <maker model> to factory settings?" and two more, for their section in that manual
- description: the same with "<maker> <product type>"; every manual of that maker and type counts
- parameter: "What is the default of <name> on the <maker model>?"
- german: by hand, in words that are not in the English manuals
- english: by hand, about the German passages of german_passages.jsonl, which are put among the manuals
- unanswered: the questions of "model" asked of a library without those manuals (the bar should refuse them)
- cards: the description alone, and the model alone; every card with the same one counts

Equal questions count once. They are in two halves by the checksum of their text: what finds passages was chosen on
"development", and figures to report are those of "report".

recall@5: share of questions with a right passage among the first five; nDCG@10 with binary relevance; both with a 95 %
interval by bootstrap over questions. Speed is measured on copies of the passages with their names changed, wall clock
beside CPU time: other processes slow the first and not the second.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from werkmeister.consulting.embedding import Embedder, open_embedder
from werkmeister.consulting.indexing import embed_passages
from werkmeister.consulting.library import SqliteLibrary
from werkmeister.consulting.library_file import add_meta, add_vectors, write_library
from werkmeister.passage import Passage, read_passages
from werkmeister.progress import Silent

SECTIONS = {
    "Factory reset": "How do I reset the {} to factory settings?",
    "Adding the device to a network (inclusion)": "How do I pair the {} with my controller?",
    "Removing the device from a network (exclusion)": "How do I take the {} out of the network?",
}
GERMAN = Path(__file__).with_name("german_questions.jsonl")
GERMAN_PASSAGES = Path(__file__).with_name("german_passages.jsonl")


@dataclass(frozen=True)
class Asked:
    """One question and the numbers of the passages that answer it."""

    kind: str
    question: str
    right: frozenset[int]
    document: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("documents", type=Path)
    parser.add_argument("--cards", type=Path)
    parser.add_argument("--embedding", default="auto")
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--each", type=int, default=150)
    parser.add_argument("--half", choices=("report", "development", "both"), default="report")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="where vectors are remembered between runs")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    passages = [*read_passages(chosen.documents / "passages.jsonl"), *german_passages()]
    embedder = open_embedder(chosen.embedding)
    report: dict = {"passages": len(passages), "embedding": embedder.key if embedder else "none", "quality": {}}
    with tempfile.TemporaryDirectory() as folder:
        home = chosen.home or Path(folder)
        library, spent = made(Path(folder) / "manuals.sqlite", passages, embedder, home / "manuals")
        report["building"] = spent
        asked = sampled(halved(questions(passages), chosen.half), chosen.each, chosen.seed)
        report["quality"] |= quality(library, asked)
        report["bar"] = bar(library, asked, passages)
        if chosen.cards:
            cards = read_cards(chosen.cards)
            other, _ = made(Path(folder) / "cards.sqlite", cards, embedder, home / "cards")
            report["quality"] |= quality(
                other, sampled(halved(card_questions(cards), chosen.half), chosen.each, chosen.seed)
            )
        report["speed"] = speed(Path(folder) / "many.sqlite", passages, chosen.passages, asked, embedder)
    print(json.dumps(report, indent=2, ensure_ascii=False)) if chosen.json else show(report)


def made(path: Path, passages: Sequence[Passage], embedder: Embedder | None, home: Path) -> tuple[SqliteLibrary, dict]:
    """A library of passages, and what it took."""
    from werkmeister.consulting.bar import calibrate

    wall, cpu = time.perf_counter(), time.process_time()
    write_library(path, passages)
    spent = {"words": rate(len(passages), wall, cpu)}
    if embedder:
        wall, cpu = time.perf_counter(), time.process_time()
        gathered, remembered = embed_passages(passages, embedder, home, Silent())
        add_vectors(path, gathered, embedder.key, embedder.width)
        spent["meaning"] = rate(len(passages), wall, cpu) | {"vectors": len(gathered.bodies), "remembered": remembered}
    found = calibrate(SqliteLibrary(path, embedder=embedder), 0.02, Silent())
    add_meta(path, {"bar": found.bar_facts()})
    return SqliteLibrary(path, embedder=embedder), spent | {"bar": found.record()}


def rate(count: int, wall: float, cpu: float) -> dict:
    """Passages a second of wall clock and of CPU since two readings."""
    return {
        "passages_per_second": round(count / (time.perf_counter() - wall), 1),
        "passages_per_cpu_second": round(count / (time.process_time() - cpu), 1),
    }


def headings_of(passage: Passage) -> list[str]:
    """The headings that a passage stands under, and those within it."""
    return [*passage.headings[-1:], *(line.lstrip("# ") for line in passage.text.split("\n") if line.startswith("#"))]


def questions(passages: Sequence[Passage]) -> list[Asked]:
    """All questions that can be made of the manuals."""
    places: dict[tuple[str, str], set[int]] = {}
    titles: dict[str, str] = {}
    facts: dict[str, dict[str, str]] = {}
    for number, passage in enumerate(passages):
        titles[passage.document] = passage.title
        for heading in headings_of(passage):
            places.setdefault((passage.document, heading), set()).add(number)
        for key, value in re.findall(r"\| (Product type|Manufacturer) \| (.*?) \|", passage.text):
            facts.setdefault(passage.document, {})[key] = value
    alike: dict[tuple[str, str], list[str]] = {}
    for document, known in facts.items():
        alike.setdefault((known.get("Manufacturer", ""), known.get("Product type", "")), []).append(document)
    found = []
    for (document, heading), numbers in places.items():
        title, known = titles[document], facts.get(document, {})
        maker, kind = known.get("Manufacturer", ""), known.get("Product type", "")
        if heading in SECTIONS:
            found.append(Asked("model", SECTIONS[heading].format(title), frozenset(numbers), document))
            if maker and kind:
                right = frozenset().union(*(places.get((other, heading), set()) for other in alike[maker, kind]))
                found.append(Asked("description", SECTIONS[heading].format(f"{maker} {kind}"), right, document))
        elif heading.startswith("Parameter ") and ": " in heading:
            name = heading.split(": ", 1)[1]
            right = (
                frozenset().union(
                    *(n for (other, head), n in places.items() if other == document and head.endswith(f": {name}"))
                )
                if len(passages) < 3000
                else frozenset(numbers)
            )
            found.append(Asked("parameter", f"What is the default of {name} on the {title}?", right, document))
    return found + german(passages) + english(passages)


def german(passages: Sequence[Passage]) -> list[Asked]:
    """The questions by hand whose manuals are there."""
    found = []
    for line in GERMAN.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        right = frozenset(
            number
            for number, passage in enumerate(passages)
            if Path(passage.document).name == record["document"]
            and any(record["heading"].lower() in heading.lower() for heading in headings_of(passage))
        )
        if right:
            found.append(Asked("german", record["question"], right, passages[min(right)].document))
    return found


def german_passages() -> list[Passage]:
    """The German passages by hand, each a document of its own."""
    lines = GERMAN_PASSAGES.read_text(encoding="utf-8").splitlines()
    return [german_passage(number, json.loads(line)) for number, line in enumerate(lines)]


def german_passage(number: int, record: dict[str, str]) -> Passage:
    said = {"title": record["title"], "headings": (record["heading"],), "text": record["text"], "language": "de"}
    identity = format(number, "016x")
    return Passage(document=f"german/{number}.md", id=identity, start=0, end=len(record["text"]), **said)


def english(passages: Sequence[Passage]) -> list[Asked]:
    """The English questions about them."""
    lines = GERMAN_PASSAGES.read_text(encoding="utf-8").splitlines()
    asked = {f"german/{number}.md": json.loads(line)["question"] for number, line in enumerate(lines)}
    return [
        Asked("english", asked[passage.document], frozenset([number]), passage.document)
        for number, passage in enumerate(passages)
        if passage.document in asked
    ]


def read_cards(path: Path) -> list[Passage]:
    """Cards as passages, each a document of its own."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        first, _, text = record["text"].partition("\n")
        title, text = first.lstrip("# "), text or first
        identity = format(len(found), "016x")
        found.append(
            Passage(id=identity, document=record["id"], title=title, headings=(), text=text, start=0, end=len(text))
        )
    return found


def card_questions(cards: Sequence[Passage]) -> list[Asked]:
    """Each card by its description alone, and by its maker and model alone."""
    described: dict[str, set[int]] = {}
    named: dict[str, set[int]] = {}
    for number, card in enumerate(cards):
        name, _, description = card.title.partition(" - ")
        named.setdefault(name, set()).add(number)
        if description:
            described.setdefault(description, set()).add(number)
    return [
        *(Asked("card by description", text, frozenset(numbers)) for text, numbers in described.items()),
        *(Asked("card by model", text, frozenset(numbers)) for text, numbers in named.items()),
    ]


def halved(asked: Sequence[Asked], half: str) -> list[Asked]:
    """The different questions of one half, or of both."""
    different = {(one.kind, one.question): one for one in asked}.values()
    wanted = {"report": (1,), "development": (0,), "both": (0, 1)}[half]
    return [one for one in different if zlib.crc32(one.question.encode()) % 2 in wanted]


def sampled(asked: Sequence[Asked], each: int, seed: int) -> list[Asked]:
    """At most `each` questions of a kind."""
    chance = random.Random(seed)
    kinds: dict[str, list[Asked]] = {}
    for one in asked:
        kinds.setdefault(one.kind, []).append(one)
    return [one for found in kinds.values() for one in (chance.sample(found, each) if len(found) > each else found)]


def quality(library: SqliteLibrary, asked: Sequence[Asked]) -> dict:
    """recall@1, recall@5 and nDCG@10 of each kind of question by words (BM25), by meaning, and by both."""
    methods: dict[str, Callable[[str], list[int]]] = {
        "BM25": lambda question: library.by_words(library.terms_of(question), 10),
        "both" if library.vectors else "words": lambda question: [h.number for h in library.search(question, limit=10)],
    }
    if library.vectors:
        meaning = SqliteLibrary(library.path, embedder=library.embedder, weights=(0.0, 1.0))
        methods["meaning"] = lambda question: [hit.number for hit in meaning.search(question, limit=10)]
    results: dict = {}
    for kind in dict.fromkeys(one.kind for one in asked):
        chosen = [one for one in asked if one.kind == kind]
        results[kind] = {"questions": len(chosen)}
        for name, method in methods.items():
            found = [(one, method(one.question)) for one in chosen]
            results[kind][name] = {
                "recall@1": interval([float(bool(set(got[:1]) & one.right)) for one, got in found]),
                "recall@5": interval([float(bool(set(got[:5]) & one.right)) for one, got in found]),
                "nDCG@10": interval([gain(got, one.right) for one, got in found]),
            }
    return results


def gain(got: Sequence[int], right: frozenset[int]) -> float:
    """nDCG@10 with binary relevance."""
    held = sum(1 / math.log2(place + 2) for place, number in enumerate(got[:10]) if number in right)
    return held / sum(1 / math.log2(place + 2) for place in range(min(10, len(right))))


def interval(values: Sequence[float]) -> list[float]:
    """Mean, and its 95 % interval by bootstrap."""
    chance = random.Random(0)
    means = sorted(statistics.fmean(chance.choices(values, k=len(values))) for _ in range(500))
    return [round(number, 3) for number in (statistics.fmean(values), means[12], means[487])]


def bar(library: SqliteLibrary, asked: Sequence[Asked], passages: Sequence[Passage]) -> dict:
    """What the bar refuses of questions with an answer, by kind, and of those whose manual is left out."""
    kinds = dict.fromkeys(one.kind for one in asked)
    refused = {kind: [not library.find(one.question).told for one in asked if one.kind == kind] for kind in kinds}
    without = []
    for one in asked:
        if one.kind == "model":
            others = [name for name in library.documents if name != one.document]
            hits = library.search(one.question, limit=3, documents=others)
            without.append(not any(library.passes(hit, one.question) for hit in hits))
    shares = {kind: round(statistics.fmean(found), 3) for kind, found in refused.items()}
    return {"refused_with_answer": shares, "refused_without_document": round(statistics.fmean(without), 3)}


def many(passages: Sequence[Passage], count: int) -> list[Passage]:
    """`count` passages: copies with other names, so that no two documents are called alike."""
    found: list[Passage] = []
    turn = 0
    while len(found) < count:
        mark = f" v{turn}x" if turn else ""
        found += [
            replace(one, document=f"{turn}/{one.document}", title=one.title + mark, id=format(len(found) + n, "016x"))
            for n, one in enumerate(passages)
        ]
        turn += 1
    return found[:count]


def speed(
    path: Path, passages: Sequence[Passage], count: int, asked: Sequence[Asked], embedder: Embedder | None
) -> dict:
    """Rates of building and times of searching with `count` passages; vectors of copies are noise of the same shape."""
    copies = many(passages, count)
    wall, cpu = time.perf_counter(), time.process_time()
    write_library(path, copies)
    spent: dict = {"passages": count, "index": rate(count, wall, cpu), "megabytes": round(path.stat().st_size / 1e6)}
    if embedder:
        add_vectors(path, noise(copies, embedder.width), embedder.key, embedder.width)
        spent["megabytes_with_vectors"] = round(path.stat().st_size / 1e6)
    contenders = {"words": SqliteLibrary(path)}
    if embedder:
        contenders["words and meaning"] = SqliteLibrary(path, embedder=embedder)
        contenders["the same without embedding the question"] = SqliteLibrary(path, embedder=Remembering(embedder))
    for name, library in contenders.items():
        times = [timed(lambda q=one.question, it=library: it.search(q)) for one in asked * 2][len(asked) :]
        spent[name] = {
            "p50_ms": round(statistics.median(w for w, _ in times) * 1e3, 1),
            "p95_ms": round(sorted(w for w, _ in times)[int(0.95 * len(times))] * 1e3, 1),
            "p95_cpu_ms": round(sorted(c for _, c in times)[int(0.95 * len(times))] * 1e3, 1),
        }
    return spent


class Remembering:
    """An embedder that has been asked before."""

    def __init__(self, embedder: Embedder) -> None:
        self.inner, self.key, self.name, self.width = embedder, embedder.key, embedder.name, embedder.width
        self.foreign = embedder.foreign
        self.known: dict = {}

    def questions(self, texts: Sequence[str]):
        """As Embedder has it."""
        key = tuple(texts)
        if key not in self.known:
            self.known[key] = self.inner.questions(texts)
        return self.known[key]

    def passages(self, texts: Sequence[str]):
        """As Embedder has it."""
        return self.inner.passages(texts)


def noise(passages: Sequence[Passage], width: int):
    """Random unit vectors, one a part, none equal: the largest that such a library can be."""
    import numpy as np

    from werkmeister.consulting.library_file import by_document
    from werkmeister.consulting.vectors import Gathered, parts

    chance = np.random.default_rng(0)
    gathered = Gathered()
    for group in by_document(passages):
        vectors = chance.standard_normal((1 + sum(len(parts(one)) for one in group), width), dtype=np.float32)
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
        gathered.add_document(vectors[0], group, list(vectors[1:]))
    return gathered


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall clock and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def show(report: dict) -> None:
    print(f"{report['passages']:,} passages, embedding {report['embedding']}")
    print(f"{'questions':22} {'n':>4}  {'method':8} {'recall@1':>18} {'recall@5':>18} {'nDCG@10':>18}   nDCG / BM25's")
    for kind, results in report["quality"].items():
        for name, scores in results.items():
            if name == "questions":
                continue
            cells = " ".join(f"{m:.3f} [{a:.2f}, {b:.2f}]".rjust(18) for m, a, b in scores.values())
            ratio = scores["nDCG@10"][0] / max(1e-9, results["BM25"]["nDCG@10"][0])
            print(f"{kind:22} {results['questions']:>4}  {name:8} {cells}   {ratio:.2f}")
    for key in ("building", "bar", "speed"):
        print(f"{key}: {json.dumps(report[key])}")


if __name__ == "__main__":
    sys.exit(main())
