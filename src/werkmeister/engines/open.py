"""Opens an engine by one name: a base model, a .gguf file, or the URL of an OpenAI-compatible endpoint."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from werkmeister.engines.engine import Engine
from werkmeister.errors import BaseModelError, SettingsError
from werkmeister.governing.policy import PolicySettings, is_loopback, require_allowed
from werkmeister.progress import Progress

_AT_A_URL = 4
_ABSENT = "not on this machine"


@dataclass(frozen=True, kw_only=True)
class FoundEngine:
    """An engine that is known and not yet opened.

    `identity` changes when the model does: the hash of its file, or URL and model name, since more is not known of a
    model behind a URL. `remote` says that texts leave this machine. `concurrency` is how many conversations at a time
    it is opened for. `facts` tell a person what it is (JSON values, no key).
    """

    name: str
    identity: str
    remote: bool
    concurrency: int
    facts: Mapping[str, Any]
    open: Callable[[], Engine] = field(repr=False)


def is_url(name: str) -> bool:
    """Whether the name of an engine is that of an endpoint."""
    return name.strip().lower().startswith(("http://", "https://"))


def find_engine(
    name: str,
    *,
    progress: Progress,
    model: str = "",
    key_env: str = "",
    policy: PolicySettings | None = None,
    expert: Path | None = None,
    concurrency: int = 0,
    context_length: int = 0,
) -> FoundEngine:
    """The engine called `name`; it is opened, and a remote one reached, only by `FoundEngine.open`.

    `name` is a URL of an OpenAI-compatible endpoint (most end in /v1), a .gguf file (a relative path counts from the
    expert's folder first, the working directory second), or a base model that has a GGUF, which is fetched where it is
    not on this machine. `model` and `key_env` (the environment variable that holds the key) are for a URL alone; an
    empty `model` is asked of the server, which is reached for it at once. `concurrency` 0 is 4 at a URL and 1 on this
    machine; `context_length` 0 is the model's own.

    Raises SettingsError when the policy forbids the host, or a setting does not go with the name; BaseModelError
    when there is no such model, or none that llama.cpp can run.
    """
    name = name.strip()
    policy = policy or PolicySettings()
    if is_url(name):
        return _remote(name, model, key_env, policy, concurrency or _AT_A_URL, context_length)
    if model or key_env:
        given = "teacher_model" if model else "key_env"
        raise SettingsError(
            f"write.{given} is for an endpoint, and the teacher {name!r} is no URL", hint=f"take write.{given} out"
        )
    file, identity, licence = _local(name, expert, progress)
    slots = concurrency or 1

    def opened() -> Engine:
        from werkmeister.engines.llama import LlamaEngine

        return LlamaEngine(file, context_length=context_length, slots=slots)

    facts = {"name": name, "model": file.name, "licence": licence, "where": "this machine"}
    return FoundEngine(name=name, identity=identity, remote=False, concurrency=slots, facts=facts, open=opened)


def engine_inputs(name: str, *, model: str = "", expert: Path | None = None) -> dict[str, str]:
    """What a stage that asks an engine depends on: {"engine NAME": identity}. Never fails, fetches or asks anything."""
    name = name.strip()
    if not name:
        return {}
    if is_url(name):
        return {f"engine {name}": f"{name.rstrip('/')} {model}".strip()}
    from werkmeister.bases.find import known_base

    file = model_file(name, expert)
    if file is not None:
        return {f"engine {name}": _file_identity(file)}
    try:
        base = known_base(name, expert=expert)
    except BaseModelError:
        base = None
    return {f"engine {name}": base.identity if base else _ABSENT}


def _remote(
    url: str, model: str, key_env: str, policy: PolicySettings, concurrency: int, context_length: int
) -> FoundEngine:
    host = require_allowed(url, policy)

    def opened(chosen: str = model) -> Any:
        from werkmeister.engines.remote import RemoteEngine

        return RemoteEngine(
            url, chosen, policy=policy, key_env=key_env, context_length=context_length, concurrency=concurrency
        )

    if not model:
        with opened() as engine:
            model = engine.model
    return FoundEngine(
        name=url,
        identity=f"{url.rstrip('/')} {model}",
        remote=not is_loopback(host),
        concurrency=concurrency,
        facts={"name": url, "model": model, "licence": "not known", "where": host},
        open=lambda: opened(model),
    )


def _local(name: str, expert: Path | None, progress: Progress) -> tuple[Path, str, str]:
    """The model's GGUF file, its identity and licence."""
    from werkmeister.bases.find import find_base

    file = model_file(name, expert)
    if file is not None:
        return file, _file_identity(file), "not known"
    wanted = "set write.teacher to a base model, a .gguf file, or the URL of an endpoint, which ends in /v1"
    if name.lower().endswith(".gguf"):
        looked = " and ".join(str(place) for place in _places(expert))
        raise BaseModelError(f"there is no teacher {name} (looked from {looked})", hint=wanted)
    try:
        base = find_base(name, expert=expert, progress=progress)
    except BaseModelError as error:
        hint = wanted if "[expert] base" in error.hint else error.hint
        raise BaseModelError(f"the teacher: {error.message}", problems=error.problems, hint=hint) from error
    if base.gguf is None:
        raise BaseModelError(
            f"{name} has no GGUF file, and a teacher on this machine runs under llama.cpp",
            hint="name a .gguf file of it, or serve it (vLLM, llama.cpp, Ollama) and name the URL, which ends in /v1",
        )
    return base.gguf, base.identity, base.licence


def model_file(name: str, expert: Path | None) -> Path | None:
    """The .gguf file that a name of an engine names; None when there is none, or the name is none of a file."""
    if not name.lower().endswith(".gguf"):
        return None
    given = Path(name).expanduser()
    return next((path for place in _places(expert) if (path := (place / given).resolve()).is_file()), None)


def _places(expert: Path | None) -> list[Path]:
    return [expert, Path.cwd()] if expert else [Path.cwd()]


def _file_identity(file: Path) -> str:
    """The SHA-256 of a file, remembered in the cache with its size and time: to read gigabytes takes seconds."""
    from werkmeister.artefact import sha256_of, write_json
    from werkmeister.bases.find import models_folder

    stat = file.stat()
    stamp = [str(file), stat.st_size, stat.st_mtime_ns]
    note = models_folder() / "hashes" / f"{hashlib.sha256(str(file).encode()).hexdigest()[:16]}.json"
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["file"] == stamp:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    digest = sha256_of(file)
    # Without a cache that can be written, the file is read again next time.
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        fresh = note.with_name(f"{note.name}.{os.getpid()}")
        write_json(fresh, {"file": stamp, "sha256": digest})
        fresh.replace(note)
    return digest
