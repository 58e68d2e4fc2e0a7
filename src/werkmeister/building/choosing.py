"""Which checkpoint is the best: by the exam's own mark on validation answers, near ties by the validation loss."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.building.runs import read_lines
from werkmeister.chat import Example
from werkmeister.engines.engine import Sampling

if TYPE_CHECKING:
    from werkmeister.bases.base import Base
    from werkmeister.building.rows import Rows
    from werkmeister.building.settings import TrainSettings
    from werkmeister.progress import Progress

Mark = Callable[[str, Example], float]
"""From an answer and its example to a score between 0 and 1."""
Grader = Callable[[Sequence[Example]], tuple[str, Mark]]
"""From the examples to the exam's mark for them and its name. It comes from outside: marks are of another room."""

FEWEST, MOST = 8, 32
"""Validation examples that are answered at each evaluation; with fewer than the first no mark is worth its cost."""
_SHARE = 0.1
_TRAINING_TOKENS = {"cpu": 3.0, "cuda": 30.0}
"""What one generated token costs in trained ones, in a batch of eight: measured on a CPU (EXPERIMENTS.md), on a GPU
estimated from the steps a second."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One evaluation: the optimizer `step`, the validation loss in nats a token, the `scores` of the answers, and the
    seconds that answering and marking took; `better` says that the checkpoint of this step became the best."""

    step: int
    loss: float
    scores: tuple[float, ...]
    seconds: float
    better: bool

    @property
    def mark(self) -> float:
        """The mean score."""
        return statistics.fmean(self.scores)


def beats(scores: Sequence[float], loss: float, best: Look | None) -> bool:
    """Whether a checkpoint replaces the best so far.

    It does when its mark is higher by more than one standard error of the paired difference, and when the marks are
    nearer than that and its validation loss is lower. A few dozen answers cannot rank checkpoints that are nearly
    alike, and the loss can (the one-standard-error rule of Breiman et al. 1984, between two candidates).
    """
    if best is None:
        return True
    gaps = [new - old for new, old in zip(scores, best.scores, strict=True)]
    gap = statistics.fmean(gaps)
    error = statistics.stdev(gaps) / math.sqrt(len(gaps)) * (1 + 1e-9)
    return gap > error or (gap >= -error and loss < best.loss)


def affordable(
    *, prompt: float, answer: int, evaluations: int, training_tokens: int, device: str, most: int = MOST
) -> int:
    """How many validation examples may be answered at each evaluation, so that all of it takes at most a tenth of the
    training: at most `most`, 0 when fewer than `FEWEST` are affordable.

    `prompt` is the mean length of their prompts and `answer` the longest answer allowed, in tokens: a model that has
    learnt nothing yet goes on to the limit. Derived from tokens and not from a clock, so that the choice of the
    checkpoint does not hang on what else the machine was doing.
    """
    # Reading a prompt is a forward pass, a third of a trained token.
    one = prompt / 3 + answer * _TRAINING_TOKENS[device]
    count = int(_SHARE * training_tokens / (evaluations * one))
    return min(count, most) if count >= FEWEST else 0


def spread(examples: Sequence[Example], count: int) -> list[Example]:
    """`count` of the examples, evenly spread over their order."""
    return [examples[i * len(examples) // count] for i in range(count)] if len(examples) > count else list(examples)


class Chooser:
    """Answers `examples` greedily at each evaluation, marks the answers, and says whether the checkpoint is the best.

    `file` keeps every look: a resumed run goes on from what was there up to its step.
    """

    def __init__(
        self, file: Path, *, base: Base, tokenizer: Any, examples: Sequence[Example], mark: Mark, longest: int
    ) -> None:
        self._file, self._base, self._tokenizer = file, base, tokenizer
        self._examples, self._mark, self._longest = tuple(examples), mark, longest
        self.looks: list[Look] = []

    def resume(self, step: int) -> None:
        """Forget what was seen after `step`."""
        lines = [line for line in read_lines(self._file) if line["step"] <= step]
        self.looks = [Look(**line | {"scores": tuple(line["scores"])}) for line in lines]
        self._file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    @property
    def best(self) -> Look | None:
        """The look at the best checkpoint so far."""
        return next((look for look in reversed(self.looks) if look.better), None)

    def look(self, model: Any, step: int, loss: float) -> dict[str, float]:
        """Evaluate the model as it is: `eval_mark`, and `eval_choice`, which is highest for the best checkpoint."""
        begin = time.perf_counter()
        scores = tuple(self._mark(text, e) for text, e in zip(self._answers(model), self._examples, strict=True))
        better = beats(scores, loss, self.best)
        look = Look(step=step, loss=loss, scores=scores, seconds=time.perf_counter() - begin, better=better)
        self.looks.append(look)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(look)) + "\n")
        return {"eval_mark": look.mark, "eval_choice": float(sum(one.better for one in self.looks)) * better}

    def _answers(self, model: Any) -> list[str]:
        from werkmeister.engines.transformers import TransformersEngine

        engine = TransformersEngine(model, self._tokenizer, name="checkpoint", batch_size=MOST, stop=self._base.stop)
        prompts = [example.prompt for example in self._examples]
        return [reply.text for reply in engine.replies(prompts, Sampling(max_tokens=self._longest))]


def choose_by(
    file: Path, *, base: Base, rows: Rows, settings: TrainSettings, device: str, grade: tuple[str, Mark]
) -> tuple[Chooser | None, str]:
    """The chooser for a run, and a sentence on what it costs; None where the validation loss is to choose.

    With `select = "mark"` the person has decided, and whatever the cost up to `MOST` examples are answered.
    """
    from werkmeister.bases.tokens import load_tokenizer

    name, mark = grade
    prompts = [sum(label == -100 for label in row["labels"]) for row in rows.valid]
    answers = [len(row["labels"]) - length for row, length in zip(rows.valid, prompts, strict=True)]
    # As the exam allows: the longest answer known, and a quarter more.
    longest = round(max(answers, default=0) * 1.25) + 8
    fitting = [e for e, n in zip(rows.valid_examples, prompts, strict=True) if n + longest <= base.context_length]
    count = MOST
    if settings.select == "auto":
        count = affordable(
            prompt=statistics.fmean(prompts) if prompts else 0.0,
            answer=longest,
            evaluations=settings.evaluations,
            training_tokens=rows.tokens,
            device=device,
        )
    asked = spread(fitting, count)
    if len(asked) < (FEWEST if settings.select == "auto" else 2):
        few = f"{len(fitting)} validation examples are too few to be marked"
        dear = "answers would take over a tenth of the training: too dear to be marked"
        return None, f"best checkpoint by the validation loss ({few if count else dear}; train.select)"
    chooser = Chooser(file, base=base, tokenizer=load_tokenizer(base), examples=asked, mark=mark, longest=longest)
    return chooser, f"best checkpoint by the mark {name} on {len(asked)} validation answers, near ties by the loss"


def measures_of(file: Path, upto: int, progress: Progress) -> dict[str, Any]:
    """What choosing by the mark found and cost, from its file; nothing where the loss chose."""
    looks = [line for line in read_lines(file) if line["step"] <= upto]
    if not looks:
        return {}
    best = next(line for line in reversed(looks) if line["better"])
    seconds, mark = sum(line["seconds"] for line in looks), statistics.fmean(best["scores"])
    progress.say(
        f"mark of the best checkpoint: {mark:.1%} of {len(best['scores'])} validation answers; "
        f"answering and marking took {seconds:.0f} s in {len(looks)} evaluations"
    )
    return {"validation_mark": mark, "marked": len(best["scores"]), "marking_seconds": round(seconds, 1)}


def evaluations_since_best(history: Sequence[dict[str, Any]], best_step: int | None) -> int:
    """How many evaluations came after the best one, from the Trainer's own log."""
    return sum("eval_loss" in entry and entry["step"] > (best_step or 0) for entry in history)
