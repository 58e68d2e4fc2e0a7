"""Several processes that train together, as `accelerate launch` starts them: two on this machine's CPU, over gloo."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.building.test_train import QUICK, wait_for
from tests.checkpoints import tiny_expert
from werkmeister.artefact import open_artefact
from werkmeister.building.together import filling_row
from werkmeister.errors import MachineError, SettingsError
from werkmeister.pipeline import artefacts_of, build, read_expert, run_stage

EXACT = QUICK | {"precision": "fp32", "select": "loss", "rank": 8, "alpha": 16.0}


def made(folder: Path, **train: object) -> Path:
    expert = tiny_expert(folder, train=EXACT | train)
    run_stage(read_expert(expert), "dataset")
    return expert


def launch(expert: Path) -> subprocess.Popen[str]:
    """Two processes of `werkmeister train`, started as accelerate starts those of several GPUs: by torch's launcher."""
    command = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0")
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        (*command, "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", "-m", "werkmeister.cli", "train", expert),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def course(expert: Path) -> dict[int, float]:
    lines = (artefacts_of(expert) / "train" / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["step"]: entry["loss"] for entry in map(json.loads, lines) if "loss" in entry}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    expert = made(tmp_path_factory.mktemp("alone") / "expert")
    run_stage(read_expert(expert), "train")
    return expert


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_and_the_main_one_writes_it(alone: Path, tmp_path: Path) -> None:
    together = made(tmp_path / "together")
    running = launch(together)
    told, errors = running.communicate(timeout=240)
    assert running.returncode == 0, errors
    one, two = (open_artefact(artefacts_of(expert) / "train", "train") for expert in (alone, together))
    # In float32 the same examples in the same steps differ by the order of sums alone.
    assert course(together) == pytest.approx(course(alone), rel=1e-3)
    assert two.measures["validation_loss"] == pytest.approx(one.measures["validation_loss"], rel=1e-3)
    assert two.measures["tokens"] == one.measures["tokens"], "every token is counted once, and no filling row"
    data = open_artefact(artefacts_of(alone) / "dataset", "dataset")
    seen = data.facts["splits"]["train"]["examples"] * 6
    assert seen % EXACT["batch_size"], "the last step must be a short one"
    assert told.count("train: made") == 1, "a follower tells its results as well"
    assert sorted(two.outputs) == sorted(one.outputs)


@pytest.mark.slow
def test_two_processes_go_on_where_a_kill_stopped_them(alone: Path, tmp_path: Path) -> None:
    together = made(tmp_path / "together")
    checkpoints = artefacts_of(together) / "train.partial" / "scratch" / "checkpoints"
    running = launch(together)
    wait_for(lambda: any(checkpoints.glob("checkpoint-*/rng_state_1.pth")), running)
    running.send_signal(signal.SIGTERM)  # The launcher stops its processes, and these end with a whole step.
    running.communicate(timeout=120)
    if not (artefacts_of(together) / "train").exists():
        again = launch(together)
        _, errors = again.communicate(timeout=240)
        assert again.returncode == 0, errors
        assert "resuming at step" in errors
    assert course(together) == pytest.approx(course(alone), rel=1e-3)


def test_verbs_that_one_process_runs_refuse_several(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(MachineError, match="2 were launched") as caught:
        build(read_expert(alone))
    assert "werkmeister train" in caught.value.hint
    with pytest.raises(MachineError, match="the stage dataset runs in one process"):
        run_stage(read_expert(alone), "dataset")


def test_a_step_that_cannot_be_shared_out_equally_is_refused_with_the_next_size(alone: Path) -> None:
    from werkmeister.bases.shape import shape_of_folder
    from werkmeister.building.recipe import derive_recipe
    from werkmeister.building.settings import TrainSettings

    with pytest.raises(SettingsError, match=r"batch_size = 16 .* 3 processes") as caught:
        derive_recipe(
            settings=TrainSettings(precision="fp32"),
            shape=shape_of_folder(alone / "base"),
            longest=64,
            context_length=256,
            mean_tokens=40,
            processes=3,
        )
    assert "batch_size=18" in caught.value.hint


def test_a_filling_row_has_every_column_and_nothing_to_learn() -> None:
    row = {"input_ids": [4, 5, 6], "labels": [-100, 5, 6], "weights": [2.0, 2.0, 2.0]}
    assert filling_row(row) == {"input_ids": [4, 5], "labels": [-100, -100], "weights": [2.0, 2.0]}


@pytest.mark.parametrize("name", ["ddp", "fsdp_qlora"])
def test_the_configuration_files_are_what_accelerate_reads(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    docs = Path(__file__).parents[2] / "docs"
    config = load_config_from_file(str(docs / "accelerate" / f"{name}.yaml"))
    kinds = {"ddp": "MULTI_GPU", "fsdp_qlora": "FSDP"}
    assert config.distributed_type.value == kinds[name]
    launched = f"accelerate launch --config_file docs/accelerate/{name}.yaml -m werkmeister.cli train EXPERT"
    assert launched in (docs / "training.md").read_text(encoding="utf-8")
