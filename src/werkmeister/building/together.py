"""What several processes of one training share, and what each of them does its own way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from werkmeister.artefact import Draft, beside, exclusive, making
from werkmeister.building import processes


@contextmanager
def holding(artefacts: Path, stage: str) -> Iterator[None]:
    """The lock of an artefacts folder, which the main process holds for all that train together.

    Raises BusyError when another build holds it, and MachineError where several processes were launched for what only
    one can do: any stage but train.
    """
    if stage != "train":
        processes.require_alone(f"the stage {stage}" if stage else "a build")
    if processes.is_main():
        with exclusive(artefacts):
            processes.wait_for_all()
            yield
    else:
        processes.wait_for_all()
        yield


@contextmanager
def shared_draft(
    output: Path, *, version: int, inputs: Mapping[str, str], settings: Mapping[str, Any], resume_only: bool
) -> Iterator[Draft]:
    """The draft of a train artefact: the main process makes it, the others look on; it is complete for all behind it.

    What the others put into facts and measures is dropped. All machines must see `output` under the same path.
    """
    if not processes.is_main():
        processes.wait_for_all()
        yield beside(output)
        processes.wait_for_all()
        return
    with making("train", output, version=version, inputs=inputs, settings=settings, resume_only=resume_only) as draft:
        _ = draft.scratch
        processes.wait_for_all()
        yield draft
    processes.wait_for_all()


def filling_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of two tokens from which nothing is learnt, with the columns of `row`."""
    return {name: values[:2] for name, values in row.items()} | {"labels": [-100, -100]}


def shard_adapters(trainer: Any) -> None:
    """Under FSDP, wrap the adapters apart from the frozen base, as PEFT asks for (its FSDP-QLoRA guide)."""
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if processes.is_sharded() and plugin is not None:
        from peft.utils.other import fsdp_auto_wrap_policy

        plugin.auto_wrap_policy = fsdp_auto_wrap_policy(trainer.model)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    whole = ["trainer_state.json", "adapter_model.safetensors", "optimizer.pt", "scheduler.pt"]
    several = processes.count() > 1
    whole += [f"rng_state_{rank}.pth" for rank in range(processes.count())] if several else ["rng_state.pth"]
    for checkpoint in found:
        if all((checkpoint / name).is_file() for name in whole):
            return checkpoint
    return None
