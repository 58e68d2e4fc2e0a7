"""The pages are true: commands, options and settings that they name exist, links lead somewhere, generated pages are
up to date."""

import dataclasses
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from werkmeister.cli import main
from werkmeister.pipeline import DECLARED

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.md"), *ROOT.glob("examples/*/*.md")]
)
BY_HAND = [page for page in PAGES if page.name != "cli.md"]
CODE = re.compile(r"`([^`]+)`")
OF_DOCKER = {"--user", "--gpus"}
"""Options of other programs that pages name alone."""


def pieces_of_code(page: Path) -> Iterator[str]:
    """Code in the text and lines of code blocks, indented or fenced; line breaks of a paragraph count as blanks."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = re.compile(r"^```.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for block in fenced.findall(text):
        yield from (line.split(" #")[0].strip() for line in block.splitlines())
    rest = fenced.sub("", text)
    yield from (line.strip() for line in re.findall(r"^    \S.*$", rest, re.MULTILINE))
    yield from (" ".join(code.split()) for code in CODE.findall(rest))


def verbs_options() -> dict[str, dict[str, click.Option]]:
    return {
        verb: {name: option for option in command.params for name in option.opts if isinstance(option, click.Option)}
        for verb, command in main.commands.items()
    }


def values_of(option: click.Option) -> set[str] | None:
    return {str(choice) for choice in option.type.choices} if isinstance(option.type, click.Choice) else None


def script_options() -> set[str]:
    scripts = [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("examples/*/*.py")]
    return {name for path in scripts for name in re.findall(r'add_argument\(\s*"(--[\w-]+)"', path.read_text("utf-8"))}


def settings_named(text: str) -> set[tuple[str, str]]:
    """Names such as train.rank, and not file names such as train.jsonl or attributes in Python."""
    files = {"jsonl", "json", "svg", "html", "py", "md", "toml", "gguf", "log", "partial"}
    tables = "|".join(DECLARED)
    found = re.findall(rf"(?<![\w./-])({tables})\.([a-z_]+)(?![\w(./])", text)
    return {(table, key) for table, key in found if key not in files}


def test_every_verb_of_the_readme_exists() -> None:
    verbs = set(re.findall(r"^werkmeister (\w+)", README, re.MULTILINE))
    assert verbs >= {"new", "check", "build", "ask"}
    assert verbs <= set(main.commands)


@pytest.mark.parametrize("page", BY_HAND, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_and_option_of_a_page_exists(page: Path) -> None:
    """Whole commands by their verb; an option alone must be one of some verb, or of a script in this folder."""
    verbs, scripts = verbs_options(), script_options()
    every: dict[str, set[str] | None] = {}
    for options in verbs.values():
        for name, option in options.items():
            values, known = values_of(option), every.get(name, set())
            every[name] = None if values is None or known is None else known | values
    for code in pieces_of_code(page):
        words = shlex.split(code) if code.startswith(("werkmeister ", "--")) and code.count("'") % 2 == 0 else []
        if not words or words[1:2] == ["--version"]:
            continue
        known = every
        if words[0] == "werkmeister":
            assert words[1] in verbs or words[1] in ("--help", "VERB"), f"{page.name}: {code}"
            known = {name: values_of(option) for name, option in verbs.get(words[1], {}).items()} | {"--help": set()}
        for word, following in zip(words, [*words[1:], ""], strict=True):
            name, _, value = word.partition("=")
            if not re.fullmatch(r"--[a-z][a-z0-9-]*", name):
                continue
            assert name in known or (words[0] != "werkmeister" and name in scripts | OF_DOCKER), (
                f"{page.name}: {code}: {name}"
            )
            values, given = known.get(name), value or following
            if values and given and not given.isupper():
                assert given in values, f"{page.name}: {code}: {given} is none of {values}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    fields = {table: {field.name for field in dataclasses.fields(kind)} for table, kind in DECLARED.items()}
    named = {one for code in pieces_of_code(page) for one in settings_named(code)}
    assert not [f"{table}.{key}" for table, key in named if key not in fields[table]]


def test_every_make_target_of_the_readme_exists() -> None:
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"^make (\w+)", README, re.MULTILINE)) <= set(targets)


def test_every_link_leads_to_a_file() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page}: {target}"


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "generate_docs.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_readmes_commands_make_an_expert_of_the_starter(tmp_path: Path) -> None:
    """new, check, build and ask with the real SmolLM2, as a person types them; then a build with nothing to do."""
    folder = str(tmp_path / "my-expert")
    for arguments in (["new", folder], ["check", folder], ["build", folder], ["ask", folder, "Die Pumpe ist undicht"]):
        command = [sys.executable, "-m", "werkmeister.cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"electrical", "hydraulics", "mechanics", "software"}
    again = subprocess.run([sys.executable, "-m", "werkmeister.cli", "build", folder], capture_output=True, text=True)
    assert "Nothing changed" in again.stdout
