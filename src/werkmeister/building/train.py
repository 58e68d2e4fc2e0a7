"""The stage train: QLoRA on a dataset's examples, giving a LoRA adapter."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.artefact import Artefact, Draft, open_artefact, sha256_of
from werkmeister.bases.shape import shape_of_folder
from werkmeister.building import processes
from werkmeister.building.card import Card
from werkmeister.building.choosing import Chooser, Grader, choose_by, measures_of
from werkmeister.building.gauge import Gauge, cards_here
from werkmeister.building.presets import settle
from werkmeister.building.recipe import Recipe, derive_recipe, quantization_config, torch_dtype
from werkmeister.building.reporters import prepare_reporter
from werkmeister.building.rows import Rows, longest_tokens, make_rows
from werkmeister.building.run_report import write_run_page
from werkmeister.building.runs import Runs
from werkmeister.building.settings import TrainSettings
from werkmeister.building.together import filling_row, last_checkpoint, shard_adapters, shared_draft
from werkmeister.chat import read_examples
from werkmeister.config import as_json
from werkmeister.errors import ArtefactError, StoppedByUser
from werkmeister.governing.policy import PolicySettings
from werkmeister.machine import in_words, need_disk
from werkmeister.progress import Progress, Silent

if TYPE_CHECKING:
    from werkmeister.bases.base import Base

VERSION = 1


def train(
    dataset: Path,
    output: Path,
    settings: TrainSettings,
    *,
    expert: Path | None = None,
    progress: Progress | None = None,
    finish: bool = False,
    grader: Grader | None = None,
    mark: str = "",
    policy: PolicySettings | None = None,
) -> Artefact:
    """Train an adapter on a dataset artefact; the result is an artefact of kind "train".

    `expert` is the folder that a relative base name counts from. An interrupted run with the same inputs and settings
    goes on from its last checkpoint with optimizer, schedule and order of the data. `finish` ends such a run with its
    best checkpoint instead. `grader` is the exam's mark and `mark` the setting that it was chosen by; without one the
    best checkpoint is that of the lowest validation loss. `policy` says where a tracker may send the curves. Several
    processes may call this together (`processes`); the main one writes. Raises TrainingError when no token is left to
    learn or the loss is not finite, and StoppedByUser after Ctrl-C, with the checkpoint kept.
    """
    from werkmeister.bases.find import find_same_base

    progress = progress or Silent()
    data = open_artefact(dataset, "dataset", make_with="werkmeister dataset")
    facts = data.facts
    reporters = prepare_reporter(settings.report_to, policy or PolicySettings(), output.parent)
    with processes.main_first():
        base = find_same_base(facts["base"], expert=expert, progress=progress)
    from werkmeister.building.convert import require_convertible

    require_convertible(base)
    inputs, chosen = {"dataset": data.identity} | train_inputs(settings, mark), as_json(settings)
    with shared_draft(output, version=VERSION, inputs=inputs, settings=chosen, resume_only=finish) as draft:
        settings, recipe = _derive(settings, data, base, progress)
        run = _Run(draft, base, data, settings, recipe, progress, grader)
        run.reporters = reporters
        measures = run.finish() if finish else run.go()
        draft.measures.update(measures)
        if processes.is_main():
            write_run_page(draft.path, measures, name=(expert or output.parent).resolve().name)
        draft.facts.update(
            base=facts["base"],
            system=facts["system"],
            max_length=recipe.max_length,
            rank=settings.rank,
            alpha=settings.alpha,
            learning_rate=settings.learning_rate,
            epochs=settings.epochs,
            targets=measures.pop("targets"),
        )
    if run.stopped:
        raise StoppedByUser(
            f"stopped; the training was at its end, and {output} is complete",
            hint="the same command goes on with what comes after it",
        )
    return open_artefact(output, "train")


def _derive(settings: TrainSettings, data: Artefact, base: Base, progress: Progress) -> tuple[TrainSettings, Recipe]:
    """What the data, the base and the machine decide where the settings leave it open."""
    examples, shape = data.facts["splits"]["train"]["examples"], shape_of_folder(base.folder)
    settings = settle(settings, examples=examples, width=shape.width, progress=progress)
    recipe = derive_recipe(
        settings=settings,
        shape=shape,
        longest=longest_tokens(data, settings),
        context_length=base.context_length,
        mean_tokens=data.measures["tokens"]["train"]["total"] / max(1, examples),
        processes=processes.count(),
    )
    progress.say(recipe.words())
    return settings, recipe


def train_inputs(settings: TrainSettings, mark: str) -> dict[str, str]:
    """What the adapter depends on beside the dataset: the exam's setting `mark`, where checkpoints are chosen by it."""
    return {"mark": mark} if mark and settings.select != "loss" else {}


class _Run:
    """One training run: what it reads, and the folder it writes."""

    def __init__(
        self,
        draft: Draft,
        base: Base,
        data: Artefact,
        settings: TrainSettings,
        recipe: Recipe,
        progress: Progress,
        grader: Grader | None,
    ) -> None:
        self.draft, self.base, self.data = draft, base, data
        self.settings, self.recipe, self.progress, self.grader = settings, recipe, progress, grader
        self.checkpoints = draft.scratch / "checkpoints"
        self.history = draft.path / "history.jsonl"
        self.gauge = Gauge(cards_here(processes.count_here()))
        self.card = Card(recipe)
        self.runs = Runs(draft.scratch / "runs.jsonl", self.gauge.read)
        self.reporters: list[str] = []
        self.stopped = False  # Ctrl-C came when the last step was made: nothing is left to stop.

    def go(self) -> dict[str, Any]:
        """Train from the last checkpoint, or from the start, to the end."""
        self._need_disk()
        _quiet()
        from werkmeister.building.trainer import Watch, read_history, require_finite, stop_on_interrupt

        kept_answers = self.draft.scratch / "replay.jsonl"
        with processes.main_first():
            rows = make_rows(self.base, self.data, self.settings, self.recipe, kept_answers, self.progress)
        order = rows.order
        chooser = self._chooser(rows)
        trainer = self._trainer(rows, chooser)
        last = last_checkpoint(self.checkpoints)
        done = int(last.name.rpartition("-")[2]) if last else 0
        if last:
            self.progress.say(f"resuming at step {done}")
        main = processes.is_main()
        if main:
            kept = read_history(self.history, done)
            self.history.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")
        steps = -(-len(order) // self.settings.batch_size)
        with self.progress.track("train", steps) as track, stop_on_interrupt() as stop, self.gauge:
            track.advance(done)
            watch = Watch(trainer, track, self.history, self.runs, stop, done)
            watch.patience = self.settings.patience
            if chooser:
                chooser.resume(done)
            trainer.add_callback(watch)
            if main:
                self.runs.begin(done, steps)
            trainer.train(resume_from_checkpoint=str(last) if last else None)
            if main:
                self.runs.note(trainer.state.global_step, watch.tokens, watch.step_seconds)
            require_finite(watch, self.settings.learning_rate, self.recipe.compute)
            if stop.is_set() and trainer.state.global_step < steps:
                raise StoppedByUser(
                    f"stopped at step {trainer.state.global_step} of {steps}; the checkpoint is kept",
                    hint="the same command goes on; werkmeister train EXPERT --finish ends with the best checkpoint",
                )
        self.stopped = stop.is_set()
        trainer.save_model(str(self.draft.path / "adapter"))
        if not main:
            return {"targets": []}
        if kept_answers.is_file():
            (self.draft.path / "replay.jsonl").write_bytes(kept_answers.read_bytes())
        targets = sorted(trainer.model.peft_config["default"].target_modules)
        measures = self._complete(trainer.state, targets) | self.runs.measures(trainer.state.global_step)
        measures |= self.card.measures(trainer.pieces)
        if watch.early:
            measures["ended_early_at_step"] = trainer.state.global_step
            self.progress.say(
                f"ended early at step {trainer.state.global_step} of {steps}: no better checkpoint in "
                f"{self.settings.patience} evaluations (train.patience)"
            )
        return measures | ({"general_examples": rows.general} if rows.general else {})

    def finish(self) -> dict[str, Any]:
        """End an interrupted run with the best checkpoint that it left."""
        from transformers import TrainerState

        from werkmeister.building.trainer import best_checkpoint

        last = last_checkpoint(self.checkpoints)
        if last is None:
            raise ArtefactError("there is no checkpoint to finish from", hint="run werkmeister train without --finish")
        state = TrainerState.load_from_json(str(last / "trainer_state.json"))
        best = best_checkpoint(state, self.checkpoints) or last
        self.progress.say(f"finishing with {best.name}")
        adapter = self.draft.path / "adapter"
        adapter.mkdir(exist_ok=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (adapter / name).write_bytes((best / name).read_bytes())
        targets = sorted(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["target_modules"])
        at = int(best.name.rpartition("-")[2])
        return self._complete(state, targets) | self.runs.measures(at) | {"finished_early_at_step": at}

    def _need_disk(self) -> None:
        """Raise MachineError when the disk cannot hold the adapter and its checkpoints, beside those there already."""
        from werkmeister.building.estimate import adapter_parameters, training_disk

        parameters = adapter_parameters(
            shape_of_folder(self.base.folder), rank=self.settings.rank, targets=self.settings.targets
        )
        there = sum(file.stat().st_size for file in self.checkpoints.rglob("*") if file.is_file())
        needed = training_disk(parameters, tokenizer=self.base.folder / "tokenizer.json")
        need_disk(self.draft.path, max(0, needed - there), "training (its checkpoints and the adapter)")

    def _chooser(self, rows: Rows) -> Chooser | None:
        """What chooses checkpoints by the exam's mark; None where the validation loss does, said why."""
        if self.grader is None or self.settings.select == "loss":
            return None
        if processes.count() > 1:
            self.progress.say("best checkpoint by the validation loss: marks are given by one process alone")
            return None
        pool = [*read_examples(self.data.file("exam.jsonl")), *read_examples(self.data.file("train.jsonl"))]
        chooser, why = choose_by(
            self.draft.scratch / "marks.jsonl",
            base=self.base,
            rows=rows,
            settings=self.settings,
            device="cpu" if self.recipe.device == "CPU" else "cuda",
            grade=self.grader(pool),
        )
        self.progress.say(why)
        return chooser

    def _trainer(self, rows: Rows, chooser: Chooser | None) -> Any:
        from datasets import Dataset
        from peft import LoraConfig, TaskType
        from transformers.trainer_utils import set_seed

        from werkmeister.bases.load import load_model, lora_targets
        from werkmeister.bases.tokens import load_tokenizer
        from werkmeister.building.hasten import hasten
        from werkmeister.building.packing import register_attention
        from werkmeister.building.pieces import Pieces
        from werkmeister.building.trainer import ExpertTrainer

        set_seed(self.settings.seed)
        recipe = self.recipe
        stored = recipe.compute if recipe.precision == "nf4" else recipe.precision
        model = load_model(
            self.base,
            dtype=torch_dtype(stored),
            quantization_config=quantization_config(recipe.precision, recipe.compute, sharded=processes.is_sharded()),
            placed=not processes.is_sharded(),
            attention=register_attention() if recipe.packed else recipe.attention,
        )
        lora = LoraConfig(
            r=self.settings.rank,
            lora_alpha=self.settings.alpha,
            use_rslora=self.settings.rslora,
            lora_dropout=self.settings.dropout,
            target_modules=lora_targets(model, self.settings.targets),
            task_type=TaskType.CAUSAL_LM,
        )
        # Every process gets equally many examples of the last step, some of them with nothing to learn.
        missing = -len(rows.order) % self.settings.batch_size if processes.count() > 1 else 0
        filler = [filling_row(rows.train[0])] if missing else []
        trainer = ExpertTrainer(
            model=model,
            args=self._arguments(len(rows.order), by_mark=chooser is not None),
            train_dataset=Dataset.from_list(rows.train + filler).select(rows.order + [len(rows.train)] * missing),
            eval_dataset=Dataset.from_list(rows.valid),
            chooser=chooser,
            pieces=Pieces(tokens=recipe.tokens, packed=recipe.packed, width_step=recipe.width_step),
            processing_class=load_tokenizer(self.base),
            peft_config=lora,
        )
        if recipe.fuse and not processes.is_sharded():
            hasten(trainer, recipe, dropout=self.settings.dropout)
        self.card.note_loaded()
        shard_adapters(trainer)
        from transformers import PrinterCallback, ProgressCallback

        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        return trainer

    def _arguments(self, examples: int, *, by_mark: bool) -> Any:
        from trl import SFTConfig

        settings, recipe = self.settings, self.recipe
        steps = -(-examples // settings.batch_size)
        every = max(1, -(-steps // settings.evaluations))
        arguments = SFTConfig(
            output_dir=str(self.checkpoints.resolve()),
            num_train_epochs=1,  # The order already holds all epochs.
            train_sampling_strategy="sequential",
            per_device_train_batch_size=recipe.micro_batch * recipe.accumulation,
            per_device_eval_batch_size=recipe.micro_batch,
            gradient_accumulation_steps=1,  # The step comes whole; building/pieces.py divides it.
            learning_rate=settings.learning_rate,
            lr_scheduler_type=settings.schedule,
            warmup_steps=round(settings.warmup * steps),
            weight_decay=settings.weight_decay,
            neftune_noise_alpha=settings.neftune or None,
            optim=recipe.optimizer,
            bf16=recipe.compute == "bf16" and recipe.device != "CPU",
            fp16=recipe.compute == "fp16",
            use_cpu=recipe.device == "CPU",
            gradient_checkpointing=recipe.checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False, "preserve_rng_state": settings.dropout > 0},
            pad_to_multiple_of=recipe.width_step,
            max_length=None,  # Nothing is ever cut: the dataset stage left out what is too long.
            dataset_kwargs={"skip_prepare_dataset": True},
            eval_strategy="steps",
            eval_steps=every,
            save_strategy="steps",
            save_steps=every,
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model="eval_choice" if by_mark else "eval_loss",
            greater_is_better=by_mark,
            remove_unused_columns=False,  # They are ours; an example's weight is one.
            logging_steps=max(1, steps // 100),
            logging_nan_inf_filter=False,  # The watch must see a loss that is not finite.
            report_to=self.reporters,
            run_name=self.draft.path.parent.parent.name,
            ddp_find_unused_parameters=False,
            disable_tqdm=True,
            seed=settings.seed,
            data_seed=settings.seed,
            dataloader_num_workers=0,
            dataloader_pin_memory=recipe.device != "CPU",
        )
        # One process trains on one GPU: over all that it sees the Trainer lays DataParallel, and multiplies the step.
        arguments._n_gpu = min(1, arguments.n_gpu)
        return arguments

    def _complete(self, state: Any, targets: Sequence[str]) -> dict[str, Any]:
        from werkmeister.building.trainer import read_history
        from werkmeister.drawing import line_chart

        for extra in (self.draft.path / "adapter").iterdir():
            if extra.name not in ("adapter_config.json", "adapter_model.safetensors"):
                extra.unlink()
        history = read_history(self.history, state.global_step)
        series = {
            name: [(entry["step"], entry[key]) for entry in history if key in entry]
            for name, key in (("training", "loss"), ("validation", "eval_loss"))
        }
        chart = line_chart(series, title="Loss", x_label="step", y_label="nats per learnt token", log_y=True)
        (self.draft.path / "loss.svg").write_text(chart, encoding="utf-8")
        valid = dict(series["validation"])
        best = (state.best_global_step, valid.get(state.best_global_step)) if valid else (None, None)
        size = (self.draft.path / "adapter" / "adapter_model.safetensors").stat().st_size
        self.progress.say(f"adapter: {in_words(size)}; best checkpoint at step {best[0]}, validation loss {best[1]}")
        return measures_of(self.draft.scratch / "marks.jsonl", state.global_step, self.progress) | {
            "targets": list(targets),
            "steps": state.global_step,
            "device": self.recipe.device,
            "precision": self.recipe.precision,
            "compute": self.recipe.compute,
            "training_loss": series["training"][-1][1] if series["training"] else None,
            "validation_loss": best[1],
            "best_step": best[0],
            "adapter_sha256": sha256_of(self.draft.path / "adapter" / "adapter_model.safetensors"),
        }


def _quiet() -> None:
    """Keep the libraries' own bars and notes away from ours."""
    import logging
    import warnings

    import transformers

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)  # It misses optional kernels, aloud.
    warnings.filterwarnings("ignore", category=FutureWarning)
