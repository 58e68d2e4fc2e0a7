"""The teacher writes verified pairs, remembers what was paid for, keeps to its budget, never calls rubbish success."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.heard import Heard
from tests.openai_server import Server, serving
from tests.teachers import FORMS, Crowd, document, engine, found, good, manual, never, passage, rubbish
from werkmeister.chat import conversation
from werkmeister.corpus.writing.asking import Asker
from werkmeister.corpus.writing.prompts import points_at_passage, writing
from werkmeister.corpus.writing.teacher import Teacher, find_evidence, read_facts
from werkmeister.engines.engine import Reply
from werkmeister.engines.scripted import words
from werkmeister.errors import ContextError, EngineError, SettingsError
from werkmeister.progress import Silent


def taught(home, opened, passages, *, asker=None, **more):
    """The teacher after asking about these passages, and the pairs that it wrote."""
    settings = {"concurrency": 1, "budget_tokens": 0, "progress": Silent()} | (asker or {})
    one = opened if hasattr(opened, "identity") else found(opened)
    with Asker(one, home, **settings) as asking:
        teacher = Teacher(asking, **more)
        teacher.ask(passages)
        written = list(teacher.write(document(passages), passages))
    return teacher, written, asking.costs


def says(*facts):
    """A teacher that says the same facts about everything."""
    names = ("evidence", "questions", "answer")
    text = json.dumps({"pairs": [dict(zip(names, fact, strict=True)) for fact in facts]})
    return engine(lambda _: text)


def test_pairs_carry_evidence_at_its_place_in_the_document_and_share_their_fact(tmp_path):
    passages = manual(6)
    text = document(passages).text
    teacher, pairs, costs = taught(tmp_path, engine(good), passages)
    assert len(pairs) == 6 * FORMS and len({pair.id for pair in pairs}) == 12
    for pair in pairs:
        assert text[pair.start : pair.end] == pair.evidence
        assert (pair.kind, pair.language, pair.answerable) == ("teacher", "en", True)
        assert pair.writer == teacher.name
    assert len({pair.fact for pair in pairs}) == 6
    assert [pair.passage for pair in pairs[::FORMS]] == [one.id for one in passages]
    assert sorted(teacher.asked) == sorted(one.id for one in passages)
    assert not teacher.dropped
    assert (costs.requests, costs.remembered, costs.failed, costs.not_asked) == (6, 0, 0, 0)


def test_tokens_and_seconds_are_counted_and_money_is_not_measured(tmp_path):
    fake = engine(good, seconds_a_token=0.0005)
    _, _, costs = taught(tmp_path, fake, manual(3))
    prompts = sum(len(words(message.content)) for asked, _ in fake.asked for message in asked)
    answers = sum(len(words(good(asked))) + 1 for asked, _ in fake.asked)
    record = costs.record()
    assert (record["prompt_tokens"], record["answer_tokens"]) == (prompts, answers)
    assert record["seconds"] >= answers * 0.0005
    assert record["cost"] is None and record["cost_note"] == "not measured"
    assert record["settings"]["teacher"] == (
        {"temperature": 0.0, "top_p": 1.0, "seed": 0, "max_tokens": 280, "schema": True}
    )
    assert (record["name"], record["identity"], record["counts"]) == ("teacher-fake", "fake 1", "as the engine counts")


def test_a_quote_with_other_white_space_is_found_and_becomes_the_documents_own_words(tmp_path):
    one = passage("Before work:\nclose the  main\n   valve of the pump, then wait for ten minutes.", start=500)
    _, pairs, _ = taught(tmp_path, says(["close the main valve", ["What must be closed?"], "The main valve."]), [one])
    assert [pair.evidence for pair in pairs] == ["close the  main\n   valve"]
    assert one.text[pairs[0].start - 500 : pairs[0].end - 500] == pairs[0].evidence


def test_what_is_not_in_the_passage_is_dropped_with_a_reason(tmp_path):
    one = passage("The pump runs at 3120 rpm and is filled with 4 l of oil by the mechanic.", tokens=500)
    teacher, pairs, _ = taught(
        tmp_path,
        says(
            ["runs at 3120 rpm", ["How fast does the pump run?"], "At 3120 rpm."],
            ["runs at 9999 rpm", ["Which speed?"], "9999 rpm"],
            ["12", ["How many?"], "12"],
            ["filled with 4 l of oil", ["What does the passage say of oil?"], "4 l"],
            ["filled with 4 l of oil", ["How much oil does it take?"], " "],
            ["3120", ["How fast is it really?"], "3120"],
            ["filled with 4 l of oil", ["Fill it with oil.", "Oil?"], "4 l"],
            ["filled with 4 l of oil", ["Is it filled with oil?"], "fill it with oil " * 6],
            ["filled with 4 l of oil", ["Is it full of oil?"], " ".join(map(str, range(200)))],
        ),
        [one],
    )
    assert [pair.question for pair in pairs] == ["How fast does the pump run?"]
    assert [(drop.check, drop.pair.question) for drop in teacher.dropped] == [
        ("evidence", "Which speed?"),
        ("evidence", "How many?"),
        ("question", "What does the passage say of oil?"),
        ("answer", "How much oil does it take?"),
        ("evidence", "How fast is it really?"),
        ("question", "Fill it with oil."),
        ("question", "Oil?"),
        ("answer", "Is it filled with oil?"),
        ("answer", "Is it full of oil?"),
    ]
    assert all(drop.reason for drop in teacher.dropped)


def test_every_passage_is_asked_about_in_its_language_with_a_schema(tmp_path):
    fake = engine(lambda asked: '{"pairs": []}' if "Abschnitt" in asked[-1].content else good(asked))
    german = passage("Das Ventil der Pumpe wird alle drei Tage geöffnet und abends geschlossen.", language="de")
    french = passage(manual(1)[0].text, language="fr")
    taught(tmp_path, fake, [german, french])
    assert len(fake.asked) == 2
    for asked, sampling in fake.asked:
        is_german = german.text in asked[-1].content
        assert asked[0].content.startswith("Du schreibst" if is_german else "You write")
        assert sampling.schema["properties"]["pairs"]["maxItems"] == 1
        assert sampling.temperature == 0


def test_a_language_that_was_chosen_holds_for_all(tmp_path):
    fake = engine(good)
    _, pairs, _ = taught(tmp_path, fake, manual(2), language="de")
    assert {pair.language for pair in pairs} == {"de"}
    assert all(asked[0].content.startswith("Du schreibst") for asked, _ in fake.asked)


def test_a_passage_cannot_fill_in_or_shut_the_prompt():
    one = passage('Set {facts} to {"pairs": []} and {passage} to {forms}, says the book of the pump.')
    asked = writing(one, "en", facts=3, forms=2)
    assert one.text in asked[-1].content
    assert "at most 3 facts" in asked[0].content and '{"pairs": [{"evidence"' in asked[0].content


def test_what_was_answered_needs_no_engine_again_whatever_the_other_settings(tmp_path):
    passages = manual(8)
    _, before, paid = taught(tmp_path, engine(good), passages)
    _, after, costs = taught(tmp_path, never(), passages, asker={"concurrency": 4, "budget_tokens": 1}, limit=7, seed=5)
    assert {pair.id for pair in after} < {pair.id for pair in before} and len(after) == 7 * FORMS
    assert (costs.requests, costs.remembered, costs.prompt_tokens) == (0, 7, 0)
    assert 0 < costs.remembered_tokens < paid.prompt_tokens + paid.answer_tokens


def test_another_engine_and_another_language_are_asked_anew(tmp_path):
    passages = manual(3)
    fake = engine(good)
    taught(tmp_path, found(fake), passages)
    taught(tmp_path, found(fake, identity="fake 2"), passages)
    assert len(fake.asked) == 6
    taught(tmp_path, found(fake), passages, language="de")
    assert len(fake.asked) == 9


def test_a_limit_thins_out_all_documents_and_a_larger_one_keeps_what_was_asked(tmp_path):
    passages = [one for name in "abcd" for one in manual(10, document=f"{name}.md")]
    fake = engine(good)
    few, _, _ = taught(tmp_path, fake, passages, limit=12)
    assert len(fake.asked) == 12
    assert len({one.document for one in passages if one.id in few.asked}) >= 3
    more, _, costs = taught(tmp_path, fake, passages, limit=20)
    assert set(few.asked) < set(more.asked) and costs.remembered == 12 and len(fake.asked) == 20


def test_the_budget_is_kept_said_and_gone_on_from(tmp_path):
    passages = manual(30)
    heard = Heard()
    asker = {"budget_tokens": 4000, "progress": heard, "concurrency": 3}
    fake = engine(good)
    first, _, costs = taught(tmp_path, fake, passages, asker=asker)
    assert 2000 < costs.prompt_tokens + costs.answer_tokens <= 4000
    assert 0 < costs.requests < 30 and costs.not_asked == 30 - costs.requests == 30 - len(first.asked)
    assert f"{costs.not_asked} of 30 passages were not asked about" in heard.said[-1]
    second, _, again = taught(tmp_path, fake, passages, asker=asker)
    assert again.remembered == costs.requests and again.requests > 0
    assert len(second.asked) == costs.requests + again.requests
    taught(tmp_path, fake, passages)
    questions = [asked for asked, _ in fake.asked]
    assert len(questions) == len(set(questions)) == 30


def test_the_longest_time_is_kept_and_gone_on_from(tmp_path):
    passages = manual(12)
    heard = Heard()

    def slow(conversation):
        time.sleep(0.4)
        return good(conversation)

    asker = {"budget_seconds": 1, "progress": heard}
    _, _, costs = taught(tmp_path, engine(slow), passages, asker=asker)
    assert 0 < costs.requests <= 3 and costs.not_asked == 12 - costs.requests and 1 <= costs.seconds < 3
    assert f"{costs.not_asked} of 12 passages were not asked about" in heard.said[-1]
    _, pairs, again = taught(tmp_path, engine(good), passages, asker=asker)
    assert (again.remembered, again.not_asked, len(pairs)) == (costs.requests, 0, 12 * FORMS)


def test_money_is_counted_by_the_prices_that_are_told(tmp_path):
    passages = manual(4)
    _, _, paid = taught(tmp_path, engine(good), passages, asker={"prices": (2.0, 10.0)})
    record = paid.record()
    told = (paid.prompt_tokens * 2 + paid.answer_tokens * 10) / 1e6
    assert record["cost"] == pytest.approx(told, abs=1e-6) and told > 0 and record["remembered_cost"] == 0
    assert "cost_note" not in record
    _, _, again = taught(tmp_path, never(), passages, asker={"prices": (2.0, 10.0)})
    assert again.record()["cost"] == 0 and again.record()["remembered_cost"] == record["cost"]


def test_a_budget_that_another_task_used_up_is_said_and_is_no_error(tmp_path):
    passages = manual(6)
    heard = Heard()
    with Asker(found(engine(good)), tmp_path, progress=heard, budget_tokens=1500) as asker:
        Teacher(asker).ask(passages[:3])
        spent = asker.costs.requests
        second = Teacher(asker, language="de")
        second.ask(passages[3:])
        assert spent > 0 and second.asked == []
    assert "3 of 3 passages were not asked" in heard.said[-1]


def test_a_budget_that_is_too_small_for_one_question_is_an_error(tmp_path):
    fake = engine(good)
    with pytest.raises(SettingsError, match="budget_tokens"):
        taught(tmp_path, fake, manual(3), asker={"budget_tokens": 50})
    assert not fake.asked


@pytest.mark.parametrize(
    "answer",
    ["I am happy to help!", "", "{}", '{"pairs": []}', '{"pairs": "none"}', '{"pairs": [{"q": 1}]}', "[[[[", "{" * 99],
)
def test_rubbish_ends_early_in_an_error_that_shows_it(tmp_path, answer):
    fake = engine(lambda _: answer)
    with pytest.raises(EngineError, match="first 20 answers") as caught:
        taught(tmp_path, fake, manual(60))
    assert len(fake.asked) <= 21
    assert len(caught.value.problems) == 3 and all("pump.md" in problem for problem in caught.value.problems)
    assert repr(answer) in caught.value.problems[0]
    assert "larger teacher" in caught.value.hint


def test_few_passages_of_rubbish_are_an_error_too(tmp_path):
    with pytest.raises(EngineError, match="2 of 2 answers"):
        taught(tmp_path, engine(rubbish), manual(2))


def test_evidence_that_is_always_invented_is_rubbish(tmp_path):
    invented = says(["this stands nowhere", ["Where does it stand?"], "Nowhere."])
    with pytest.raises(EngineError, match="not in the passage"):
        taught(tmp_path, invented, manual(5))


def test_a_teacher_that_is_mended_under_the_same_name_is_asked_again(tmp_path):
    passages = manual(25)
    with pytest.raises(EngineError):
        taught(tmp_path, engine(rubbish), passages)
    _, pairs, costs = taught(tmp_path, engine(good), passages)
    assert len(pairs) == 25 * FORMS and costs.requests == 25


def test_below_a_share_the_whole_is_rubbish_and_the_good_answers_stay_remembered(tmp_path):
    passages = {one.id: one for one in manual(60)}
    order, _, _ = taught(tmp_path / "order", engine(good), list(passages.values()))
    ours = [passages[name].text for name in order.asked[:5]]
    fake = engine(lambda asked: good(asked) if any(text in asked[-1].content for text in ours) else rubbish(asked))
    with pytest.raises(EngineError, match="55 of 60 answers of the teacher"):
        taught(tmp_path, fake, list(passages.values()))
    _, pairs, costs = taught(tmp_path, engine(good), list(passages.values()))
    assert (costs.remembered, costs.requests, len(pairs)) == (5, 55, 60 * FORMS)


def test_a_teacher_that_is_good_half_of_the_time_succeeds(tmp_path):
    passages = manual(40)
    bad = {one.text for one in passages[::2]}
    fake = engine(lambda asked: rubbish(asked) if any(t in asked[-1].content for t in bad) else good(asked))
    teacher, pairs, _ = taught(tmp_path, fake, passages)
    assert len(pairs) == 20 * FORMS and len(teacher.asked) == 40


class Failing:
    """An engine that raises what `error` gives for a question, and is good otherwise."""

    name = "failing"
    context_length = 4096

    def __init__(self, error):
        self.error = error
        self.asked = 0

    def stream(self, asked, sampling):
        self.asked += 1
        error = self.error(asked)
        if error:
            raise error
        return engine(good).stream(asked, sampling)

    def replies(self, conversations, sampling) -> list[Reply]:
        raise AssertionError("a teacher is asked one by one, so that each answer is remembered at once")

    def close(self):
        pass


def test_an_engine_that_fails_again_and_again_ends_it_with_its_own_words(tmp_path):
    failing = Failing(lambda _: EngineError("the boiler burst", hint="mend the boiler"))
    with pytest.raises(EngineError, match=r"5 times in a row.*the boiler burst") as caught:
        taught(tmp_path, failing, manual(50))
    assert failing.asked == 5 and caught.value.hint == "mend the boiler"


def test_single_failures_and_prompts_that_are_too_long_cost_their_passage_alone(tmp_path):
    passages = manual(12)
    heard = Heard()

    def error(asked):
        text = asked[-1].content
        if passages[2].text in text:
            return EngineError("hiccup")
        return ContextError("too long") if passages[7].text in text else None

    teacher, pairs, costs = taught(tmp_path, Failing(error), passages, asker={"progress": heard})
    assert len(pairs) == 10 * FORMS and costs.failed == 2
    assert {passages[2].id, passages[7].id}.isdisjoint(teacher.asked)
    assert "2 of 12 passages" in heard.said[-1]


def test_passages_that_are_all_too_long_are_an_error(tmp_path):
    with pytest.raises(EngineError, match="answered none of 9"):
        taught(tmp_path, Failing(lambda _: ContextError("too long")), manual(9))


def test_a_wrong_key_stops_at_once(tmp_path):
    failing = Failing(lambda _: SettingsError("refused"))
    with pytest.raises(SettingsError, match="refused"):
        taught(tmp_path, failing, manual(50))
    assert failing.asked == 1


def test_several_are_asked_at_a_time_across_documents(tmp_path):
    passages = [one for name in "abcdefgh" for one in manual(1, document=f"{name}.md")]
    crowd = Crowd(good, 0.05)
    taught(tmp_path, found(engine(crowd), concurrency=4), passages, asker={"concurrency": 0})
    assert 2 <= crowd.most <= 4


def test_rubbish_breaks_off_what_is_under_way(tmp_path):
    fake = engine(rubbish, seconds_a_token=0.02)
    with pytest.raises(EngineError, match="first 20"):
        taught(tmp_path, found(fake, concurrency=4), manual(60), asker={"concurrency": 4})
    asked = len(fake.asked)
    assert 20 <= asked <= 24
    time.sleep(0.4)
    assert len(fake.asked) == asked


def test_ctrl_c_ends_it_at_once_though_the_teacher_is_slow(tmp_path):
    server = Server(wait=60)
    with serving(server):
        command = [sys.executable, "-c", KILLED, server.url, str(tmp_path), "9"]
        started = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=Path(__file__).parents[3])
        deadline = time.monotonic() + 60
        while not server.asked and time.monotonic() < deadline:
            time.sleep(0.01)
        begin = time.monotonic()
        started.send_signal(signal.SIGINT)
        _, told = started.communicate(timeout=30)
    assert time.monotonic() - begin < 10
    assert b"KeyboardInterrupt" in told and started.returncode != 0


def test_passages_that_are_alike_are_asked_about_once(tmp_path):
    one = manual(1)[0]
    fake = engine(good)
    taught(tmp_path, fake, [one, one, one])
    assert len(fake.asked) == 1


def test_passages_of_a_few_characters_are_passed_over(tmp_path):
    fake = engine(good)
    taught(tmp_path, fake, [passage("Figure 3"), *manual(1)])
    assert len(fake.asked) == 1


KILLED = """
import signal
import sys
from pathlib import Path
from tests.heard import Heard
from tests.teachers import document, manual
from werkmeister.corpus.writing.asking import Asker
from werkmeister.corpus.writing.teacher import Teacher
from werkmeister.engines.open import find_engine
from werkmeister.progress import Silent

# A shell starts what runs in the background with Ctrl-C turned off.
signal.signal(signal.SIGINT, signal.default_int_handler)
url, home, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
found = find_engine(url, model="tiny", progress=Silent(), concurrency=2)
with Asker(found, home, progress=Silent()) as asker:
    teacher = Teacher(asker)
    teacher.ask(manual(count))
    print(len(list(teacher.write(document(manual(count)), manual(count)))))
"""


def test_after_kill_9_only_what_was_in_flight_is_asked_again(tmp_path):
    count, in_flight = 30, 2
    server = Server(answer=lambda body: good(conversation(body["messages"][-1]["content"])), wait=0.05)
    with serving(server):
        command = [sys.executable, "-c", KILLED, server.url, str(tmp_path), str(count)]
        where = {"cwd": Path(__file__).parents[3], "env": os.environ | {"OMP_NUM_THREADS": "1"}}
        first = subprocess.Popen(command, stdout=subprocess.PIPE, **where)
        deadline = time.monotonic() + 60
        while len(server.asked) < 12 and time.monotonic() < deadline:
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        killed_at = len(server.asked)
        assert 12 <= killed_at < count
        again = subprocess.run(command, capture_output=True, text=True, **where)
    assert again.returncode == 0, again.stderr
    assert int(again.stdout) == count * FORMS
    assert count <= len(server.asked) <= count + in_flight
    twice = {question for question in server.questions if server.questions.count(question) > 1}
    assert len(twice) <= in_flight and len(set(server.questions)) == count


def test_an_answer_that_is_cut_counts_for_its_whole_facts():
    whole = json.dumps({"pairs": [{"evidence": f"e{n}", "questions": ["q"], "answer": "a"} for n in range(3)]})
    for cut in range(len(whole)):
        facts, why = read_facts(whole[:cut])
        complete = whole[:cut].count("}")
        assert (len(facts) if facts else 0) == min(complete, 3)
        assert bool(why) == (complete == 0)


@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "Here it is: {} Done."])
def test_json_is_found_in_what_models_put_around_it(around):
    inner = '{"pairs": [{"evidence": "e", "questions": ["q", "Q", 3, "r"], "answer": " a "}, {"evidence": 1}]}'
    facts, _ = read_facts(around.format(inner))
    assert [(fact.evidence, fact.questions, fact.answer) for fact in facts] == [("e", ("q", "r"), "a")]


@given(
    st.one_of(st.text(), st.recursive(st.none() | st.text(), st.lists).map(lambda value: json.dumps({"pairs": value})))
)
def test_no_answer_of_a_teacher_breaks_the_reading(text):
    facts, why = read_facts(text)
    assert (facts is None) == bool(why)


TEXT = st.text(st.sampled_from("ab1 \n\t.*()\\ä"), max_size=60)


@given(text=TEXT, start=st.integers(0, 60), size=st.integers(0, 60), blank=st.sampled_from([" ", "\n", "  \t"]))
def test_what_is_quoted_from_a_text_is_found_in_it_whatever_its_white_space(text, start, size, blank):
    quote = blank.join(text[start : start + size].split())
    place = find_evidence(quote, text)
    if place is not None:
        found_there = text[place[0] : place[1]]
        assert found_there.split() == quote.split() and found_there == found_there.strip()
    elif any(character.isalnum() for character in quote):
        # A short quote must not begin or end within a word.
        assert len(quote) < 20


@given(quote=TEXT, text=TEXT)
def test_evidence_that_is_found_is_the_quote(quote, text):
    place = find_evidence(quote, text)
    if place:
        assert text[place[0] : place[1]].split() == quote.split()


def test_short_quotes_are_whole_words_and_quotation_marks_are_no_part():
    assert find_evidence("12", "it has 3120 rpm and 12 poles") == (20, 22)
    assert find_evidence("12", "it has 3120 rpm") is None
    assert find_evidence('"3120 rpm"', "it has 3120 rpm") == (7, 15)
    assert find_evidence("„3120 rpm“", "it has „3120 rpm“") == (7, 17)
    assert find_evidence("...", "wait ...") is None


@pytest.mark.parametrize(
    "question",
    [
        "What does the passage say about oil?",
        "According to the text, how long?",
        "What is mentioned above?",
        "How many steps does this document list?",
        "Was steht in diesem Abschnitt?",
        "Was sagt der Text über Öl?",
        "Welche der oben genannten Stufen gilt?",
    ],
)
def test_a_question_that_points_at_an_unseen_passage_is_noticed(question):
    assert points_at_passage(question)


@pytest.mark.parametrize(
    "question",
    [
        "How do I change the text size of the display?",
        "Where is the section valve of the pump?",
        "Which document number has the manual of P7?",
        "What does the text on the display mean?",
        "What is typed in the text field of the display?",
        "Wie lang ist der Abschnitt 4 der Leitung?",
        "Wie lösche ich ein Dokument?",
        "Wie ändere ich den Text der Anzeige?",
        "How far above the floor is the sensor mounted?",
        "Was bedeutet die Anzeige oben links?",
    ],
)
def test_a_question_that_names_such_things_for_themselves_passes(question):
    assert not points_at_passage(question)


@pytest.mark.slow
def test_the_smallest_packaged_model_teaches_something_or_says_honestly_that_it_cannot(tmp_path):
    from werkmeister.engines.open import find_engine

    passages = [
        passage(text, start=start)
        for start, text in enumerate(
            (
                "The filter of the pump P7 must be cleaned every 30 days. Use warm water only.",
                "The pump P7 weighs 12 kg and is connected to 230 V. Its fuse has 10 A.",
                "To restart the pump P7, press the red button for three seconds and wait for the green light.",
                "Error E4 means that the motor of the pump P7 is too hot. Let it cool down for one hour.",
                "The warranty of the pump P7 ends two years after the day of purchase.",
                "The pump P7 is filled with 4 litres of oil of the kind VG 46.",
            )
        )
    ]
    chosen = find_engine("smollm2-135m", progress=Silent(), context_length=2048)
    try:
        teacher, pairs, costs = taught(tmp_path, chosen, passages)
    except EngineError as error:
        assert "hold no usable pair" in error.message and len(error.problems) == 3
        return
    assert pairs and costs.answer_tokens > 0
    for pair in pairs:
        one = next(one for one in passages if one.id == pair.passage)
        assert one.text[pair.start - one.start : pair.end - one.start] == pair.evidence
    assert len(teacher.asked) == 6
