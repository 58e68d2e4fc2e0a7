"""What the verb serve does: a gateway for the expert, a service of the system for it, or an API key for a client."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from werkmeister.config import Settings


def run_server(settings: Settings, file: str, *, as_json: bool) -> None:
    """Serve the expert until it is stopped; where it listens is said on stderr."""
    from werkmeister.console import live, show_json
    from werkmeister.delivery.serving import serve

    serve(settings.folder, settings.table("serve"), ask=settings.table("ask"), file=file, progress=live())
    if as_json:
        show_json({"expert": str(settings.folder), "stopped": True})


def install_server(settings: Settings, overrides: Sequence[str], file: str, *, as_json: bool) -> None:
    """Write the unit that serves the expert, and say how it is started."""
    from werkmeister.console import show_json
    from werkmeister.delivery.service import install_service

    service = install_service(settings.folder, settings.table("serve"), overrides=overrides, file=file)
    if as_json:
        show_json({"unit": str(service.unit), "name": service.name, "commands": list(service.commands)})
        return
    print(f"written: {service.unit}")
    print("start it now and at each login; the last command starts it with the machine:")
    print("\n".join(f"  {command}" for command in service.commands))


def show_new_key(expert: Path, name: str, *, as_json: bool) -> None:
    """Make an API key and print it; it is kept as a hash and cannot be shown again."""
    from werkmeister.console import show_json
    from werkmeister.delivery.keys import new_key

    key = new_key(expert, name)
    if as_json:
        show_json({"name": name, "key": key})
    else:
        print(key)
