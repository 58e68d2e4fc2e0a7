"""README and docs are true: every command exists, every link leads somewhere, generated pages are up to date."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_verb_of_the_readme_exists() -> None:
    from werkmeister.cli import main

    verbs = set(re.findall(r"^werkmeister (\w+)", README, re.MULTILINE))
    assert verbs >= {"new", "check", "build", "ask"}
    assert verbs <= set(main.commands)


def test_every_make_target_of_the_readme_exists() -> None:
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"^make (\w+)", README, re.MULTILINE)) <= set(targets)


def test_every_link_leads_to_a_file() -> None:
    for page in (ROOT / "README.md", *ROOT.glob("examples/*/README.md")):
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
