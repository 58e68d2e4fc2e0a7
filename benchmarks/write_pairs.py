"""Pairs/s of the structural writer on documents of your own, one core: reading, cutting and writing apart.

    python benchmarks/write_pairs.py FILE_OR_FOLDER… [--forms N] [--per-passage N] [--tokens N] [--rounds N] [--json]

Every file is read and cut once; then all pairs are written, as often as asked for, and the median counts. Each pair is
put to the checks of the stage `write`, so the figure "verified" is what a dataset would get. Passages are cut by words
(4/3 tokens each), since the writer needs no tokenizer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from werkmeister.corpus.documents.document import Document, Unread
from werkmeister.corpus.documents.passages import cut
from werkmeister.corpus.documents.reading import Reader
from werkmeister.corpus.writing.checks import check_pair
from werkmeister.corpus.writing.pair import Pair
from werkmeister.corpus.writing.structural.writer import FORMS, StructuralWriter
from werkmeister.passage import Passage


def main() -> None:
    options = parse()
    begin = time.perf_counter()
    documents, unread = read(options.paths)
    reading = time.perf_counter() - begin
    begin = time.perf_counter()
    passages = [cut(document, tokens, budget=options.tokens) for document in documents]
    cutting = time.perf_counter() - begin
    writer = StructuralWriter(forms=options.forms, per_passage=options.per_passage)
    took, pairs = [], []
    for _ in range(options.rounds):
        begin = time.perf_counter()
        pairs = [list(writer.write(*one)) for one in zip(documents, passages, strict=True)]
        took.append(time.perf_counter() - begin)
    seconds = statistics.median(took)
    written = sum(map(len, pairs))
    verified, dropped = checked(documents, passages, pairs)
    figures = {
        "documents": len(documents),
        "unread": unread,
        "passages": sum(map(len, passages)),
        "seconds reading": round(reading, 2),
        "seconds cutting": round(cutting, 2),
        "seconds writing": round(seconds, 3),
        "pairs": written,
        "pairs/s": round(written / seconds) if seconds else 0,
        "verified": len(verified),
        "distinct questions": len({pair.question for pair in verified}),
        "facts": len({(pair.document, pair.fact) for pair in verified}),
        "kinds": dict(Counter(pair.kind for pair in verified)),
        "dropped by check": dict(dropped),
    }
    if options.json:
        print(json.dumps(figures, ensure_ascii=False))
    else:
        for name, value in figures.items():
            print(f"{name:>20}  {value}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("paths", type=Path, nargs="+", help="documents, or folders of them")
    parser.add_argument("--forms", type=int, default=FORMS, help="question forms of a fact")
    parser.add_argument("--per-passage", type=int, default=0, help="most facts of a passage; 0: all")
    parser.add_argument("--tokens", type=int, default=256, help="longest passage")
    parser.add_argument("--rounds", type=int, default=3, help="how often all pairs are written")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    return parser.parse_args()


def read(paths: Sequence[Path]) -> tuple[list[Document], int]:
    files = [
        file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file()
    ]
    with Reader() as reader:
        found = [reader.read(file, file.name) for file in files]
    documents = [one for one in found if isinstance(one, Document)]
    return documents, sum(isinstance(one, Unread) for one in found)


def tokens(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) * 4 // 3 + 1 for text in texts]


def checked(
    documents: Sequence[Document], passages: Sequence[list[Passage]], pairs: Sequence[list[Pair]]
) -> tuple[list[Pair], Counter[str]]:
    """The pairs that pass the checks, and how many fell by which."""
    kept: list[Pair] = []
    dropped: Counter[str] = Counter()
    for document, cuts, written in zip(documents, passages, pairs, strict=True):
        known = {passage.id: passage for passage in cuts}
        for pair in written:
            fallen = check_pair(pair, document, known[pair.passage])
            if fallen:
                dropped[fallen.check] += 1
            else:
                kept.append(pair)
    return kept, dropped


if __name__ == "__main__":
    main()
