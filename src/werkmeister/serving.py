"""What the verb serve does: a gateway for the expert, or an API key for one of its clients."""

from __future__ import annotations

from pathlib import Path

from werkmeister.config import Settings


def run_server(settings: Settings, file: str, *, as_json: bool) -> None:
    """Serve the expert until it is stopped; where it listens is said on stderr."""
    from werkmeister.console import live, show_json
    from werkmeister.delivery.serving import serve

    serve(settings.folder, settings.table("serve"), ask=settings.table("ask"), file=file, progress=live())
    if as_json:
        show_json({"expert": str(settings.folder), "stopped": True})


def show_new_key(expert: Path, name: str, *, as_json: bool) -> None:
    """Make an API key and print it; it is kept as a hash and cannot be shown again."""
    from werkmeister.console import show_json
    from werkmeister.delivery.keys import new_key

    key = new_key(expert, name)
    if as_json:
        show_json({"name": name, "key": key})
    else:
        print(key)
