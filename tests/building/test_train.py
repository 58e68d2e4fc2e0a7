"""The stage train through its public door, on tiny checkpoints."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import pytest

from tests.checkpoints import tiny_expert, write_gemma3, write_llama, write_phi3, write_qwen3
from werkmeister.artefact import open_artefact
from werkmeister.errors import ArtefactError, BaseModelError, MachineError, StoppedByUser, TrainingError
from werkmeister.pipeline import artefacts_of, read_expert, run_stage
from werkmeister.progress import Silent

QUICK = {"epochs": 6.0, "learning_rate": 2e-2, "evaluations": 4, "batch_size": 8}


def made(folder: Path, **train: object) -> Path:
    """A tiny expert whose dataset stands."""
    expert = tiny_expert(folder, train=QUICK | train)
    run_stage(read_expert(expert), "dataset")
    return expert


def history(expert: Path) -> list[dict[str, float]]:
    lines = (artefacts_of(expert) / "train" / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def losses(expert: Path) -> list[tuple[int, float]]:
    return [(entry["step"], entry["loss"]) for entry in history(expert) if "loss" in entry]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    expert = made(tmp_path_factory.mktemp("trained") / "expert")
    run_stage(read_expert(expert), "train")
    return expert


def test_training_lowers_the_loss_and_the_artefact_is_a_peft_adapter(trained: Path) -> None:
    from peft import PeftConfig

    made_of = open_artefact(artefacts_of(trained) / "train", "train")
    course = losses(trained)
    assert course[-1][1] < 0.7 * course[0][1]
    assert made_of.measures["validation_loss"] < course[0][1]
    assert PeftConfig.from_pretrained(made_of.path / "adapter").r == 8  # by 54 examples
    assert sorted(made_of.outputs) == [
        *("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "history.jsonl", "loss.svg"),
        "report.html",
    ]
    assert "<svg" in (made_of.path / "loss.svg").read_text(encoding="utf-8")


def test_the_fused_forward_and_the_short_head_are_the_function_that_peft_and_trl_compute(trained: Path) -> None:
    """Loss and gradients of the trainer on a CPU against transformers' own loss on PEFT's own layers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from werkmeister.building.fused_lora import fuse_lora

    def model():
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_pretrained(trained / "base", dtype=torch.float32)
        config = LoraConfig(
            r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False
        )
        return get_peft_model(base, config)

    ids = torch.arange(40).reshape(2, 20) + 5
    labels = ids.clone()
    labels[:, :9] = -100
    reference, ours = model(), model()
    reference(input_ids=ids, labels=labels).loss.backward()
    assert fuse_lora(ours) == 6
    hidden = ours.get_base_model().model(input_ids=ids).last_hidden_state[:, :-1]
    learnt = labels[:, 1:] != -100
    logits = ours.get_base_model().lm_head(hidden[learnt])
    torch.nn.functional.cross_entropy(logits, labels[:, 1:][learnt]).backward()
    for (name, a), (_, b) in zip(reference.named_parameters(), ours.named_parameters(), strict=True):
        if a.requires_grad:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_batches_come_in_few_lengths_so_that_the_heap_does_not_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from werkmeister.building.trainer import ExpertTrainer

    widths = set()
    own = ExpertTrainer.compute_loss

    def seen(trainer, model, inputs, *args, **kwargs):
        widths.add(inputs["input_ids"].shape[1])
        return own(trainer, model, inputs, *args, **kwargs)

    monkeypatch.setattr(ExpertTrainer, "compute_loss", seen)
    expert = made(tmp_path / "expert", epochs=1.0, batch_size=2, evaluations=1)
    run_stage(read_expert(expert), "train")
    assert widths and all(width % 4 == 0 for width in widths)


def test_nothing_is_read_twice_the_same_settings_give_the_same_adapter(trained: Path, tmp_path: Path) -> None:
    again = made(tmp_path / "again")
    run_stage(read_expert(again), "train")
    a, b = (open_artefact(artefacts_of(e) / "train", "train").measures["training_loss"] for e in (trained, again))
    assert a == pytest.approx(b, rel=1e-3)


def test_where_the_trainer_sees_several_gpus_one_process_trains_on_one(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import TrainingArguments

    setup = TrainingArguments.__dict__["_setup_devices"].func

    def of_two_gpus(arguments: TrainingArguments) -> object:
        device = setup(arguments)
        arguments._n_gpu = 2
        return device

    patched = cached_property(of_two_gpus)
    patched.__set_name__(TrainingArguments, "_setup_devices")
    monkeypatch.setattr(TrainingArguments, "_setup_devices", patched)
    again = made(tmp_path / "again")
    run_stage(read_expert(again), "train")
    assert [step for step, _ in losses(again)] == [step for step, _ in losses(trained)]
    assert losses(again)[-1][1] == pytest.approx(losses(trained)[-1][1], rel=1e-3)


def test_after_kill_minus_nine_the_same_command_resumes_and_ends_at_the_same_loss(
    trained: Path, tmp_path: Path
) -> None:
    expert = made(tmp_path / "killed")
    partial = artefacts_of(expert) / "train.partial" / "scratch" / "checkpoints"
    command = [sys.executable, "-m", "werkmeister.cli", "train", str(expert)]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: any(partial.glob("checkpoint-*/trainer_state.json")), running)
    running.send_signal(signal.SIGKILL)
    running.wait()
    if not (artefacts_of(expert) / "train").exists():
        done = run_stage(read_expert(expert), "train")
        whole = open_artefact(artefacts_of(trained) / "train", "train").measures
        assert (whole["resumed"], whole["resumed_at_steps"]) == (0, [])
        assert done.artefact.measures["resumed"] == 1 and done.artefact.measures["resumed_at_steps"][0] > 0
        assert done.artefact.measures["tokens"] == whole["tokens"]
    assert dict(losses(expert)) == pytest.approx(dict(losses(trained)), rel=0.02)
    assert [step for step, _ in losses(expert)] == [step for step, _ in losses(trained)], "a step is missing or twice"


def test_ctrl_c_keeps_a_checkpoint_and_finish_ends_with_the_best(tmp_path: Path) -> None:
    expert = made(tmp_path / "stopped", epochs=400.0, evaluations=100, patience=0)
    partial = artefacts_of(expert) / "train.partial" / "scratch" / "checkpoints"
    command = [sys.executable, "-m", "werkmeister.cli", "train", str(expert)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    wait_for(lambda: any(partial.glob("checkpoint-*/trainer_state.json")), running)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == StoppedByUser.exit_code
    assert "checkpoint is kept" in errors
    done = run_stage(read_expert(expert), "train", finish=True)
    assert done.artefact.measures["finished_early_at_step"] > 0
    assert done.artefact.measures["steps"] < 400 * 54 / 8


class Pressing(Silent):
    """Presses Ctrl-C when the bar of the training stands at one of `steps`."""

    def __init__(self, *steps: int) -> None:
        self._steps = steps
        self._at = 0.0

    @contextmanager
    def track(self, label: str, total: float | None) -> Iterator["Pressing"]:
        self._at = 0.0
        yield self

    def advance(self, amount: float = 1, **shown: str) -> None:
        self._at += amount
        if self._at in self._steps and shown:
            signal.raise_signal(signal.SIGINT)


def test_the_manifest_tells_totals_over_all_runs(trained: Path, tmp_path: Path) -> None:
    expert = made(tmp_path / "thrice")
    for step in (7, 19):
        with pytest.raises(StoppedByUser, match=f"stopped at step {step} of"):
            run_stage(read_expert(expert), "train", progress=Pressing(step))
    measures = run_stage(read_expert(expert), "train").artefact.measures
    whole = open_artefact(artefacts_of(trained) / "train", "train").measures
    assert (measures["resumed"], measures["resumed_at_steps"]) == (2, [7, 19])
    assert measures["tokens"] == whole["tokens"]
    # The manifest rounds seconds to a tenth.
    assert measures["tokens"] / measures["tokens_per_second"] == pytest.approx(measures["training_seconds"], abs=0.051)
    assert measures["seconds"] > measures["training_seconds"]
    marks = [entry["seconds"] for entry in history(expert) if "seconds" in entry]
    assert marks == sorted(marks) and marks[-1] == pytest.approx(measures["training_seconds"], abs=0.1)


def test_steps_that_a_kill_took_back_count_once_in_the_adapter_and_twice_in_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from werkmeister.building.runs import Runs

    clock = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: clock)
    file = tmp_path / "runs.jsonl"
    first = Runs(file)
    first.begin(0)
    for step in range(1, 9):
        clock += 10
        first.note(step, step * 100, step * 9.0)
    with file.open("a") as stream:
        stream.write('{"run": 0, "step": 9, "tok')  # The kill.
    clock += 1000
    second = Runs(file)
    second.begin(4)
    for step in range(5, 11):
        clock += 10
        second.note(step, (step - 4) * 100, (step - 4) * 9.0)
    found = Runs(file).measures(10)
    assert (found["tokens"], found["training_seconds"], found["seconds"]) == (1000, 90.0, 140.0)
    assert (found["resumed"], found["resumed_at_steps"]) == (1, [4])
    assert Runs(file).measures(4)["tokens"] == 400
    assert Runs(file).measures(11) == {}


@pytest.mark.parametrize("when", ["in the last step", "in the final evaluation"])
def test_ctrl_c_at_the_very_end_is_not_swallowed_and_nothing_is_lost(
    when: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from werkmeister.building.trainer import ExpertTrainer

    steps = open_artefact(artefacts_of(trained) / "train", "train").measures["steps"]
    expert = made(tmp_path / "late")
    own = ExpertTrainer.evaluate

    def evaluate(trainer, *args, **kwargs):
        if trainer.state.global_step == steps:
            signal.raise_signal(signal.SIGINT)
        return own(trainer, *args, **kwargs)

    if when == "in the final evaluation":
        monkeypatch.setattr(ExpertTrainer, "evaluate", evaluate)
    with pytest.raises(StoppedByUser, match="complete"):
        run_stage(read_expert(expert), "train", progress=Pressing(steps) if when == "in the last step" else Silent())
    assert not run_stage(read_expert(expert), "train").reason, "the artefact is whole, and nothing is made again"
    assert dict(losses(expert)) == pytest.approx(dict(losses(trained)), rel=0.02)


def test_an_expert_moved_between_kill_and_resume_keeps_its_best_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from werkmeister.building import trainer as training

    expert = made(tmp_path / "here")
    own = training.ExpertTrainer.evaluate
    falling = iter([3.0, 1.0, 2.0, 4.0])

    def evaluate(trainer, *args, **kwargs):
        return own(trainer, *args, **kwargs) | {"eval_loss": next(falling)}

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training.ExpertTrainer, "evaluate", evaluate)
        patched.setattr(training, "require_finite", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stage(read_expert(expert), "train")
    moved = expert.rename(tmp_path / "there")
    kept = sorted(
        (artefacts_of(moved) / "train.partial" / "scratch" / "checkpoints").glob("checkpoint-*/adapter_model*")
    )
    assert len(kept) == 2
    best = min(kept, key=lambda file: int(file.parent.name.rpartition("-")[2]))
    expected = best.read_bytes()
    done = run_stage(read_expert(moved), "train")
    assert done.artefact.file("adapter/adapter_model.safetensors").read_bytes() == expected


def test_too_small_a_disk_is_said_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expert = made(tmp_path / "expert")
    monkeypatch.setattr("werkmeister.bases.load.load_model", None)
    monkeypatch.setattr("werkmeister.machine.free_disk", lambda _: 100_000)
    with pytest.raises(MachineError, match=r"training .* needs .*kB on the disk"):
        run_stage(read_expert(expert), "train")


def wait_for(condition, running) -> None:
    end = time.monotonic() + 120
    while not condition() and running.poll() is None:
        assert time.monotonic() < end, "no checkpoint in two minutes"
        time.sleep(0.02)


def test_finish_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    expert = made(tmp_path / "fresh")
    with pytest.raises(ArtefactError, match="no interrupted run"):
        run_stage(read_expert(expert), "train", finish=True)


def test_finish_with_other_settings_touches_nothing_and_a_new_run_sets_the_old_one_aside(tmp_path: Path) -> None:
    expert = made(tmp_path / "expert")
    partial = artefacts_of(expert) / "train.partial"
    partial.mkdir()
    (partial / "draft.json").write_text('{"key": "another"}')
    (partial / "checkpoint").write_text("hours of work")
    with pytest.raises(ArtefactError, match="nothing was touched"):
        run_stage(read_expert(expert), "train", finish=True)
    assert (partial / "checkpoint").read_text() == "hours of work"
    run_stage(read_expert(expert, ["train.epochs=0.2", "train.evaluations=1"]), "train")
    assert (artefacts_of(expert) / "train.abandoned" / "checkpoint").read_text() == "hours of work"


def test_a_family_that_export_cannot_convert_is_refused_before_training(tmp_path: Path) -> None:
    expert = made(tmp_path / "expert")
    config = expert / "base" / "config.json"
    config.write_text(config.read_text().replace('"attention_bias": false', '"attention_bias": true'))
    run_stage(read_expert(expert), "dataset")
    with pytest.raises(BaseModelError, match="cannot convert"):
        run_stage(read_expert(expert), "train")
    assert not (artefacts_of(expert) / "train.partial").exists()


def test_a_loss_that_is_not_finite_is_told_and_leaves_no_artefact(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    expert = made(tmp_path / "wild", evaluations=1)
    weights = expert / "base" / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.layers.0.mlp.down_proj.weight"][:] = 3e38  # Overflows like fp16 under Gemma 3.
    save_file(tensors, weights, {"format": "pt"})
    run_stage(read_expert(expert), "dataset")
    with pytest.raises(TrainingError, match="not finite") as caught:
        run_stage(read_expert(expert), "train")
    assert "train.learning_rate" in caught.value.hint
    assert not (artefacts_of(expert) / "train").exists()


@pytest.mark.parametrize("family", [write_llama, write_qwen3, write_phi3, write_gemma3], ids=lambda f: f.__name__[6:])
def test_every_family_trains_and_the_adapter_touches_the_text_part_alone(family, tmp_path: Path) -> None:
    from safetensors import safe_open

    expert = tiny_expert(tmp_path / "expert", checkpoint=family, train=QUICK | {"epochs": 1.0, "evaluations": 1})
    run_stage(read_expert(expert), "dataset")
    done = run_stage(read_expert(expert), "train")
    with safe_open(done.artefact.file("adapter/adapter_model.safetensors"), "pt") as tensors:
        names = list(tensors.keys())
    assert names
    assert not [name for name in names if "vision" in name or "projector" in name]
    assert done.artefact.measures["training_loss"] > 0


def test_nf4_trains_on_a_cpu_when_it_is_asked_for(tmp_path: Path) -> None:
    expert = made(tmp_path / "nf4", precision="nf4", epochs=1.0, evaluations=1)
    done = run_stage(read_expert(expert), "train")
    assert done.artefact.measures["precision"] == "nf4"


@pytest.mark.gpu
def test_on_a_gpu_the_base_is_in_nf4(tmp_path: Path) -> None:
    expert = made(tmp_path / "gpu", epochs=2.0)
    done = run_stage(read_expert(expert), "train")
    assert done.artefact.measures["precision"] == "nf4"
    assert os.environ.get("CUDA_VISIBLE_DEVICES", "0") != ""
