"""Pages/s and peak memory from documents to passages, beside what one would use instead, in one run.

    python benchmarks/read_documents.py FILE… [--base smollm2-135m] [--tokens 256] [--rounds 1] [--json]

Each contender reads all files in a process of its own, in turns, so that a busy machine slows all of them alike:

- werkmeister: the stage documents as it is built with (reading, cleaning, passages, tokens counted with the base)
- kreuzberg chunks: kreuzberg's own Markdown chunks of about the same size in characters, without any cleaning
- kreuzberg text: kreuzberg's Markdown of the file, and nothing more
- pypdf: the text of every page of a PDF, where pypdf is installed

Seconds are wall clock of the work, without starting Python. CPU seconds are those of the whole process and its
children: on a busy machine they tell how long it would take on an idle core. Peak memory is the largest sum of
resident memory of the process and its children, sampled every 20 ms.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONTENDERS = ("werkmeister", "kreuzberg chunks", "kreuzberg text", "pypdf")
CHARACTERS_A_TOKEN = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contender:
        result = contend(chosen.contender, chosen.files, chosen.base, chosen.tokens)
        spent = os.times()
        cpu = spent.user + spent.system + spent.children_user + spent.children_system
        print(json.dumps(result | {"cpu": cpu}))
        return
    if not all(path.is_file() for path in chosen.files):
        parser.error("no such file: " + ", ".join(str(path) for path in chosen.files if not path.is_file()))
    taking_part = [name for name in CONTENDERS if name != "pypdf" or importlib.util.find_spec("pypdf")]
    runs: dict[str, list[dict]] = {name: [] for name in taking_part}
    for _ in range(chosen.rounds):
        for name in taking_part:
            runs[name].append(measured(name, chosen))
    report(runs, as_json=chosen.json)


def measured(name: str, chosen: argparse.Namespace) -> dict:
    """One run of a contender in a process of its own, with the peak of its memory and its children's."""
    import psutil

    command = [sys.executable, __file__, *map(str, chosen.files), "--base", chosen.base, "--tokens", str(chosen.tokens)]
    process = subprocess.Popen([*command, "--contender", name], stdout=subprocess.PIPE, text=True)
    watched = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        try:
            family = [watched, *watched.children(recursive=True)]
            peak = max(peak, sum(member.memory_info().rss for member in family))
        except psutil.Error:
            continue
        time.sleep(0.02)
    assert process.stdout is not None
    result: dict = json.loads(process.stdout.read().splitlines()[-1])
    return result | {"peak": peak}


def contend(name: str, files: list[Path], base: str, tokens: int) -> dict:
    """Do the work of one contender: seconds, pages, and how many pieces came of it."""
    if name == "werkmeister":
        return ours(files, base, tokens)
    if name == "pypdf":
        from pypdf import PdfReader

        started = time.perf_counter()
        texts = [page.extract_text() for path in files for page in PdfReader(path).pages]
        return {"seconds": time.perf_counter() - started, "pages": len(texts), "pieces": len(texts)}
    import kreuzberg as k

    chunking = k.ChunkingConfig(max_chars=tokens * CHARACTERS_A_TOKEN, max_overlap=0, chunker_type="markdown")
    config = k.ExtractionConfig(
        use_cache=False,
        output_format="markdown",
        chunking=chunking if name == "kreuzberg chunks" else None,
        pages=k.PageConfig(extract_pages=True),
    )
    started = time.perf_counter()
    results = [k.extract_file_sync(str(path), config=config) for path in files]
    seconds = time.perf_counter() - started
    pages = sum(len(result.pages or ()) for result in results)
    return {"seconds": seconds, "pages": pages, "pieces": sum(len(result.chunks or ()) for result in results)}


def ours(files: list[Path], base: str, tokens: int) -> dict:
    from werkmeister.bases.find import find_base
    from werkmeister.corpus.documents.stage import DocumentsSettings, documents
    from werkmeister.progress import Silent

    found = find_base(base, progress=Silent())
    settings = DocumentsSettings(files=tuple(str(path.resolve()) for path in files), passage_tokens=tokens)
    with tempfile.TemporaryDirectory() as folder:
        expert = Path(folder)
        started = time.perf_counter()
        made = documents(expert, expert / "documents", settings, base=found, home=expert, progress=Silent())
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "pages": made.measures["pages"], "pieces": made.facts["passages"]}


def report(runs: dict[str, list[dict]], *, as_json: bool) -> None:
    rows = []
    for name, results in runs.items():
        seconds = statistics.median(result["seconds"] for result in results)
        ratios = [a["seconds"] / b["seconds"] for a, b in zip(runs["werkmeister"], results, strict=True)]
        rows.append(
            {
                "contender": name,
                "seconds": round(seconds, 2),
                "cpu_seconds": round(statistics.median(result["cpu"] for result in results), 2),
                "pages_per_second": round(results[0]["pages"] / seconds, 1),
                "peak_megabytes": round(max(result["peak"] for result in results) / 1e6),
                "pieces": results[0]["pieces"],
                "werkmeister_takes_times": round(statistics.median(ratios), 2),
            }
        )
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'':18} {'seconds':>9} {'CPU s':>9} {'pages/s':>9} {'peak MB':>9} {'pieces':>8}   werkmeister takes")
    for row in rows:
        print(
            f"{row['contender']:18} {row['seconds']:>9.2f} {row['cpu_seconds']:>9.2f} {row['pages_per_second']:>9.1f} "
            f"{row['peak_megabytes']:>9} {row['pieces']:>8}   {row['werkmeister_takes_times']:.2f} × its time"
        )


if __name__ == "__main__":
    main()
