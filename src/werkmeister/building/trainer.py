"""TRL's SFTTrainer with a loss that costs a CPU nothing on prompt tokens, and the callbacks of a run."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback
from trl import SFTTrainer

from werkmeister.building.answer_loss import AnswerLoss
from werkmeister.building.runs import Runs, read_lines
from werkmeister.building.threads import ThreadChoice
from werkmeister.errors import TrainingError
from werkmeister.progress import Track


class ExpertTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer whose loss, on a CPU, runs the LM head on labelled positions alone.

    TRL's fused head leaves masked positions out only where Triton runs; elsewhere it projects every position, and
    with a vocabulary of 49,152 that is a fifth of the work. `tokens_seen` counts tokens without padding.
    """

    tokens_seen = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._answer_loss = AnswerLoss()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Mean negative log-likelihood over the labelled tokens of the whole step."""
        if model.training:
            self.tokens_seen += int(inputs["attention_mask"].sum())
        if inputs["input_ids"].device.type != "cpu" or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"][:, 1:]
        causal = model.get_base_model()
        hidden = causal.base_model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
        ).last_hidden_state[:, :-1]
        learnt = labels != -100
        cap = getattr(causal.config.get_text_config(), "final_logit_softcapping", None) or 0.0
        count = torch.as_tensor(num_items_in_batch if num_items_in_batch is not None else learnt.sum()).clamp(min=1)
        return self._answer_loss(hidden[learnt], causal.get_output_embeddings(), labels[learnt], count, cap)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: the artefact's manifest and the dossier say it, and say it once."""


class Watch(TrainerCallback):  # type: ignore[misc]
    """Feeds the bar, keeps history and journal on disk, stops on a loss that is not finite or on Ctrl-C."""

    def __init__(
        self, trainer: ExpertTrainer, track: Track, history: Path, runs: Runs, stop: threading.Event, done_steps: int
    ) -> None:
        self.finite = True
        self.step_seconds = 0.0
        self._trainer = trainer
        self._track = track
        self._history = history
        self._runs = runs
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
        self._shown["tokens/s"] = f"{self._trainer.tokens_seen / self.step_seconds:.0f}"
        self._track.advance(state.global_step - self._last, **self._shown)
        self._last = state.global_step
        if self._stop.is_set():
            control.should_save = True
            control.should_training_stop = True
        if control.should_save or control.should_log:
            self._runs.note(state.global_step, self._trainer.tokens_seen, self.step_seconds)
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
        """Write the log line, and stop at once when the loss is no number."""
        entry = {key: value for key, value in (logs or {}).items() if key in _KEPT} | {"step": state.global_step}
        if len(entry) == 1:
            return control
        if "loss" in entry:
            totals = self._runs.totals(self._trainer.tokens_seen, self.step_seconds)
            entry |= {"tokens": totals["tokens"], "seconds": totals["training_seconds"]}
        with self._history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        for key in ("loss", "eval_loss"):
            if key in entry:
                self._shown[key.replace("eval_", "valid ")] = f"{entry[key]:.4f}"
                if not math.isfinite(entry[key]):
                    self.finite = False
                    control.should_training_stop = True
        return control


_KEPT = ("loss", "eval_loss", "learning_rate", "grad_norm", "epoch")


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that a step ends whole; the second one interrupts as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGINT)

    def first(number: int, frame: FrameType | None) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, first)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def read_history(path: Path, upto: int) -> list[dict[str, float]]:
    """The log lines of a run up to a step; a resumed run writes the lines after its checkpoint again."""
    return [entry for entry in read_lines(path) if entry["step"] <= upto]


def best_checkpoint(state: Any, checkpoints: Path) -> Path | None:
    """The checkpoint of the lowest validation loss among those that lie in `checkpoints`.

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
