"""The verb review: the sheet out and in, the page until Ctrl-C, and what a person is told."""

import csv
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.corpus.written_files import records_of, write_artefacts
from werkmeister.corpus.decisions import FILE, load_decisions
from werkmeister.corpus.sheet import unguarded
from werkmeister.errors import ArtefactError, DataError, SettingsError
from werkmeister.pipeline import read_expert
from werkmeister.progress import Silent
from werkmeister.reviewing import review_expert, show_review

PAIRS, DROPPED = records_of(5)


@pytest.fixture
def expert(tmp_path: Path) -> Path:
    folder = tmp_path / "pumps"
    write_artefacts(folder / "artefacts", 5)
    (folder / "expert.toml").write_text('[expert]\nbase = "smollm2-135m"\n', encoding="utf-8")
    return folder


def review(folder: Path, **given):
    return review_expert(read_expert(folder), progress=Silent(), **given)


def test_a_sheet_goes_out_is_decided_in_and_comes_back(expert: Path, tmp_path: Path, capsys) -> None:
    sheet = tmp_path / "review.csv"
    found = review(expert, export=sheet)
    assert found["exported"] == {"file": str(sheet), "rows": len(PAIRS) + len(DROPPED)}
    text = sheet.read_bytes().decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=text[2]))
    assert text[2] in ",;"
    rows[1][1], rows[2][1], rows[3][3] = "keep", "drop", "forty"
    with sheet.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    found = review(expert, import_=sheet)
    assert found["imported"] == {"file": str(sheet), "rows": len(rows) - 1, "decisions": 3, "replaced": 0, "gone": 0}
    assert [d.verdict for d in load_decisions(expert).of.values()] == ["keep", "drop", "edit"]
    assert found["progress"]["counts"] == {"keep": 1, "edit": 1, "drop": 1}
    show_review(found, as_json=False)
    told = capsys.readouterr().out
    assert f"{len(rows) - 1} rows read, 3 new decisions" in told
    assert f"Next: werkmeister dataset {expert}" in told
    again = review(expert, import_=sheet, export=tmp_path / "after.csv")
    assert again["imported"]["decisions"] == 0
    after = (tmp_path / "after.csv").read_text(encoding="utf-8-sig")
    assert "forty" in after


def test_a_sheet_that_cannot_be_written_is_told(expert: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        review(expert, export=tmp_path / "none" / "review.csv")
    with pytest.raises(DataError, match="is a folder"):
        review(expert, export=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pumps"]


@pytest.mark.parametrize("given", [{"sample": -3}, {"port": 99999}])
def test_numbers_that_cannot_be_are_refused(expert: Path, tmp_path: Path, given) -> None:
    with pytest.raises(SettingsError):
        review(expert, export=tmp_path / "review.csv", **given)


def test_a_bad_sheet_leaves_every_decision_as_it_was(expert: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "review.csv"
    sheet.write_text(
        f"id,decision,question,answer\n{PAIRS[0]['id']},keep,{PAIRS[0]['question']},{PAIRS[0]['answer']}\nx,keep,,\n"
    )
    with pytest.raises(DataError, match="column id: no pair is called 'x'"):
        review(expert, import_=sheet)
    assert not (expert / FILE).exists()
    with pytest.raises(DataError, match="there is no file"):
        review(expert, import_=tmp_path / "none.csv")


def test_a_sample_goes_into_the_sheet_and_its_verdict_is_told(expert: Path, tmp_path: Path, capsys) -> None:
    sheet = tmp_path / "sample.csv"
    review(expert, export=sheet, sample=8, seed=4)
    text = sheet.read_bytes().decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=text[2]))
    assert len(rows) == 9
    assert {unguarded(row[0]) for row in rows[1:]} <= {record["id"] for record in PAIRS}
    for row in rows[1:]:
        row[1] = "keep"
    with sheet.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows(rows)
    found = review(expert, import_=sheet, sample=8, seed=4)
    assert (found["progress"]["verdict"]["right"], found["progress"]["verdict"]["n"]) == (8, 8)
    show_review(found, as_json=False)
    assert re.search(
        r"In the sample 8 of 8 are right: 100\.0% \(95% interval 67\.6% to 100\.0%\)", capsys.readouterr().out
    )
    show_review(found, as_json=True)
    assert json.loads(capsys.readouterr().out)["progress"]["total"] == 8


def test_an_expert_without_pairs_is_told_what_makes_them(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "expert.toml").write_text('[expert]\nbase = "smollm2-135m"\n', encoding="utf-8")
    with pytest.raises(ArtefactError, match="there are no pairs to review") as caught:
        review(folder)
    assert f"werkmeister build {folder}" in caught.value.hint
    with pytest.raises(SettingsError):
        review(tmp_path / "nowhere")


PERSON = """
import sys
from pathlib import Path
from werkmeister.console import live
from werkmeister.pipeline import read_expert
from werkmeister.reviewing import review_expert, show_review
show_review(review_expert(read_expert(Path(sys.argv[1])), progress=live()), as_json=False)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_page_in_good_order_with_everything_kept(expert: Path, number: signal.Signals) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", PERSON, str(expert)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    said = process.stderr.readline()
    url = urlsplit(re.search(r"http://\S+", said)[0])
    assert re.match(r"Review 50 pairs at http://127\.0\.0\.1:\d+/[\w-]{32}/$", said)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    headers = {"Origin": f"http://{url.netloc}", "Content-Type": "application/json"}
    connection.request("POST", f"{url.path}decide", json.dumps({"id": PAIRS[0]["id"], "decision": "drop"}), headers)
    assert connection.getresponse().status == 200
    assert load_decisions(expert).of[PAIRS[0]["id"]].verdict == "drop"
    process.send_signal(number)  # the connection is still open, as a browser's is
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert out.splitlines() == ["1 of 50 decided: 0 kept, 0 edited, 1 dropped", f"Next: werkmeister dataset {expert}"]
