"""The stage documents: artefact, facts, what is remembered, and what is told about files that were not read."""

import json
import os
from pathlib import Path

import pytest

from tests.checkpoints import CONTEXT, tiny_base
from tests.corpus.documents.samples import SAMPLES, pdf
from tests.heard import Heard
from werkmeister.artefact import Artefact
from werkmeister.bases.base import Base
from werkmeister.bases.tokens import load_tokenizer
from werkmeister.corpus.documents import passages, reading
from werkmeister.corpus.documents.reading import Reader
from werkmeister.corpus.documents.stage import DocumentsSettings, documents, documents_inputs, load_documents
from werkmeister.errors import DataError, SettingsError
from werkmeister.passage import read_passages
from werkmeister.progress import Silent


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def expert(tmp_path: Path) -> Path:
    folder = tmp_path / "expert"
    for ending, make in SAMPLES.items():
        path = folder / "manuals" / ending / f"manual.{ending}"
        path.parent.mkdir(parents=True)
        path.write_bytes(make())
    return folder


def run(expert: Path, base: Base, *, progress: Silent | None = None, **given) -> Artefact:
    settings = DocumentsSettings(**{"files": ("manuals",), "passage_tokens": 100} | given)
    output = expert / "artefacts" / "documents"
    return documents(expert, output, settings, base=base, home=expert / "artefacts", progress=progress or Silent())


def lines(made: Artefact, name: str) -> list[dict]:
    return [json.loads(line) for line in made.file(name).read_text(encoding="utf-8").splitlines()]


def test_the_artefact_holds_every_document_with_its_text_its_blocks_and_its_passages(expert, base):
    made = run(expert, base)
    loaded = list(load_documents(made))
    assert [document.name for document, _ in loaded] == sorted(f"manuals/{e}/manual.{e}" for e in SAMPLES)
    tokenizer = load_tokenizer(base)
    for document, pieces in loaded:
        assert pieces and all(passage.document == document.name for passage in pieces)
        for passage in pieces:
            assert passage.text == document.text[passage.start : passage.end]
            assert passage.tokens == len(tokenizer(passage.text, add_special_tokens=False)["input_ids"]) <= 100
    everything = list(read_passages(made.file("passages.jsonl")))
    assert everything == [passage for _, pieces in loaded for passage in pieces]
    assert made.facts == {
        "base": {"name": "tiny", "identity": "identity of tiny", "context_length": CONTEXT},
        "documents": len(SAMPLES),
        "passages": len(everything),
        "unread": 0,
        "languages": {"": 1, "en": len(SAMPLES) - 1},
        "tokens": sum(passage.tokens for passage in everything),
    }
    (record,) = [one for one in lines(made, "documents.jsonl") if one["format"] == "pdf"]
    assert record["pages"] == 2 and record["characters"] == len(made.file(record["text"]).read_text("utf-8"))
    assert record["title"] == "Pump manual"


@pytest.fixture
def hundred(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    (folder / "manuals").mkdir(parents=True)
    for n in range(100):
        (folder / "manuals" / f"device-{n:03}.md").write_text(f"# Device {n}\n\nDevice {n} has {n} valves.\n")
    return folder


def test_after_touching_one_of_a_hundred_documents_one_is_read_and_cut_again(hundred, base, monkeypatch):
    counted = {"read": 0, "cut": 0}
    read, cut = Reader.read, passages.cut

    def counting_read(self, path, name):
        counted["read"] += 1
        return read(self, path, name)

    def counting_cut(document, count, **given):
        counted["cut"] += 1
        return cut(document, count, **given)

    monkeypatch.setattr(Reader, "read", counting_read)
    monkeypatch.setattr(passages, "cut", counting_cut)
    first = run(hundred, base)
    assert counted == {"read": 100, "cut": 100}
    before = {passage.id for passage in read_passages(first.file("passages.jsonl"))}
    (hundred / "manuals" / "device-042.md").write_text("# Device 42\n\nDevice 42 has no valves any more.\n")
    second = run(hundred, base)
    assert counted == {"read": 101, "cut": 101}
    assert second.measures["remembered"] == 99
    after = {passage.id for passage in read_passages(second.file("passages.jsonl"))}
    assert len(before & after) == 99 and len(after) == 100


def test_other_passage_lengths_read_nothing_again(hundred, base, monkeypatch):
    run(hundred, base)
    monkeypatch.setattr(Reader, "read", None)
    assert run(hundred, base, passage_tokens=64).facts["documents"] == 100


def test_inputs_change_with_a_file_and_with_the_base_and_not_with_its_time(hundred, base):
    settings = DocumentsSettings(files=("manuals",))
    before = documents_inputs(hundred, settings, base)
    path = hundred / "manuals" / "device-001.md"
    os.utime(path, (1, 1))
    assert documents_inputs(hundred, settings, base) == before
    path.write_text("# Other\n\nText.\n")
    after = documents_inputs(hundred, settings, base)
    assert {key for key in before if before[key] != after[key]} == {"file manuals/device-001.md"}
    assert documents_inputs(hundred, DocumentsSettings(files=("gone",)), base)["file gone"] == "not on this machine"


def test_pages_without_text_of_a_document_that_was_read_are_told(expert, base):
    printed = [(72, 700, 12, "The pump is oiled every week.")]
    (expert / "manuals" / "half.pdf").write_bytes(pdf([printed, [], []]))
    (expert / "manuals" / "blank.pdf").write_bytes(pdf([printed, [], [(72, 700, 12, "And the valve every day.")]]))
    listening = Heard()
    made = run(expert, base, progress=listening)
    empty = {one["name"]: one["empty_pages"] for one in lines(made, "documents.jsonl") if one["empty_pages"]}
    assert empty == {"manuals/blank.pdf": [2], "manuals/half.pdf": [2, 3]}
    assert made.measures["empty_pages"] == 3
    (told,) = [text for text in listening.said if text.startswith("pages without text: 3,")]
    assert "(2 of 3 pages) in manuals/half.pdf" in told and "OCR" in told
    assert {document.name: document.empty_pages for document, _ in load_documents(made)}["manuals/half.pdf"] == (2, 3)


def test_another_way_of_reading_makes_the_artefact_stale(expert, base, monkeypatch):
    settings = DocumentsSettings(files=("manuals",))
    before = documents_inputs(expert, settings, base)
    monkeypatch.setattr(passages, "VERSION", passages.VERSION + 1)
    monkeypatch.setattr(reading, "VERSION", reading.VERSION + 1)
    after = documents_inputs(expert, settings, base)
    assert {key for key in before if before[key] != after[key]} == {"reading", "cutting"}


def test_files_without_text_are_listed_with_the_reason_and_the_rest_goes_on(expert, base):
    folder = expert / "manuals"
    (folder / "scan.pdf").write_bytes(pdf([[]]))
    (folder / "empty.docx").write_bytes(b"")
    (folder / "zz copy.md").write_bytes(SAMPLES["md"]())
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "~$manual.docx").write_bytes(b"lock")
    listening = Heard()
    made = run(expert, base, progress=listening)
    unread = {one["name"]: one["reason"] for one in lines(made, "unread.jsonl")}
    assert unread.keys() == {"manuals/scan.pdf", "manuals/empty.docx", "manuals/zz copy.md"}
    assert "OCR" in unread["manuals/scan.pdf"]
    assert "is empty" in unread["manuals/empty.docx"]
    assert "same content as manuals/md/manual.md" in unread["manuals/zz copy.md"]
    assert made.facts["unread"] == 3 and made.facts["documents"] == len(SAMPLES)
    assert any("manuals/scan.pdf has 1 pages and no text" in text for text in listening.said)
    assert any("1 files that are no documents were passed over: .jpg 1" in text for text in listening.said)


def test_a_twin_of_a_file_that_cannot_be_read_is_read(tmp_path, base):
    for name in ("a.pdf", "b.md", "c.md"):
        (tmp_path / name).write_text("# Pump\n\nThe pump has 3 valves.\n")
    made = run(tmp_path, base, files=(".",))
    assert [record["name"] for record in lines(made, "documents.jsonl")] == ["b.md"]
    first, second = lines(made, "unread.jsonl")
    assert first["name"] == "a.pdf" and "no PDF file" in first["reason"]
    assert second["name"] == "c.md" and "same content as b.md" in second["reason"]


@pytest.mark.skipif(os.name == "nt", reason="links and such names need rights or are not there")
def test_links_are_followed_once_and_what_is_lost_is_listed(tmp_path, base):
    expert = tmp_path / "expert"
    for at in (expert / "manuals", tmp_path / "elsewhere"):
        at.mkdir(parents=True)
        (at / "one.md").write_text(f"# {at.name}\n\nIt has 3 valves.\n")
    (expert / "manuals" / "linked").symlink_to(tmp_path / "elsewhere")
    (expert / "manuals" / "loop").symlink_to(expert / "manuals")
    (expert / "manuals" / "dead.md").symlink_to(tmp_path / "nothing.md")
    made = run(expert, base)
    assert [one["name"] for one in lines(made, "documents.jsonl")] == ["manuals/one.md", "manuals/linked/one.md"]
    assert [(one["name"], one["reason"].split(":")[0]) for one in lines(made, "unread.jsonl")] == [
        ("manuals/dead.md", "is a link that leads nowhere")
    ]


def test_what_the_stages_made_is_no_document(tmp_path, base):
    expert = tmp_path / "manuals" / "expert"
    expert.mkdir(parents=True)
    (expert / "expert.toml").write_text("")
    (expert.parent / "one.md").write_text("# Pump\n\nIt has 3 valves.\n")
    for files in ("..", "../**/*.md"):
        for _ in range(2):
            made = run(expert, base, files=(files,))
            assert [one["name"] for one in lines(made, "documents.jsonl")] == ["../one.md"]


def test_a_name_that_is_no_utf8_is_read_and_written_with_its_bytes(tmp_path, base):
    path = tmp_path / "manuals" / os.fsdecode(b"\xd6l.md")
    path.parent.mkdir()
    try:
        path.write_text("# Pump\n\nIt has 3 valves.\n")
    except (OSError, UnicodeError):
        pytest.skip("the file system takes UTF-8 alone")
    assert [one["name"] for one in lines(run(tmp_path, base), "documents.jsonl")] == ["manuals/\\xd6l.md"]


@pytest.mark.parametrize("entry", ["manuals/**.md", "a\0b", "x" * 300])
def test_an_entry_that_no_system_takes_names_nothing(tmp_path, base, entry):
    with pytest.raises(DataError) as error:
        run(tmp_path, base, files=(entry,))
    assert error.value.problems == (f"{entry}: no such file or folder",)


def test_no_document_at_all_is_an_error_that_gives_every_reason(tmp_path, base):
    (tmp_path / "scan.pdf").write_bytes(pdf([[]]))
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        run(tmp_path, base, files=("*.pdf", "*.txt"))
    assert len(caught.value.problems) == 2 and "OCR" in str(caught.value) and "is empty" in str(caught.value)
    assert not (tmp_path / "artefacts" / "documents").exists()


def test_names_that_match_nothing_are_all_told_at_once(expert, base):
    with pytest.raises(DataError) as caught:
        run(expert, base, files=("manuals", "gone/*.pdf", "nowhere"))
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["gone/*.pdf", "nowhere"]


def test_a_folder_without_documents_says_what_lies_in_it(tmp_path, base):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"1 files ending in \.png"):
        run(tmp_path, base, files=("pictures",))


def test_passages_that_leave_no_room_in_the_context_are_refused_before_anything_is_read(expert, base):
    with pytest.raises(SettingsError, match=f"passage_tokens = {CONTEXT}"):
        run(expert, base, passage_tokens=CONTEXT)
    with pytest.raises(ValueError, match="overlap = 60"):
        DocumentsSettings(passage_tokens=100, overlap=60)


SCRIPT = """\
import pathlib, sys
(pathlib.Path(sys.argv[1]) / "made.md").write_text("# Made\\n\\nBy " + sys.argv[2])
"""


def test_a_script_makes_the_documents_and_decides_when_they_are_stale(tmp_path, base):
    script = tmp_path / "make.py"
    script.write_text(SCRIPT)
    made = run(tmp_path, base, files=(), script="make.py", script_args=("hand",))
    ((document, _),) = load_documents(made)
    assert (document.name, document.text) == ("made.md", "# Made\n\nBy hand\n")
    settings = DocumentsSettings(script="make.py", script_args=("hand",))
    before = documents_inputs(tmp_path, settings, base)
    script.write_text(script.read_text() + "# changed\n")
    assert documents_inputs(tmp_path, settings, base) != before
