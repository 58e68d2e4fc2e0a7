"""Finds a base model by one name, whatever it comes from, and remembers what it found."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from werkmeister.artefact import exclusive, sha256_of, write_json
from werkmeister.bases import prepared
from werkmeister.bases.base import Base
from werkmeister.bases.gguf_header import GgufHeader, read_gguf_header
from werkmeister.bases.packaged import PACKAGED, packaged_file
from werkmeister.bases.shape import INDEX, is_multimodal, read_config, shape_of_folder, shape_of_gguf, weight_files
from werkmeister.bases.templates import template_in_force
from werkmeister.bases.vocabulary import TEMPLATE_FILES, TOKENIZER_FILES, read_vocabulary
from werkmeister.errors import BaseModelError, BusyError
from werkmeister.machine import explain_os_error
from werkmeister.progress import Progress, Silent

NOTE = "base.json"
# Rises when what the note says is found in another way.
_VERSION = 2
_DECIDING_FILES = ("config.json", "generation_config.json", INDEX, *TOKENIZER_FILES, *TEMPLATE_FILES)
_WAIT = 0.5
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")
_FORMS = (
    f"a packaged model ({', '.join(PACKAGED)}), a Hugging Face id (owner/model), a folder with config.json and "
    "safetensors, or a .gguf file"
)


def find_base(name: str, *, expert: Path | None = None, progress: Progress) -> Base:
    """The base model called `name`, fetched and prepared where that is still to be done.

    `name` is a packaged model, a Hugging Face id, a local folder, or a .gguf file; a relative path counts from the
    expert's folder first and from the working directory second, and a local path wins over a hub id of the same text.
    What was found is remembered in the cache (`WERKMEISTER_CACHE`, else ~/.cache/werkmeister) with size and time of
    every source file, so that the next call reads one small file, while a changed file is noticed. A hub model stays
    at the revision first fetched until its note in the cache is deleted.

    Raises BaseModelError when the base is absent, gated, incomplete, damaged or of an unusable kind.
    """
    name = name.strip()
    try:
        if name in PACKAGED:
            return _packaged(name, progress)
        local = _local(name, expert)
        if local is not None and local.is_file():
            return _gguf(name, local, models_folder() / "gguf" / _label(local), "", progress)
        if local is not None:
            return _folder(name, local, progress)
        if _is_hub_id(name):
            return _hub(name, progress)
    except OSError as error:
        raise (explain_os_error(error) or error) from error
    raise _unknown(name, expert)


def known_base(name: str, *, expert: Path | None = None) -> Base | None:
    """The base called `name` when nothing has to be fetched or prepared for it, None otherwise.

    Raises BaseModelError as `find_base` does for a name that can mean nothing and for a damaged local folder.
    """
    name = name.strip()
    local = None if name in PACKAGED else _local(name, expert)
    if local is not None and local.is_dir():
        return find_base(name, expert=expert, progress=Silent())
    if local is not None:
        return _remembered(name, models_folder() / "gguf" / _label(local))
    if name not in PACKAGED and not _is_hub_id(name):
        raise _unknown(name, expert)
    return _remembered(name, models_folder() / (name if name in PACKAGED else _hub_folder(name)))


def find_same_base(said: Mapping[str, Any], *, expert: Path | None = None, progress: Progress) -> Base:
    """The base that an artefact's facts name, when it is still the one of then.

    `said` holds `name` and `identity`. Raises BaseModelError when the name now means another model.
    """
    base = find_base(said["name"], expert=expert, progress=progress)
    if base.identity != said["identity"]:
        raise BaseModelError(
            f"the base {said['name']} has changed: its identity is {base.identity[:12]}…, and the dataset was made "
            f"for {said['identity'][:12]}…",
            hint="bring the old files back, or build the expert again from the dataset on",
        )
    return base


def models_folder() -> Path:
    """The folder of the cache in which models and notes about them lie."""
    given = os.environ.get("WERKMEISTER_CACHE")
    return (Path(given) if given else Path.home() / ".cache" / "werkmeister") / "models"


def _packaged(name: str, progress: Progress) -> Base:
    home = models_folder() / name
    known = _remembered(name, home)
    if known:
        return known
    with _alone(home, progress):
        file = packaged_file(name, home, progress)
    return _gguf(name, file, home, PACKAGED[name].licence, progress, content=PACKAGED[name].sha256)


def _gguf(name: str, file: Path, home: Path, licence: str, progress: Progress, *, content: str = "") -> Base:
    known = _remembered(name, home)
    if known:
        return known
    header = _whole_model(file)
    folder = home / "prepared"
    with _alone(home, progress):
        known = _remembered(name, home)
        if known:
            return known
        prepared.prepare(header, folder, progress)
        return _describe(
            name,
            home,
            progress,
            source="packaged" if name in PACKAGED else "gguf",
            folder=folder,
            gguf=file,
            licence=licence or str(header.metadata.get("general.license", "")),
            watched=[file],
            content=lambda: f"{content or sha256_of(file)} prepared {prepared.VERSION}",
        )


def _whole_model(file: Path) -> GgufHeader:
    header = read_gguf_header(file)
    kind = header.metadata.get("general.type", "model")
    if kind != "model":
        raise BaseModelError(
            f"{file} holds no model, but of the kind {kind!r}", hint="name the GGUF of the base itself"
        )
    if header.metadata.get("split.count", 1) > 1:
        raise BaseModelError(
            f"{file} is one of {header.metadata['split.count']} pieces of a model",
            hint="join them with llama.cpp: llama-gguf-split --merge FIRST_PIECE JOINED.gguf",
        )
    shape_of_gguf(header)
    return header


@contextmanager
def _alone(home: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock of a model's folder in the cache; waits while another process fetches or prepares the model."""
    with ExitStack() as held:
        waited = False
        while True:
            try:
                held.enter_context(exclusive(home))
                break
            except BusyError:
                if not waited:
                    progress.say(f"waiting for another process that is at work in {home}")
                waited = True
                time.sleep(_WAIT)
        yield


def _folder(name: str, folder: Path, progress: Progress) -> Base:
    home = models_folder() / "local" / _label(folder)
    known = _remembered(name, home)
    if known:
        return known
    watched = _model_files(folder)
    return _describe(
        name,
        home,
        progress,
        source="folder",
        folder=folder,
        gguf=None,
        licence="",
        watched=watched,
        content=lambda: _content(watched, progress),
    )


def _hub(name: str, progress: Progress) -> Base:
    home = models_folder() / _hub_folder(name)
    known = _remembered(name, home)
    if known:
        return known
    from werkmeister.bases.hub import fetch_from_hub

    fetched = fetch_from_hub(name, progress)
    watched = _model_files(fetched.folder)
    # The revision names the content, so gigabytes need not be read to know it.
    listed = ",".join(f"{file.name}:{file.stat().st_size}" for file in watched)
    return _describe(
        name,
        home,
        progress,
        source="hub",
        folder=fetched.folder,
        gguf=None,
        licence=fetched.licence,
        watched=watched,
        content=lambda: f"{name}@{fetched.revision} {listed}",
    )


def _describe(
    name: str, home: Path, progress: Progress, *, watched: list[Path], content: Callable[[], str], **known: Any
) -> Base:
    """Read the model's files, settle its template, and leave the note that makes the next call fast."""
    folder: Path = known["folder"]
    config = read_config(folder)
    shape = shape_of_folder(folder)
    vocabulary = read_vocabulary(folder)
    template = template_in_force(vocabulary.template, vocabulary.special, vocabulary.tokens)
    if template.source != "base":
        progress.say(f"{name}: chat template: {template.source}")
    digest = hashlib.sha256(f"{content()}\n{template.text}".encode()).hexdigest()
    base = Base(
        name=name,
        architecture=shape.architecture,
        context_length=shape.context_length,
        parameters=shape.parameters,
        template=template.text,
        template_source=template.source,
        stop=template.stop,
        identity=digest,
        multimodal=is_multimodal(config),
        **known,
    )
    fields = {key: str(value) if isinstance(value, Path) else value for key, value in dataclasses.asdict(base).items()}
    # Files that are absent count too: a chat_template.jinja that appears changes the base.
    places = [*watched, *_model_files(folder), *(folder / file for file in _DECIDING_FILES)]
    stamps = {str(file): _stamp(file) for file in places}
    note = {"version": [_VERSION, prepared.VERSION], "stamps": stamps, "base": fields}
    home.mkdir(parents=True, exist_ok=True)
    fresh = home / f"{NOTE}.{os.getpid()}"
    write_json(fresh, note)
    fresh.replace(home / NOTE)
    return base


def _remembered(name: str, home: Path) -> Base | None:
    """The base of the note in `home`, when every file it rests on is as it was."""
    try:
        note = json.loads((home / NOTE).read_text(encoding="utf-8"))
        if note["version"] != [_VERSION, prepared.VERSION] or not note["stamps"]:
            return None
        if any(_stamp(Path(file)) != stamp for file, stamp in note["stamps"].items()):
            return None
        fields: dict[str, Any] = note["base"]
        fields |= {"name": name, "folder": Path(fields["folder"]), "stop": tuple(fields["stop"])}
        fields["gguf"] = Path(fields["gguf"]) if fields["gguf"] else None
        return Base(**fields)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _stamp(file: Path) -> list[int]:
    """Size and time of a file; nothing for one that is absent."""
    try:
        stat = file.stat()
    except FileNotFoundError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def _model_files(folder: Path) -> list[Path]:
    """The files of a model folder that decide what it computes and how text becomes tokens."""
    read_config(folder)
    return [*(folder / name for name in _DECIDING_FILES if (folder / name).is_file()), *weight_files(folder)]


def _content(files: Iterable[Path], progress: Progress) -> str:
    hashes = []
    with progress.track("hashing the base's files", float(sum(file.stat().st_size for file in files))) as track:
        for file in files:
            hashes.append(f"{file.name}:{sha256_of(file)}")
            track.advance(file.stat().st_size)
    return "\n".join(hashes)


def _is_hub_id(name: str) -> bool:
    return bool(_HUB_ID.fullmatch(name)) and not name.lower().endswith(".gguf")


def _hub_folder(name: str) -> Path:
    return Path("hub") / name.replace("/", "--")


def _label(path: Path) -> str:
    """A folder name for a path: readable, and different for different paths."""
    return f"{path.stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"


def _local(name: str, expert: Path | None) -> Path | None:
    """The local folder or .gguf file that `name` names, or None."""
    if not name:
        return None
    given = Path(name).expanduser()
    for place in [expert, Path.cwd()] if expert else [Path.cwd()]:
        path = (place / given).resolve()
        if path.is_file() and path.suffix.lower() != ".gguf":
            raise BaseModelError(f"{path} is a file, but no .gguf", hint=f"set [expert] base to {_FORMS}")
        if path.exists():
            return path
    return None


def _unknown(name: str, expert: Path | None) -> BaseModelError:
    near = difflib.get_close_matches(name.lower().rpartition("/")[2], PACKAGED, n=1, cutoff=0.4)
    looked = " and ".join(str(place) for place in (expert, Path.cwd()) if place)
    path_like = name.endswith(".gguf") or name.startswith((".", "/", "~")) or "\\" in name
    message = f"there is no file or folder {name} (looked from {looked})" if path_like else f"no base model {name!r}"
    if not path_like and near:
        message += f"; did you mean {near[0]!r}?"
    return BaseModelError(message, hint=f"set [expert] base to {_FORMS}")
