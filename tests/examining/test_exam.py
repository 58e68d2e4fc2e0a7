import json
import re

import pytest

from werkmeister.artefact import making, open_artefact
from werkmeister.chat import Example, Message, conversation, write_examples
from werkmeister.errors import ArtefactError, DataError, SettingsError
from werkmeister.examining import exam as stage
from werkmeister.examining import results
from werkmeister.examining.answering import from_function
from werkmeister.examining.exam import ExamSettings, exam, take_exam
from werkmeister.examining.report import exam_table, headline, markdown, page, read_exam
from werkmeister.examining.seats import Seat, conversations
from werkmeister.examining.sitting import Job

DEVICES = ("lamp", "fan", "blind", "heater", "door")
ROOMS = ("kitchen", "hall", "cellar", "bath")


def command(device: str, room: str, wording: str, part: str = "") -> Example:
    target = json.dumps({"intent": "TurnOn", "slots": {"area": room, "name": device}})
    question = wording.format(device=device, room=room)
    return Example(prompt=conversation(question, "You run a house."), target=target, part=part, group=wording)


TRAIN = [
    command(d, r, w) for d in DEVICES[:4] for r in ROOMS for w in ("turn on the {room} {device}", "{room} {device} on")
]
EXAM = [
    command(d, r, "please switch on the {device} of the {room}", "new wordings") for d in DEVICES[:4] for r in ROOMS
]
EXAM += [command(DEVICES[4], r, "turn on the {room} {device}", "new outputs") for r in ROOMS]
RIGHT = {e.question: e.target for e in EXAM}
# The adapter errs on one of sixteen new wordings, the small file on three more and on every new output.
ADAPTER = RIGHT | {EXAM[0].question: '{"intent": "TurnOff", "slots": {"area": "kitchen", "name": "lamp"}}'}
SMALL = ADAPTER | {e.question: "{" for e in EXAM[1:4] + EXAM[16:]}
SCRIPTS = {"base": dict.fromkeys(RIGHT, "I am a model."), "base few-shot": RIGHT, "adapter": ADAPTER}
SCRIPTS |= {"Q8_0": ADAPTER, "Q4_K_M": SMALL}


def artefacts(folder, examples=EXAM, train=TRAIN):
    with making("dataset", folder / "dataset", version=1, inputs={}, settings={}) as draft:
        for name, many in (("train", train), ("valid", []), ("exam", examples)):
            write_examples(draft.path / f"{name}.jsonl", many)
        base = {"name": "scripted", "identity": "0" * 64, "context_length": 2048}
        draft.facts |= {"base": base, "longest_tokens": 60, "system": "You run a house."}
    inputs = {"dataset": open_artefact(folder / "dataset", "dataset").identity}
    with making("train", folder / "train", version=1, inputs=inputs, settings={}) as draft:
        (draft.path / "adapter").mkdir()
        (draft.path / "adapter" / "weights").write_text(f"{len(train)} examples")
        (draft.path / "report.html").write_text("<p>curves")
        draft.facts |= {"base": base}
    inputs["train"] = open_artefact(folder / "train", "train").identity
    with making("export", folder / "export", version=1, inputs=inputs, settings={}) as draft:
        files = {"Q8_0": "model-Q8_0.gguf", "Q4_K_M": "model-Q4_K_M.gguf"}
        for name in files.values():
            (draft.path / name).write_bytes(b"GGUF")
        draft.facts |= {"base": base, "files": files, "default": "Q4_K_M", "stop": ["<end>"]}
    return [folder / kind for kind in ("dataset", "train", "export", "exam")]


@pytest.fixture
def scripted(monkeypatch):
    """The stage with every answerer but the baseline from a script; all else is as in life."""

    def take_seat(name, room, exported, trained, data, slots):
        if name == "baseline":
            return real(name, room, exported, trained, data, slots)
        options = {"answers": SCRIPTS[name], "seconds_a_token": 0.0, "max_tokens": room.max_tokens, "stop": []}
        return Seat(job=Job(name=name, kind="scripted", options=options), few=name.startswith("base"))

    real = stage.take_seat
    monkeypatch.setattr(stage, "take_seat", take_seat)
    monkeypatch.setattr(stage, "find_same_base", lambda said, *, expert, progress: None)


def test_an_exam_over_scripted_answerers_yields_known_scores(tmp_path, scripted):
    made = exam(*artefacts(tmp_path), ExamSettings(max_tokens=80, base_limit=3))
    found = read_exam(made)
    rows = {(row["answerer"], row["part"]): row for row in found["rows"]}
    names = ["base", "base few-shot", "baseline", "adapter", "Q8_0", "Q4_K_M"]
    assert list(dict.fromkeys(row["answerer"] for row in found["rows"])) == names
    expected = {
        ("base", "new wordings"): (0.0, 3),
        ("base few-shot", "new outputs"): (1.0, 3),
        ("baseline", "new outputs"): (0.0, 4),
        ("adapter", "new wordings"): (15 / 16, 16),
        ("adapter", "all"): (19 / 20, 20),
        ("Q8_0", "all"): (19 / 20, 20),
        ("Q4_K_M", "new wordings"): (12 / 16, 16),
        ("Q4_K_M", "new outputs"): (0.0, 4),
    }
    for key, (score, n) in expected.items():
        assert (rows[key]["score"], rows[key]["n"]) == (pytest.approx(score), n), key
        assert rows[key]["low"] <= score <= rows[key]["high"]
        assert rows[key]["mark"] == "json"
    assert {"answerer", "part", "mark", "score", "low", "high", "n", "bytes", "tokens_per_second"} <= set(
        rows[names[0], "all"]
    )
    assert rows["Q4_K_M", "new outputs"]["worse"] and not rows["Q8_0", "all"]["worse"]
    assert rows["Q4_K_M", "all"]["difference"]["value"] == pytest.approx(-7 / 20)
    assert rows["adapter", "all"]["difference"] is None
    assert rows["adapter", "all"]["peak_memory"] > 1_000_000
    assert (rows["Q4_K_M", "all"]["valid_json"], rows["base", "all"]["right_fields"]) == (pytest.approx(13 / 20), 0)
    # On three new outputs the few-shot base is as good as the adapter: fine-tuning is not shown to pay there.
    assert found["pays"] == {"new wordings": False, "new outputs": False}
    assert "does not pay" in found["headline"] and made.facts["headline"] == headline(found)


def test_every_answer_of_every_answerer_can_be_read(tmp_path, scripted):
    settings = ExamSettings(max_tokens=80, answerers=("baseline", "adapter"))
    made = exam(*artefacts(tmp_path), settings)
    answers = [json.loads(line) for line in made.file("answers.jsonl").read_text().splitlines()]
    assert len(answers) == 40
    wrong = next(a for a in answers if a["answerer"] == "adapter" and a["score"] == 0)
    assert wrong["question"] == EXAM[0].question and wrong["target"] == EXAM[0].target
    assert wrong["detail"]["wrong"] == [{"field": "intent", "expected": '"TurnOn"', "got": '"TurnOff"'}]
    html = made.file("report.html").read_text()
    assert "Fine-tuning" in html and "TurnOff" in html and "<svg" in html


def test_the_report_leads_to_that_of_the_training_where_there_is_one(tmp_path):
    made = exam(*artefacts(tmp_path), ExamSettings(answerers=("baseline",), limit=4))
    html = made.file("report.html").read_text()
    (link,) = re.findall(r'href="([^"]+)"', html)
    assert (made.path / link).read_text() == "<p>curves"
    answers = [json.loads(line) for line in made.file("answers.jsonl").read_text().splitlines()]
    assert "href" not in page(read_exam(made), answers)


def test_the_baseline_alone_needs_neither_base_nor_engine(tmp_path):
    made = exam(*artefacts(tmp_path), ExamSettings(answerers=("baseline",), limit=10))
    rows = made.measures["rows"]
    assert {(row["part"], row["n"]) for row in rows} == {("new wordings", 10), ("new outputs", 4), ("all", 14)}
    assert all(row["about"] == "TF-IDF nearest neighbour" for row in rows)
    assert next(row["score"] for row in rows if row["part"] == "new outputs") == 0
    assert next(row["score"] for row in rows if row["part"] == "new wordings") > 0.8
    assert made.facts["pays"] == {}


def test_a_stopped_exam_goes_on_and_a_crashed_answerer_leaves_no_artefact(tmp_path, scripted, monkeypatch):
    paths = artefacts(tmp_path)
    settings = ExamSettings(max_tokens=80, answerers=("adapter", "Q8_0"))
    monkeypatch.setitem(SCRIPTS, "Q8_0", None)
    with pytest.raises(Exception, match="Q8_0 broke off"):
        exam(*paths, settings)
    record = tmp_path / "exam.partial" / "scratch" / "adapter" / "answers.jsonl"
    stamp, count = record.stat().st_mtime_ns, record.read_bytes().count(b"\n")
    assert count == 20
    with pytest.raises(ArtefactError):
        open_artefact(paths[-1], "exam")
    monkeypatch.setitem(SCRIPTS, "Q8_0", ADAPTER)
    asked = []
    monkeypatch.setattr("werkmeister.examining.sitting._run", watched(asked))
    made = exam(*paths, settings)
    assert asked == ["Q8_0"] and stamp
    assert set(made.outputs) == {"exam.json", "answers.jsonl", "report.html"}


def watched(asked):
    from werkmeister.examining import sitting

    real = sitting._run

    def run(name, folder):
        asked.append(name)
        return real(name, folder)

    return run


def test_wrong_settings_and_empty_exams_are_refused_before_any_work(tmp_path):
    paths = artefacts(tmp_path / "a")
    with pytest.raises(SettingsError, match=r"(?s)'Q2_K'.*Q4_K_M"):
        exam(*paths, ExamSettings(answerers=("baseline", "Q2_K")))
    with pytest.raises(SettingsError, match="leaves nobody"):
        exam(*paths, ExamSettings(answerers=("base few-shot",), shots=0))
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="holds no example"):
        exam(*artefacts(tmp_path / "b", examples=[]), ExamSettings(answerers=("baseline",)))
    assert not list(tmp_path.glob("*/exam*"))


def test_artefacts_that_were_not_made_from_one_another_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    dataset, train, export, output = artefacts(tmp_path / "a")
    other = artefacts(tmp_path / "b", train=TRAIN[:8])
    with pytest.raises(ArtefactError, match="another dataset artefact"):
        exam(other[0], train, export, output, ExamSettings(answerers=("baseline",)))
    with pytest.raises(ArtefactError, match="another train artefact"):
        exam(dataset, train, other[2], output, ExamSettings(answerers=("baseline",)))


def test_the_choice_of_examples_is_seeded_nested_and_independent_of_their_order():
    def ids(*args):
        return [e.id for e in results.choose_examples(*args)]

    assert ids(EXAM, 3, 0) == ids(EXAM[:16][::-1] + EXAM[16:], 3, 0)
    assert set(ids(EXAM, 3, 0)) < set(ids(EXAM, 4, 0))
    assert ids(EXAM, 3, 0) != ids(EXAM, 3, 1)
    assert len(ids(EXAM + EXAM, 0, 0)) == len(EXAM)


def test_few_shot_examples_are_the_most_similar_and_stand_between_system_and_question():
    (put,) = conversations(EXAM[:1], TRAIN, 2).values()
    assert [m.role for m in put] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert put[-1] == Message("user", EXAM[0].question)
    assert put[3].content in ("turn on the kitchen lamp", "kitchen lamp on")
    assert put[4].content == EXAM[0].target
    assert conversations(EXAM[:1], TRAIN, 0) == {EXAM[0].id: EXAM[0].prompt}


def test_any_callables_sit_an_exam_from_python_and_fine_tuning_is_seen_to_pay():
    answerers = [from_function("base", lambda q: "no"), from_function("baseline", lambda q: "{}", about="a guess")]
    found, sittings = take_exam([*answerers, from_function("adapter", ADAPTER.__getitem__)], EXAM)
    assert found["pays"] == {"new wordings": True, "new outputs": False}
    assert re.match(
        r"Fine-tuning pays: 0 % → 93.8 % on new wordings \(baseline 0 %\)\. A gain was seen and is not proven",
        found["headline"],
    )
    assert len(sittings) == 3
    with pytest.raises(DataError):
        take_exam(answerers, [])


def test_label_exams_have_a_macro_f1_row_beside_the_accuracy():
    examples = [Example(prompt=conversation(f"text {i}"), target="spam" if i % 4 else "ham") for i in range(40)]
    always = from_function("baseline", lambda q: "spam")
    right = {e.question: e.target for e in examples}
    found, _ = take_exam([always, from_function("adapter", right.__getitem__)], examples)
    rows = {(row["answerer"], row["mark"]): row for row in found["rows"]}
    assert rows["baseline", "label"]["score"] == 0.75
    assert rows["baseline", "macro_f1"]["score"] == pytest.approx((0 + 2 * 30 / 70) / 2)
    assert rows["adapter", "macro_f1"]["score"] == 1
    assert {row["part"] for row in found["rows"]} == {"exam"}
    assert exam_table(found)[0][:3] == ("answerer", "score, accuracy", "score, macro F1")


def test_the_table_and_the_page_name_what_is_worse_and_escape_what_was_said():
    wild = Example(prompt=conversation("<script>alert(1)</script> | x"), target='{"a": "<b>"}')
    answerers = [from_function("adapter", lambda q: '{"a": "<i>"}'), from_function("Q4_0", lambda q: "<u>")]
    found, sittings = take_exam(answerers, [wild, *EXAM])
    html = page(found, [row for s in sittings for row in stage.answer_rows(s)])
    assert "<script>" not in html and "&lt;script&gt;" in html and "http" not in html.replace("http://www.w3.org", "")
    perfect = from_function("adapter", RIGHT.__getitem__)
    worse, _ = take_exam([perfect, from_function("Q4_0", SMALL.__getitem__)], EXAM)
    columns, rows = exam_table(worse)
    note = rows[1][columns.index("note")]
    assert {len(row) for row in rows} == {len(columns)}
    assert note == "worse by 25.0 points on new wordings, 100.0 points on new outputs"
    lines = markdown(worse).splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
