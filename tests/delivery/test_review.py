import http.client
import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from tests.corpus.written_files import PER_DOCUMENT, records_of, write_artefacts
from werkmeister.corpus.decisions import FILE, append_decisions, decide, load_decisions
from werkmeister.corpus.written import read_written
from werkmeister.delivery.review import ReviewServer
from werkmeister.delivery.review_session import Filter, ReviewSession, draw_sample
from werkmeister.errors import DataError, MachineError
from werkmeister.examining.statistics import wilson

COUNT = 12
PAIRS, DROPPED = records_of(COUNT)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return read_written(*write_artefacts(tmp_path_factory.mktemp("artefacts"), COUNT))


class Client:
    """Asks as the page does, or as somebody else would."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.port, self.path = parts.port, parts.path
        self.host = f"127.0.0.1:{parts.port}"

    def ask(self, path: str = "", body=None, *, method: str = "", root: str | None = None, **headers: str):
        sent = {"Host": self.host} | ({"Origin": f"http://{self.host}"} if body is not None else {})
        sent |= {"Content-Type": "application/json"} if body is not None else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.putrequest(method or ("GET" if body is None else "POST"), (root or self.path) + path, skip_host=True)
        for name, value in sent.items():
            if value:
                connection.putheader(name, value)
        if data is not None:
            connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data)
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        return reply, json.loads(text) if reply.headers["Content-Type"] == "application/json" else text

    def get(self, path: str, **query: str):
        reply, said = self.ask(f"{path}?{urlencode(query)}" if query else path)
        assert reply.status == 200, said
        return said

    def post(self, path: str, **body):
        reply, said = self.ask(path, body)
        assert reply.status == 200, said
        return said


@contextmanager
def serving(session: ReviewSession, server: ReviewServer | None = None):
    server = server or ReviewServer(session)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield Client(server.url)
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_the_page_shows_a_pair_beside_its_passage_with_the_evidence_apart(tmp_path, written):
    with serving(ReviewSession(tmp_path, written)) as client:
        overview = client.get("overview")
        ids = client.get("ids")["ids"]
        item = client.get(f"item/{ids[2]}")
        rows = client.get("rows", ids=",".join([*ids[:2], "unknown"]))["rows"]
    assert overview["progress"] == {
        "total": len(PAIRS) + COUNT,
        "decided": 0,
        "counts": {"keep": 0, "edit": 0, "drop": 0},
    }
    assert overview["values"]["kind"] == [["parameter", 9 * COUNT], ["unanswerable", COUNT]]
    assert overview["values"]["flag"] == [["personal: e-mail", COUNT // 2 * (PER_DOCUMENT + 1)]]
    assert overview["dropped"] == COUNT
    assert ids == [record["id"] for record in PAIRS]
    assert item["passage"] == {
        "before": "- Pressure: 3 bar\n- ",
        "evidence": "Flow: 40 l/min",
        "after": "\n- Oil change: 500 h\n- Weight: 12 kg\n",
    }
    assert item["place"] == "manuals/pump-0.md, p. 1, Data"
    assert item["heading"] == "Pump P0 › Data"
    assert [row["question"] for row in rows] == [record["question"] for record in PAIRS[:2]]


def test_evidence_that_moved_is_found_again_and_one_that_is_lost_marks_nothing(tmp_path, written):
    moved = PAIRS[2] | {"start": 0, "end": 3}
    lost = PAIRS[2] | {"evidence": "not there"}
    assert written.marked(moved)[1] == "Flow: 40 l/min"
    assert written.marked(lost) == (written.passages[lost["passage"]].text, "", "")
    assert written.marked(lost | {"passage": "gone"}) == ("", "", "")
    assert written.place(lost | {"passage": ""}) == "manuals/pump-0.md"


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"kind": "unanswerable"}, COUNT),
        ({"document": "manuals/pump-3.md"}, PER_DOCUMENT),
        ({"flag": "personal: e-mail"}, COUNT // 2 * PER_DOCUMENT),
        ({"state": "dropped"}, COUNT),
        ({"state": "dropped", "check": "numbers", "document": "manuals/pump-3.md"}, 1),
        ({"state": ""}, len(PAIRS) + COUNT),
        ({"text": "OIL CHANGE OF"}, 2 * COUNT),
        ({"decision": "keep"}, 1),
        ({"decision": "undecided"}, len(PAIRS) - 1),
        ({"check": "evidence"}, 0),
    ],
)
def test_filters_let_through_what_they_name(tmp_path, written, query, count):
    append_decisions(tmp_path, [decide(PAIRS[0], "keep")])
    with serving(ReviewSession(tmp_path, written)) as client:
        assert len(client.get("ids", **query)["ids"]) == count


def test_a_review_goes_on_at_the_first_undecided_pair(tmp_path, written):
    append_decisions(tmp_path, [decide(record, "keep") for record in PAIRS[:7]])
    with serving(ReviewSession(tmp_path, written)) as client:
        assert client.get("ids")["first"] == 7
        assert client.get("ids", decision="keep")["first"] == 0


def test_a_decision_is_on_the_disk_when_it_is_answered_and_undo_takes_back_the_last(tmp_path, written):
    first, second, third = PAIRS[0]["id"], PAIRS[1]["id"], DROPPED[0]["id"]
    append_decisions(tmp_path, [decide(PAIRS[0], "drop", note="wrong")])
    with serving(ReviewSession(tmp_path, written)) as client:
        said = client.post("decide", id=first, decision="edit", question="Pressure?", answer="three bar", note="typo")
        assert load_decisions(tmp_path).of[first].shown == ("Pressure?", "three bar")
        assert said["item"]["answer"] == "three bar"
        assert said["item"]["original"]["answer"] == "3 bar"
        assert said["progress"]["counts"] == {"keep": 0, "edit": 1, "drop": 0}
        client.post("decide", id=second, decision="drop")
        client.post("decide", id=third, decision="keep")
        assert {i: d.verdict for i, d in load_decisions(tmp_path).of.items()} == {
            first: "edit",
            second: "drop",
            third: "keep",
        }
        assert client.post("undo")["item"]["id"] == third
        assert client.post("undo")["item"]["decision"] == ""
        assert client.post("undo")["item"]["decision"] == "drop"
        assert client.post("undo")["item"] is None
    (left,) = load_decisions(tmp_path).of.values()
    assert (left.id, left.verdict, left.note) == (first, "drop", "wrong")
    assert len((tmp_path / FILE).read_text(encoding="utf-8").splitlines()) == 7


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"id": "unknown", "decision": "keep"}, 404, "no such pair"),
        ({"id": PAIRS[0]["id"], "decision": "love"}, 400, "is none of keep"),
        ({"id": PAIRS[0]["id"], "decision": "edit", "question": "Q", "answer": " "}, 400, "answer is empty"),
        (b"{", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        ({"id": PAIRS[0]["id"], "decision": "edit", "question": "\ud800", "answer": "A"}, 400, "surrogates"),
        (b"[]", 400, "object is needed"),
        (b" " * ((1 << 20) + 1), 413, "too long"),
    ],
)
def test_what_cannot_be_decided_is_refused_in_words_and_leaves_no_trace(tmp_path, written, body, status, words):
    with serving(ReviewSession(tmp_path, written)) as client:
        reply, said = client.ask("decide", body)
        assert (reply.status, words in said["error"]) == (status, True)
    assert not (tmp_path / FILE).exists()


def test_a_disk_that_takes_nothing_is_told_and_the_decision_is_not_in_force(tmp_path, written):
    session = ReviewSession(tmp_path / "gone", written)
    with serving(session) as client:
        reply, said = client.ask("decide", {"id": PAIRS[0]["id"], "decision": "keep"})
        assert reply.status == 507
        assert said["error"]
        assert client.get("overview")["progress"]["decided"] == 0


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1:1"}, 403),
        ({"Host": ""}, 400),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"root": "/"}, 404),
        ({"root": "/wrong/"}, 404),
        ({"root": "/%C3%BC/"}, 404),
    ],
)
@pytest.mark.parametrize("body", [None, {"id": PAIRS[0]["id"], "decision": "drop"}], ids=["read", "decide"])
def test_whoever_is_not_the_page_gets_nothing(tmp_path, written, asked, status, body):
    with serving(ReviewSession(tmp_path, written)) as client:
        reply, said = client.ask("overview" if body is None else "decide", body, **asked)
        assert reply.status == status
        assert "progress" not in said
    assert not (tmp_path / FILE).exists()


def test_a_decision_without_origin_or_with_another_content_type_is_refused(tmp_path, written):
    body = {"id": PAIRS[0]["id"], "decision": "drop"}
    with serving(ReviewSession(tmp_path, written)) as client:
        assert client.ask("decide", body, Origin="")[0].status == 403
        assert client.ask("decide", body, Content_Type="text/plain")[0].status == 415
        assert client.ask("decide", method="GET")[0].status == 405
        assert client.ask("overview", Host=f"localhost:{client.port}")[0].status == 200
    assert not (tmp_path / FILE).exists()


def test_the_address_for_a_browsers_command_line_leads_in_once(tmp_path, written):
    session = ReviewSession(tmp_path, written)
    server = ReviewServer(session)
    code = urlsplit(server.url_to_open()).path
    with serving(session, server) as client:
        first, _ = client.ask(root=code)
        again, _ = client.ask(root=code)
        assert (first.status, first.headers["Location"]) == (303, client.path)
        assert again.status == 404
        assert client.path.strip("/") not in code


def test_the_page_is_closed_to_other_origins_and_loads_nothing_from_elsewhere(tmp_path, written):
    with serving(ReviewSession(tmp_path, written)) as client:
        for path in ("", "review.js", "review.css", "overview", "nowhere"):
            reply, text = client.ask(path)
            rules = reply.headers["Content-Security-Policy"]
            assert "default-src 'none'" in rules
            assert "unsafe" not in rules
            assert "http" not in rules
            assert reply.headers["Referrer-Policy"] == "no-referrer"
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in reply.headers
            assert "http://" not in str(text)
            assert "https://" not in str(text)


def test_the_page_speaks_english_and_german_with_the_same_words(tmp_path, written):
    with serving(ReviewSession(tmp_path, written)) as client:
        german = client.ask(Accept_Language="fr;q=0.9, de-AT")[1]
        english = client.ask(Accept_Language="fr")[1]
        chosen = client.ask("?lang=de", Accept_Language="en")[1]
    assert '<html lang="de">' in german
    assert "Behalten" in german
    assert '<html lang="en">' in english
    assert chosen == german
    labels = json.loads(
        (Path(__file__).parents[2] / "src/werkmeister/delivery/review_page/labels.json").read_text(encoding="utf-8")
    )
    shape = [{n: sorted(re.findall(r"\{\w+\}", str(t))) for n, t in words.items()} for words in labels.values()]
    assert shape[0] == shape[1]


def test_a_sample_is_the_same_for_a_seed_and_each_pair_is_as_likely_as_any_other():
    records = [*PAIRS, *DROPPED]
    first = [record["id"] for record in draw_sample(records, 10, 1)]
    assert first == [record["id"] for record in draw_sample(records[::-1], 10, 1)]
    assert first != [record["id"] for record in draw_sample(records, 10, 2)]
    drawn = Counter(record["id"] for seed in range(2000) for record in draw_sample(records, 10, seed))
    assert set(drawn) == {record["id"] for record in PAIRS}
    expected = 2000 * 10 / len(PAIRS)
    # Chi-square with 107 degrees of freedom: beyond 163 lies one draw in 4,000, and the seeds are fixed.
    assert sum((count - expected) ** 2 / expected for count in drawn.values()) < 163


def test_a_sample_tells_the_share_that_is_right_with_its_interval(tmp_path, written):
    session = ReviewSession(tmp_path, written, sample=20, seed=3)
    assert "verdict" not in session.progress()
    ids, _ = session.ids(Filter())
    assert len(ids) == 20
    for pair_id in ids[:17]:
        session.decide(pair_id, "keep")
    session.decide(ids[17], "drop")
    session.decide(ids[18], "edit", question="Q?", answer="A")
    verdict = session.progress()["verdict"]
    reference = wilson(17, 19)
    assert (verdict["right"], verdict["n"], verdict["confidence"]) == (17, 19, 0.95)
    assert (verdict["low"], verdict["high"]) == (reference.low, reference.high)
    assert session.progress()["total"] == 20


def test_a_port_that_is_taken_is_told_with_the_next_step(tmp_path, written):
    session = ReviewSession(tmp_path, written)
    with serving(session) as client, pytest.raises(MachineError, match=f"port {client.port} .* cannot be used"):
        ReviewServer(session, port=client.port)


def test_many_decisions_at_once_are_all_kept(tmp_path, written):
    with serving(ReviewSession(tmp_path, written)) as client:
        threads = [
            threading.Thread(target=client.post, args=("decide",), kwargs={"id": record["id"], "decision": "keep"})
            for record in PAIRS[:40]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(load_decisions(tmp_path).of) == 40


def test_a_line_that_is_no_pair_is_named(tmp_path):
    documents, write = write_artefacts(tmp_path, 1)
    (write / "pairs.jsonl").write_text('{"id": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"pairs\.jsonl:1: lacks question, answer"):
        read_written(documents, write)
