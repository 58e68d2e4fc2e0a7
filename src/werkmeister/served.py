"""Which of an export's model files is the one that answers: what the person set, else what the exam decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from werkmeister.artefact import Artefact, exists, read_manifest
from werkmeister.errors import ArtefactError


@dataclass(frozen=True, kw_only=True)
class Served:
    """The file type ("Q4_K_M"), the name of its file in the export, and why it is this one."""

    name: str
    file: str
    why: str


def served_file(built: Artefact) -> Served:
    """The file that answers unless another is named.

    In this order: `export.default`; the decision of the exam that lies beside the export and examined exactly this one
    (an exam of an earlier export decides nothing); the first of `export.files`. The order is here and nowhere else, so
    that asking, serving, shipping and the exam's own report agree.
    """
    return served_by(built, _decision(built))


def served_by(built: Artefact, decision: Mapping[str, Any] | None) -> Served:
    """The file that answers once an exam has decided so; None: it compared none of the files."""
    files, first = built.facts["files"], built.facts["default"]
    if built.settings.get("default"):
        return Served(name=first, file=files[first], why="set in export.default")
    if decision and decision["file"] in files:
        return Served(name=decision["file"], file=files[decision["file"]], why=decision["why"])
    return Served(name=first, file=files[first], why="the first of export.files: no exam has compared these files yet")


def _decision(built: Artefact) -> dict[str, str] | None:
    path = built.path.parent / "exam"
    if not exists(path):
        return None
    try:
        manifest = read_manifest(path)
    except ArtefactError:
        # An exam that cannot be read says nothing about the files; the exam's own verbs name what is wrong with it.
        return None
    if manifest["kind"] != "exam" or manifest["inputs"].get("export") != built.identity:
        return None
    found: dict[str, str] | None = manifest["facts"].get("decision")
    return found
