"""The browser target: an expert as a static folder that is an installable web app and works without a network.

The folder holds the chat page, the model file, and llama.cpp as WebAssembly (`@wllama/wllama`, pinned in `web/`). Any
static web server can serve it: a service worker keeps the page, sends the headers that allow threads, and answers
without a network; the model lies in the browser's private file system.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from werkmeister.artefact import write_json
from werkmeister.bases.gguf_shards import LARGEST
from werkmeister.consulting.expert import AskSettings
from werkmeister.delivery.browser_library import LIBRARY, library_content
from werkmeister.delivery.browser_page import POLICY, index_page, page_content, page_names
from werkmeister.delivery.bundle import (
    FORMAT,
    LICENCES,
    Bundle,
    Order,
    add_golden,
    base_licence,
    check_golden,
    made,
    making_bundle,
    model_files,
    names_in,
    place_order,
    serving,
    sum_of,
    write_text,
)
from werkmeister.engines.golden import EXPECTED
from werkmeister.progress import Progress

USUAL_CONTEXT = 4096
"""The longest context (tokens) that is set up without being asked for: a tab has less memory than a program."""
SHARD = 512 << 20
"""Bytes of a shard: small enough to be fetched again after a broken download, large enough to be few."""
_APP = "manifest.webmanifest"
_NOT_KEPT = ("model/",)


def browser_bundle(
    expert: Path,
    output: Path,
    *,
    settings: AskSettings | None = None,
    file: str = "",
    expected: Path | None = None,
    whole: int = LARGEST,
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
    order = place_order(expert, settings=settings, file=file, progress=progress)
    found, settings = order.found, order.settings
    golden = check_golden(expected) if expected is not None else b""
    with making_bundle(output, "browser", order) as draft:
        folder = draft.folder
        (folder / "model").mkdir()
        models = model_files(found.path, folder / "model", whole, shard, order.progress)
        about = _about(order, models, folder)
        if golden:
            (folder / EXPECTED).write_bytes(golden)
        else:
            add_golden(draft, order)
        about["expected"] = EXPECTED if (folder / EXPECTED).exists() else None
        documents = library_content(expert, settings, order.progress)
        if documents:
            (folder / LIBRARY).write_bytes(documents)
            about["library"] = LIBRARY
        write_json(folder / "expert.json", about)
        _write_page(folder, order)
        # A model of gigabytes is read once.
        draft.known |= {
            part["name"]: {key: part[key] for key in ("bytes", "sha256")} for part in about["model"]["files"]
        }
        draft.known |= {name: sum_of(folder / name) for name in names_in(folder) if name not in draft.known}
        _write_worker(folder, dict(sorted(draft.known.items())))
        first = about["model"]["files"][0]["name"]
        draft.facts["serving"] = serving(order, first, context=about["context_length"])
    return made(output, "browser", found.path.name, *_usage(output), shards=len(models))


def _usage(output: Path) -> tuple[str, ...]:
    return (
        f"Try it:   python -m http.server --bind 127.0.0.1 --directory {output} 8080",
        "          and open http://127.0.0.1:8080",
        "Offer it: copy the folder to any static web server with https",
    )


def _about(order: Order, models: list[Path], folder: Path) -> dict[str, Any]:
    """What the page must know of the expert."""
    found, sampling = order.found, order.found.sampling
    files = [{"name": path.relative_to(folder).as_posix()} | sum_of(path) for path in models]
    return {
        "format": FORMAT,
        "engine": "browser",
        "name": found.name,
        "identity": found.identity,
        "system": found.system,
        "context_length": order.settings.context_length or min(order.context_length, USUAL_CONTEXT),
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


def _write_page(folder: Path, order: Order) -> None:
    title = order.found.name
    for name in page_names():
        if name != "sw.js":
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(page_content(name))
    (folder / "index.html").write_bytes(index_page(title, manifest=_APP))
    write_json(folder / _APP, _app(title))
    write_text(folder / LICENCES, _licences(order))


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


def _licences(order: Order) -> str:
    engine = json.loads(page_content("vendor/wllama.json"))
    text = (resources.files("werkmeister.delivery") / "browser_licences.txt").read_text(encoding="utf-8")
    return text.format(
        engine=engine["name"],
        engine_version=engine["version"],
        engine_licence=page_content("vendor/wllama-licence.txt").decode("utf-8"),
        llama_cpp=engine["llama_cpp"],
        model=order.found.path.name,
        base_licence=base_licence(order),
    )


def _write_worker(folder: Path, sums: Mapping[str, Mapping[str, Any]]) -> None:
    """The service worker, with the list of what it keeps: a changed file is a new version, and only then."""
    kept = [name for name in sums if not name.startswith(_NOT_KEPT)]
    version = hashlib.sha256("".join(f"{name} {sums[name]['sha256']}\n" for name in kept).encode()).hexdigest()[:16]
    shell = json.dumps({"version": version, "files": kept, "policy": f"{POLICY}; frame-ancestors 'none'"}, indent=1)
    (folder / "sw.js").write_bytes(f"const SHELL = {shell};\n".encode() + page_content("sw.js"))
