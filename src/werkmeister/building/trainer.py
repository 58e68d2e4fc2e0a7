"""TRL's SFTTrainer with a loss that costs nothing on prompt tokens and steps in pieces, and the callbacks of a run."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback
from trl import SFTTrainer

from werkmeister.building import processes
from werkmeister.building.answering_forward import answer_in_forward
from werkmeister.building.choosing import Chooser, evaluations_since_best
from werkmeister.building.pieces import Pieces
from werkmeister.building.runs import OFTEN, Runs, read_lines
from werkmeister.building.threads import ThreadChoice
from werkmeister.building.weighing import WeightCollator
from werkmeister.errors import TrainingError
from werkmeister.progress import Track


class ExpertTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer whose loss runs the LM head on labelled positions alone, and whose steps are computed in `pieces`.

    TRL's fused head leaves masked positions out only where Triton runs; elsewhere it projects every position, and
    with a vocabulary of 49,152 that is a fifth of the work. `tokens_seen` counts tokens without padding.
    """

    tokens_seen = 0

    def __init__(self, *args: Any, pieces: Pieces, chooser: Chooser | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pieces = pieces
        self.data_collator: Any = WeightCollator(self.data_collator)
        self.chooser = chooser
        answer_in_forward(self.model)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The validation loss, and with a chooser the mark of the validation answers (see `choosing`)."""
        metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        if self.chooser is not None:
            found = self.chooser.look(self.model, self.state.global_step, metrics["eval_loss"])
            self.log({"eval_mark": found["eval_mark"]})
            metrics |= found
        return metrics

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """Loss and gradients of a whole step, computed in pieces that fit the memory."""
        model.train()

        def work() -> Any:
            total: Any = 0.0
            pieces = self.pieces.of(inputs)
            for piece in pieces:
                last = piece is pieces[-1] or processes.count() == 1 or processes.is_sharded()
                with nullcontext() if last else self.accelerator.no_sync(model):
                    with self.compute_loss_context_manager():
                        loss = self.compute_loss(
                            model, self._prepare_inputs(piece), num_items_in_batch=num_items_in_batch
                        )
                    self.accelerator.backward(loss)
                total = total + loss.detach()
            return total

        found = self.pieces.without_running_out(self.state.global_step, inputs, work, clear=self._forget_gradients)
        # A row without an answer only fills up the last step of several processes.
        self.tokens_seen += int(inputs["attention_mask"][(inputs["labels"] != -100).any(1)].sum())
        return found

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, None, None]:
        """The mean loss of a validation batch in pieces, without logits to keep."""
        own = (inputs["labels"][:, 1:] != -100, inputs.get("weights"))
        count = own[0].sum() if own[1] is None else own[1][:, 1:][own[0]].sum()

        def work() -> Any:
            parts = []
            for piece in self.pieces.of(inputs):
                with torch.no_grad(), self.compute_loss_context_manager():
                    ready = self._prepare_inputs(piece)
                    parts.append(self.compute_loss(model, ready, num_items_in_batch=count.to(ready["labels"].device)))
            return torch.stack(parts).sum()

        return self.pieces.without_running_out(self.state.global_step, inputs, work), None, None

    def _forget_gradients(self) -> None:
        self.model.zero_grad(set_to_none=True)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Mean negative log-likelihood over the labelled tokens of the whole step."""
        labels, weights = inputs["labels"], inputs.pop("weights", None)
        if return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        told = num_items_in_batch if num_items_in_batch is not None else (labels[:, 1:] != -100).sum()
        count = torch.as_tensor(told).clamp(min=1e-6)
        others = {name: value for name, value in inputs.items() if name != "labels"}
        loss = model(**others, answers=(labels, count, weights))
        # Gradients are averaged over the processes, and `count` is already the sum of all.
        return loss * processes.count() if model.training else loss

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Any:
        """What the losses of a step are divided by: its labelled tokens, each as often as its example weighs."""
        if not batch_samples or "weights" not in batch_samples[0]:
            return super()._get_num_items_in_batch(batch_samples, device)
        labels, weights = ([batch[key][:, 1:] for batch in batch_samples] for key in ("labels", "weights"))
        count = torch.stack([w[own != -100].sum() for own, w in zip(labels, weights, strict=True)]).sum().to(device)
        return self.accelerator.gather(count).sum() if self.args.world_size > 1 else count

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: the artefact's manifest and the dossier say it, and say it once."""


class Watch(TrainerCallback):  # type: ignore[misc]
    """Feeds the bar, keeps history and journal on disk, stops on a loss that is not finite or on Ctrl-C."""

    def __init__(
        self, trainer: ExpertTrainer, track: Track, history: Path, runs: Runs, stop: threading.Event, done_steps: int
    ) -> None:
        self.finite = True
        self.patience, self.early = 0, False
        self.step_seconds = 0.0
        self.tokens = 0
        self._gauged: Mapping[str, Any] = {}
        self._trainer = trainer
        self._track = track
        self._history = history
        self._runs = runs
        self._noted = time.monotonic()
        self._stop = stop
        self._threads = ThreadChoice()
        self._shown: dict[str, str] = {}
        self._begin = time.perf_counter()
        self._last = done_steps

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find the best checkpoint where it lies now: a resumed state names it by the path of the run that saved it."""
        best = best_checkpoint(state, Path(args.output_dir))
        state.best_model_checkpoint = str(best) if best else None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock of one optimizer step; evaluation and checkpoints lie between steps."""
        self._begin = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Advance the bar by one optimizer step, and note where the run stands before anything is saved."""
        self.step_seconds += time.perf_counter() - self._begin
        self._threads.look()
        (self.tokens,) = processes.sums_of_all(self._trainer.tokens_seen)
        self._shown["tokens/s"] = f"{self.tokens / self.step_seconds:.0f}"
        self._track.advance(state.global_step - self._last, **self._shown)
        self._last = state.global_step
        if any(processes.sums_of_all(self._stop.is_set())):
            self._stop.set()
            control.should_save = True
            control.should_training_stop = True
        if self.patience and evaluations_since_best(state.log_history, state.best_global_step) >= self.patience:
            # Looked at a step late and not at once, so that a run that is resumed here ends here too.
            self.early = control.should_training_stop = True
        if control.should_save or control.should_log or time.monotonic() - self._noted > OFTEN:
            self._note(state.global_step)
        return control

    def _note(self, step: int) -> None:
        self._noted = time.monotonic()
        if processes.is_main():
            self._gauged = self._runs.note(step, self.tokens, self.step_seconds)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
        """Write the log line, and stop at once when the loss is no number."""
        entry = {key: value for key, value in (logs or {}).items() if key in _KEPT} | {"step": state.global_step}
        if len(entry) == 1:
            return control
        if "loss" in entry:
            totals = self._runs.totals(self.tokens, self.step_seconds)
            entry |= {"tokens": totals["tokens"], "seconds": totals["training_seconds"]}
            entry |= {name: self._gauged[name] for name in _GAUGED if name in self._gauged}
        if processes.is_main():
            with self._history.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        for key in ("loss", "eval_loss"):
            if key in entry:
                self._shown[key.replace("eval_", "valid ")] = f"{entry[key]:.4f}"
                if not math.isfinite(entry[key]):
                    self.finite = False
                    control.should_training_stop = True
        return control


_GAUGED = ("memory", "gpu_memory", "gpu_power")
_KEPT = ("loss", "eval_loss", "eval_mark", "learning_rate", "grad_norm", "epoch")


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that a step ends whole; the second one interrupts as usual.

    A launcher of several processes passes Ctrl-C on as SIGTERM, which counts alike there.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    heard = (signal.SIGINT, signal.SIGTERM) if processes.count() > 1 else (signal.SIGINT,)
    before = {number: signal.getsignal(number) for number in heard}

    def first(number: int, frame: FrameType | None) -> None:
        event.set()
        restore()

    def restore() -> None:
        for number in heard:
            signal.signal(number, before[number])

    for number in heard:
        signal.signal(number, first)
    try:
        yield event
    finally:
        restore()


def read_history(path: Path, upto: int) -> list[dict[str, float]]:
    """The log lines of a run up to a step; a resumed run writes the lines after its checkpoint again."""
    return [entry for entry in read_lines(path) if entry["step"] <= upto]


def best_checkpoint(state: Any, checkpoints: Path) -> Path | None:
    """The checkpoint that the state names the best, by mark or validation loss, where it lies in `checkpoints`.

    It is found by its step. The absolute path in the state is that of the run that saved it, and the expert's folder
    may have been moved, or copied and the original left behind, since then.
    """
    best = checkpoints / f"checkpoint-{state.best_global_step}"
    return best if state.best_global_step and best.is_dir() else None


def require_finite(watch: Watch, learning_rate: float, compute: str) -> None:
    """Raise TrainingError when the watch stopped the run for its loss."""
    if not watch.finite:
        raise TrainingError(
            f"the loss is not finite any more (learning rate {learning_rate}, arithmetic in {compute})",
            hint=f"lower the learning rate: --set train.learning_rate={learning_rate / 4:g}, "
            'or set train.precision = "fp32"',
        )
