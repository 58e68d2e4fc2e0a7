"""The browser target: an expert as a static folder that is an installable web app and works without a network.

The folder holds the chat page, the model file, and llama.cpp as WebAssembly (`@wllama/wllama`, pinned in `web/`). Any
static web server can serve it: a service worker keeps the page, sends the headers that allow threads, and answers
without a network; the model lies in the browser's private file system.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from werkmeister import __version__
from werkmeister.artefact import Artefact, open_artefact, sha256_of, write_json
from werkmeister.bases.gguf_header import read_gguf_header
from werkmeister.bases.packaged import PACKAGED
from werkmeister.consulting.expert import AskSettings, Found, find_expert
from werkmeister.delivery.browser_library import LIBRARY, library_content
from werkmeister.delivery.browser_page import POLICY, index_page, page_content, page_names
from werkmeister.delivery.browser_shards import write_shards
from werkmeister.errors import ArtefactError, DataError
from werkmeister.machine import in_words, need_disk
from werkmeister.progress import Progress, Silent

FORMAT = 1
USUAL_CONTEXT = 4096
"""The longest context (tokens) that is set up without being asked for: a tab has less memory than a program."""
WHOLE = 2_000_000_000
"""The largest model file (bytes) that is not split."""
SHARD = 512 << 20
"""Bytes of a shard: small enough to be fetched again after a broken download, large enough to be few."""
EXPECTED = "expected.jsonl"
MANIFEST = "bundle.json"
_APP = "manifest.webmanifest"
_LICENCES = "LICENSES.txt"
_NOT_KEPT = ("model/",)
_CHUNK = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What was written: `files` maps each path below `path` to its size in bytes; `shards` counts the model's files."""

    path: Path
    model: str
    shards: int
    files: Mapping[str, int]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())

    def words(self) -> str:
        """What a person should know of it."""
        parts = f" in {self.shards} files" if self.shards > 1 else ""
        return (
            f"{self.path}: {in_words(self.size)}, {self.model}{parts}\n"
            f"Try it:   python -m http.server --bind 127.0.0.1 --directory {self.path} 8080\n"
            "          and open http://127.0.0.1:8080\n"
            "Offer it: copy the folder to any static web server with https"
        )

    def record(self) -> dict[str, Any]:
        """The bundle as a JSON object."""
        return asdict(self) | {"path": str(self.path), "files": dict(self.files), "bytes": self.size}


def browser_bundle(
    expert: Path,
    output: Path,
    *,
    settings: AskSettings | None = None,
    file: str = "",
    expected: Path | None = None,
    whole: int = WHOLE,
    shard: int = SHARD,
    progress: Progress | None = None,
) -> Bundle:
    """Write the built expert in the folder `expert` as a web app into the folder `output`.

    `file` is the quantisation that is taken ("Q8_0"; "" for the export's default). `expected` is a file of golden
    prompts, one {"messages", "answer"} a line, which travels in the bundle and which the page can put to the model
    again, as they are. An expert that has an index of its documents takes their passages along and finds them by their
    words, unless `settings.library` is off. A model of more than `whole` bytes is split into shards of `shard` bytes.

    The folder is complete when `bundle.json` stands in it, with the SHA-256 of every file; a bundle that was there
    before is replaced. Raises ArtefactError when nothing was built, or `output` holds something else than a bundle;
    DataError when `expected` is not such a file; MachineError when the disk is too small.
    """
    progress, settings = progress or Silent(), settings or AskSettings()
    found = find_expert(expert, settings=replace(settings, library=False), file=file)
    built = open_artefact(expert / "artefacts" / "export", "export")
    golden = _golden(expected) if expected is not None else b""
    with _replacing(output) as folder:
        need_disk(folder, found.path.stat().st_size + (64 << 20), "the browser bundle")
        models = _model_files(found.path, folder / "model", whole, shard, progress)
        about = _about(found, built, settings, models, folder)
        if golden:
            (folder / EXPECTED).write_bytes(golden)
            about["expected"] = EXPECTED
        documents = library_content(expert, settings, progress)
        if documents:
            (folder / LIBRARY).write_bytes(documents)
            about["library"] = LIBRARY
        write_json(folder / "expert.json", about)
        _write_page(folder, found, built)
        # A model of gigabytes is read once.
        known = {file["name"]: {key: file[key] for key in ("bytes", "sha256")} for file in about["model"]["files"]}
        sums = {name: known.get(name) or _sum(folder / name) for name in _in(folder)}
        _write_worker(folder, sums)
        sums["sw.js"] = _sum(folder / "sw.js")
        kind = {"kind": "browser", "format": FORMAT, "expert": found.name, "export": built.identity}
        write_json(folder / MANIFEST, kind | {"code": {"werkmeister": __version__}, "outputs": sums})
    sizes = {name: (output / name).stat().st_size for name in _in(output)}
    return Bundle(path=output, model=found.path.name, shards=len(models), files=sizes)


def _golden(path: Path) -> bytes:
    """The golden prompts, when each line is one."""
    content = path.read_bytes()
    for number, line in enumerate(content.splitlines(), 1):
        try:
            record = json.loads(line)
            texts = [record["answer"], *(turn[key] for turn in record["messages"] for key in ("role", "content"))]
            good = len(texts) > 1 and all(isinstance(text, str) for text in texts)
        except (ValueError, KeyError, TypeError):
            good = False
        if not good:
            raise DataError(f"{path}:{number}: no golden prompt", hint='each line is {"messages": […], "answer": "…"}')
    return content


@contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """A new folder that takes the place of `output` when the block ends without an error."""
    if output.exists() and not (output / MANIFEST).is_file() and (not output.is_dir() or any(output.iterdir())):
        raise ArtefactError(f"{output} is there and is no bundle", hint="name a new folder, or delete it")
    partial, old = (output.with_name(f"{output.name}.{ending}") for ending in ("partial", "replaced"))
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    if output.exists():
        output.rename(old)
    partial.rename(output)
    shutil.rmtree(old, ignore_errors=True)


def _model_files(model: Path, folder: Path, whole: int, shard: int, progress: Progress) -> list[Path]:
    folder.mkdir()
    if model.stat().st_size > whole:
        return write_shards(model, folder, model.stem, shard, progress)
    target = folder / model.name
    with model.open("rb") as source, target.open("wb") as file, progress.track(model.name, model.stat().st_size) as bar:
        while piece := source.read(_CHUNK):
            file.write(piece)
            bar.advance(len(piece))
    return [target]


def _about(found: Found, built: Artefact, settings: AskSettings, models: list[Path], folder: Path) -> dict[str, Any]:
    """What the page must know of the expert."""
    sampling = found.sampling
    files = [{"name": path.relative_to(folder).as_posix()} | _sum(path) for path in models]
    return {
        "format": FORMAT,
        "engine": "browser",
        "name": found.name,
        "identity": found.identity,
        "system": found.system,
        "context_length": settings.context_length or min(built.facts["context_length"], USUAL_CONTEXT),
        "sampling": {
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
            "stop": list(sampling.stop),
            "schema": sampling.schema,
        },
        "model": {"name": found.path.name, "bytes": sum(file["bytes"] for file in files), "files": files},
        "expected": None,
        "library": None,
    }


def _write_page(folder: Path, found: Found, built: Artefact) -> None:
    for name in page_names():
        if name != "sw.js":
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(page_content(name))
    (folder / "index.html").write_bytes(index_page(found.name, manifest=_APP))
    write_json(folder / _APP, _app(found.name))
    (folder / _LICENCES).write_text(_licences(found, built), encoding="utf-8", newline="\n")


def _app(name: str) -> dict[str, Any]:
    """The manifest that makes the page installable."""
    icons = [
        {"src": f"icons/icon-{size}.png", "sizes": f"{size}x{size}", "type": "image/png", "purpose": purpose}
        for size in (192, 512)
        for purpose in ("any", "maskable")
    ]
    return {
        "id": ".",
        "name": name,
        "short_name": name[:12],
        "start_url": ".",
        "scope": ".",
        "display": "standalone",
        "background_color": "#f6f4ef",
        "theme_color": "#1f5f8b",
        "icons": icons,
    }


def _licences(found: Found, built: Artefact) -> str:
    engine = json.loads(page_content("vendor/wllama.json"))
    base = built.facts["base"]["name"]
    given = PACKAGED[base].licence if base in PACKAGED else read_gguf_header(found.path).metadata.get("general.license")
    whose = f"It was made from {base}"
    told = f"{whose}, whose licence holds for it: {given}" if given else f"{whose}; see there for the licence"
    text = (resources.files("werkmeister.delivery") / "browser_licences.txt").read_text(encoding="utf-8")
    return text.format(
        engine=engine["name"],
        engine_version=engine["version"],
        engine_licence=page_content("vendor/wllama-licence.txt").decode("utf-8"),
        llama_cpp=engine["llama_cpp"],
        model=found.path.name,
        base_licence=told,
    )


def _write_worker(folder: Path, sums: Mapping[str, Mapping[str, Any]]) -> None:
    """The service worker, with the list of what it keeps: a changed file is a new version, and only then."""
    kept = [name for name in sums if not name.startswith(_NOT_KEPT)]
    version = hashlib.sha256("".join(f"{name} {sums[name]['sha256']}\n" for name in kept).encode()).hexdigest()[:16]
    shell = json.dumps({"version": version, "files": kept, "policy": f"{POLICY}; frame-ancestors 'none'"}, indent=1)
    (folder / "sw.js").write_bytes(f"const SHELL = {shell};\n".encode() + page_content("sw.js"))


def _sum(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": sha256_of(file)}


def _in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
