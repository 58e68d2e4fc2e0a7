"""The judge drops what it turns down, with a reason, and its agreement with the checks is a table of counts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.teachers import document, engine, found, good, manual, never
from werkmeister.corpus.writing.asking import Asker
from werkmeister.corpus.writing.judge import Agreement, judge_pairs, read_verdict
from werkmeister.corpus.writing.pair import DroppedPair
from werkmeister.corpus.writing.teacher import Teacher
from werkmeister.errors import EngineError
from werkmeister.progress import Silent


@pytest.fixture
def passages():
    return manual(24)


@pytest.fixture
def pairs(tmp_path, passages):
    with Asker(found(engine(good)), tmp_path / "written", progress=Silent()) as asker:
        teacher = Teacher(asker)
        teacher.ask(passages)
        return list(teacher.write(document(passages), passages))


def judged(home, script, kept, dropped, passages, *, engine_found=None, **more):
    one = engine_found or found(engine(script))
    with Asker(one, home, progress=Silent(), **more) as asker:
        return judge_pairs(asker, kept, dropped, {one.id: one for one in passages}), asker.costs


def verdict(word, key="supported"):
    return json.dumps({key: word})


def by_truth(asked):
    """A judge that knows the manual: the answer's number must stand in the passage."""
    text = asked[-1].content
    place, _, rest = text.partition("\n\nQuestion: ")
    if "Answer: " not in rest:
        return verdict("yes" if "how often" in rest.lower() else "no", "answered")
    days = rest.split("Answer: Every ")[1].split(" days")[0]
    return verdict("yes" if f"every {days} days" in place else "no")


def test_wrong_answers_are_dropped_and_right_ones_stay_in_their_order(tmp_path, pairs, passages):
    wrong = {5, 6, 30}
    given = [replace(pair, answer="Every 999 days.") if n in wrong else pair for n, pair in enumerate(pairs)]
    result, _ = judged(tmp_path, by_truth, given, [], passages)
    assert result.kept == [pair for n, pair in enumerate(given) if n not in wrong]
    assert [one.pair for one in result.dropped] == [given[n] for n in sorted(wrong)]
    assert all(one.check == "judge" and "does not support" in one.reason for one in result.dropped)


def test_agreement_is_counted_over_kept_and_over_dropped_pairs(tmp_path, pairs, passages):
    kept = [replace(pair, answer="Every 999 days.") if n < 4 else pair for n, pair in enumerate(pairs[:40])]
    dropped = [
        DroppedPair(pair=replace(pair, answer="Every 777 days.") if n < 5 else pair, check="numbers", reason="no")
        for n, pair in enumerate(pairs[40:])
    ]
    result, _ = judged(tmp_path, by_truth, kept, dropped, passages)
    assert result.agreement == Agreement(kept_right=36, kept_wrong=4, dropped_right=3, dropped_wrong=5)
    record = result.agreement.record()
    assert (record["agreed"], record["of"], record["unjudged"]) == (41, 48, 0)
    assert record["table"]["kept by the checks"] == {"right": 36, "wrong": 4}
    assert len(result.dropped) == 4


def test_of_many_dropped_pairs_a_sample_is_judged(tmp_path, pairs, passages):
    many = [DroppedPair(pair=replace(pairs[n % 48], question=f"{n}?"), check="x", reason="x") for n in range(300)]
    result, costs = judged(tmp_path, by_truth, pairs[:1], many, passages)
    assert result.agreement.n == 101 and costs.requests == 101


def test_a_question_that_is_said_to_be_unanswerable_is_judged_the_other_way_round(tmp_path, pairs, passages):
    refusals = [replace(pair, answer="The documents do not say.", answerable=False) for pair in pairs[:2]]
    result, _ = judged(tmp_path, by_truth, refusals, [], passages)
    assert [pair.question for pair in result.kept] == ["When is valve 0 of the pump to be opened?"]
    assert "does answer this question" in result.dropped[0].reason


def test_pairs_without_a_passage_and_without_a_verdict_are_kept(tmp_path, pairs, passages):
    prompt = replace(pairs[0], kind="prompt", passage="")
    unclear = pairs[7].question
    script = lambda asked: "perhaps" if unclear in asked[-1].content else by_truth(asked)  # noqa: E731
    result, costs = judged(tmp_path, script, [prompt, *pairs[:10]], [], passages)
    assert len(result.kept) == 11 and costs.requests == 10
    assert (result.agreement.n, result.agreement.unjudged) == (9, 1)


def test_verdicts_are_remembered_and_the_budget_holds_for_them(tmp_path, pairs, passages):
    _, first = judged(tmp_path, by_truth, pairs, [], passages, budget_tokens=2000)
    assert 0 < first.requests < 48 and first.prompt_tokens + first.answer_tokens <= 2000
    judged(tmp_path, by_truth, pairs, [], passages)
    result, again = judged(tmp_path, None, pairs, [], passages, engine_found=never())
    assert (again.remembered, again.requests) == (48, 0) and len(result.kept) == 48


def test_a_judge_without_verdicts_is_an_error(tmp_path, pairs, passages):
    with pytest.raises(EngineError, match="no verdict") as caught:
        judged(tmp_path, lambda _: "perhaps", pairs, [], passages)
    assert "'perhaps'" in caught.value.problems[0] and "write.judge" in caught.value.hint


def test_a_judge_that_turns_down_nearly_all_is_an_error_not_an_empty_dataset(tmp_path, pairs, passages):
    with pytest.raises(EngineError, match="turns down 48 of 48"):
        judged(tmp_path, lambda _: verdict("no"), pairs, [], passages)


def test_nothing_to_judge_asks_nothing(tmp_path):
    result, costs = judged(tmp_path, None, [], [], [], engine_found=never())
    assert result.kept == [] and result.agreement.n == 0 and costs.requests == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"supported": "yes"}', True),
        ('{"supported": false}', False),
        ('{"answered": "Nein"}', False),
        ("Yes, it does.", True),
        ('{"supported": "no', False),
        ("**no**", False),
        ("Not at all", None),
        ("", None),
        ("{}", None),
        ('{"supported": "maybe"}', None),
        ("[1]", None),
    ],
)
def test_verdicts_are_read_from_json_and_bare_words(text, said):
    assert read_verdict(text) is said
