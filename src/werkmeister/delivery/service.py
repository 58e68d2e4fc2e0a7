"""A service of the person's own systemd that serves an expert: starts with the machine, again after a crash."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from werkmeister.delivery.serving import door_of
from werkmeister.delivery.settings import ServeSettings
from werkmeister.errors import MachineError, SettingsError

_SPARE = 15  # seconds beyond serve.shutdown that systemd waits before it kills
_UNIT = """\
# Written by: werkmeister serve --install
[Unit]
Description=Werkmeister expert {name}
After=network.target

[Service]
Type=exec
ExecStart={command}
Restart=on-failure
RestartSec=2
KillMode=mixed
TimeoutStopSec={patience}
NoNewPrivileges=yes
UMask=0077

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A unit that was written, and the commands that a person gives next."""

    name: str
    unit: Path
    commands: tuple[str, ...]


def install_service(
    folder: Path,
    settings: ServeSettings,
    *,
    overrides: Sequence[str] = (),
    file: str = "",
    units: Path | None = None,
    system: str = sys.platform,
) -> Service:
    """Write a systemd user unit that serves the expert in `folder` as the verb serve does with these arguments.

    `units` is the folder of the person's units. Nothing is started: `commands` do that. Writing it again replaces it.
    Raises MachineError where there is no systemd, SettingsError when the server would not start as it is set up, or
    when another expert of the same name has the unit.
    """
    if not system.startswith("linux"):
        raise MachineError(
            f"serve --install writes a unit of systemd, and this is {system}",
            hint="docs/serve.md says how launchd (macOS) and the task scheduler (Windows) start it",
        )
    door_of(folder, settings)
    folder = folder.resolve()
    name = f"werkmeister-{re.sub(r'[^A-Za-z0-9.-]+', '-', folder.name).strip('-') or 'expert'}.service"
    unit = (units or _own_units()) / name
    command = [sys.executable, "-m", "werkmeister.cli", "serve", str(folder)]
    command += [part for override in overrides for part in ("--set", override)]
    command += ["--file", file] if file else []
    text = unit_text(folder.name, command, settings.shutdown)
    _refuse_another(unit, folder)
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text(text, encoding="utf-8")
    commands = ("systemctl --user daemon-reload", f"systemctl --user enable --now {name}", "loginctl enable-linger")
    return Service(name=name, unit=unit, commands=commands)


def unit_text(name: str, command: Sequence[str], shutdown: float) -> str:
    """The unit's text. Raises SettingsError for arguments that no unit can hold."""
    broken = next((one for one in (name, *command) if not one.isprintable()), None)
    if broken is not None:
        raise SettingsError(f"{broken!r} cannot stand in a unit of systemd", hint="rename the folder or the setting")
    quoted = " ".join(_quoted(part) for part in command)
    return _UNIT.format(name=name.replace("%", "%%"), command=quoted, patience=round(shutdown) + _SPARE)


def _quoted(part: str) -> str:
    """An argument as systemd reads it: in quotes, with its own signs doubled (systemd.service(5), command lines)."""
    for sign, written in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        part = part.replace(sign, written)
    return f'"{part}"'


def _own_units() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(home) if home.startswith("/") else Path.home() / ".config") / "systemd" / "user"


def _refuse_another(unit: Path, folder: Path) -> None:
    """One unit a name: an expert elsewhere that has the same name keeps its own."""
    if unit.is_file() and _quoted(str(folder)) not in unit.read_text(encoding="utf-8", errors="replace"):
        raise SettingsError(
            f"{unit} serves another expert called {folder.name!r}", hint="rename one of the two folders, or delete it"
        )
