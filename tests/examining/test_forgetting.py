"""General questions before and after a training: what is asked, how it is scored, and what the report says of it."""

import json
from pathlib import Path

import pytest

from tests.checkpoints import tiny_base, tiny_expert
from werkmeister.artefact import making, open_artefact
from werkmeister.chat import Example, conversation, write_examples
from werkmeister.examining.forgetting import (
    examine_forgetting,
    general_questions,
    judge_forgetting,
    seen_in_training,
)
from werkmeister.examining.marks import Mark
from werkmeister.examining.sitting import Answered, Sitting
from werkmeister.pipeline import read_expert, run_stage
from werkmeister.progress import Silent


def sitting(name: str, rights: list[bool], nats: list[float]) -> Sitting:
    answered = [
        Answered(
            example=Example(prompt=conversation(f"Question {i}?"), target="yes", group="en"),
            answer="",
            finish="stop",
            mark=Mark(float(right), {"chosen": "yes" if right else "no", "nats": value}),
        )
        for i, (right, value) in enumerate(zip(rights, nats, strict=True))
    ]
    return Sitting(name=name, answered=tuple(answered))


def judged(before: int, after: int, *, moved: float, n: int = 96) -> dict:
    """Base with the first `before` of n right, adapter with the first `after`; the right answers moved by `moved`."""
    nats = [-2.0 - i % 7 / 7 for i in range(n)]
    later = [value + moved * (0.8 + i % 5 / 10) for i, value in enumerate(nats)]
    sittings = [
        sitting("base", [i < before for i in range(n)], nats),
        sitting("adapter", [i < after for i in range(n)], later),
    ]
    return judge_forgetting(sittings, seed=0)


def test_the_questions_are_german_and_english_with_four_answers_of_which_one_is_right() -> None:
    questions = general_questions()
    assert len(questions) == len({q.question for q in questions}) == 96
    assert {language: sum(q.language == language for q in questions) for language in ("de", "en")} == {
        "de": 48,
        "en": 48,
    }
    assert all(len({*q.answers}) == 4 for q in questions)


def test_what_training_saw_is_not_asked(tmp_path: Path) -> None:
    first, second, third = general_questions()[:3]
    for kind, files in (
        ("dataset", {"train": first.question.upper(), "replay": second.question}),
        ("train", {"replay": f"  {third.question} "}),
    ):
        with making(kind, tmp_path / kind, version=1, inputs={}, settings={}) as draft:
            for name, question in files.items():
                example = Example(prompt=conversation(question, "A system message."), target="x")
                write_examples(draft.path / f"{name}.jsonl", [example])
    data, trained = (open_artefact(tmp_path / kind, kind) for kind in ("dataset", "train"))
    left = general_questions(seen_in_training(data, trained))
    assert len(left) == 93 and not {first, second, third} & {*left}


def test_the_difference_is_paired_and_a_loss_is_told_only_where_it_is_proven() -> None:
    lost = judged(60, 40, moved=-0.5)
    assert lost["difference"]["value"] == pytest.approx(-20 / 96)
    # Twenty pairs changed for the worse and none for the better: two-sided exact p of McNemar's test.
    assert lost["difference"]["p"] == pytest.approx(2 * 0.5**20)
    assert lost["words"].startswith("The expert forgot") and "train.replay" in lost["words"]
    form = judged(60, 59, moved=-0.5)
    assert form["words"].startswith("No knowledge is proven lost") and "less readily" in form["words"]
    nothing = judged(60, 60, moved=0.0)
    assert nothing["words"].startswith("No forgetting is proven") and "train.replay" not in nothing["words"]
    gained = judged(40, 60, moved=0.5)
    assert gained["words"].startswith("No forgetting is proven")
    assert [row["right"] for row in gained["rows"]] == [40, 60]


def test_an_answer_is_scored_by_what_transformers_gives_its_tokens(tmp_path: Path) -> None:
    """The engine's log-probabilities, computed over one read prompt, against one whole forward pass an answer."""
    import torch

    from werkmeister.bases.tokens import full_ids, load_tokenizer
    from werkmeister.engines.transformers import open_transformers

    base = tiny_base(tmp_path / "base")
    answers = ["Paris", "London and more", "B", "Größe 😀"]
    asked = conversation("What is the capital of France?")
    tokenizer = load_tokenizer(base)
    with open_transformers(base, dtype=torch.float32) as engine:
        found = engine.answer_logprobs(asked, answers)
        for answer, logprobs in zip(answers, found, strict=True):
            prompt, completion = full_ids(tokenizer, Example(prompt=asked, target=answer))
            ids = torch.tensor([prompt + completion])
            with torch.inference_mode():
                logits = engine._model(input_ids=ids).logits[0].log_softmax(-1)
            places = range(len(prompt) - 1, len(prompt) + len(completion) - 2)
            expected = [float(logits[at, ids[0, at + 1]]) for at in places]
            assert logprobs == pytest.approx(expected, abs=1e-4), "the token that ends the turn is left out"


def test_base_and_adapter_are_asked_in_processes_of_their_own_and_a_killed_exam_goes_on(tmp_path: Path) -> None:
    expert = tiny_expert(tmp_path / "expert", train={"epochs": 3.0, "learning_rate": 1e-2, "evaluations": 1})
    data = run_stage(read_expert(expert), "dataset").artefact
    trained = run_stage(read_expert(expert), "train").artefact
    base = tiny_base(tmp_path / "base")
    scratch = tmp_path / "scratch"
    found = examine_forgetting(base, data, trained, scratch, 0, Silent())
    before, after = found["rows"]
    assert before["n"] == after["n"] == 96 and 0 <= before["value"] <= 1
    assert before["nats"] != after["nats"], "the adapter is in the second sitting alone"
    assert found["seconds"] > 0 and len(found["questions"]) == 96
    record = scratch / "general-adapter" / "answers.jsonl"
    lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
    record.write_text("".join(lines[:90]) + lines[90][:20], encoding="utf-8")
    again = examine_forgetting(base, data, trained, scratch, 0, Silent())
    assert again["rows"] == found["rows"] and again["questions"] == found["questions"]


def test_the_report_shows_what_was_forgotten_and_without_it_no_heading(tmp_path: Path) -> None:
    from tests.examining.test_exam import EXAM, RIGHT
    from werkmeister.examining.answering import from_function
    from werkmeister.examining.exam import take_exam
    from werkmeister.examining.report import answer_rows, page

    found, sittings = take_exam([from_function("adapter", RIGHT.__getitem__)], EXAM)
    answers = [row for one in sittings for row in answer_rows(one)]
    assert "What was forgotten" not in page(found, answers)
    shown = page(
        json.loads(json.dumps(found | {"forgetting": judged(60, 40, moved=-0.5) | {"seconds": 31.4}})), answers
    )
    assert "What was forgotten" in shown and "62.5 % (52.5–71.5)" in shown and "−20.8" in shown
    assert "Question 45?" in shown and "Question 10?" not in shown, "only those on which they differ"
