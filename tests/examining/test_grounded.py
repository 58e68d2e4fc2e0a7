"""The exam of an expert on documents: token F1 with the passage, abstention, refusals, gain over the base, report."""

import json
import re
import string
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examining.devices import examples, manual
from tests.examining.test_exam import artefacts
from werkmeister.chat import Example, conversation
from werkmeister.examining import exam as stage
from werkmeister.examining.answering import from_function
from werkmeister.examining.exam import ExamSettings, exam, take_exam
from werkmeister.examining.marks import MARKS, choose_mark
from werkmeister.examining.report import exam_table, page, read_exam
from werkmeister.examining.seats import Seat, conversations
from werkmeister.examining.shots import choose_shots, short_examples
from werkmeister.examining.sitting import Job, by_passage
from werkmeister.examining.statistics import wilson
from werkmeister.grounding import read_open_book, refusal

TRAIN, EXAM = examples(range(20)), examples(range(20, 40))
RIGHT = {e.question: e.target for e in EXAM}
ANSWERABLE = [e for e in EXAM if e.part == "with passage"]
UNANSWERABLE = [e for e in EXAM if e.part == "unanswerable"]
# The adapter invents on 2 of 20 unanswerable questions and refuses 4 of 80 answerable ones.
ADAPTER = RIGHT | {e.question: "The shop in the town sells them." for e in UNANSWERABLE[:2]}
ADAPTER |= {e.question: refusal("en") for e in ANSWERABLE[::20]}
# The base repeats the target in a longer sentence, and abstains once in words of its own.
BASE = {e.question: f"I think that it could be {e.target}" for e in EXAM}
BASE |= {e.question: "You can buy fuses in a shop." for e in UNANSWERABLE[1:]}
BASE |= {UNANSWERABLE[0].question: "I'm sorry, but the manual does not say who sells them."}
ALWAYS = {e.question: refusal("en") for e in EXAM}


def squad_f1(answer: str, target: str, articles: str) -> float:
    """The F1 of SQuAD's official evaluation (Rajpurkar et al. 2016), with the articles of MLQA for other languages."""

    def tokens(text: str) -> list[str]:
        text = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return re.sub(rf"\b({articles})\b", " ", text).split()

    got, expected = tokens(answer), tokens(target)
    same = sum((Counter(got) & Counter(expected)).values())
    if not got or not expected:
        return float(got == expected)
    if same == 0:
        return 0.0
    precision, recall = same / len(got), same / len(expected)
    return 2 * precision * recall / (precision + recall)


ENGLISH = ("the", "a", "an", "valve", "Valve", "opens", "at", "5", "bar,", "bar.", "press!", "(hold)", "100", "and")
GERMAN = (
    "der",
    "die",
    "das",
    "ein",
    "einem",
    "Ventil",
    "ventil",
    "öffnet",
    "Ölstand",
    "bei",
    "5",
    "Bar.",
    "Taste,",
    "zu",
)
LANGUAGES = {
    "en": (ENGLISH, "a|an|the"),
    "de": (GERMAN, "ein|eine|einen|eines|einem|einer|der|die|das|den|dem|des"),
}


@pytest.mark.parametrize("language", LANGUAGES)
@given(data=st.data())
def test_token_f1_is_that_of_squad(language, data):
    words, articles = LANGUAGES[language]
    sentence = st.lists(st.sampled_from(words), min_size=1, max_size=12).map(" ".join)
    answer, target = data.draw(sentence), data.draw(sentence)
    # Where nothing but articles is said, ours keeps them: "A" and "B" are choices.
    if all(re.sub(rf"\b({articles})\b", "", text.lower()).strip() for text in (answer, target)):
        example = Example(prompt=conversation("?"), target=target)
        assert MARKS["token_f1"](answer, example).score == pytest.approx(squad_f1(answer, target, articles))
        assert MARKS["grounded"](answer, example).score == pytest.approx(squad_f1(answer, target, articles))


@pytest.mark.parametrize(
    ("answer", "target", "score", "refused"),
    [
        (refusal("en"), refusal("en"), 1, True),
        ("Dazu steht nichts im Handbuch.", refusal("en"), 1, True),
        ("5 bar", refusal("de"), 0, False),
        ("", refusal("de"), 0, False),
        ("5 bar", "5 bar", 1, False),
        (refusal("de"), "5 bar", 0, True),
        ("I don't know.", "5 bar", 0, True),
        ("The maker does not say.", "It is not specified by the maker.", None, False),
        ("It is not specified by the maker.", "It is not specified by the maker.", 1, False),
        (refusal("en"), "It is not specified by the maker.", None, True),
        ("The batteries are not included.", "No, they are not included.", None, False),
    ],
)
def test_the_grounded_mark_asks_for_abstention_where_the_target_is_the_learnt_refusal(answer, target, score, refused):
    example = Example(prompt=conversation("?"), target=target)
    mark = MARKS["grounded"](answer, example)
    assert mark.score == score or (score is None and 0 <= mark.score < 1)
    assert mark.detail["refused"] is refused
    assert mark.detail["answerable"] is (target not in (refusal("en"), refusal("de")))


def test_auto_chooses_grounded_for_refusals_or_evidence_and_never_for_json():
    def chosen(targets, **notes):
        made = [Example(prompt=conversation(f"q{i}"), target=t, **notes) for i, t in enumerate(targets)]
        return choose_mark("auto", made)

    marking, why = chosen(["5 bar", "6 bar", refusal("de")])
    assert marking.name == "grounded" and "refusal" in why
    marking, why = chosen(["on", "off"] * 20, evidence="it is on or off")
    assert marking.name == "grounded" and "evidence" in why
    assert chosen(["on", "off"] * 20)[0].name == "label"
    assert chosen(['{"a": 1}'], evidence='{"a": 1}')[0].name == "json"
    assert chosen(["I do not know.", "It is 5.", "It is 6."])[0].name == "token_f1", "own words are no learnt refusal"


@pytest.fixture(scope="module")
def sat(tmp_path_factory):
    """The stage over scripted base, few-shot base and adapter, and the real baseline in its own process."""
    folder = tmp_path_factory.mktemp("grounded")
    scripts = {"base": BASE, "base few-shot": BASE, "adapter": ADAPTER}

    def take_seat(name, room, exported, trained, data, slots):
        if name == "baseline":
            return real(name, room, exported, trained, data, slots)
        options = {"answers": scripts[name], "seconds_a_token": 0.0, "max_tokens": room.max_tokens, "stop": []}
        return Seat(job=Job(name=name, kind="scripted", options=options), few=name.startswith("base"))

    real = stage.take_seat
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "take_seat", take_seat)
        patch.setattr(stage, "find_same_base", lambda said, *, expert, progress: None)
        answerers = ("base", "base few-shot", "baseline", "adapter")
        return exam(*artefacts(folder, EXAM, TRAIN), ExamSettings(max_tokens=60, base_limit=15, answerers=answerers))


def rows_of(found):
    return {(row["answerer"], row["part"]): row for row in found["rows"]}


def test_every_row_says_on_how_many_it_abstained_and_how_many_it_refused_with_intervals(sat):
    found = read_exam(sat)
    rows = rows_of(found)
    assert found["mark"] == "grounded"
    whole = rows["adapter", "all"]
    assert (whole["abstained"]["value"], whole["abstained"]["n"]) == (pytest.approx(18 / 20), 20)
    assert (whole["refused"]["value"], whole["refused"]["n"]) == (pytest.approx(4 / 80), 80)
    assert whole["refused"]["low"] < 0.05 < whole["refused"]["high"]
    assert whole["groups"] == 20
    # One unanswerable question a device: independent of one another, so the plain Wilson interval.
    one = wilson(18, 20)
    assert (rows["adapter", "unanswerable"]["low"], rows["adapter", "unanswerable"]["high"]) == (one.low, one.high)
    assert rows["adapter", "unanswerable"]["refused"] is None and rows["adapter", "with passage"]["abstained"] is None
    # Several questions a device are not independent, and the row says so.
    assert "groups" in rows["adapter", "with passage"]["interval"]
    assert rows["base", "unanswerable"]["n"] == 15
    asked = {e.id for e in stage.results.choose_examples(EXAM, 15, 0)}
    abstained = float(UNANSWERABLE[0].id in asked) / 15
    assert rows["base", "unanswerable"]["abstained"]["value"] == pytest.approx(abstained)
    for row in found["rows"]:
        for share in (row["abstained"], row["refused"]):
            assert share is None or 0 <= share["low"] <= share["value"] <= share["high"] <= 1


def test_the_gain_over_the_base_is_paired_in_points_of_token_f1(sat):
    rows = rows_of(read_exam(sat))
    gain = rows["adapter", "with passage"]["gain"]
    answers = [json.loads(line) for line in sat.file("answers.jsonl").read_text().splitlines()]
    score = {(a["answerer"], a["id"]): a["score"] for a in answers}
    asked = [a["id"] for a in answers if a["answerer"] == "base" and a["part"] == "with passage"]
    by_hand = sum(score["adapter", i] - score["base", i] for i in asked) / len(asked)
    assert gain["n"] == len(asked) == 15
    assert gain["value"] == pytest.approx(by_hand)
    assert gain["low"] < by_hand < gain["high"]
    assert rows["base", "with passage"]["gain"] is None
    assert gain["value"] == pytest.approx(-rows["base", "with passage"]["difference"]["value"])


def test_the_baseline_reads_the_passage_and_the_headline_tells_what_was_refused(sat):
    found = read_exam(sat)
    rows = rows_of(found)
    assert "of the passage" in rows["baseline", "with passage"]["about"]
    assert rows["baseline", "with passage"]["score"] > 0.6
    told = r"the expert abstains on 90 % \([\d.–]+\) of the unanswerable questions and refuses 5 % \([\d.–]+\) of the"
    assert re.search(told, found["headline"]) and "% with passage and the expert" in found["headline"]


def test_the_table_has_abstention_refusals_and_gain_and_says_what_it_does_not_know(sat):
    columns, rows = exam_table(read_exam(sat))
    assert columns[:6] == (
        "answerer",
        "with passage",
        "over base",
        "unanswerable, abstained",
        "answerable, refused",
        "n",
    )
    assert {len(row) for row in rows} == {len(columns)}
    by_name = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    assert by_name["base"]["over base"] == "–"
    assert re.fullmatch(r"[+−]\d+\.\d \([+−]\d+\.\d to [+−]\d+\.\d\)", by_name["adapter"]["over base"])
    assert by_name["adapter"]["unanswerable, abstained"].startswith("90 % (")
    assert by_name["adapter"]["answerable, refused"].startswith("5 % (")
    assert by_name["adapter"]["n"] == "80 + 20" and by_name["base"]["n"] == "15 + 15"


def test_the_report_shows_the_passage_beside_the_answer_with_its_evidence_marked_and_nothing_unescaped(sat):
    html = sat.file("report.html").read_text()
    assert 'class="passage"' in html and "<mark>" in html and "Documents:" not in html
    assert all(word in html for word in ("Abstention", "count together", "unanswerable: 2 of 20 not fully right"))
    answers = [json.loads(line) for line in sat.file("answers.jsonl").read_text().splitlines()]
    first = next(a for a in answers if a["part"] == "with passage")
    assert first["question"].startswith(("What is", "How is")) and first["evidence"] in first["passage"]
    wild = Example(
        prompt=conversation("Documents:\nLock\n<script>alert(1)</script> & <b>\n\nQuestion: Why?"),
        target="because",
        part="with passage",
        evidence="<script>alert(1)</script>",
    )
    found, sittings = take_exam([from_function("adapter", lambda q: "<i>")], [wild])
    shown = page(found, [row for s in sittings for row in stage.answer_rows(s)])
    assert "<mark>&lt;script&gt;alert(1)&lt;/script&gt;</mark>" in shown and "<script>" not in shown


def sit(**scripts):
    found, _ = take_exam([from_function(name, script.__getitem__) for name, script in scripts.items()], EXAM)
    return found, rows_of(found)


def test_who_refuses_everything_is_not_said_to_pay_for_its_abstention():
    found, rows = sit(base=BASE, adapter=ALWAYS)
    assert rows["adapter", "unanswerable"]["score"] == 1
    assert found["pays"] == {"with passage": False, "unanswerable": False}
    told = r"refuses 100 % \([\d.]+–100\) of the answerable ones \(base 5 % and 0 %\); the paired difference, abstained"
    assert re.search(told, found["headline"])


def test_a_base_that_refuses_everything_does_not_beat_an_expert_that_tells_the_questions_apart():
    found, rows = sit(base=ALWAYS, adapter=ADAPTER)
    assert rows["adapter", "unanswerable"]["difference"] is None
    assert rows["base", "unanswerable"]["difference"]["value"] > 0
    apart = rows["base", "all"]["apart"]
    assert apart["value"] == pytest.approx(0 - (18 / 20 - 4 / 80)) and apart["high"] < 0
    assert found["pays"]["unanswerable"]


def test_a_good_expert_pays_on_both_parts():
    answerers = [from_function("base", BASE.__getitem__), from_function("adapter", RIGHT.__getitem__)]
    found, _ = take_exam(answerers, EXAM)
    assert found["pays"] == {"with passage": True, "unanswerable": True}
    told = r"Fine-tuning pays: [\d.]+ % → 100 % with passage; the expert abstains on 100 % .*\(base 5 % and 0 %\)\."
    assert re.fullmatch(told, found["headline"])


def test_an_exam_of_one_part_with_refusals_in_it_has_both_figures_in_its_row():
    mixed = [Example(prompt=e.prompt, target=e.target, group=e.group) for e in EXAM]
    found, _ = take_exam(
        [from_function("base", BASE.__getitem__), from_function("adapter", ADAPTER.__getitem__)], mixed
    )
    row = rows_of(found)["adapter", "exam"]
    assert (row["abstained"]["n"], row["refused"]["n"]) == (20, 80)
    columns, lines = exam_table(found)
    assert columns[:4] == ("answerer", "score", "over base", "answerable, refused")
    assert lines[1][3].startswith("5 % (")


def test_shots_of_open_book_questions_are_short_alike_in_the_question_and_show_a_refusal_first():
    long = [
        Example(prompt=conversation(e.question.replace("## Reset", "filler " * 400)), target=e.target, part=e.part)
        for e in TRAIN[:20]
    ]
    training = [*TRAIN, *long]
    shots = choose_shots(EXAM, training, 3)
    short = {e.id for e in short_examples(training)}
    for asked, near in zip(EXAM, shots, strict=True):
        assert len(near) == 3 and {e.id for e in near} <= short
        assert near[0].target == refusal("en") and all(e.target != refusal("en") for e in near[1:])
        if "reset" in read_open_book(asked.question)[1]:
            assert "reset" in read_open_book(near[-1].question)[1]
    assert not short & {e.id for e in long}


def test_shots_of_closed_book_questions_are_closed_book_ones():
    training = examples(range(20), closed=True)
    closed = [e for e in training if e.part == "from memory"]
    (put,) = conversations(closed[:1], [e for e in training if e.id != closed[0].id], 2).values()
    assert len(put) == 5 and not any("Documents:" in message.content for message in put)
    assert [len(near) for near in choose_shots(EXAM[:2], TRAIN, 1)] == [1, 1]
    assert all(e.part == "with passage" for near in choose_shots(EXAM[:2], TRAIN, 1) for e in near)


def test_questions_on_one_passage_follow_one_another_and_speed_is_measured_on_different_ones():
    shuffled = stage.results.choose_examples(EXAM, 0, 3)
    ordered = by_passage(shuffled)
    assert sorted(e.id for e in ordered) == sorted(e.id for e in shuffled)
    assert len({e.group for e in ordered[:4]}) == 4
    changes = sum(a.group != b.group for a, b in pairwise(ordered[4:]))
    assert changes == len({e.group for e in ordered[4:]}) - 1
    plain = [Example(prompt=conversation(f"q{i}"), target="x") for i in (3, 1, 2)]
    assert by_passage(plain) == plain


def test_the_passage_of_a_device_is_in_its_prompt_verbatim():
    assert all(manual(20 + i // 5).shown == read_open_book(e.question)[0] for i, e in enumerate(EXAM))
