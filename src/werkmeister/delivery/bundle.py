"""What the export targets have in common: a folder that appears whole, with licences, golden prompts and a manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from werkmeister import __version__
from werkmeister.artefact import Artefact, exists, open_artefact, sha256_of, write_json
from werkmeister.bases.gguf_header import read_gguf_header
from werkmeister.bases.gguf_shards import write_shards
from werkmeister.bases.packaged import PACKAGED
from werkmeister.consulting.expert import AskSettings, Found, find_expert
from werkmeister.engines.golden import EXPECTED, golden_name, read_golden
from werkmeister.errors import ArtefactError, DataError
from werkmeister.machine import in_words, need_disk
from werkmeister.progress import Progress, Silent

FORMAT = 1
MANIFEST = "bundle.json"
LICENCES = "LICENSES.txt"
TEMPLATE = "chat_template.jinja"
README = "README.md"
_CHUNK = 4 << 20
_ROOM = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What was written: `files` maps each path below `path` to its size in bytes; `shards` counts the model's files;
    `usage` are lines that tell a person how to use it."""

    path: Path
    target: str
    model: str
    shards: int = 1
    files: Mapping[str, int]
    usage: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())

    def words(self) -> str:
        """What a person should know of it."""
        parts = f" in {self.shards} files" if self.shards > 1 else ""
        return "\n".join((f"{self.path}: {in_words(self.size)}, {self.model}{parts}", *self.usage))

    def record(self) -> dict[str, Any]:
        """The bundle as a JSON object."""
        kept = {"path": str(self.path), "files": dict(self.files), "usage": list(self.usage), "bytes": self.size}
        return asdict(self) | kept


@dataclass(frozen=True, kw_only=True)
class Order:
    """A built expert that is to be shipped: `found` is the model file that was chosen and how it answers, `file` what
    the person asked for ("" for the export's choice)."""

    expert: Path
    file: str
    found: Found
    built: Artefact
    settings: AskSettings
    progress: Progress

    @property
    def context_length(self) -> int:
        """The longest conversation (tokens): what the person set, else what the export found."""
        return self.settings.context_length or int(self.built.facts["context_length"])

    @property
    def template(self) -> str:
        """The chat template in the model file."""
        return str(read_gguf_header(self.found.path).metadata.get("tokenizer.chat_template", ""))


@dataclass
class Draft:
    """A bundle in the making: write files below `folder`. `facts` go into its manifest; `known` are hashes of files
    that need not be read again."""

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    known: dict[str, Mapping[str, Any]] = field(default_factory=dict)


def place_order(
    expert: Path, *, settings: AskSettings | None = None, file: str = "", progress: Progress | None = None
) -> Order:
    """Open what is shipped of the expert in the folder `expert`; `file` is a quantisation, "" the export's choice.

    Raises ArtefactError when nothing was built, or a file is missing or changed.
    """
    settings = settings or AskSettings()
    found = find_expert(expert, settings=replace(settings, library=False), file=file)
    built = open_artefact(expert / "artefacts" / "export", "export")
    return Order(expert=expert, file=file, found=found, built=built, settings=settings, progress=progress or Silent())


def trained_for(order: Order) -> Artefact:
    """The training that the export was made from. Raises ArtefactError when it is gone, or another one has come."""
    trained = open_artefact(order.expert / "artefacts" / "train", "train", make_with="werkmeister train")
    if trained.identity != order.built.inputs["train"]:
        raise ArtefactError(
            f"{trained.path} is not the training that {order.built.path} was exported from",
            hint=f"bring the export up to date first: werkmeister export {order.expert}",
        )
    return trained


@contextmanager
def making_bundle(output: Path, target: str, order: Order) -> Iterator[Draft]:
    """Make one bundle: it takes the place of `output` when the block ends without an error, its manifest written last.

    Raises ArtefactError when `output` holds something else than a bundle.
    """
    with replacing(output) as folder:
        draft = Draft(folder)
        yield draft
        sums = {name: draft.known.get(name) or sum_of(folder / name) for name in names_in(folder)}
        head = {"kind": target, "format": FORMAT, "expert": order.found.name, "export": order.built.identity}
        write_json(
            folder / MANIFEST, head | draft.facts | {"code": {"werkmeister": __version__}, "outputs": dict(sums)}
        )


def made(output: Path, target: str, model: str, *usage: str, shards: int = 1) -> Bundle:
    """What stands in `output` now."""
    sizes = {name: (output / name).stat().st_size for name in names_in(output)}
    return Bundle(path=output, target=target, model=model, shards=shards, files=sizes, usage=usage)


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
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


def add_model(draft: Draft, order: Order, largest: int | None = None) -> list[str]:
    """Copy the model file and its golden prompts into the bundle; returns the model's files there, the first of which
    is opened.

    A model of more than `largest` bytes is split into shards of as many; None keeps it whole. The manifest then says
    what `werkmeister verify` needs to load it as it is loaded here.
    """
    model = order.found.path
    whole = model.stat().st_size if largest is None else largest
    names = [path.name for path in model_files(model, draft.folder, whole, whole, order.progress)]
    if names == [model.name]:
        draft.known[model.name] = {key: order.built.outputs[model.name][key] for key in ("bytes", "sha256")}
    draft.facts["serving"] = serving(order, names[0])
    add_golden(draft, order)
    return names


def model_files(model: Path, folder: Path, whole: int, shard: int, progress: Progress) -> list[Path]:
    """Put a model file into a folder: as it is, or in shards of `shard` bytes where it has more than `whole`.

    Raises MachineError when the disk is too small for it.
    """
    need_disk(folder, model.stat().st_size + _ROOM, "the bundle")
    if model.stat().st_size > whole:
        return write_shards(model, folder, model.stem, shard, progress)
    copy_file(model, folder / model.name, progress)
    return [folder / model.name]


def serving(order: Order, name: str, *, engine: str = "llama.cpp", context: int = 0) -> dict[str, Any]:
    """How a bundle's model is loaded and asked; `name` is its path in the bundle, `context` 0 the order's own."""
    return {
        "engine": engine,
        "file": name,
        "context_length": context or order.context_length,
        "template": digest(order.template),
        "stop": list(order.found.sampling.stop),
    }


def add_golden(draft: Draft, order: Order, model: str = "") -> None:
    """Put the golden prompts that the export recorded for a file of its, "" the model file, into the bundle."""
    name = golden_name(model or order.found.path.name)
    if name in order.built.outputs:
        shutil.copyfile(order.built.file(name), draft.folder / EXPECTED)
    else:
        order.progress.say("the export has no golden prompts: werkmeister verify will check files and template alone")


def check_golden(path: Path) -> bytes:
    """A person's own file of golden prompts, when each line is one. Raises DataError with the line."""
    if not read_golden(path):
        raise DataError(f"{path} holds no golden prompt", hint='each line is {"messages": […], "answer": "…"}')
    return path.read_bytes()


def copy_file(source: Path, target: Path, progress: Progress) -> None:
    """Copy a file of gigabytes, showing how far it is."""
    size = source.stat().st_size
    with source.open("rb") as read, target.open("wb") as written, progress.track(source.name, size) as bar:
        while piece := read.read(_CHUNK):
            bar.advance(written.write(piece))


def sum_of(file: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as manifests hold them."""
    return {"bytes": file.stat().st_size, "sha256": sha256_of(file)}


def names_in(folder: Path) -> list[str]:
    """Every file below a folder by its path there, in order."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def digest(text: str) -> str:
    """SHA-256 of a text."""
    return sha256(text.encode("utf-8")).hexdigest()


def base_licence(order: Order) -> str:
    """A sentence on whose licence holds for the model."""
    base = order.built.facts["base"]["name"]
    header = read_gguf_header(order.found.path)
    given = PACKAGED[base].licence if base in PACKAGED else header.metadata.get("general.license")
    whose = f"It was made from {base_name(order)}"
    return f"{whose}, whose licence holds for it: {given}" if given else f"{whose}; see there for the licence"


def base_name(order: Order) -> str:
    """The base by a name that means the same elsewhere: of a folder or file on this machine its last part."""
    name = str(order.built.facts["base"]["name"])
    local = any((place / name).exists() for place in (order.expert, Path.cwd()))
    return Path(name).name if local else name


def write_text(path: Path, text: str) -> None:
    """Write a text file as every system reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8", newline="\n")


def add_licences(draft: Draft, order: Order, *more: str) -> None:
    """Say whose work is carried."""
    lines = ("This bundle carries the work of others:", "", f"The model: {order.found.path.name}")
    write_text(draft.folder / LICENCES, "\n".join((*lines, f"    {base_licence(order)}", *more)))


def score_words(order: Order) -> str:
    """What the file scored in the exam of exactly this export, in one sentence; says so where it did not sit one."""
    folder = order.expert / "artefacts" / "exam"
    name = order.found.path.name
    kind = name.removeprefix("model-").removesuffix(".gguf")
    if exists(folder):
        sat = open_artefact(folder, "exam")
        if sat.inputs.get("export") == order.built.identity:
            exam = json.loads(sat.file("exam.json").read_text(encoding="utf-8"))
            rows = [row for row in exam["rows"] if row["answerer"] == kind and row["mark"] == exam["mark"]]
            # An exam of several parts has a row of all of them as well.
            for row in sorted(rows, key=lambda row: bool(row["part"] != "all"))[:1]:
                interval = f"{row['low']:.1%} to {row['high']:.1%}, 95 % interval"
                return f"Exam of `{name}`: {row['score']:.1%} right ({interval}, n = {row['n']}, mark {row['mark']})"
    return f"`{name}` did not sit the exam: werkmeister exam gives its score"
