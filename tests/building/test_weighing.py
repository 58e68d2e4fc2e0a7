"""Weights of examples, from the file to the gradient, against the plain meaning: twice as heavy is twice there."""

import json
from pathlib import Path

import pytest

from tests.checkpoints import tiny_base, tiny_expert
from werkmeister.artefact import open_artefact
from werkmeister.building.answer_loss import AnswerLoss
from werkmeister.building.weighing import WEIGHTS, WeightCollator, weigh
from werkmeister.chat import Example, conversation, read_examples, write_examples
from werkmeister.corpus.reading import read_source
from werkmeister.errors import DataError
from werkmeister.pipeline import artefacts_of, read_expert, run_stage


def test_weight_two_is_the_example_twice_in_loss_and_gradient(tmp_path: Path) -> None:
    """The trainer's own loss on (a with weight 2, b) against transformers' cross-entropy on (a, a, b)."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = tiny_base(tmp_path / "base")

    def model():
        torch.manual_seed(0)
        loaded = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
        return get_peft_model(loaded, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False))

    ids = torch.arange(40).reshape(2, 20) + 5
    labels = ids.clone()
    labels[0, :9] = -100
    labels[1, :15] = -100
    reference, ours = model(), model()
    twice = torch.tensor([0, 0, 1])
    expected = reference(input_ids=ids[twice], labels=labels[twice]).loss
    expected.backward()
    rows = [{"input_ids": ids[i].tolist(), "labels": labels[i].tolist()} for i in (0, 1)]
    weigh(rows, [Example(prompt=(), target="", weight=w) for w in (2.0, 1.0)])
    batch = WeightCollator(lambda rows: {"labels": labels})(rows)
    learnt = labels[:, 1:] != -100
    hidden = ours.get_base_model().model(input_ids=ids).last_hidden_state[:, :-1]
    weights = batch[WEIGHTS][:, 1:][learnt]
    loss = AnswerLoss()(
        hidden[learnt], ours.get_base_model().lm_head, labels[:, 1:][learnt], weights.sum(), 0.0, weights
    )
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for (name, a), (_, b) in zip(reference.named_parameters(), ours.named_parameters(), strict=True):
        if a.requires_grad:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=name)


def one_step_expert(folder: Path) -> Path:
    """The tiny expert, with a training of a single step."""
    expert = tiny_expert(folder, train={"epochs": 1.0, "batch_size": 64, "evaluations": 1, "learning_rate": 1e-2})
    run_stage(read_expert(expert), "dataset")
    return expert


def test_a_training_step_with_weights_is_the_step_with_the_example_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the stage: the loss of the only step of both trainings, one with a weight and one with a copy."""
    from werkmeister.building import rows

    found = []
    own = rows.read_examples
    for change in (
        lambda examples: [Example(prompt=examples[0].prompt, target=examples[0].target, weight=2.0), *examples[1:]],
        lambda examples: [*examples, examples[0]],
    ):
        expert = one_step_expert(tmp_path / f"expert{len(found)}")
        monkeypatch.setattr(
            rows,
            "read_examples",
            lambda path, c=change: c(list(own(path))) if path.name == "train.jsonl" else own(path),
        )
        made = run_stage(read_expert(expert), "train").artefact
        history = [json.loads(line) for line in made.file("history.jsonl").read_text().splitlines()]
        found.append([entry["loss"] for entry in history if "loss" in entry])
    assert len(found[0]) == 1
    assert found[0] == pytest.approx(found[1], rel=2e-3)


def test_a_weight_goes_from_the_file_through_the_dataset_to_the_rows(tmp_path: Path) -> None:
    expert = tiny_expert(tmp_path / "expert")
    file = expert / "examples.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(r | {"weight": 3 if "red" in r["prompt"] else ""}) + "\n" for r in records))
    run_stage(read_expert(expert), "dataset")
    made = open_artefact(artefacts_of(expert) / "dataset", "dataset")
    examples = list(read_examples(made.file("train.jsonl")))
    assert {e.weight for e in examples if e.label == "red"} == {3.0}
    assert {e.weight for e in examples if e.label != "red"} == {1.0}


def test_examples_without_weights_get_no_column_and_a_record_without_one(tmp_path: Path) -> None:
    example = Example(prompt=conversation("a"), target="b")
    rows = [{"labels": [1, 2]}]
    weigh(rows, [example])
    assert rows == [{"labels": [1, 2]}] and "weight" not in example.record()
    write_examples(tmp_path / "x.jsonl", [Example(prompt=conversation("a"), target="b", weight=0.5)])
    assert next(read_examples(tmp_path / "x.jsonl")).weight == 0.5


@pytest.mark.parametrize("weight", ["0", "-1", "heavy", "nan", "1e9", "true"])
def test_a_weight_that_is_none_is_refused_with_line_and_value(tmp_path: Path, weight: str) -> None:
    file = tmp_path / "examples.csv"
    file.write_text(f"prompt,completion,weight\na,b,1\nc,d,{weight}\n")
    with pytest.raises(DataError) as caught:
        read_source(file)
    assert "examples.csv:3" in str(caught.value) and weight in str(caught.value)


def test_weights_in_numbers_and_in_csv_read_alike(tmp_path: Path) -> None:
    file = tmp_path / "examples.csv"
    file.write_text("prompt,completion,weight\na,b,2.5\nc,d,\n")
    assert [e.weight for e in read_source(file).examples] == [2.5, 1.0]
