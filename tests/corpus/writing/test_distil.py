"""Distillation: prompts of people's files become pairs with a teacher's answers."""

from __future__ import annotations

import json

import pytest

from tests.heard import Heard
from tests.teachers import engine, found, never
from werkmeister.corpus.writing.asking import Asker
from werkmeister.corpus.writing.distil import distil, prompt_files, read_prompts
from werkmeister.errors import DataError, EngineError, SettingsError
from werkmeister.progress import Silent


def read(folder, *entries):
    return [(one.text, one.file, one.line) for one in read_prompts(folder, entries, Silent())]


def put(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")


def distilled(home, script, prompts, *, engine_found=None, progress=None, budget_tokens=0, **more):
    one = engine_found or found(engine(script))
    with Asker(one, home, progress=progress or Silent(), budget_tokens=budget_tokens) as asker:
        return distil(asker, prompts, **more), asker.costs


def test_a_text_file_has_one_prompt_a_line(tmp_path):
    put(tmp_path, "log.txt", "\ufeffHow hot?\r\n\r\n  Wie heiß?  \nHow hot?\n")
    assert read(tmp_path, "log.txt") == [("How hot?", "log.txt", 1), ("Wie heiß?", "log.txt", 3)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'Prompt,answer\n"one, two?",x\nthree?,y\n'),
        ("a.csv", "prompt\none, two?\nthree?\n".replace("one, two?", '"one, two?"')),
        ("a.tsv", "ticket\tquestion\n1\tone, two?\n2\tthree?\n"),
        ("a.csv", "text;label\none, two?;x\nthree?;y\n"),
        ("a.jsonl", '{"prompt": "one, two?"}\n{"prompt": "three?", "id": 3}\n'),
        ("a.json", '[{"query": "one, two?"}, {"query": "three?"}]'),
        (
            "a.jsonl",
            '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "one, two?"}]}\n'
            '{"messages": [{"role": "user", "content": "three?"}, {"role": "assistant", "content": "4"}]}\n',
        ),
        ("a.jsonl", '{"conversations": [{"from": "human", "value": "one, two?"}]}\n{"prompt": "three?"}\n'),
        ("a.jsonl", '{"prompt": [{"role": "user", "content": "one, two?"}]}\n{"question": "three?"}\n'),
    ],
    ids=["CSV", "one column", "TSV", "semicolons", "JSONL", "JSON", "messages", "ShareGPT", "conversational"],
)
def test_prompts_are_found_in_every_format(tmp_path, name, text):
    put(tmp_path, name, text)
    assert [prompt for prompt, _, _ in read(tmp_path, name)] == ["one, two?", "three?"]


def test_an_instruction_is_asked_with_its_input(tmp_path):
    put(tmp_path, "a.jsonl", '{"instruction": "Translate", "input": "Haus"}\n{"instruction": "Count", "input": ""}\n')
    assert [prompt for prompt, _, _ in read(tmp_path, "a.jsonl")] == ["Translate\n\nHaus", "Count"]


def test_patterns_and_absolute_paths_name_files(tmp_path):
    put(tmp_path, "logs/b.txt", "b?")
    put(tmp_path, "logs/a.txt", "a?")
    assert [name for _, name in prompt_files(tmp_path, ["logs/*.txt", "logs/a.txt", "gone.txt"])] == (
        ["logs/a.txt", "logs/b.txt"]
    )
    absolute = str(tmp_path / "logs" / "b.txt")
    assert read(tmp_path / "logs", absolute) == [("b?", absolute, 1)]


def test_every_mistake_of_all_files_is_told_at_once(tmp_path):
    put(tmp_path, "a.jsonl", '{"prompt": 3}\n{"prompt": " "}\n{"colour": "red"}\n{"prompt": "fine?"}\n[1]\n')
    put(
        tmp_path,
        "b.jsonl",
        '{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}\n{"messages": "x"}\n',
    )
    with pytest.raises(DataError) as caught:
        read(tmp_path, "a.jsonl", "b.jsonl", "gone.txt")
    text = str(caught.value)
    for part in (
        "a.jsonl:1",
        "a.jsonl:2",
        "a.jsonl:3",
        "a.jsonl:5",
        "b.jsonl:1",
        "2 user turns",
        "b.jsonl:2",
        "gone.txt",
    ):
        assert part in text
    assert caught.value.message.startswith("7 mistakes")


def test_files_without_a_prompt_are_an_error(tmp_path):
    put(tmp_path, "a.txt", "\n \n")
    with pytest.raises(DataError, match="no prompt"):
        read(tmp_path, "a.txt")


@pytest.fixture
def prompts(tmp_path):
    put(tmp_path, "log.txt", "".join(f"What is {number} + 1?\n" for number in range(30)))
    return read_prompts(tmp_path, ["log.txt"], Silent())


def adds(asked):
    return f"It is {int(asked[-1].content.split()[2]) + 1}."


def test_answers_become_pairs_under_the_experts_system_message(tmp_path, prompts):
    fake = engine(adds)
    result, costs = distilled(tmp_path, adds, prompts, engine_found=found(fake), system="Be short.", language="en")
    assert [(pair.question, pair.answer) for pair in result.pairs[:2]] == (
        [("What is 0 + 1?", "It is 1."), ("What is 1 + 1?", "It is 2.")]
    )
    first = result.pairs[0]
    assert (first.kind, first.document, first.passage, first.evidence, first.start, first.end) == (
        ("prompt", "log.txt", "", "", 0, 0)
    )
    assert first.language == "en" and first.answerable and first.writer.startswith("teacher")
    assert all(asked[0].content == "Be short." for asked, _ in fake.asked)
    assert (costs.requests, len(result.pairs), result.dropped, result.notes) == (30, 30, [], [])


def test_the_language_is_that_of_prompt_and_answer_and_else_the_given_one(tmp_path):
    put(tmp_path, "log.txt", "Wie wird der Filter der Pumpe gereinigt?\nHow is the filter of the pump cleaned?\nP7?\n")
    prompts = read_prompts(tmp_path, ["log.txt"], Silent())
    result, _ = distilled(tmp_path, lambda _: "42", prompts, language="en")
    assert [pair.language for pair in result.pairs] == ["de", "en", "en"]
    result, _ = distilled(tmp_path, lambda _: "42", prompts, language="auto")
    assert [pair.language for pair in result.pairs] == ["de", "en", ""]


def test_empty_and_cut_answers_are_dropped_with_the_reason_and_thoughts_are_left_out(tmp_path, prompts):
    def script(asked):
        number = int(asked[-1].content.split()[2])
        return {1: " \n", 2: "<think>so", 3: "la " * 2000, 4: "<think>hm</think>\nFive."}.get(number, adds(asked))

    long_enough = found(engine(script, context_length=9000))
    result, _ = distilled(tmp_path, script, prompts, engine_found=long_enough)
    assert [(one.pair.question, one.check) for one in result.dropped] == (
        [(f"What is {n} + 1?", "answer") for n in (1, 2, 3)]
    )
    assert [one.reason.split()[3] for one in result.dropped] == ["empty", "empty", "cut"]
    assert result.pairs[1].answer == "Five." and len(result.pairs) == 27


def test_what_was_answered_is_remembered(tmp_path, prompts):
    distilled(tmp_path, adds, prompts[:20])
    _, costs = distilled(tmp_path, adds, prompts)
    assert (costs.remembered, costs.requests) == (20, 10)
    result, _ = distilled(tmp_path, adds, prompts, engine_found=never())
    assert len(result.pairs) == 30
    _, costs = distilled(tmp_path, adds, prompts, system="Another.", limit=3)
    assert (costs.remembered, costs.requests) == (0, 3)


def test_the_budget_is_kept_and_said(tmp_path, prompts):
    heard = Heard()
    result, costs = distilled(tmp_path, adds, prompts, budget_tokens=1200, progress=heard)
    assert 0 < len(result.pairs) < 30 and costs.prompt_tokens + costs.answer_tokens <= 1200
    assert heard.said == result.notes == [f"prompts: {costs.not_asked} of 30 not asked, the budget is used up"]
    with pytest.raises(SettingsError, match="budget_tokens"):
        distilled(tmp_path / "new", adds, prompts, budget_tokens=10)


def test_rubbish_is_an_error(tmp_path, prompts):
    with pytest.raises(EngineError, match="first 20 answers") as caught:
        distilled(tmp_path, lambda _: "...", prompts)
    assert "log.txt:1" in caught.value.problems[0]


def test_settings_and_costs_are_told_as_json(tmp_path, prompts):
    _, costs = distilled(tmp_path, adds, prompts)
    record = json.loads(json.dumps(costs.record()))
    assert record["name"] == "teacher-fake" and record["requests"] == 30 and record["cost"] is None
