"""Documents of every format as they are read, by the safe door."""

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpus.documents import samples
from tests.corpus.documents.samples import HEADINGS, PROSE, ROWS, SAMPLES, STEPS, TITLE, pdf, zipped
from werkmeister.corpus.documents.document import KINDS, Document, Unread
from werkmeister.corpus.documents.parts import table_cells
from werkmeister.corpus.documents.reading import Reader, document_from_record, read_bytes, read_document, record_of

GERMAN = {
    "PROSE": "Die Geräte müssen täglich geprüft werden, weil größere Äste die Lüftung stören können (über 30 °C).",
    "STEPS": ("Schließen Sie die Pumpe.", "Öffnen Sie den Überlauf.", "Spülen Sie für 5 µs."),
    "ROWS": (("Größe", "Länge", "Träger"), ("Öl", "1-10 mm", "fünf"), ("Kühl", "0-60 s", "süß")),
    "TITLE": "Überblick für Prüfer",
    "HEADINGS": ("Größen", "Öle"),
}
WITH_HEADINGS = ("md", "rst", "adoc", "html", "docx", "epub", "pdf")
WITH_TABLES = (*WITH_HEADINGS, "xlsx")
WITH_STEPS = ("md", "rst", "adoc", "html", "docx", "epub", "pdf")


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as shared:
        yield shared


@pytest.fixture
def read(reader: Reader, tmp_path: Path):
    def reading(content: bytes, name: str) -> Document | Unread:
        path = tmp_path / name
        path.write_bytes(content)
        return reader.read(path, name)

    return reading


def blocks(document: Document, kind: str) -> list[str]:
    return [document.text[block.start : block.end] for block in document.blocks if block.kind == kind]


@pytest.mark.parametrize("ending", SAMPLES)
def test_every_format_gives_its_text_with_blocks_that_leave_out_nothing_but_blanks(ending, read):
    content = SAMPLES[ending]()
    document = read(content, f"manual.{ending}")
    assert isinstance(document, Document)
    assert document.sha256 == hashlib.sha256(content).hexdigest()
    assert document.title == (TITLE if ending not in ("txt", "xlsx", "pptx") else "manual")
    assert ending == "xlsx" or (PROSE in document.text and all(step in document.text for step in STEPS))
    assert document.language == ("" if ending == "xlsx" else "en")
    at = 0
    for block in document.blocks:
        assert block.kind in KINDS and block.start < block.end
        assert not document.text[at : block.start].strip()
        at = block.end
    assert not document.text[at:].strip()


@pytest.mark.parametrize("ending", WITH_HEADINGS)
def test_headings_are_headings_with_their_depths(ending, read):
    document = read(SAMPLES[ending](), f"manual.{ending}")
    found = [(b.level, document.text[b.start : b.end].lstrip("# ")) for b in document.blocks if b.kind == "heading"]
    assert found == [(1, TITLE), (2, HEADINGS[0]), (2, HEADINGS[1])]


@pytest.mark.parametrize("ending", WITH_STEPS)
def test_steps_are_one_list_of_numbered_lines(ending, read):
    document = read(SAMPLES[ending](), f"manual.{ending}")
    assert blocks(document, "list") == ["\n".join(f"{n}. {step}" for n, step in enumerate(STEPS, 1))]


@pytest.mark.parametrize("ending", WITH_TABLES)
def test_tables_are_pipe_tables_with_every_cell(ending, read):
    (table,) = blocks(read(SAMPLES[ending](), f"manual.{ending}"), "table")
    head, rule, *rest = table.split("\n")
    assert [tuple(table_cells(line)) for line in (head, *rest)] == list(ROWS)
    assert set(rule) <= set("| -")


@pytest.mark.parametrize("ending", SAMPLES)
def test_no_word_with_an_umlaut_is_lost_or_changed(ending, read, monkeypatch):
    for name, value in GERMAN.items():
        monkeypatch.setattr(samples, name, value)
    document = read(SAMPLES[ending](), f"handbuch.{ending}")
    assert isinstance(document, Document)
    wanted = [] if ending == "xlsx" else [GERMAN["PROSE"], *GERMAN["STEPS"]]
    wanted += [] if ending in ("txt", "eml") else sum(GERMAN["ROWS"], ())
    words = set(re.findall(r"\w+", " ".join(wanted)))
    assert words <= set(re.findall(r"\w+", document.text))
    assert ending == "xlsx" or document.language == "de"


def test_a_record_of_a_document_gives_the_document_again(read):
    document = read(SAMPLES["pdf"](), "manual.pdf")
    assert document_from_record(record_of(document)) == document


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.pdf", b"", "is empty"),
        ("blank.txt", b"\xef\xbb\xbf \r\n\t\n", "is empty"),
        ("secret.pdf", pdf([[(72, 700, 10, "hidden")]], encrypted=True), "is encrypted"),
        ("scan.pdf", pdf([[], []]), "has 2 pages and no text"),
        ("cut.pdf", b"%PDF-1.5\n%%EOF", "cannot be read as PDF"),
        ("word.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "Office format before 2007"),
        (
            "secret.docx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(64) + "EncryptedPackage".encode("utf-16-le"),
            "is encrypted",
        ),
        ("picture.docx", b"\x89PNG\r\n\x1a\n" + bytes(50), "is a picture"),
        ("binary.txt", bytes(range(32)) * 40, "is binary"),
        ("archive.zip", zipped({"a.txt": "x"}), "unpack it"),
        ("gone.docx", zipped({"a.txt": "x"}), "is damaged"),
        ("notes.xyz", b"some text", "unknown ending"),
        (
            "letter.odt",
            zipped({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": "x"}, first="mimetype"),
            "is an OpenDocument file",
        ),
        ("text.pdf", b"just text", "first bytes"),
        ("nobody.eml", b"Subject: x\r\n\r\n", "e-mail without text"),
        ("nothead.eml", b"this is only a text without any header\n", "no e-mail"),
        ("empty.html", b"<html><body><script>var a = 1</script></body></html>", "holds no text"),
    ],
)
def test_what_gives_no_text_is_unread_with_a_reason_that_names_it(name, content, reason, read):
    unread = read(content, name)
    assert isinstance(unread, Unread) and unread.name == name
    assert reason in unread.reason
    assert unread.sha256 == hashlib.sha256(content).hexdigest()


def test_a_text_that_speaks_of_pdf_is_a_text(read):
    assert read(b"# Formats\n\nA PDF begins with %PDF-1.7.\n", "formats.md").title == "Formats"
    assert read(b"\0\0" + SAMPLES["pdf"](), "manual.pdf").format == "pdf"


@pytest.mark.parametrize(("inner", "title"), [("Heading2", TITLE), ("Heading1", "manual")])
def test_a_word_file_is_called_by_the_heading_it_begins_with_where_no_other_is_as_high(inner, title, read):
    with zipfile.ZipFile(io.BytesIO(samples.docx())) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    body = files["word/document.xml"].replace('"Heading1"', f'"{inner}"').replace('"Title"', '"Heading1"')
    second = '<w:style w:type="paragraph" w:styleId="Heading2"><w:name w:val="heading 2"/></w:style></w:styles>'
    styles = files["word/styles.xml"].replace("</w:styles>", second)
    document = read(zipped(files | {"word/document.xml": body, "word/styles.xml": styles}), "manual.docx")
    assert document.title == title and PROSE in document.text


def test_a_file_that_is_not_there_is_unread(reader, tmp_path):
    unread = reader.read(tmp_path / "gone.pdf", "gone.pdf")
    assert isinstance(unread, Unread) and "cannot be opened" in unread.reason


def test_a_zip_bomb_is_refused_before_it_is_unpacked(read, tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", bytes(1 << 20))
        # What the archive says of itself decides: nothing is unpacked to find out.
        archive.infolist()[-1].file_size = 1_200_000_000
    unread = read(path.read_bytes(), "bomb.docx")
    assert isinstance(unread, Unread) and "unpacks to 1.2 GB" in unread.reason


@pytest.mark.parametrize(("ending", "wrong"), [("pdf", "docx"), ("docx", "pdf"), ("xlsx", "txt"), ("epub", "zip")])
def test_a_wrong_ending_does_not_matter_where_the_content_tells(ending, wrong, read):
    document = read(SAMPLES[ending](), f"manual.{wrong}")
    assert isinstance(document, Document)
    assert document.format == ending


def test_a_file_that_takes_too_long_is_given_up_and_the_next_is_read(tmp_path):
    slow = tmp_path / "slow.txt"
    slow.write_text("1. word\n" * 400_000)
    quick = tmp_path / "quick.txt"
    quick.write_text("The pump is on.")
    with Reader(seconds=0.5) as reader:
        unread = reader.read(slow, "slow.txt")
        assert isinstance(unread, Unread) and "took longer than" in unread.reason
        # The limit counts from the question, not from the start of the process.
        assert isinstance(reader.read(quick, "quick.txt"), Document)


def test_a_worker_that_dies_costs_its_file_alone(tmp_path, monkeypatch):
    broken = tmp_path / "kreuzberg"
    broken.mkdir()
    (broken / "__init__.py").write_text("import os\nos.abort()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for ending in ("docx", "txt"):
        (tmp_path / f"manual.{ending}").write_bytes(SAMPLES[ending]())
    with Reader() as reader:
        unread = reader.read(tmp_path / "manual.docx", "manual.docx")
        assert isinstance(unread, Unread) and "crashed the reader" in unread.reason
        assert isinstance(reader.read(tmp_path / "manual.txt", "manual.txt"), Document)


def test_one_file_can_be_read_without_a_stage(tmp_path):
    path = tmp_path / "manual.md"
    path.write_bytes(SAMPLES["md"]())
    document = read_document(path)
    assert isinstance(document, Document) and document.name == "manual.md"


MARKDOWN = """\
---
title: 'The *pump*'
---
# Use **it**

A [link](http://x.y/z_(1)) and ![a picture](p.png), `a_b*c*` and
snake_case_word, 2 * 3 * 4, <axis_no>, \\*kept\\*, &amp; <b>bold</b>.

* one
* two
  more
    1. deep

    indented code

> quoted

```sh
run *this*
```
<!-- hidden -->
"""


def test_markdown_loses_its_marks_and_nothing_else():
    document = read_bytes(MARKDOWN.encode(), "a.md")
    assert document.title == "The *pump*"
    assert blocks(document, "heading") == ["# Use it"]
    assert blocks(document, "paragraph") == [
        "A link and a picture, `a_b*c*` and snake_case_word, 2 * 3 * 4, <axis_no>, *kept*, & bold.",
        "quoted",
    ]
    assert blocks(document, "list") == ["- one\n- two more\n  1. deep"]
    assert blocks(document, "code") == ["```\nindented code\n```", "```sh\nrun *this*\n```"]
    assert "hidden" not in document.text


ASCIIDOC = """\
= Lathe
:toc:
// a comment

== Setup [[setup]]

See <<setup,the setup>> and link:x.html[the page]. +
Next.

* one
** inner

. first
. second

[source,sh]
----
run --it
----

Chuck:: holds the work

[cols="1,2"]
|===
|Name |Range

|Speed
|1-10
|===

NOTE: Wear gloves.

////
gone
////
"""


def test_asciidoc_keeps_tables_code_and_definitions_and_drops_attributes_and_comments():
    document = read_bytes(ASCIIDOC.encode(), "a.adoc")
    assert document.title == "Lathe"
    assert "See the setup and the page.\nNext." in document.text
    assert blocks(document, "list") == ["- one\n  - inner", "1. first\n2. second"]
    assert blocks(document, "code") == ["```\nrun --it\n```"]
    assert blocks(document, "table") == ["| Name | Range |\n| --- | --- |\n| Speed | 1-10 |"]
    assert "Chuck: holds the work" in document.text and "NOTE: Wear gloves." in document.text
    assert "comment" not in document.text and "gone" not in document.text and "toc" not in document.text


RESTRUCTURED = """\
=====
Lathe
=====

.. _target:
.. a comment

Setup
-----

See :ref:`the setup <target>`, `page <http://x>`_ and ``code``::

   run --it

+------+-------+
| Name | Range |
+======+=======+
| Größe| 1-10  |
|      | mm    |
+------+-------+

.. note:: Wear
   gloves.

.. list-table:: Limits

   * - Axis
     - Most
   * - X
     - 5 mm

Chuck
   holds the work

#. first
#. second

Inner
^^^^^

.. contents::

|version| text

.. |version| replace:: 2.9
"""


def test_restructured_text_keeps_tables_code_and_notes_and_drops_targets_and_comments():
    document = read_bytes(RESTRUCTURED.encode(), "a.rst")
    assert blocks(document, "heading") == ["# Lathe", "## Setup", "### Inner"]
    assert "See the setup, page and `code`:" in document.text
    assert blocks(document, "code") == ["```\nrun --it\n```"]
    assert blocks(document, "table") == [
        "| Name | Range |\n| --- | --- |\n| Größe | 1-10 mm |",
        "| Axis | Most |\n| --- | --- |\n| X | 5 mm |",
    ]
    assert "Wear gloves." in document.text and "Chuck: holds the work" in document.text
    assert blocks(document, "list") == ["1. first\n2. second"]
    assert "comment" not in document.text and "target" not in document.text


def test_html_loses_navigation_and_scripts_and_keeps_what_is_nested_too_deeply_for_kreuzberg(read):
    shallow = b"<html><body><nav><a href='#x'>Go there</a></nav><h1>Pump</h1><p>On.</p><script>x</script></body></html>"
    document = read(shallow, "a.html")
    assert document.text == "# Pump\n\nOn.\n"
    assert dict(document.dropped) == {"navigation and forms": len("Go there")}
    deep = b"<html><body>" + b"<div>" * 3000 + b"<p>Deep words</p>" + b"</div>" * 3000 + b"<p>after</p></body></html>"
    assert read(deep, "b.html").text == "Deep words\n\nafter\n"


MAIL = b"""\
From: A <a@example.com>
To: b@example.com
Subject: =?utf-8?q?=C3=9Cber_die_Pumpe?=
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="x"

--x
Content-Type: text/html; charset=latin-1

<p>Die Pumpe l\xe4uft.</p><p>Alles gut.</p>
--x
Content-Type: application/pdf
Content-Disposition: attachment; filename="plan.pdf"
Content-Transfer-Encoding: base64

AAAA
--x--
"""


def test_an_email_keeps_sender_and_paragraphs_and_counts_what_is_attached(read):
    document = read(MAIL, "a.eml")
    assert document.title == "Über die Pumpe"
    assert blocks(document, "paragraph")[1:] == ["Die Pumpe läuft.", "Alles gut."]
    assert "From: A <a@example.com>" in document.text
    assert dict(document.dropped) == {"attachment plan.pdf": 3}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_plain_text_is_read_in_the_encodings_that_people_have(encoding, read):
    document = read("Über Größe und Maß.\r\n\r\nZweiter Absatz.".encode(encoding), "a.txt")
    assert document.text == "Über Größe und Maß.\n\nZweiter Absatz.\n"


def test_what_looks_like_markdown_in_an_office_document_stays(read, monkeypatch):
    odd = "Set [mode](fast) to *on* for snake_case_name | no # more <axis_no> &amp; 5 * 3 * 2."
    monkeypatch.setattr(samples, "PROSE", odd)
    assert odd in read(samples.docx(), "odd.docx").text


def test_a_contents_list_of_the_own_headings_is_dropped_where_it_has_no_links_too():
    entries = "\n".join(f"{n}. {name} .... {n * 3}" for n, name in enumerate(("Filter", "Pump", "Valve"), 1))
    body = "\n\n".join(f"## {name}\n\nWords about it." for name in ("Filter", "Pump", "Valve"))
    document = read_bytes(f"# Manual\n\n{entries}\n\n{body}".encode(), "a.md")
    assert not blocks(document, "list")
    assert dict(document.dropped)["table of contents"] > 0
