"""The best checkpoint by the exam's mark, the loss near ties, and the early end."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checkpoints import tiny_expert
from werkmeister.building.choosing import FEWEST, MOST, Look, affordable, beats, spread
from werkmeister.chat import Example
from werkmeister.pipeline import read_expert, run_stage
from werkmeister.progress import Silent

QUICK = {"epochs": 6.0, "learning_rate": 2e-2, "evaluations": 4, "batch_size": 8}


def look(scores: Sequence[float], loss: float) -> Look:
    return Look(step=1, loss=loss, scores=tuple(scores), seconds=0.0, better=True)


HALF = [1.0] * 8 + [0.0] * 8


def test_a_clearly_higher_mark_wins_over_a_lower_loss() -> None:
    best = look(HALF, loss=0.5)
    assert beats([1.0] * 12 + [0.0] * 4, 0.9, best)
    assert not beats([1.0] * 4 + [0.0] * 12, 0.1, best)


def test_between_marks_within_a_standard_error_the_loss_decides() -> None:
    best = look(HALF, loss=0.5)
    one_more, one_less = [1.0] * 9 + [0.0] * 7, [1.0] * 7 + [0.0] * 9
    for scores in (HALF, one_more, one_less):
        assert beats(scores, 0.4, best)
        assert not beats(scores, 0.6, best)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=32), st.floats(0, 5), st.floats(0, 5))
def test_of_two_checkpoints_never_do_both_beat_the_other(pairs, loss, other) -> None:
    a, b = ([pair[i] for pair in pairs] for i in (0, 1))
    assert not (beats(a, loss, look(b, other)) and beats(b, other, look(a, loss)))
    assert beats(a, loss, None)


def test_marks_cost_at_most_a_tenth_of_the_training_or_are_not_given() -> None:
    known = {"prompt": 30.0, "answer": 50, "evaluations": 8, "device": "cpu"}
    one = 30 / 3 + 50 * 3
    for tokens in (10_000, 100_000, 1_000_000, 10_000_000):
        count = affordable(training_tokens=tokens, **known)
        assert count == 0 or FEWEST <= count <= MOST
        assert count * 8 * one <= tokens / 10
    assert affordable(training_tokens=10_000, **known) == 0
    assert affordable(training_tokens=10_000_000, **known) == MOST


@given(st.integers(1, 300), st.integers(1, 40))
def test_validation_answers_are_spread_evenly_and_asked_once(n: int, count: int) -> None:
    examples = [Example(prompt=(), target=str(i)) for i in range(n)]
    found = [int(e.target) for e in spread(examples, count)]
    assert len(found) == min(n, count) == len({*found}) and found == sorted(found)
    gaps = [b - a for a, b in itertools.pairwise(found)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def marked_expert(folder: Path, **train: object) -> Path:
    expert = tiny_expert(folder, train=QUICK | {"select": "mark"} | train, dataset={"valid": 0.3})
    run_stage(read_expert(expert), "dataset")
    return expert


def test_training_marks_as_the_exam_marks_and_tells_what_it_cost(tmp_path: Path) -> None:
    expert = marked_expert(tmp_path / "expert")
    made = run_stage(read_expert(expert), "train").artefact
    history = [json.loads(line) for line in made.file("history.jsonl").read_text().splitlines()]
    marks = {entry["step"]: entry["eval_mark"] for entry in history if "eval_mark" in entry}
    losses = {entry["step"]: entry["eval_loss"] for entry in history if "eval_loss" in entry}
    assert marks.keys() == losses.keys() and len(marks) == 4
    assert made.measures["validation_mark"] == marks[made.measures["best_step"]]
    assert made.measures["validation_loss"] == losses[made.measures["best_step"]]
    assert made.measures["marked"] >= 8 and made.measures["marking_seconds"] > 0
    # The codes are classes, so the exam marks labels: every score is 0 or 1.
    assert all(
        (mark * made.measures["marked"]) == pytest.approx(round(mark * made.measures["marked"]))
        for mark in marks.values()
    )


def test_the_adapter_is_that_of_the_best_mark_and_not_of_the_lowest_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from werkmeister.building import choosing

    expert = marked_expert(tmp_path / "expert", patience=0)
    saved: dict[int, bytes] = {}
    falling = iter([0.0, 1.0, 0.0, 0.0])

    def answers(chooser, model):
        share = next(falling)
        return [example.target if share else "wrong" for example in chooser._examples]

    own = choosing.Chooser.look

    def seen(chooser, model, step, loss):
        saved[step] = b"".join(
            p.detach().float().numpy().tobytes() for n, p in model.named_parameters() if p.requires_grad
        )
        return own(chooser, model, step, loss)

    monkeypatch.setattr(choosing.Chooser, "_answers", answers)
    monkeypatch.setattr(choosing.Chooser, "look", seen)
    made = run_stage(read_expert(expert), "train").artefact
    steps = sorted(saved)
    assert made.measures["best_step"] == steps[1]
    losses = {
        entry["step"]: entry["eval_loss"]
        for line in made.file("history.jsonl").read_text().splitlines()
        if "eval_loss" in (entry := json.loads(line))
    }
    assert min(losses, key=losses.__getitem__) != steps[1], "the loss alone would have chosen another"
    from safetensors.numpy import load_file

    weights = load_file(made.file("adapter/adapter_model.safetensors"))
    chosen = b"".join(sorted(array.tobytes() for array in weights.values()))
    assert sorted(chosen) == sorted(saved[steps[1]]) and sorted(chosen) != sorted(saved[steps[-1]])


def test_training_ends_early_and_says_so_when_nothing_gets_better(tmp_path: Path) -> None:
    said: list[str] = []

    class Said(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    expert = tiny_expert(tmp_path / "expert", train=QUICK | {"epochs": 60.0, "evaluations": 40, "patience": 2})
    run_stage(read_expert(expert), "dataset")
    made = run_stage(read_expert(expert), "train", progress=Said()).artefact
    history = [json.loads(line) for line in made.file("history.jsonl").read_text().splitlines()]
    losses = [(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry]
    best = min(losses, key=lambda pair: pair[1])[0]
    assert len([step for step, _ in losses if step > best]) == 2 and len(losses) < 40
    assert made.measures["best_step"] == best and made.measures["ended_early_at_step"] == made.measures["steps"]
    assert any("ended early" in line and "train.patience" in line for line in said)


def test_another_mark_of_the_exam_makes_the_training_stale_where_it_chose_by_it(tmp_path: Path) -> None:
    expert = marked_expert(tmp_path / "expert", epochs=0.5)
    settings = read_expert(expert)
    run_stage(settings, "train")
    assert not run_stage(settings, "train").reason
    assert "mark changed" in run_stage(read_expert(expert, ["exam.mark=exact"]), "train").reason
    by_loss = ["train.select=loss"]
    run_stage(read_expert(expert, by_loss), "train")
    assert not run_stage(read_expert(expert, [*by_loss, "exam.mark=contains"]), "train").reason
