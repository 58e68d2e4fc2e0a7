import pytest

from werkmeister.chat import Example, Message, conversation
from werkmeister.errors import DataError
from werkmeister.examining.baseline import CLASSIFIER, LOOKUP, fit_baseline, most_similar


def example(question: str, target: str) -> Example:
    return Example(prompt=conversation(question, "a system message that is everywhere the same"), target=target)


def answers(train, questions):
    baseline = fit_baseline(train)
    return baseline.about, [reply.text for reply in baseline.replies([conversation(q) for q in questions])]


def test_it_answers_with_the_target_of_the_most_similar_prompt():
    train = [example(f"Mache das Licht im {room} an", f"{room} an") for room in ("Keller", "Flur", "Bad", "Garten")]
    about, said = answers(train, ["bitte das Licht im Bad anmachen", "Gartenlicht an", "Mache das Licht im Keler an"])
    assert about == LOOKUP
    assert said == ["Bad an", "Garten an", "Keller an"]


def test_few_classes_are_named_by_logistic_regression_also_for_wordings_between_the_examples():
    colours, animals = ["red", "green", "blue", "white"], ["cat", "dog", "bird", "fish"]
    train = [example(f"I painted it {a} and {b}", "colour") for a in colours for b in colours]
    train += [example(f"I saw a {a} and a {b}", "animal") for a in animals for b in animals]
    about, said = answers(train, ["blue paint", "two birds and a dog"])
    assert about == CLASSIFIER
    assert said == ["colour", "animal"]


def test_it_says_the_same_every_time_and_for_many_questions_at_once():
    train = [example(f"question number {i}", f"answer {i}") for i in range(600)]
    first, second = (answers(train, [f"question number {i}" for i in range(600)])[1] for _ in range(2))
    assert first == second == [f"answer {i}" for i in range(600)]


def test_prompts_without_a_single_word_can_be_looked_up_too():
    train = [example(sign, sign * 2) for sign in ("?", "!", "+", "->")]
    assert answers(train, ["->", "!"])[1] == ["->->", "!!"]


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(DataError, match="there are none"):
        fit_baseline([])


def test_the_most_similar_examples_stand_nearest_to_the_question():
    train = [example(f"turn the {thing} on", thing) for thing in ("red lamp", "lamp", "fan", "door")]
    prompt = (Message("system", "turn the door on"), Message("user", "turn the red lamp on please"))
    (found,) = most_similar(train, [prompt], 2)
    assert [e.target for e in found] == ["lamp", "red lamp"]
    assert most_similar(train, [], 2) == []
