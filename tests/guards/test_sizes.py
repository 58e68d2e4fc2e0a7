"""Modules stay under 400 lines, functions under 60, and no drawer for odds and ends appears."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(f for folder in ("src", "examples", "benchmarks", "tools") for f in (ROOT / folder).rglob("*.py"))
DRAWERS = {"utils.py", "util.py", "common.py", "base_class.py", "helpers.py", "helper.py", "misc.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_module_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400, f"{path} has {len(text.splitlines())} lines: split it by a domain word"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{path.name}: {node.name} has {length} lines"


def test_no_drawer_for_odds_and_ends() -> None:
    assert not [path for path in FILES if path.name in DRAWERS]


def test_a_verb_is_a_thin_shell() -> None:
    tree = ast.parse((ROOT / "src" / "werkmeister" / "cli.py").read_text(encoding="utf-8"))
    verbs = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.decorator_list]
    for verb in verbs:
        body = (verb.end_lineno or 0) - verb.body[0].lineno + 1
        assert body <= 15, f"{verb.name} has {body} lines"
