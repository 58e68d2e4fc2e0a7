"""Approximate nearest neighbours (usearch, HNSW): candidates of a library that is too large to compare every vector.

The index is a file beside the library's, made with it. It only names candidates: `vectors` scores them exactly.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEIGHBOURS = "neighbours.usearch"
FROM = 250_000
"""Vectors above which the approximate index is made. The scan of all grows with their number: of the 50 ms a search
may take, it took 24 at 260,000 passages with a vector each, and with the approximate index 13 (EXPERIMENTS.md)."""

_BLOCK = 4096
_log = logging.getLogger(__name__)


def wanted(vectors: int) -> bool:
    """Whether a library of so many vectors is to have an approximate index."""
    return vectors > FROM


def write_neighbours(library: Path, vectors: Sequence[NDArray[Any]], progress: Progress) -> bool:
    """Make the approximate index of some vectors of length 1 beside a library file, where there are many.

    Whether it was made: it is not, and a hint is told, where usearch is not installed. One thread, so that the same
    vectors give the same file.
    """
    path = library.with_name(NEIGHBOURS)
    path.unlink(missing_ok=True)
    if not wanted(len(vectors)):
        return False
    if find_spec("usearch") is None:
        progress.say(
            f"each question is compared with all {len(vectors):,} vectors: usearch, which is not installed, finds the "
            "nearest sooner (pip install 'werkmeister[retrieve]', then werkmeister index EXPERT --again)"
        )
        return False
    import numpy as np
    from usearch.index import Index

    index = Index(ndim=len(vectors[0]), metric="ip", dtype="f16")
    with progress.track("index vectors", len(vectors)) as track:
        for first in range(0, len(vectors), _BLOCK):
            block = np.asarray(vectors[first : first + _BLOCK], dtype=np.float16)
            index.add(np.arange(first, first + len(block), dtype=np.uint64), block, threads=1)
            track.advance(len(block))
    index.save(path)
    return True


class Neighbours:
    """An approximate index, read from its file as it is needed. Any number of threads may ask."""

    def __init__(self, path: Path) -> None:
        from usearch.index import Index

        self._index: Any = Index.restore(path, view=True)
        self._lock = threading.Lock()  # the package's searches share one place to work in
        self.count = len(self._index)

    def near(self, question: NDArray[Any], limit: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """The numbers of about the `limit` nearest vectors, and about their dot products, best first."""
        import numpy as np

        with self._lock:
            found = self._index.search(question, limit, threads=1)
        return np.asarray(found.keys, dtype=np.int64), 1 - np.asarray(found.distances, dtype=np.float32)


def open_neighbours(library: Path) -> Neighbours | None:
    """The approximate index beside a library file; None, and all vectors are compared, where there is none or usearch
    is not installed (which is logged)."""
    path = library.with_name(NEIGHBOURS)
    if not path.exists():
        return None
    if find_spec("usearch") is None:
        _log.warning(
            "%s is not used: usearch is not installed, all vectors are compared (pip install 'werkmeister[retrieve]')",
            path,
        )
        return None
    return Neighbours(path)
