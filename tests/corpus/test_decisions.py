import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.corpus.written_files import records_of
from werkmeister.corpus.decisions import (
    DROP,
    EDIT,
    FILE,
    KEEP,
    UNDECIDED,
    append_decisions,
    apply_decisions,
    decide,
    decisions_inputs,
    load_decisions,
)
from werkmeister.corpus.writing.pair import pair_from_record
from werkmeister.errors import DataError
from werkmeister.grounding import refusal

PAIRS, DROPPED = records_of(4)


def applied(folder: Path, pairs=PAIRS, dropped=DROPPED):
    return apply_decisions(pairs, dropped, load_decisions(folder))


def by_id(records) -> dict[str, dict]:
    return {record["id"]: record for record in records}


def test_without_a_file_every_pair_stays_as_it_is(tmp_path):
    made = applied(tmp_path)
    assert list(made.pairs) == PAIRS
    assert set(made.counts.values()) == {0}
    assert made.notes == ()
    assert decisions_inputs(tmp_path) == {}


def test_keep_edit_drop_and_rescue_do_what_they_say(tmp_path):
    append_decisions(tmp_path, [decide(PAIRS[0], KEEP), decide(PAIRS[1], DROP), decide(DROPPED[0], KEEP)])
    append_decisions(tmp_path, [decide(PAIRS[2], EDIT, question=" Flow of P0? ", answer="40 litres a minute")])
    append_decisions(tmp_path, [decide(DROPPED[1], DROP)])
    made = applied(tmp_path)
    left = by_id(made.pairs)
    assert left[PAIRS[0]["id"]] == PAIRS[0]
    assert PAIRS[1]["id"] not in left
    assert made.dropped_by_person == {PAIRS[1]["id"]}
    edited = left[PAIRS[2]["id"]]
    assert (edited["question"], edited["answer"]) == ("Flow of P0?", "40 litres a minute")
    assert edited["evidence"] == PAIRS[2]["evidence"]
    rescued = made.pairs[-1]
    assert rescued["id"] == DROPPED[0]["id"]
    assert "check" not in rescued
    assert rescued["group"] == DROPPED[0]["group"]
    assert dict(made.counts) == {"keep": 2, "edit": 1, "drop": 2, "rescued": 1, "waiting": 0}
    assert made.notes == (
        "your decisions: 2 kept, 1 edited, 2 dropped (1 of these rescued from what the checks dropped)",
    )
    assert len(made.pairs) == len(PAIRS)
    for record in made.pairs:
        plain = {key: value for key, value in record.items() if key not in ("group", "flags")}
        assert pair_from_record(plain).document == record["document"]


def test_the_last_decision_wins_and_undecided_takes_all_back(tmp_path):
    append_decisions(tmp_path, [decide(PAIRS[0], DROP), decide(PAIRS[0], KEEP), decide(PAIRS[1], DROP)])
    before = decisions_inputs(tmp_path)
    append_decisions(tmp_path, [decide(PAIRS[1], UNDECIDED), decide(PAIRS[0], UNDECIDED)])
    assert applied(tmp_path).counts["drop"] == 0
    assert list(applied(tmp_path).pairs) == PAIRS
    assert before
    assert decisions_inputs(tmp_path) == {}


def test_the_digest_counts_what_was_decided_and_not_when_or_why(tmp_path):
    for name, time, note in (("a", "2026-01-01T00:00:00+00:00", ""), ("b", "2027-01-01T00:00:00+00:00", "sure")):
        (tmp_path / name).mkdir()
        append_decisions(tmp_path / name, [replace(decide(PAIRS[0], DROP), time=time, note=note)])
    assert decisions_inputs(tmp_path / "a") == decisions_inputs(tmp_path / "b")
    append_decisions(tmp_path / "b", [decide(PAIRS[0], EDIT, question="other", answer="x")])
    assert decisions_inputs(tmp_path / "a") != decisions_inputs(tmp_path / "b")


def test_an_answer_edited_into_a_refusal_is_unanswerable_and_the_other_way_round(tmp_path):
    asked = next(record for record in PAIRS if not record["answerable"])
    append_decisions(tmp_path, [decide(asked, EDIT, question=asked["question"], answer="Blue.")])
    append_decisions(tmp_path, [decide(PAIRS[0], EDIT, question=PAIRS[0]["question"], answer=refusal("de"))])
    append_decisions(tmp_path, [decide(PAIRS[1], EDIT, question="What is the pressure?", answer=PAIRS[1]["answer"])])
    left = by_id(applied(tmp_path).pairs)
    assert left[asked["id"]]["answerable"] is True
    no_more = left[PAIRS[0]["id"]]
    assert (no_more["answerable"], no_more["evidence"], no_more["start"], no_more["end"]) == (False, "", 0, 0)
    assert left[PAIRS[1]["id"]]["answerable"] is True


def test_decisions_on_pairs_that_are_gone_wait_and_come_back_with_them(tmp_path):
    append_decisions(tmp_path, [decide(record, DROP) for record in PAIRS[:3]])
    fewer = applied(tmp_path, pairs=PAIRS[3:])
    assert fewer.counts["waiting"] == 3
    assert [decision.question for decision in fewer.waiting] == [record["question"] for record in PAIRS[:3]]
    assert fewer.notes == ("3 decisions wait for pairs that are gone",)
    assert applied(tmp_path, pairs=PAIRS[2:]).counts == {"keep": 0, "edit": 0, "drop": 1, "rescued": 0, "waiting": 2}
    assert applied(tmp_path).counts["waiting"] == 0
    one = applied(tmp_path, pairs=[*PAIRS[:2], *PAIRS[3:]])
    assert "1 decision waits for a pair that is gone" in one.notes


def test_a_decision_means_the_kept_pair_and_not_its_dropped_twin(tmp_path):
    twin = PAIRS[0] | {"check": "duplicate", "reason": "says the same"}
    append_decisions(tmp_path, [decide(PAIRS[0], KEEP)])
    made = applied(tmp_path, dropped=[twin, *DROPPED])
    assert list(made.pairs) == PAIRS
    assert made.counts["rescued"] == 0
    append_decisions(tmp_path, [decide(PAIRS[0], DROP)])
    assert [record["id"] for record in applied(tmp_path, dropped=[twin]).pairs] == [r["id"] for r in PAIRS[1:]]


def test_an_edit_that_changes_nothing_is_a_keep_and_an_empty_one_is_refused():
    same = decide(PAIRS[0], EDIT, question=PAIRS[0]["question"] + " ", answer=PAIRS[0]["answer"])
    assert same.verdict == KEEP
    with pytest.raises(ValueError, match="answer is empty; to leave the pair out, drop it"):
        decide(PAIRS[0], EDIT, question="Why?", answer="  ")
    with pytest.raises(ValueError, match="decision 'remove' is none of keep, edit, drop, undecided"):
        decide(PAIRS[0], "remove")


def test_the_file_can_be_read_by_a_person_without_any_artefact(tmp_path):
    append_decisions(tmp_path, [decide(PAIRS[0], EDIT, question="Größe?", answer="viel", note="seen in the shop")])
    text = (tmp_path / FILE).read_text(encoding="utf-8")
    said = json.loads(text)
    assert said.pop("time").endswith("+00:00")
    assert said == {
        "id": PAIRS[0]["id"],
        "decision": "edit",
        "document": PAIRS[0]["document"],
        "question": PAIRS[0]["question"],
        "answer": PAIRS[0]["answer"],
        "new_question": "Größe?",
        "new_answer": "viel",
        "note": "seen in the shop",
    }
    assert "Größe?" in text


@given(cut=st.integers(0, 400), kept=st.integers(1, 3))
def test_a_file_cut_anywhere_keeps_every_whole_line_and_takes_the_next_decision(tmp_path_factory, cut, kept):
    folder = tmp_path_factory.mktemp("cut")
    append_decisions(folder, [decide(record, DROP) for record in PAIRS[: kept + 1]])
    path = folder / FILE
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    length = sum(map(len, lines[:kept])) + min(cut, len(lines[kept]) - 2)
    path.write_bytes(whole[:length])
    loaded = load_decisions(folder)
    assert list(loaded.of) == [record["id"] for record in PAIRS[:kept]]
    is_cut = not path.read_bytes().endswith(b"\n")
    assert [f"{FILE}:{kept + 1}: the last line was cut off" in note for note in loaded.notes] == [True] * is_cut
    append_decisions(folder, [decide(PAIRS[5], KEEP)])
    after = load_decisions(folder)
    assert list(after.of) == [*(record["id"] for record in PAIRS[:kept]), PAIRS[5]["id"]]
    assert after.notes == ()


def test_a_last_line_without_its_end_that_is_whole_is_kept(tmp_path):
    append_decisions(tmp_path, [decide(PAIRS[0], DROP)])
    path = tmp_path / FILE
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().rstrip(b"\n"))
    assert load_decisions(tmp_path).of[PAIRS[0]["id"]].verdict == DROP
    append_decisions(tmp_path, [decide(PAIRS[1], KEEP)])
    assert [decision.verdict for decision in load_decisions(tmp_path).of.values()] == [DROP, KEEP]


def test_every_broken_line_in_the_middle_is_named_and_the_digest_still_tells_files_apart(tmp_path):
    append_decisions(tmp_path, [decide(PAIRS[0], DROP)])
    path = tmp_path / FILE
    good = path.read_text(encoding="utf-8")
    broken = (
        '{"id": "x"',
        '{"decision": "keep"}',
        '{"id": "x", "decision": "perhaps"}',
        '{"id": "x", "decision": "edit"}',
    )
    path.write_text("\n" + good + "\n".join(broken) + "\n" + good, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_decisions(tmp_path)
    told = [problem.removeprefix(f"{path}:") for problem in caught.value.problems]
    assert told[0].startswith("3: is not JSON")
    assert told[1:] == [
        "4: has no id",
        "5: decision is 'perhaps', and must be one of keep, edit, drop, undecided",
        "6: is an edit without new_question or new_answer",
    ]
    first = decisions_inputs(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + "x\n", encoding="utf-8")
    assert decisions_inputs(tmp_path) != first


def test_a_folder_in_the_place_of_the_file_is_an_error_and_never_no_decision(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(DataError, match="is a folder"):
        load_decisions(tmp_path)
    assert decisions_inputs(tmp_path) == {"decisions": "cannot be read"}


@given(
    st.lists(
        st.binary(max_size=40)
        | st.sampled_from([b"[" * 100_000, b'{"id": 1, "decision": "keep"}', b'{"id": "\\ud800"}'])
    )
)
def test_no_file_whatever_it_holds_ends_in_anything_but_words(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("odd")
    (folder / FILE).write_bytes(b"\n".join(lines) + b"\n")
    with contextlib.suppress(DataError):
        load_decisions(folder)
    assert set(decisions_inputs(folder)) <= {"decisions"}


WRITER = """
import sys
from pathlib import Path
from tests.corpus.written_files import records_of
from werkmeister.corpus.decisions import append_decisions, decide
pairs, _ = records_of(400)
for record in pairs:
    append_decisions(Path(sys.argv[1]), [decide(record, "drop")])
    print(record["id"], flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path):
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    acknowledged = [process.stdout.readline().strip() for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    acknowledged += process.communicate()[0].split()
    loaded = load_decisions(tmp_path)
    assert len(acknowledged) >= 25
    assert set(acknowledged) <= set(loaded.of)
    assert len(loaded.of) <= len(acknowledged) + 1
