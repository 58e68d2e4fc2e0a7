"""Trackers that a run's curves may go to as well, through the Trainer's own `report_to`; off by default."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from werkmeister.errors import MachineError
from werkmeister.governing.policy import PolicySettings, require_allowed

REPORTERS: Mapping[str, str] = {
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "trackio": "trackio",
    "wandb": "wandb",
}
"""The trackers by the name that the Trainer gives them, and the package that each needs."""
NONE = "none"


def prepare_reporter(name: str, policy: PolicySettings, home: Path) -> list[str]:
    """What the Trainer's `report_to` is given for this setting; TensorBoard's files go below `home`.

    Raises MachineError naming the package where it is missing, and SettingsError where the tracker would send the
    curves to a host that the policy does not allow.
    """
    if name == NONE:
        return []
    package = REPORTERS[name]
    if importlib.util.find_spec(package) is None:
        raise MachineError(
            f'train.report_to = "{name}" needs the package {package}, and it is not installed',
            hint=f'pip install {package}, or train.report_to = "none"',
        )
    url = _sends_to(name)
    if url:
        require_allowed(url, policy, sent="the curves of the training")
    if name == "tensorboard":
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str((home / "tensorboard").resolve()))
    return [name]


def _sends_to(name: str) -> str:
    """The URL that a tracker sends to by its own environment variables; "" where all stays on this machine."""
    told = os.environ.get
    if name == "wandb":
        offline = told("WANDB_MODE", "") in ("offline", "disabled", "dryrun")
        return "" if offline else told("WANDB_BASE_URL", "https://api.wandb.ai")
    if name == "mlflow":
        address = told("MLFLOW_TRACKING_URI", "")
        return address if address.startswith("http") else ""
    if name == "trackio":
        return "https://huggingface.co" if told("TRACKIO_SPACE_ID") else ""
    return ""
