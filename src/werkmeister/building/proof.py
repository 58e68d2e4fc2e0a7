"""The gate of the export stage: nothing leaves it that does not do what was trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkmeister.artefact import Draft
from werkmeister.bases.base import Base
from werkmeister.bases.gguf_header import decode
from werkmeister.building.adapter import Adapter, Delta
from werkmeister.building.applied import applied
from werkmeister.building.export import ADAPTER, model_file
from werkmeister.building.merge import Merged, Weights
from werkmeister.building.parity import LEAST_MOVED, bound_of, check
from werkmeister.building.quantise import FREE
from werkmeister.building.trained import Reference
from werkmeister.chat import Example
from werkmeister.engines.golden import record_file
from werkmeister.errors import ParityError
from werkmeister.progress import Progress

PROOF = "base-F16.gguf"
"""The exact base in the draft's scratch folder, on which the adapter alone is judged."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Work:
    """What an export is made of; `context_length` (tokens) is what it promises to who serves it."""

    base: Base
    adapter: Adapter
    weights: Weights
    deltas: Mapping[str, Delta]
    merged: Merged
    context_length: int

    @property
    def architecture(self) -> str:
        """GGUF's name for it."""
        return str(decode(self.weights.metadata["general.architecture"]))

    @property
    def blocks(self) -> int:
        """The number of layers."""
        return int(decode(self.weights.metadata[f"{self.architecture}.block_count"]))

    @property
    def rounded(self) -> bool:
        """Whether a weight that the adapter changes was rounded before."""
        return any(t.name in self.merged.touched and t.type not in FREE for t in self.weights.tensors)


def prove(
    draft: Draft,
    work: Work,
    reference: Reference,
    exam: Sequence[Example],
    kinds: Sequence[str],
    overlay: Mapping[str, str] | None,
    progress: Progress,
) -> dict[str, Any]:
    """Check every file of a draft and record its golden prompts; the figures by file type, "adapter" and the overlay.

    Three findings make the proof: the adapter on the exact base gives the trained model's logits; each merged file
    holds base + adapter within what its type explains; each file's own logits stay within the bound of its type.
    Raises ParityError; the refused file is deleted.
    """
    proof, laid_over = draft.scratch / PROOF, draft.path / ADAPTER
    asked: dict[str, Any] = {"context_length": work.base.context_length, "stop": work.base.stop}
    asked["template"] = work.base.template
    context = work.context_length
    found: dict[str, Any] = {}
    with _refused_files_go(*(draft.path / model_file(kind) for kind in kinds), proof, laid_over):
        figures = check(proof, "F16", reference, context=context, adapter=laid_over, progress=progress)
    found["adapter"] = figures.measures()
    if figures.moved < LEAST_MOVED and not work.adapter.is_zero:
        progress.say(f"the adapter hardly changes the answers (logprobs by {figures.moved:.1g}): was it trained?")
    record_file(work.base.gguf or proof, draft.path, exam, adapter=laid_over, **asked)
    for kind in kinds:
        path = draft.path / model_file(kind)
        with _refused_files_go(path):
            shares = applied(path, work.weights, work.deltas, progress)
            figures = check(path, kind, reference, context=context, progress=progress)
        record_file(path, draft.path, exam, **asked)
        found[kind] = figures.measures() | {"applied": {name: round(share.share, 4) for name, share in shares.items()}}
        most = bound_of(kind, reference.arithmetic).kl
        progress.say(f"{path.name} does what was trained: KL {figures.kl:.1g}, bound {most:.1g}")
    if overlay:
        written = [draft.path / overlay["file"]] if overlay["file"] else []
        on = written[0] if written else work.base.gguf
        assert on is not None
        with _refused_files_go(*written):
            figures = check(
                on,
                overlay["type"],
                reference,
                context=context,
                adapter=laid_over,
                template=work.base.template,
                progress=progress,
            )
        found[overlay["name"]] = figures.measures()
    return found


@contextmanager
def _refused_files_go(*paths: Path) -> Iterator[None]:
    """Delete files that the gate refuses, so that the next run does not take them for whole."""
    try:
        yield
    except ParityError:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
