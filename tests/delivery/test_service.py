"""`serve --install`: the unit that it writes, read by systemd itself where it is there."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from werkmeister.cli import main
from werkmeister.delivery.keys import new_key
from werkmeister.delivery.service import install_service, unit_text
from werkmeister.delivery.settings import ServeSettings
from werkmeister.errors import MachineError, SettingsError

NASTY = 'pump 50% "$HOME" \\n ü'


def start_of(unit):
    return next(line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")).partition("=")[2]


def test_the_unit_serves_the_expert_as_the_verb_would(tmp_path):
    expert = tmp_path / "my-expert"
    expert.mkdir()
    done = install_service(
        expert, ServeSettings(), overrides=["serve.port=9000"], file="Q8_0", units=tmp_path / "units", system="linux"
    )
    assert done.unit == tmp_path / "units" / "werkmeister-my-expert.service"
    command = [sys.executable, "-m", "werkmeister.cli", "serve", str(expert.resolve())]
    assert shlex.split(start_of(done.unit)) == [*command, "--set", "serve.port=9000", "--file", "Q8_0"]
    text = done.unit.read_text()
    assert "Restart=on-failure" in text and "TimeoutStopSec=45" in text and "WantedBy=default.target" in text
    assert f"systemctl --user enable --now {done.name}" in done.commands


def test_writing_it_again_replaces_it_and_a_namesake_elsewhere_is_not_overwritten(tmp_path):
    first, second = tmp_path / "a" / "smith", tmp_path / "b" / "smith"
    for folder in (first, second):
        folder.mkdir(parents=True)
    units = tmp_path / "units"
    install_service(first, ServeSettings(), units=units, system="linux")
    unit = install_service(first, ServeSettings(), overrides=["serve.port=1"], units=units, system="linux").unit
    assert "serve.port=1" in unit.read_text()
    with pytest.raises(SettingsError, match="another expert called 'smith'"):
        install_service(second, ServeSettings(), units=units, system="linux")
    assert str(first) in unit.read_text()


def test_a_server_that_would_not_start_is_not_installed(tmp_path):
    with pytest.raises(SettingsError, match="no API key"):
        install_service(tmp_path, ServeSettings(host="0.0.0.0"), units=tmp_path / "units", system="linux")
    assert not (tmp_path / "units").exists()
    new_key(tmp_path, "anna")
    install_service(tmp_path, ServeSettings(host="0.0.0.0"), units=tmp_path / "units", system="linux")


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_told_where_it_is_described(tmp_path, system):
    with pytest.raises(MachineError, match="systemd") as caught:
        install_service(tmp_path, ServeSettings(), units=tmp_path, system=system)
    assert "docs/serve.md" in caught.value.hint


def test_a_name_that_breaks_lines_cannot_add_lines_to_the_unit():
    with pytest.raises(SettingsError, match="cannot stand in a unit"):
        unit_text("x", ["python", "a\nExecStart=/bin/sh"], 30)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_reads_the_unit_whatever_the_folder_is_called(tmp_path):
    expert = tmp_path / NASTY
    expert.mkdir()
    unit = install_service(expert, ServeSettings(), units=tmp_path / "units", system="linux").unit
    command = ["systemd-analyze", "verify", "--user", "--man=no", unit]
    home = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=home)
    assert unit.name not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="systemd is Linux's")
def test_the_verb_writes_it_below_the_persons_own_folder_and_says_how_to_start_it(tmp_path, monkeypatch):
    expert = tmp_path / "smith"
    expert.mkdir()
    (expert / "expert.toml").write_text('[expert]\nbase = "smollm2-135m"\n\n[dataset]\nfiles = ["x.jsonl"]\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    done = CliRunner().invoke(main, ["serve", str(expert), "--install", "--port", "8123"])
    assert done.exit_code == 0, done.output
    unit = tmp_path / "config" / "systemd" / "user" / "werkmeister-smith.service"
    assert "serve.port=8123" in start_of(unit) and "systemctl --user daemon-reload" in done.output
