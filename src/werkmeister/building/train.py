"""The stage train: QLoRA on a dataset's examples, giving a LoRA adapter."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.artefact import Artefact, Draft, making, open_artefact, sha256_of
from werkmeister.building.order import padding_share, training_order
from werkmeister.building.recipe import Recipe, derive_recipe, quantization_config, torch_dtype
from werkmeister.building.runs import Runs
from werkmeister.chat import Example, read_examples
from werkmeister.config import as_json, setting
from werkmeister.errors import ArtefactError, StoppedByUser, TrainingError
from werkmeister.machine import in_words, need_disk
from werkmeister.progress import Progress, Silent

if TYPE_CHECKING:
    from werkmeister.bases.base import Base

VERSION = 1
VALID_LIMIT = 128
"""Validation examples that a run looks at: enough to rank checkpoints, few enough to cost a minute at most."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """QLoRA: the base frozen (in 4-bit NF4 on a GPU), low-rank adapters trained on the answers."""

    rank: int = setting(16, help="rank of the adapters", low=1, high=1024)
    alpha: float = setting(32.0, help="the adapters' product is scaled by alpha / rank", low=0.001)
    targets: tuple[str, ...] = setting(
        ("q_proj", "k_proj", "v_proj", "o_proj"), help='linear layers that get an adapter, or ["all-linear"]'
    )
    dropout: float = setting(0.0, help="dropout in front of the adapters", low=0.0, high=0.9)
    learning_rate: float = setting(2e-4, help="peak learning rate of AdamW", low=1e-9, high=1.0)
    schedule: str = setting(
        "cosine", help="course of the learning rate", choices=("cosine", "linear", "constant_with_warmup")
    )
    warmup: float = setting(0.03, help="share of the steps in which the learning rate rises", low=0.0, high=0.9)
    weight_decay: float = setting(0.0, help="weight decay of AdamW", low=0.0, high=1.0)
    epochs: float = setting(3.0, help="how often each example is seen; may be a fraction", low=0.001, high=1000)
    batch_size: int = setting(16, help="learnt from in one step", unit="examples", low=1, high=4096)
    micro_batch: int = setting(
        0, help="computed at once; 0: derived from the length of the examples", unit="examples", low=0
    )
    precision: str = setting(
        "auto",
        help="of the frozen base; auto: nf4 on a GPU, and on a CPU bf16 where it has it, else fp32",
        choices=("auto", "nf4", "bf16", "fp16", "fp32"),
    )
    evaluations: int = setting(8, help="times the validation loss is measured and a checkpoint is kept", low=1)
    seed: int = setting(0, help="seed of adapters, order and dropout", low=0)


def train(
    dataset: Path,
    output: Path,
    settings: TrainSettings,
    *,
    expert: Path | None = None,
    progress: Progress | None = None,
    finish: bool = False,
) -> Artefact:
    """Train an adapter on a dataset artefact; the result is an artefact of kind "train".

    `expert` is the folder that a relative base name counts from. An interrupted run with the same inputs and settings
    goes on from its last checkpoint with optimizer, schedule and order of the data. `finish` ends such a run with its
    best checkpoint instead. Raises TrainingError when no token is left to learn or the loss is not finite, and
    StoppedByUser after Ctrl-C, with the checkpoint kept.
    """
    from werkmeister.bases.find import find_same_base

    progress = progress or Silent()
    data = open_artefact(dataset, "dataset", make_with="werkmeister dataset")
    facts = data.facts
    base = find_same_base(facts["base"], expert=expert, progress=progress)
    from werkmeister.building.convert import require_convertible

    require_convertible(base)
    inputs, chosen = {"dataset": data.identity}, as_json(settings)
    with making("train", output, version=VERSION, inputs=inputs, settings=chosen, resume_only=finish) as draft:
        recipe = derive_recipe(
            precision=settings.precision,
            batch_size=settings.batch_size,
            micro_batch=settings.micro_batch,
            longest=facts["longest_tokens"],
            context_length=base.context_length,
            architecture=base.architecture,
        )
        progress.say(recipe.words())
        run = _Run(draft, base, data, settings, recipe, progress)
        measures = run.finish() if finish else run.go()
        draft.measures.update(measures)
        draft.facts.update(
            base=facts["base"],
            system=facts["system"],
            max_length=recipe.max_length,
            rank=settings.rank,
            alpha=settings.alpha,
            targets=measures.pop("targets"),
        )
    if run.stopped:
        raise StoppedByUser(
            f"stopped; the training was at its end, and {output} is complete",
            hint="the same command goes on with what comes after it",
        )
    return open_artefact(output, "train")


class _Run:
    """One training run: what it reads, and the folder it writes."""

    def __init__(
        self, draft: Draft, base: Base, data: Artefact, settings: TrainSettings, recipe: Recipe, progress: Progress
    ) -> None:
        self.draft, self.base, self.data = draft, base, data
        self.settings, self.recipe, self.progress = settings, recipe, progress
        self.checkpoints = draft.scratch / "checkpoints"
        self.history = draft.path / "history.jsonl"
        self.runs = Runs(draft.scratch / "runs.jsonl")
        self.stopped = False  # Ctrl-C came when the last step was made: nothing is left to stop.

    def go(self) -> dict[str, Any]:
        """Train from the last checkpoint, or from the start, to the end."""
        self._need_disk()
        _quiet()
        from werkmeister.building.trainer import Watch, read_history, require_finite, stop_on_interrupt

        train_rows, valid_rows, order = self._rows()
        trainer = self._trainer(train_rows, valid_rows, order)
        last = _last_checkpoint(self.checkpoints)
        done = int(last.name.rpartition("-")[2]) if last else 0
        if last:
            self.progress.say(f"resuming at step {done}")
        kept = read_history(self.history, done)
        self.history.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")
        steps = -(-len(order) // self.settings.batch_size)
        with self.progress.track("train", steps) as track, stop_on_interrupt() as stop:
            track.advance(done)
            watch = Watch(trainer, track, self.history, self.runs, stop, done)
            trainer.add_callback(watch)
            self.runs.begin(done)
            trainer.train(resume_from_checkpoint=str(last) if last else None)
            self.runs.note(trainer.state.global_step, trainer.tokens_seen, watch.step_seconds)
            require_finite(watch, self.settings.learning_rate, self.recipe.compute)
            if stop.is_set() and trainer.state.global_step < steps:
                raise StoppedByUser(
                    f"stopped at step {trainer.state.global_step} of {steps}; the checkpoint is kept",
                    hint="the same command goes on; werkmeister train EXPERT --finish ends with the best checkpoint",
                )
        self.stopped = stop.is_set()
        trainer.save_model(str(self.draft.path / "adapter"))
        targets = sorted(trainer.model.peft_config["default"].target_modules)
        return self._complete(trainer.state, targets) | self.runs.measures(trainer.state.global_step)

    def finish(self) -> dict[str, Any]:
        """End an interrupted run with the best checkpoint that it left."""
        from transformers import TrainerState

        from werkmeister.building.trainer import best_checkpoint

        last = _last_checkpoint(self.checkpoints)
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
        from werkmeister.bases.shape import shape_of_folder
        from werkmeister.building.estimate import adapter_parameters, training_disk

        parameters = adapter_parameters(
            shape_of_folder(self.base.folder), rank=self.settings.rank, targets=self.settings.targets
        )
        there = sum(file.stat().st_size for file in self.checkpoints.rglob("*") if file.is_file())
        needed = training_disk(parameters, tokenizer=self.base.folder / "tokenizer.json")
        need_disk(self.draft.path, max(0, needed - there), "training (its checkpoints and the adapter)")

    def _rows(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[int]]:
        from werkmeister.bases.tokens import load_tokenizer

        tokenizer = load_tokenizer(self.base)
        train_rows = _tokenised(tokenizer, list(read_examples(self.data.file("train.jsonl"))))
        valid_rows = _tokenised(tokenizer, list(read_examples(self.data.file("valid.jsonl")))[:VALID_LIMIT])
        learnt = sum(label != -100 for row in train_rows for label in row["labels"])
        if not learnt:
            raise TrainingError(
                "no token is left to learn: every label is masked",
                hint="look at train.jsonl of the dataset: are the answers empty?",
            )
        self.progress.say(_masked_sample(tokenizer, train_rows[0]))
        lengths = [len(row["input_ids"]) for row in train_rows]
        settings = self.settings
        order = training_order(lengths, epochs=settings.epochs, batch_size=settings.batch_size, seed=settings.seed)
        tokens = sum(lengths[i] for i in order)
        padding = padding_share(lengths, order, self.recipe.micro_batch, self.recipe.width_step)
        self.progress.say(
            f"{len(order):,} examples in {-(-len(order) // settings.batch_size):,} steps, {tokens:,} tokens "
            f"({learnt / sum(lengths):.0%} learnt, {padding:.1%} padding on top)"
        )
        return train_rows, valid_rows, order

    def _trainer(self, train_rows: list[Any], valid_rows: list[Any], order: list[int]) -> Any:
        from datasets import Dataset
        from peft import LoraConfig, TaskType
        from transformers.trainer_utils import set_seed

        from werkmeister.bases.load import load_model, lora_targets
        from werkmeister.bases.tokens import load_tokenizer
        from werkmeister.building.fused_lora import fuse_lora
        from werkmeister.building.trainer import ExpertTrainer

        set_seed(self.settings.seed)
        recipe = self.recipe
        stored = recipe.compute if recipe.precision == "nf4" else recipe.precision
        model = load_model(
            self.base,
            dtype=torch_dtype(stored),
            quantization_config=quantization_config(recipe),
            attention=recipe.attention,
        )
        lora = LoraConfig(
            r=self.settings.rank,
            lora_alpha=self.settings.alpha,
            lora_dropout=self.settings.dropout,
            target_modules=lora_targets(model, self.settings.targets),
            task_type=TaskType.CAUSAL_LM,
        )
        trainer = ExpertTrainer(
            model=model,
            args=self._arguments(len(order)),
            train_dataset=Dataset.from_list(train_rows).select(order),
            eval_dataset=Dataset.from_list(valid_rows),
            processing_class=load_tokenizer(self.base),
            peft_config=lora,
        )
        if recipe.fuse:
            fuse_lora(trainer.model)
        from transformers import PrinterCallback, ProgressCallback

        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        return trainer

    def _arguments(self, examples: int) -> Any:
        from trl import SFTConfig

        settings, recipe = self.settings, self.recipe
        steps = -(-examples // settings.batch_size)
        every = max(1, -(-steps // settings.evaluations))
        return SFTConfig(
            output_dir=str(self.checkpoints.resolve()),
            num_train_epochs=1,  # The order already holds all epochs.
            train_sampling_strategy="sequential",
            per_device_train_batch_size=recipe.micro_batch,
            per_device_eval_batch_size=recipe.micro_batch,
            gradient_accumulation_steps=recipe.accumulation,
            learning_rate=settings.learning_rate,
            lr_scheduler_type=settings.schedule,
            warmup_steps=round(settings.warmup * steps),
            weight_decay=settings.weight_decay,
            optim=recipe.optimizer,
            bf16=recipe.compute == "bf16" and recipe.device != "CPU",
            fp16=recipe.compute == "fp16",
            use_cpu=recipe.device == "CPU",
            gradient_checkpointing=recipe.checkpointing,
            pad_to_multiple_of=recipe.width_step,
            max_length=None,  # Nothing is ever cut: the dataset stage left out what is too long.
            dataset_kwargs={"skip_prepare_dataset": True},
            eval_strategy="steps",
            eval_steps=every,
            save_strategy="steps",
            save_steps=every,
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model="eval_loss",
            greater_is_better=False,
            logging_steps=max(1, steps // 100),
            logging_nan_inf_filter=False,  # The watch must see a loss that is not finite.
            report_to=[],
            disable_tqdm=True,
            seed=settings.seed,
            data_seed=settings.seed,
            dataloader_num_workers=0,
            dataloader_pin_memory=recipe.device != "CPU",
        )

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
        valid = series["validation"]
        best = min(valid, key=lambda point: point[1]) if valid else (None, None)
        size = (self.draft.path / "adapter" / "adapter_model.safetensors").stat().st_size
        self.progress.say(f"adapter: {in_words(size)}; lowest validation loss {best[1]} at step {best[0]}")
        return {
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


def _tokenised(tokenizer: Any, examples: Sequence[Example]) -> list[dict[str, Any]]:
    from werkmeister.bases.tokens import examples_ids

    return [
        {"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion}
        for prompt, completion in examples_ids(tokenizer, examples)
    ]


def _masked_sample(tokenizer: Any, row: dict[str, Any]) -> str:
    """One example as the loss sees it: the masked part in ⟨⟩, the learnt part behind it."""
    start = next(i for i, label in enumerate(row["labels"]) if label != -100)
    masked, learnt = tokenizer.decode(row["input_ids"][:start]), tokenizer.decode(row["input_ids"][start:])
    return f"masked ⟨{masked.strip()}⟩ learnt: {learnt}"


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    whole = ("trainer_state.json", "adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")
    for checkpoint in found:
        if all((checkpoint / name).is_file() for name in whole):
            return checkpoint
    return None


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
