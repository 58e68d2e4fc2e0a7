"""General examples beside an expert's own: where they come from, how many, and that a resumed run keeps them."""

import json
from pathlib import Path

import pytest

from tests.checkpoints import tiny_base, tiny_expert
from werkmeister.building import replay
from werkmeister.building.replay import LONGEST_ANSWER, general_prompts, needed
from werkmeister.errors import DataError
from werkmeister.examining.forgetting import general_questions
from werkmeister.pipeline import read_expert, run_stage
from werkmeister.progress import Silent

QUICK = {"epochs": 2.0, "learning_rate": 1e-2, "evaluations": 2, "batch_size": 8}


def records(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("share", "examples", "count"), [(0.0, 90, 0), (0.1, 90, 10), (0.5, 7, 7), (0.01, 10, 1)])
def test_the_share_is_that_of_all_examples(share: float, examples: int, count: int) -> None:
    assert needed(share, examples) == count


def test_no_general_prompt_is_a_question_of_the_exam_and_none_stands_twice() -> None:
    prompts = [prompt.casefold() for prompt in general_prompts()]
    asked = {question.question.casefold() for question in general_questions()}
    assert len(prompts) >= 100 and len({*prompts}) == len(prompts)
    assert not asked & {*prompts}
    words = [{*prompt.rstrip("?.").split()} for prompt in prompts]
    for question in asked:
        own = {*question.rstrip("?.").split()}
        near = max(len(own & other) / len(own | other) for other in words)
        assert near < 0.7, f"{question!r} is nearly a prompt of replay"


def test_the_base_answers_general_prompts_and_its_answers_stand_in_the_artefact(tmp_path: Path) -> None:
    expert = tiny_expert(tmp_path / "expert", train=QUICK | {"replay": 0.2})
    data = run_stage(read_expert(expert), "dataset").artefact
    made = run_stage(read_expert(expert), "train").artefact
    lines = records(made.file("replay.jsonl"))
    own = data.facts["splits"]["train"]["examples"]
    assert made.measures["general_examples"] == needed(0.2, own) >= len(lines) > 0
    assert {line["messages"][0]["content"] for line in lines} <= {*general_prompts()}
    assert all(line["messages"][0]["role"] == "user" for line in lines), "general prompts have no system message"


def test_an_answer_that_was_cut_off_has_no_end_to_learn(tmp_path: Path) -> None:
    from werkmeister.bases.tokens import full_ids, load_tokenizer
    from werkmeister.building.rows import _general_rows
    from werkmeister.chat import Example, conversation

    tokenizer = load_tokenizer(tiny_base(tmp_path / "base"))
    example = Example(prompt=conversation("a"), target="b c d")
    whole, cut = _general_rows(tokenizer, [replay.Replayed(example), replay.Replayed(example, cut=True)])
    prompt, completion = full_ids(tokenizer, example)
    assert whole["input_ids"] == prompt + completion and cut["input_ids"] == prompt + completion[:-1]
    assert len(cut["labels"]) == len(cut["input_ids"]) and cut["labels"][-1] == completion[-2]


def test_a_file_of_the_person_is_replayed_instead_and_what_the_exam_asks_is_left_out(tmp_path: Path) -> None:
    expert = tiny_expert(tmp_path / "expert", train=QUICK | {"replay": 0.2}, dataset={"replay": ["general.jsonl"]})
    lines = [{"prompt": f"How do you say {i}?", "completion": f"Say {i}."} for i in range(5)]
    lines += [{"prompt": one["prompt"], "completion": "leaked"} for one in records(expert / "examples.jsonl")]
    (expert / "general.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = run_stage(read_expert(expert), "dataset").artefact
    kept = {line["messages"][-2]["content"] for line in records(data.file("replay.jsonl"))}
    exam = {line["messages"][-2]["content"] for line in records(data.file("exam.jsonl"))}
    assert len(kept) == data.facts["replay"]["examples"] < len(lines)
    assert exam and not exam & kept
    made = run_stage(read_expert(expert), "train").artefact
    assert made.measures["general_examples"] > 0 and "replay.jsonl" not in made.outputs
    (expert / "general.jsonl").write_text(json.dumps(lines[0]) + "\n")
    assert "general.jsonl" in run_stage(read_expert(expert), "dataset").reason


def test_a_file_of_which_nothing_can_be_used_is_refused(tmp_path: Path) -> None:
    expert = tiny_expert(tmp_path / "expert", dataset={"replay": ["general.jsonl"]})
    (expert / "general.jsonl").write_text(json.dumps({"prompt": "long " * 9000, "completion": "x"}) + "\n")
    with pytest.raises(DataError, match=r"none of the 1 examples of dataset\.replay"):
        run_stage(read_expert(expert), "dataset")


def test_the_answers_are_drawn_once_and_a_resumed_run_reads_them(tmp_path: Path) -> None:
    base, kept = tiny_base(tmp_path / "base"), tmp_path / "replay.jsonl"
    told = {"own": (), "base": base, "seed": 3, "progress": Silent()}
    first = replay.general_examples(7, kept=kept, **told)
    again = replay.general_examples(7, kept=kept, **told | {"base": None})
    other = replay.general_examples(7, kept=tmp_path / "other.jsonl", **told | {"seed": 4})
    prompts = [one.example.prompt for one in first]
    assert [(one.example.prompt, one.example.target, one.cut) for one in again] == [
        (one.example.prompt, one.example.target, one.cut) for one in first
    ]
    assert [one.example.target for one in other] != [one.example.target for one in first]
    assert any(one.cut for one in first), f"a random model does not end within {LONGEST_ANSWER} tokens"
    many = replay.general_examples(20, kept=kept, **told)
    assert len(many) == 20 and {one.example.prompt for one in many} == {*prompts}
