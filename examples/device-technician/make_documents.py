"""Manuals of Z-Wave devices as Markdown, made from the npm package ``@zwave-js/config`` (MIT licence).

    python make_documents.py OUTPUT_FOLDER [--cut full|medium|small]

Writes ``MAKER-MODEL.md`` for every device with instructions or configuration parameters. The package is fetched once
with ``npm pack`` and kept in the cache (``WERKMEISTER_CACHE``, else ``~/.cache/werkmeister``), so that it works without
a network the second time. The same package gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from device_files import DeviceFileError, DeviceFiles
from manuals import instructions, manual, name, parameters

PACKAGE = "@zwave-js/config"
VERSION = "15.29.0"
SHA256 = "9b50c53b6f5464b058cf164c68cce8b1441d21f45d1c286c2b801e617f276921"
CUTS = {"full": 0, "medium": 500, "small": 150}  # devices; 0: all
SMALLEST = 3  # parameters that a device of a smaller cut has at least, beside its instructions


def fetched(cache: Path) -> Path:
    """The package's archive in the cache, fetched with npm where it is not there yet; exits with the way out."""
    kept = cache / "npm" / f"zwave-js-config-{VERSION}.tgz"
    if kept.is_file() and digest(kept) == SHA256:
        return kept
    npm = shutil.which("npm")
    if npm is None:
        sys.exit(
            f"npm is needed once to fetch {PACKAGE} {VERSION}: install Node.js, or put the file that\n{by_hand(kept)}"
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    print(f"fetching {PACKAGE} {VERSION} with npm (MIT licence)", flush=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", scratch]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        archive = next(Path(scratch).glob("*.tgz"), None)
        if done.returncode or archive is None:
            said = (done.stderr.strip() or done.stdout.strip() or "npm said nothing").splitlines()
            sys.exit("\n".join([f"npm could not fetch {PACKAGE} {VERSION}:", *said[-6:], by_hand(kept)]))
        if digest(archive) != SHA256:
            sys.exit(f"{PACKAGE} {VERSION} is not the known file: SHA-256 {digest(archive)}, expected {SHA256}")
        archive.replace(kept)
    return kept


def by_hand(kept: Path) -> str:
    """How to fetch the archive on another machine."""
    return f"npm pack {PACKAGE}@{VERSION}\nmakes, on a machine with a network, here: {kept}"


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cache_folder() -> Path:
    """Where Werkmeister keeps what it fetched."""
    given = os.environ.get("WERKMEISTER_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "werkmeister"


def told(devices: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those with anything to tell, by the name of their manual; of two of one name the one that tells more."""
    chosen: dict[str, dict[str, Any]] = {}
    for device in devices.values():
        if not (instructions(device) or parameters(device)):
            continue
        title = name(device)
        if title not in chosen or weight(device) > weight(chosen[title]):
            chosen[title] = device
    return chosen


def weight(device: dict[str, Any]) -> int:
    """How much there is to tell of a device, in characters."""
    return len(manual(device, ""))


def cut(devices: dict[str, dict[str, Any]], size: int) -> dict[str, dict[str, Any]]:
    """So many devices, the same every time: of those with instructions and parameters first."""
    if not size:
        return devices
    full = {t for t, d in devices.items() if instructions(d) and len(parameters(d)) >= SMALLEST}
    order = sorted(devices, key=lambda title: (title not in full, zlib.crc32(title.encode()), title))
    return {title: devices[title] for title in sorted(order[:size])}


def file_name(title: str) -> str:
    """A plain name for a file: ASCII letters, digits and hyphens."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-") + ".md"


def unpack(archive: Path, folder: Path) -> None:
    """Write the device files of an npm package below a folder; nothing else of it, and nothing outside."""
    # Not extractall: its filter for what leaves the folder came with Python 3.11.4.
    with tarfile.open(archive) as packed:
        for entry in packed:
            place = PurePosixPath(entry.name)
            content = packed.extractfile(entry) if entry.isfile() else None
            if content is None or place.parts[:3] != ("package", "config", "devices") or ".." in place.parts:
                continue
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())


def make(folder: Path, archive: Path, size: int) -> int:
    """Write the manuals into a folder and return how many there are."""
    with tempfile.TemporaryDirectory() as scratch:
        unpack(archive, Path(scratch))
        files = DeviceFiles(Path(scratch) / "package" / "config" / "devices")
        devices = told({name: files.device(name) for name in files.names()})
    written: set[str] = set()
    for title, device in cut(devices, size).items():
        plain = file_name(title)
        while plain in written:
            plain = plain.removesuffix(".md") + "-2.md"
        written.add(plain)
        (folder / plain).write_text(manual(device, title), encoding="utf-8", newline="\n")
    return len(written)


def main() -> None:
    """Write the manuals into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="folder to write into; made if absent")
    parser.add_argument("--cut", choices=CUTS, default="full", help="how many devices: all, 500 or 150")
    settings = parser.parse_args()
    settings.folder.mkdir(parents=True, exist_ok=True)
    try:
        count = make(settings.folder, fetched(cache_folder()), CUTS[settings.cut])
    except DeviceFileError as error:
        sys.exit(str(error))
    print(f"{count} manuals")


if __name__ == "__main__":
    main()
