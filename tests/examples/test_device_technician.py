"""The manuals of examples/device-technician: read from device files made here, fetched with an npm made here."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "device-technician"
MODULES = ("make_documents", "device_files", "manuals")

TEMPLATE = """{
	// shared pieces
	"switch": {
		"label": "Switch type", "defaultValue": 0,
		"options": [{ "label": "Off", "value": 0 }, { "label": "On", "value": 1 },], /* a comma too many */
	},
	"slow": { "$import": "#switch", "label": "Slow switch" }
}"""
DEVICE = """{
	"manufacturer": "Maker Works Co., Ltd.", "label": "MW-1", "description": "Valve // no comment",
	"devices": [{ "productType": "0x0001", "productId": "0x0002" }],
	"firmwareVersion": { "min": "1.0", "max": "255.255" },
	"associations": { "1": { "label": "Lifeline", "maxNodes": 5, "isLifeline": true } },
	"paramInformation": [
		{ "#": "1", "$import": "templates/own.json#switch" },
		{ "#": "2", "$import": "templates/own.json#slow", "defaultValue": 1 },
		{ "#": "3", "$import": "#paramInformation/4", "label": "Copied" },
		{ "#": "4", "label": "Delay", "unit": "seconds", "minValue": 1, "maxValue": 60, "defaultValue": 5 },
		{ "#": "5", "$if": "firmwareVersion < 1.10", "label": "Old" },
		{ "#": "5", "$if": "firmwareVersion >= 1.10 && productId === 0x0002", "label": "New" },
		{ "#": "6", "$if": "firmwareVersion < 1.5 || productId === 0x0009", "label": "Gone" },
		{ "#": "7", "label": "Power|limit", "unit": "0.1 W", "minValue": -10, "maxValue": 10, "readOnly": true }
	],
	"metadata": {
		"inclusion": "Press the\\nbutton once.",
		"reset": "Step 1. Hold the button.\\nStep 2. Wait for\\nthe beep.\\n\\n- Then let go."
	}
}"""


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The example's script as a module."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("make_documents")
    sys.path.remove(str(FOLDER))
    for name in MODULES:
        sys.modules.pop(name, None)


def archive(path: Path, devices: dict[str, str]) -> Path:
    """A package as npm packs it."""
    with tarfile.open(path, "w:gz") as packed:
        for name, text in devices.items():
            data = text.encode()
            entry = tarfile.TarInfo(f"package/config/devices/{name}")
            entry.size = len(data)
            packed.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    plain = {"manufacturer": "Other", "label": "MW-2", "description": "Lock", "devices": [], "firmwareVersion": {}}
    twin = json.loads(json.dumps(plain)) | {"metadata": {"reset": "Hold the key."}}
    return archive(
        tmp_path / "packed.tgz",
        {
            "0x0001/mw1.json": DEVICE,
            "0x0001/templates/own.json": TEMPLATE,
            "0x0002/nothing.json": json.dumps(plain),
            "0x0002/twin.json": json.dumps(twin),
        },
    )


def test_a_manual_holds_what_the_device_file_and_its_templates_say(
    script: ModuleType, package: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    assert script.make(folder, package, 0) == 2
    text = (folder / "maker-works-mw-1.md").read_text(encoding="utf-8")
    assert text.startswith("# Maker Works MW-1\n\nValve // no comment\n")
    assert "| Manufacturer | Maker Works Co., Ltd. |" in text
    assert "Press the button once." in text
    assert "1. Hold the button.\n2. Wait for the beep.\n\n- Then let go." in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert "| 1 | Switch type | 0 (Off) |  |  | 0 = Off; 1 = On |" in rows
    assert "| 2 | Slow switch | 1 (On) |  |  | 0 = Off; 1 = On |" in rows
    assert "| 3 | Copied | 5 | 1 to 60 | seconds |  |" in rows
    assert any(row.startswith("| 5 | New |") for row in rows)
    assert "Gone" not in text and "Old" not in text
    assert "Power\\|limit" in text
    assert (folder / "other-mw-2.md").read_text(encoding="utf-8").count("Hold the key.") == 1


def test_many_parameters_get_a_section_each(script: ModuleType) -> None:
    rows = [{"#": str(n), "label": f"Value {n}", "defaultValue": n, "unit": "W"} for n in range(1, 20)]
    rows[0] |= {"options": [{"label": "Off", "value": 1}], "minValue": 0, "maxValue": 9, "description": "# of tries"}
    device = {"manufacturer": "Maker", "label": "Maker M1", "paramInformation": rows}
    text = script.manual(device, script.name(device))
    assert text.startswith("# Maker M1\n")
    assert (
        "### Parameter 1: Value 1\n\n\\# of tries\n\n- Default: 1 (Off)\n- Range: 0 to 9 W\n- Options:\n  - 1: Off"
        in text
    )
    assert "### Parameter 19: Value 19\n\n- Default: 19 W\n" in text


@pytest.mark.parametrize(
    ("maker", "called"),
    [
        ("Maker Works CO., Ltd.", "Maker Works"),
        ("Maker Works Pte. Ltd.", "Maker Works"),
        ("Maker next GmbH & Co. KG.", "Maker next"),
        ("MAKER AG + Co.", "MAKER"),
        ("Maker Works SAS", "Maker Works"),
        ("Maker & Co", "Maker & Co"),
        ("Maker Company Works", "Maker Company Works"),
    ],
)
def test_a_maker_is_called_without_its_legal_form(script: ModuleType, maker: str, called: str) -> None:
    assert script.name({"manufacturer": maker, "label": "M1"}) == f"{called} M1"


def test_the_same_package_gives_the_same_bytes_and_a_cut_is_part_of_the_whole(
    script: ModuleType, package: Path, tmp_path: Path
) -> None:
    made = []
    for name, size in (("a", 0), ("b", 0), ("c", 1)):
        folder = tmp_path / name
        folder.mkdir()
        script.make(folder, package, size)
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert made[0] == made[1]
    assert made[2] == {"maker-works-mw-1.md": made[0]["maker-works-mw-1.md"]}


@pytest.mark.parametrize(
    ("condition", "true"),
    [
        ("firmwareVersion >= 1.9", True),
        ("firmwareVersion < 1.9", False),
        ("productId === 0x0002 && firmwareVersion > 1.0", True),
        ("firmwareVersion === 2.0 || productId !== 0x0003", True),
    ],
)
def test_conditions_compare_versions_by_their_parts(script: ModuleType, condition: str, true: bool) -> None:
    holds = sys.modules["device_files"].holds
    assert holds(condition, {"firmwareVersion": "1.10", "productId": "0x0002"}) is true
    with pytest.raises(sys.modules["device_files"].DeviceFileError, match="no known form"):
        holds("unknown > 1", {})


def test_a_template_that_is_not_there_or_imports_itself_is_an_error_that_names_it(
    script: ModuleType, tmp_path: Path
) -> None:
    for text, said in (('{"a": {"$import": "#b"}}', "there is no #b"), ('{"a": {"$import": "#a"}}', "imports itself")):
        (tmp_path / "x.json").write_text(text, encoding="utf-8")
        files = sys.modules["device_files"].DeviceFiles(tmp_path)
        with pytest.raises(sys.modules["device_files"].DeviceFileError, match=said):
            files.device("x.json")


@pytest.mark.skipif(os.name == "nt", reason="the npm made here is a shell script")
def test_it_is_fetched_once_and_then_works_without_a_network(
    script: ModuleType, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f'#!/bin/sh\nfor last; do :; done\ncp "{package}" "$last/zwave-js-config.tgz"\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(script, "SHA256", hashlib.sha256(package.read_bytes()).hexdigest())
    kept = script.fetched(tmp_path / "cache")
    assert kept.read_bytes() == package.read_bytes()
    npm.write_text("#!/bin/sh\nexit 1\n")
    assert script.fetched(tmp_path / "cache") == kept
    monkeypatch.setattr(script, "SHA256", "0" * 64)
    with pytest.raises(SystemExit, match="npm could not fetch"):
        script.fetched(tmp_path / "cache")
    npm.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="npm is needed once"):
        script.fetched(tmp_path / "cache")


def test_the_script_says_what_it_needs_when_npm_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "make_documents.py"), str(tmp_path / "out"), "--cut", "small"],
        env={"PATH": str(tmp_path), "WERKMEISTER_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "npm is needed once" in done.stderr and "Traceback" not in done.stderr
