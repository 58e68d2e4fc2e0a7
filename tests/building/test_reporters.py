"""Trackers beside our own history: off by default, refused clearly, and nothing leaves the machine unasked."""

from pathlib import Path

import pytest

from werkmeister.building import reporters
from werkmeister.building.reporters import REPORTERS, prepare_reporter
from werkmeister.building.settings import TrainSettings
from werkmeister.config import as_json
from werkmeister.errors import MachineError, SettingsError
from werkmeister.governing.policy import PolicySettings

NOTHING = PolicySettings()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tracker's package is there, and no environment variable says where it sends."""
    monkeypatch.setattr(reporters.importlib.util, "find_spec", lambda name: object())
    for name in ("WANDB_MODE", "WANDB_BASE_URL", "MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "TENSORBOARD_LOGGING_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_none_is_the_default_and_the_choices_are_the_trackers(tmp_path: Path) -> None:
    assert prepare_reporter(TrainSettings().report_to, NOTHING, tmp_path) == []
    declared = TrainSettings.__dataclass_fields__["report_to"].metadata["choices"]
    assert set(declared) == {"none", *REPORTERS}


def test_a_tracker_makes_no_training_stale() -> None:
    assert as_json(TrainSettings(report_to="mlflow")) == as_json(TrainSettings())


def test_a_missing_package_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporters.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match="needs the package trackio") as caught:
        prepare_reporter("trackio", NOTHING, tmp_path)
    assert "pip install trackio" in caught.value.hint


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "variable", "value", "host"),
    [
        ("wandb", "", "", "api.wandb.ai"),
        ("wandb", "WANDB_BASE_URL", "https://wandb.example.com", "wandb.example.com"),
        ("mlflow", "MLFLOW_TRACKING_URI", "http://tracks.example.com:5000", "tracks.example.com"),
        ("trackio", "TRACKIO_SPACE_ID", "me/curves", "huggingface.co"),
    ],
)
def test_what_sends_the_curves_away_needs_the_policys_leave(
    name: str, variable: str, value: str, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match="the curves of the training would leave this machine") as caught:
        prepare_reporter(name, NOTHING, tmp_path)
    assert host in str(caught.value)
    assert prepare_reporter(name, PolicySettings(allow=(host,)), tmp_path) == [name]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "variable", "value"),
    [
        ("wandb", "WANDB_MODE", "offline"),
        ("mlflow", "MLFLOW_TRACKING_URI", "sqlite:///runs.db"),
        ("mlflow", "", ""),
        ("trackio", "", ""),
        ("tensorboard", "", ""),
    ],
)
def test_what_stays_on_this_machine_needs_no_leave(
    name: str, variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    if variable:
        monkeypatch.setenv(variable, value)
    assert prepare_reporter(name, NOTHING, tmp_path) == [name]
    if name == "tensorboard":
        assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "tensorboard")
        monkeypatch.delenv("TENSORBOARD_LOGGING_DIR")
