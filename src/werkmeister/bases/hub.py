"""Models from the Hugging Face hub: only the files that training needs, and errors that say what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkmeister.bases.packaged import PACKAGED
from werkmeister.bases.shape import INDEX
from werkmeister.bases.vocabulary import TEMPLATE_FILES, TOKENIZER_FILES
from werkmeister.errors import BaseModelError
from werkmeister.machine import in_words, need_disk
from werkmeister.progress import Progress, Track

_SMALL_FILES = ("config.json", "generation_config.json", *TOKENIZER_FILES, *TEMPLATE_FILES, INDEX)
# Shards are named model-00001-of-00002.safetensors; a second copy of the weights often lies beside them
# (consolidated.safetensors, original/), and is not fetched.
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_TIMEOUT = 10.0


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A snapshot folder, the commit it holds, and the licence that its card names ("" where none)."""

    folder: Path
    revision: str
    licence: str


def fetch_from_hub(name: str, progress: Progress) -> Fetched:
    """Fetch config, tokenizer, template and safetensors of the hub model `name` into the hub's own cache.

    With HF_HUB_OFFLINE=1 nothing is asked over the network and only the cache is looked at; without a network the
    cache is tried too, and no request waits longer than ten seconds for an answer. Raises BaseModelError for a model
    that is gated, absent, without safetensors, or not to be reached.
    """
    try:
        import huggingface_hub as hub
        from huggingface_hub import constants
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError
    except ImportError as error:
        raise BaseModelError(
            f"fetching {name} needs the package huggingface_hub", hint="pip install 'werkmeister[build]'"
        ) from error
    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return _cached(hub, name, "HF_HUB_OFFLINE is set")
    try:
        info = hub.HfApi().model_info(name, files_metadata=True, timeout=_TIMEOUT)
        wanted = _wanted(name, info)
        folder = _download(hub, name, info, wanted, progress)
    except GatedRepoError as error:
        raise _gated(name, constants.ENDPOINT) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise _absent(name, constants.ENDPOINT) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise _gated(name, constants.ENDPOINT) from error
        return _cached(hub, name, f"the hub answered with error {status}")
    except _no_network() as error:
        return _cached(hub, name, f"the hub cannot be reached ({type(error).__name__})")
    card: Any = info.card_data or {}
    return Fetched(folder=folder, revision=str(info.sha), licence=str(card.get("license") or ""))


def _wanted(name: str, info: Any) -> dict[str, int]:
    """Files to fetch and their sizes in bytes."""
    files = {file.rfilename: int(file.size or 0) for file in info.siblings or []}
    weights = {file: size for file, size in files.items() if _WEIGHTS.fullmatch(file)}
    if INDEX in files:
        weights.pop("model.safetensors", None)
    if not weights or "config.json" not in files:
        gguf = [file for file in files if file.endswith(".gguf")]
        raise BaseModelError(
            f"{name} on the hub holds no model in the safetensors layout",
            hint=f"it holds GGUF files: download {gguf[0]} and set base to its path"
            if gguf
            else "choose a repository with config.json and model.safetensors",
        )
    return {file: files[file] for file in _SMALL_FILES if file in files} | weights


def _download(hub: Any, name: str, info: Any, wanted: dict[str, int], progress: Progress) -> Path:
    total = sum(wanted.values())
    have = {Path(file).name for file in _snapshot_files(hub, name, str(info.sha))}
    missing = sum(size for file, size in wanted.items() if file not in have)
    if missing:
        from huggingface_hub import constants

        need_disk(Path(constants.HF_HUB_CACHE), missing, f"fetching {name}")
        progress.say(f"fetching {name} from the hub: {in_words(missing)} of {in_words(total)}")
    with _bar(progress, name, missing) as bar:
        folder = hub.snapshot_download(
            name,
            revision=info.sha,
            allow_patterns=[re.sub(r"([\[\]*?])", r"[\1]", file) for file in wanted],
            etag_timeout=_TIMEOUT,
            max_workers=4,
            tqdm_class=bar,
        )
    # The commit is what was fetched; `main` is noted too, so that an offline run finds the snapshot by name.
    main = Path(folder).parents[1] / "refs" / "main"
    main.parent.mkdir(exist_ok=True)
    main.write_text(str(info.sha), encoding="utf-8")
    return Path(folder)


def _snapshot_files(hub: Any, name: str, revision: str) -> Iterator[Path]:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots" / revision
    return folder.glob("*")


def _cached(hub: Any, name: str, why: str) -> Fetched:
    from huggingface_hub.errors import LocalEntryNotFoundError

    patterns = [*_SMALL_FILES, "model.safetensors", "model-*.safetensors"]
    try:
        folder = Path(hub.snapshot_download(name, allow_patterns=patterns, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError) as error:
        raise BaseModelError(
            f"base model {name} is not in the cache of this machine, and {why}",
            hint=f"with a network, run: hf download {name}   (or set base to a packaged model: {', '.join(PACKAGED)})",
        ) from error
    return Fetched(folder=folder, revision=folder.name, licence="")


def _gated(name: str, endpoint: str) -> BaseModelError:
    page = f"{endpoint}/{name}"
    return BaseModelError(
        f"base model {name} is gated: its licence must be accepted first",
        hint=f"accept the licence on {page}, then run: hf auth login   (or set HF_TOKEN to a token of yours)",
    )


def _absent(name: str, endpoint: str) -> BaseModelError:
    import difflib

    near = difflib.get_close_matches(name.lower().rpartition("/")[2], PACKAGED, n=1, cutoff=0.4)
    return BaseModelError(
        f"there is no model {name} on the hub, or it is private"
        + (f"; did you mean the packaged model {near[0]!r}?" if near else ""),
        hint=f"look at {endpoint}/{name}; for a private model run: hf auth login. A base may also be a packaged model "
        f"({', '.join(PACKAGED)}), a folder, or a .gguf file",
    )


def _no_network() -> tuple[type[BaseException], ...]:
    # The hub's client raises its HTTP library's errors for a lost connection; that library changes between releases,
    # and HfHubHTTPError is derived from the root of its errors.
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    roots = [kind for kind in HfHubHTTPError.__mro__[1:] if kind.__name__ in ("HTTPError", "RequestException")]
    return (OfflineModeIsEnabled, ConnectionError, TimeoutError, *roots)


@contextmanager
def _bar(progress: Progress, name: str, total: int) -> Iterator[type[Any]]:
    """A class in the shape of tqdm, as the hub's client wants it, that moves one bar of ours."""
    from huggingface_hub.utils.tqdm import tqdm

    with progress.track(f"fetching {name}", float(total) or None) as track:
        yield _bar_class(tqdm, track)


def _bar_class(tqdm: type[Any], track: Track) -> type[Any]:
    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            # Two bars count bytes (sent and written); the written ones are shown.
            self.shown = options.get("unit") == "B" and "econstruct" in str(options.get("desc", ""))
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            if self.shown and n:
                track.advance(n)
            return None

    return Bar
