"""Write docs/settings.md and docs/cli.md from the code; --check only says whether they are up to date."""

import sys
from pathlib import Path

import click

from werkmeister.cli import main as cli
from werkmeister.config import reference
from werkmeister.pipeline import DECLARED

DOCS = Path(__file__).parents[1] / "docs"


def pages() -> dict[str, str]:
    """The generated pages: file name → text."""
    parts = ["# Command line\n\nGenerated from the code; do not edit. Made by `make docs`.\n"]
    for name in cli.commands:
        command = cli.commands[name]
        with click.Context(
            command, info_name=f"werkmeister {name}", max_content_width=100, terminal_width=100
        ) as context:
            parts.append(f"\n## werkmeister {name}\n\n```\n{command.get_help(context)}\n```\n")
    return {"settings.md": reference(DECLARED), "cli.md": "".join(parts)}


def main() -> int:
    """Write or compare; 1 when a page is out of date."""
    stale = []
    for name, text in pages().items():
        path = DOCS / name
        if "--check" in sys.argv:
            stale += [name] if not path.is_file() or path.read_text(encoding="utf-8") != text else []
        else:
            path.write_text(text, encoding="utf-8", newline="\n")
    if stale:
        print(f"out of date: {', '.join(stale)}; run: make docs")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
