"""What an expert's library is worth: grounded answers of the base and of the expert, without and with retrieval.

    python benchmarks/grounded.py EXPERT ANSWERS.jsonl [--library FOLDER] [--each 100] [--without 60] [--own 100]
                                  [--few 30] [--only NAME] [--max-tokens 96] [--file Q8_0] [--seed 0] [--json]

ANSWERS.jsonl takes every answer as it comes; what stands in it is not asked again. The base without retrieval, which
knows nothing and talks for long, is asked `few` of each part.

EXPERT is a built expert with documents and an index of all of them (werkmeister build EXPERT). The devices of
own-wording.jsonl are not among the 500 of the example: for them FOLDER is a copy of it with `--cut full` in its
expert.toml, after `werkmeister documents FOLDER` and `werkmeister index FOLDER`. Four answerers: "base"
and "expert" are asked the bare question; "base + retrieval" and "expert + retrieval" answer from what the library
finds, as a user's question is answered. The questions are those of the exam, whose documents no training saw:

- told: the pairs' questions that stand on their own (they name the device), of passages in the exam
- without: the same kind of questions, of further pairs, asked of the library less the document that answers them:
  all should be abstained on (the exam's own unanswerable questions will not do: another passage may answer them)
- own wording: those of the exam's own files, asked with the document chosen in which they were written (they do not
  name it). They are in two halves by the document: "development" for choosing what is tried, "report" for the figures

Token F1, exact and refusals as the exam marks them. Citation precision is verbatim: of all sentences with a citation,
the share whose quote stands, character by character, at the named place in the document's text on disk. Beside it
stand the share of sentences that have a citation, and of answers whose first citation lies in the passage that the
pair was written from. Intervals of 95 % treat the questions of one document as dependent; differences are paired.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from werkmeister.artefact import Artefact, open_artefact
from werkmeister.bases.find import find_same_base
from werkmeister.chat import Example, Message
from werkmeister.consulting.expert import Answer, AskSettings, Expert, Library, ask, open_expert
from werkmeister.consulting.finding import Finding
from werkmeister.consulting.library import SqliteLibrary, open_library
from werkmeister.engines.llama import LlamaEngine
from werkmeister.examining.clusters import estimate, paired_difference
from werkmeister.examining.marks import exact, grounded
from werkmeister.grounding import is_refusal, read_open_book, refusal
from werkmeister.progress import Silent

NAMES = ("base", "base + retrieval", "expert", "expert + retrieval")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question, what is right, and the document that it is about."""

    part: str
    question: str
    target: str
    document: str
    passage: str = ""

    @property
    def example(self) -> Example:
        """As the exam's marks take it."""
        return Example(prompt=(Message("user", self.question),), target=self.target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("expert", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--library", type=Path, help="another folder whose index is asked: one of more documents")
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--without", type=int, default=60)
    parser.add_argument("--own", type=int, default=100)
    parser.add_argument("--file", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--few", type=int, default=30)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--only", choices=NAMES, help="ask this answerer alone; the table then shows what there is")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    artefacts = chosen.expert / "artefacts"
    shelves = chosen.library or chosen.expert
    library = open_library(shelves)
    if library is None:
        sys.exit(f"{shelves} has no index: werkmeister index {shelves}")
    asked = questions(artefacts, library, chosen)
    documents = open_artefact(shelves / "artefacts" / "documents", "documents")
    texts = {record["name"]: record["text"] for record in _lines(documents.file("documents.jsonl"))}
    kept = list(_lines(chosen.answers)) if chosen.answers.exists() else []
    with chosen.answers.open("a", encoding="utf-8") as file:
        for name in NAMES if not chosen.only else [chosen.only]:
            known = {(record["part"], record["question"]) for record in kept if record["answerer"] == name}
            open_ones = [one for one in fewer(name, asked, chosen.few) if (one.part, one.question) not in known]
            for record in answers(name, chosen, open_ones, library, lambda one: documents.file(texts[one])):
                kept.append(record)
                print(json.dumps(record, ensure_ascii=False), file=file, flush=True)
    report = {"documents": len(library.documents), "passages": library.count, "rows": table(kept, chosen.seed)}
    print(json.dumps(report, indent=2)) if chosen.json else show(report)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def questions(artefacts: Path, library: SqliteLibrary, chosen: argparse.Namespace) -> list[Asked]:
    """The questions of all parts, the same for every answerer."""
    exam = list(_lines(open_artefact(artefacts / "dataset", "dataset").file("exam.jsonl")))
    held_out = {record["passage"] for record in exam if record.get("passage")}
    pairs = [
        pair
        for pair in _lines(open_artefact(artefacts / "write", "write").file("pairs.jsonl"))
        if pair["answerable"] and pair["passage"] in held_out
    ]
    random.Random(chosen.seed).shuffle(pairs)
    told = [
        Asked(
            part="told",
            question=pair["question"],
            target=pair["answer"],
            document=pair["document"],
            passage=pair["passage"],
        )
        for pair in pairs
    ]
    without = [
        replace(one, part="without", target=refusal("en"), passage="")
        for one in told[chosen.each : chosen.each + chosen.without]
    ]
    own = [
        Asked(
            part=f"own wording, {'report' if zlib.crc32(record['group'].encode()) % 2 else 'development'}",
            question=read_open_book(record["messages"][-2]["content"])[1],
            target=record["messages"][-1]["content"],
            document=record["group"],
        )
        for record in exam
        if record.get("part") == "own wording" and record["group"] in library.documents
    ]
    return told[: chosen.each] + without + own[: chosen.own]


def fewer(name: str, asked: Sequence[Asked], few: int) -> list[Asked]:
    """The questions of an answerer: all, or the first few of each part for the bare base."""
    count: Counter[str] = Counter()
    chosen = []
    for one in asked:
        count[one.part] += 1
        if name != "base" or count[one.part] <= few:
            chosen.append(one)
    return chosen


def answers(
    name: str,
    chosen: argparse.Namespace,
    asked: Sequence[Asked],
    library: SqliteLibrary,
    text_of: Callable[[str], Path],
) -> Iterator[dict[str, Any]]:
    """Every question with one answerer's answer, marked."""
    with opened(name, chosen) as expert:
        for place, one in enumerate(asked):
            begin = time.perf_counter()
            given = shelf(one, library) if "retrieval" in name else None
            answer = ask(replace(expert, library=given), one.question)
            if place % 20 == 0:
                print(f"{name}: {place} of {len(asked)}", file=sys.stderr)
            yield marked(one, answer, text_of) | {"answerer": name, "seconds": time.perf_counter() - begin}


@dataclass(frozen=True)
class Lacking:
    """A library as if it had never had one of its documents."""

    library: SqliteLibrary
    document: str

    def find(self, question: str, history: Sequence[Message]) -> Finding:
        """As the library finds it: the bar holds, since nobody named a document."""
        others = [name for name in self.library.documents if name != self.document]
        hits = self.library.search(question, limit=3, documents=others)
        if not any(self.library.passes(hit, question) for hit in hits):
            return Finding(told=False, asked=question)
        return Finding(passages=tuple(hit.passage for hit in hits[: self.library.served]), asked=question)


def shelf(one: Asked, library: SqliteLibrary) -> Library:
    """What a question is put to."""
    if one.part == "without":
        return Lacking(library, one.document)
    return library.within([one.document]) if one.part.startswith("own") else library


def opened(name: str, chosen: argparse.Namespace) -> Expert:
    """The expert, or its base in the expert's place."""
    settings = AskSettings(library=False, max_tokens=chosen.max_tokens)
    expert = open_expert(chosen.expert, settings=settings, file=chosen.file)
    if name.startswith("expert"):
        return expert
    expert.engine.close()
    data: Artefact = open_artefact(chosen.expert / "artefacts" / "dataset", "dataset")
    base = find_same_base(data.facts["base"], expert=chosen.expert, progress=Silent())
    if base.gguf is None:
        sys.exit(f"the base {base.name} has no GGUF file, and llama.cpp reads no other")
    return replace(expert, engine=LlamaEngine(base.gguf, template=base.template))


def marked(one: Asked, answer: Answer, text_of: Callable[[str], Path]) -> dict[str, Any]:
    """An answer with its marks and its citations checked against the documents' texts."""
    refused = is_refusal(answer.text)
    cited = [citation for citation in answer.citations if citation.supported]
    true = [
        text_of(citation.document).read_text(encoding="utf-8")[citation.document_start : citation.document_end]
        == citation.quote
        and bool(citation.quote)
        for citation in cited
    ]
    return {
        "part": one.part,
        "question": one.question,
        "target": one.target,
        "document": one.document,
        "answer": answer.text,
        "answerable": not is_refusal(one.target),
        "refused": refused,
        "asked_model": answer.tokens > 0,
        "score": grounded(answer.text, one.example).score,
        "exact": exact(answer.text, one.example).score,
        "confidence": answer.confidence,
        "sentences": len(answer.citations),
        "cited": len(cited),
        "verbatim": sum(true),
        "right_place": bool(cited) and cited[0].passage == one.passage,
        "right_passage": one.passage in [passage.id for passage in answer.passages],
        "quotes": [citation.quote for citation in cited],
    }


def table(kept: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """One row an answerer and part, and for each its paired difference from the others on the questions of both."""
    rows = []
    for name in NAMES:
        for part in dict.fromkeys(record["part"] for record in kept):
            mine = {r["question"]: r for r in kept if (r["answerer"], r["part"]) == (name, part)}
            if not mine:
                continue
            row = {"answerer": name, "part": part, "n": len(mine)} | scores([*mine.values()], seed)
            for rival in NAMES:
                other = {r["question"]: r for r in kept if (r["answerer"], r["part"]) == (rival, part)}
                both = [question for question in mine if question in other]
                if rival == name or not both:
                    continue
                pairs = [[one[question]["score"] for question in both] for one in (mine, other)]
                gap = paired_difference(*pairs, [mine[question]["document"] for question in both], seed=seed)
                row[f"less {rival}"] = [gap.value, gap.low, gap.high, gap.n]
            rows.append(row)
    return rows


def scores(records: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Each measure as [value, low, high, n], where there is anything to measure."""

    def share(key: Callable[[dict[str, Any]], float], among: Sequence[dict[str, Any]]) -> list[float] | None:
        if not among:
            return None
        found = estimate([float(key(one)) for one in among], [one["document"] for one in among], seed=seed)
        return [found.value, found.low, found.high, found.n]

    told = [one for one in records if one["answerable"]]
    cited = [{"document": r["document"], "true": n < r["verbatim"]} for r in records for n in range(r["cited"])]
    said = [{"document": r["document"], "has": n < r["cited"]} for r in records for n in range(r["sentences"])]
    placed = [one for one in told if one["part"] == "told" and one["cited"]]
    return {
        "score": share(lambda one: one["score"], records),
        "F1 where told": share(lambda one: one["score"], told),
        "exact where told": share(lambda one: one["exact"], told),
        "refused where told": share(lambda one: one["refused"], told),
        "abstained where not": share(lambda one: one["refused"], [one for one in records if not one["answerable"]]),
        "citations verbatim": share(lambda one: one["true"], cited),
        "sentences cited": share(lambda one: one["has"], said),
        "cited the right passage": share(lambda one: one["right_place"], placed),
        "seconds": sorted(one["seconds"] for one in records)[len(records) // 2],
    }


def show(report: dict[str, Any]) -> None:
    print(f"library: {report['documents']} documents, {report['passages']} passages")
    for row in report["rows"]:
        print(f"\n{row['answerer']} · {row['part']} · n = {row['n']}")
        for key, value in row.items():
            if isinstance(value, list):
                numbers = f"{value[0]:6.1%} ({value[1]:.1%} to {value[2]:.1%})"
                print(f"  {key:28} {numbers}" + (f" n = {value[3]}" if len(value) == 4 else ""))


if __name__ == "__main__":
    sys.exit(main())
