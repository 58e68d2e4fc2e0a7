"""What is taken off a printed page, and what stays: PDFs written here, line by line."""

from itertools import chain

import pytest

from tests.corpus.documents.samples import Line, pdf
from werkmeister.corpus.documents.furniture import clean_pages
from werkmeister.corpus.documents.hyphens import Joiner
from werkmeister.corpus.documents.pdf import read_pdf
from werkmeister.corpus.documents.reading import read_bytes

WORDS = ("the", "axis", "moves", "along", "its", "guide", "until", "the", "switch", "is", "reached", "and", "stops")


def body(page: int, lines: int = 12) -> list[str]:
    """Lines of running text as wide as the page, which differ from page to page."""
    made = [" ".join(WORDS[(page * 7 + line * 5 + i) % len(WORDS)] for i in range(15)) for line in range(lines)]
    return [*made[:-1], f"{made[-1]} {page}."]


def manual(pages: int = 8) -> bytes:
    """A manual with a table of contents, running headers, page numbers and an index."""
    chapters = [f"{n} Chapter about axis {n}" for n in range(1, pages + 1)]
    contents: list[Line] = [(72, 760, 20, "Contents")]
    contents += [(72, 730 - 14 * n, 10, f"{title} " + ". " * 30 + str(n + 2)) for n, title in enumerate(chapters)]
    printed: list[list[Line]] = [contents]
    for page, title in enumerate(chapters, 1):
        lines: list[Line] = [(72, 800, 9, "The Lathe Manual V2.9"), (500, 30, 9, f"{page + 1} / {pages + 2}")]
        lines.append((72, 750, 16, title))
        lines += [(72, 720 - 12 * n, 10, line) for n, line in enumerate(body(page))]
        printed.append(lines)
    index: list[Line] = [(72, 760 - 12 * n, 10, f"word {n}, {n + 1}, {n + 2}") for n in range(12)]
    return pdf([*printed, index], title="The Lathe Manual")


def test_contents_running_headers_page_numbers_and_index_are_dropped_and_counted():
    document = read_bytes(manual(), "lathe.pdf")
    dropped = dict(document.dropped)
    assert dropped["running headers and footers"] >= 8 * len("The Lathe Manual V2.9")
    assert {"table of contents", "index"} <= dropped.keys()
    for gone in ("V2.9", " / 10", ". . .", "word 3", "Contents"):
        assert gone not in document.text
    for page in range(1, 9):
        assert " ".join(body(page)) in document.text


def test_headings_are_found_with_numbers_and_pages():
    document = read_bytes(manual(), "lathe.pdf")
    found = [(b.level, document.text[b.start : b.end], b.page) for b in document.blocks if b.kind == "heading"]
    assert found == [(1, f"# {n} Chapter about axis {n}", n + 1) for n in range(1, 9)]
    assert document.pages == 10


def test_pages_without_text_are_told_and_the_others_read():
    document = read_bytes(pdf([[(72, 700, 12, "Words of the first page.")], [], [(72, 700, 12, "The last.")]]), "a.pdf")
    assert document.pages == 3 and document.empty_pages == (2,)
    assert [block.page for block in document.blocks] == [1, 3]


def node(kind: str, text: str, page: int = 1, **more: object) -> dict:
    return {"content": {"node_type": kind, "text": text} | more, "page": page}


def test_the_text_is_that_of_the_page_where_kreuzberg_writes_it_wrongly_or_leaves_lines_out():
    page = "net a b\nLIB:basic_sim.tcl is read first\nnet a b\nnet a b\nThe end of it."
    nodes = [node("code", "net a b\nLIBtibasic_sim.tcl is read first"), node("paragraph", "The end of it.")]
    (code, paragraph) = read_pdf(nodes, [page], "").parts
    assert code.text == "```\nnet a b\nLIB:basic_sim.tcl is read first\nnet a b\nnet a b\n```"
    assert paragraph.text == "The end of it."


def test_every_line_of_a_page_stays_where_kreuzberg_gives_no_block_at_all():
    lines = [f"Line number {n} says something about axis {n}." for n in range(5)]
    parts = read_pdf([], ["\n".join(lines)], "").parts
    assert " ".join(part.text for part in parts).split() == " ".join(lines).split()


def test_numbers_give_the_depth_and_a_chapter_takes_its_title():
    pages = [
        "Part I\nBasics\nPart I is about basics.",
        "Chapter 1\nSetup\nWords.",
        "1.1 First\nWords.\nNote\nMore.",
        "1.1.1 Inner\nDeeper.",
        "1.2 Last\nThe end.",
    ]
    kinds = {"Part I": 2, "Basics": 1, "Chapter 1": 2, "Setup": 1, "1.1 First": 3, "1.1.1 Inner": 2, "1.2 Last": 3}
    nodes = [
        node("heading" if line in kinds else "paragraph", line, number, level=kinds.get(line, 0))
        for number, page in enumerate(pages, 1)
        for line in page.split("\n")
    ]
    parts = read_pdf(nodes, pages, "").parts
    assert [(part.level, part.text) for part in parts if part.kind == "heading"] == [
        (1, "Part I Basics"),
        (2, "Chapter 1 Setup"),
        (3, "1.1 First"),
        (4, "1.1.1 Inner"),
        (3, "1.2 Last"),
    ]
    assert "Note\nMore." in [part.text for part in parts]


def test_items_are_told_by_their_marks_and_go_on_over_line_and_page():
    wide = "x" * 30 + " word" * 12
    pages = [
        f"• First item {wide}\ngoes on here\n• Second item\n– inner item\n• Third item {wide}",
        "and its end\n1. Step one\n2. Step two",
    ]
    parts = read_pdf([], pages, "").parts
    assert [part.kind for part in parts] == ["list"]
    assert parts[0].text.split("\n") == [
        f"- First item {wide} goes on here",
        "- Second item",
        "  - inner item",
        f"- Third item {wide} and its end",
        "1. Step one",
        "2. Step two",
    ]


@pytest.mark.parametrize(
    ("divided", "whole"),
    [
        ("Werk\x02zeug", "Werkzeug"),
        ("Peripherie\x02Unterstützung", "Peripherie-Unterstützung"),
        ("the CAM\x02ERA_OFFSET", "the CAMERA_OFFSET"),
        ("SCARA\x02Roboter", "SCARA-Roboter"),
        ("the config\x02rt file", "the config-rt file"),
        ("Ein Wort-\nteil hier", "Ein Wortteil hier"),
        ("soft\u00adhyphen", "softhyphen"),
        ("from 3 - 5 mm", "from 3 - 5 mm"),
        ("ﬁlter", "filter"),
        ("ends with -\nnot", "ends with -not"),
    ],
)
def test_hyphens_at_line_ends_are_joined_as_the_document_writes_the_word(divided, whole):
    assert Joiner(["config-rt config-rt, Wortteil"]).join(divided) == whole


def test_a_heading_with_a_number_at_its_end_is_no_running_header():
    pages = [f"Axis {n * n}\nWords about it.\nMore words {n}.\nLast words of {n}." for n in range(1, 9)]
    assert list(chain(*clean_pages(pages).pages)) == "\n".join(pages).split("\n")


def test_a_header_that_names_the_chapter_is_dropped_where_it_counts_the_pages():
    pages = [f"{n} Chapter {1 + n // 5}. Motion\nWords about {n * n} mm.\nMore of it.\nAn end." for n in range(1, 40)]
    cleaned = clean_pages(pages)
    assert all(lines[0].startswith("Words") for lines in cleaned.pages)


def test_rows_of_as_many_words_below_a_caption_become_a_table():
    page = "Table 3.1: Output Voltage\nRaw Measured\n-10 -9.93\n0 -0.96\n10 10.07"
    lines = page.split("\n")
    nodes = [node("paragraph", lines[0]), node("paragraph", "\n".join(lines[1:]))]
    caption, table = read_pdf(nodes, [page], "").parts
    assert caption.text == lines[0]
    assert table.text == "| Raw | Measured |\n| --- | --- |\n| -10 | -9.93 |\n| 0 | -0.96 |\n| 10 | 10.07 |"


def test_lines_that_only_look_like_furniture_stay():
    pages = [f"Section {n}\nThe value is {n}\nTorque in Nm {n}" for n in range(2)] + ["A unique last page"]
    cleaned = clean_pages(pages)
    assert list(chain(*cleaned.pages)) == "\n".join(pages).split("\n")
    assert not cleaned.dropped
