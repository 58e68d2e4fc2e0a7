"""Several processes that train together under `accelerate launch` (or torchrun), one a GPU.

The launcher tells each process its number and how many there are in RANK and WORLD_SIZE. The first one, the main
process, alone writes: lock, artefact, checkpoints, history, and what a person reads.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from werkmeister.errors import MachineError


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """How many processes train together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def count_here() -> int:
    """How many of the processes run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def is_sharded() -> bool:
    """Whether the launcher's configuration splits the model itself over the processes (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true")


def require_alone(what: str) -> None:
    """Raise MachineError where several processes were launched for something that only one can do."""
    if count() > 1:
        raise MachineError(
            f"{what} runs in one process, and {count()} were launched",
            hint="launch `werkmeister train` alone with accelerate; run the other verbs without it",
        )


def wait_for_all() -> None:
    """Return when every process has come here; at once where there is only one."""
    if count() > 1:
        _together().wait_for_everyone()


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block in the main process, and then in the others: what the first one fetches or makes is there then."""
    if count() == 1:
        yield
        return
    if not is_main():
        wait_for_all()
    yield
    if is_main():
        wait_for_all()


def sums_of_all(*values: int) -> list[int]:
    """The sum of each value over the processes; all of them must ask."""
    if count() == 1:
        return list(values)
    import torch
    from accelerate.utils import reduce

    told = torch.tensor(values, dtype=torch.int64, device=_together().device)
    return [int(value) for value in reduce(told, "sum").tolist()]


def silence_followers() -> None:
    """Drop what a process beside the main one prints as a result: a person reads it once."""
    if not is_main():
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _together() -> Any:
    """What accelerate knows of the processes; the first call connects them."""
    import torch
    from accelerate import PartialState

    # Without `cpu` it takes each process for the only one where there is no GPU, and waits for nobody.
    return PartialState(cpu=not torch.cuda.is_available())
