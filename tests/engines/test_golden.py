"""Golden prompts: which are taken, what is written down, and what a replay finds."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from werkmeister.chat import Example, Message
from werkmeister.engines.engine import Finished, Token
from werkmeister.engines.golden import (
    CLEAR,
    COUNT,
    LONGEST,
    Difference,
    Golden,
    golden_name,
    read_golden,
    record_golden,
    replay,
    write_golden,
)
from werkmeister.engines.scripted import ScriptedEngine
from werkmeister.errors import DataError

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


def example(question, target="x"):
    return Example(prompt=(Message("user", question),), target=target)


def entry(question="q", answer="a", margin=None):
    return Golden(
        messages=(Message("user", question),), answer=answer, max_tokens=LONGEST, finish="stop", margin=margin
    )


@dataclass
class Undecided(ScriptedEngine):
    """Questions that begin with "close" are answered with hardly a lead."""

    def stream(self, conversation, sampling):
        lead = CLEAR / 2 if conversation[-1].content.startswith("close") else 2 * CLEAR
        yield Token("a", -0.1, (("a", -0.1), ("b", -0.1 - lead)))
        yield Token("", -0.1, (("", -0.1), ("b", -9.0)))
        yield Finished(finish="stop", prompt_tokens=1, answer_tokens=2)


def test_answers_that_rounding_could_change_are_passed_over():
    examples = [example(f"close {number}", str(number)) for number in range(9)]
    examples += [example(f"clear {number}", str(number)) for number in range(9)]
    found = record_golden(Undecided({}), examples)
    assert len(found) == COUNT
    assert all(golden.messages[-1].content.startswith("clear") for golden in found)
    assert all(golden.margin == pytest.approx(2 * CLEAR) for golden in found)


def test_where_no_answer_is_clear_the_clearest_are_kept():
    found = record_golden(Undecided({}), [example(f"close {number}", str(number)) for number in range(9)])
    assert len(found) == COUNT
    assert all(golden.margin == pytest.approx(CLEAR / 2) for golden in found)


def test_short_prompts_with_different_targets_are_taken_and_what_does_not_fit_is_passed_over():
    long = [example(f"long {number} " + "word " * 5000, f"long {number}") for number in range(30)]
    same = [example(f"same {number}", "same") for number in range(20)]
    other = [example(f"other {number}", f"other {number}") for number in range(COUNT - 1)]
    found = record_golden(ScriptedEngine({}, otherwise="yes"), long + same + other)
    asked = [golden.messages[-1].content.split()[0] for golden in found]
    assert sorted(asked) == sorted(["same"] + ["other"] * (COUNT - 1))


def test_the_same_exam_gives_the_same_prompts():
    examples = [example(f"q {number}", str(number % 7)) for number in range(50)]
    engine = ScriptedEngine({}, otherwise="yes")
    assert record_golden(engine, examples) == record_golden(engine, examples[::-1])


def test_a_replay_asks_as_it_was_recorded_and_tells_what_differs():
    engine = ScriptedEngine({"one": "the same", "two": "another"})
    (difference,) = replay(engine, [entry("one", "the same"), entry("two", "a nice one")], stop=("<e>",))
    assert difference.answer == "another"
    assert difference.place == 1
    assert "'another', recorded was 'a nice one'; they part after 1 characters" in difference.words()
    assert {(s.max_tokens, s.temperature, s.stop) for _, s in engine.asked} == {(LONGEST, 0.0, ("<e>",))}


def test_a_close_choice_is_told_as_such():
    close = Difference(golden=entry(margin=CLEAR / 2), answer="b")
    assert "rounding may do this" in close.words()
    assert "rounding" not in Difference(golden=entry(margin=1.0), answer="b").words()


@given(st.lists(st.tuples(TEXTS, TEXTS, st.none() | st.floats(0, 50)), max_size=4))
def test_what_is_written_is_read_again(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("golden") / "expected.jsonl"
    written = [
        entry(question, answer, None if margin is None else round(margin, 3)) for question, answer, margin in rows
    ]
    write_golden(file, written)
    assert read_golden(file) == written


def test_messages_and_answer_are_enough(tmp_path):
    file = tmp_path / "expected.jsonl"
    file.write_text('\n{"messages": [{"role": "user", "content": "a"}], "answer": "b"}\n\n', encoding="utf-8")
    (golden,) = read_golden(file)
    assert (golden.answer, golden.max_tokens, golden.margin) == ("b", LONGEST, None)


@pytest.mark.parametrize(
    "line", ["[]", "{", '{"answer": "b"}', '{"messages": [], "answer": "b"}', '{"messages": [{}], "answer": 1}']
)
def test_a_line_that_is_none_is_named(tmp_path, line):
    file = tmp_path / "expected.jsonl"
    file.write_text(json.dumps(entry().record()) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"expected\.jsonl:2"):
        read_golden(file)


def test_the_file_of_a_model_is_named_after_it():
    assert golden_name("model-Q8_0.gguf") == "model-Q8_0.expected.jsonl"
