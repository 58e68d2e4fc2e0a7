"""Small valid documents of every format, written with the standard library alone."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from xml.sax.saxutils import escape

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
P = "http://schemas.openxmlformats.org/presentationml/2006/main"
A = "http://schemas.openxmlformats.org/drawingml/2006/main"
TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
RELS = "http://schemas.openxmlformats.org/package/2006/relationships"
MAIN = "application/vnd.openxmlformats-officedocument"
XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'

PROSE = "The filter must be cleaned every 30 days, because dust lowers the flow of air."
STEPS = ("Switch the pump off.", "Open the cover.", "Rinse the filter with water.")
ROWS = (("Name", "Range", "Default"), ("Speed", "1-10", "5"), ("Delay", "0-60 s", "10 s"))
TITLE = "Pump manual"
HEADINGS = ("Maintenance", "Parameters")


def zipped(files: Mapping[str, str | bytes], *, first: str = "") -> bytes:
    """A zip of these files; `first` is stored uncompressed in front, as EPUB wants its mimetype."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content, zipfile.ZIP_STORED if name == first else zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def markdown() -> bytes:
    rows = [f"| {' | '.join(row)} |" for row in ROWS]
    table = "\n".join([rows[0], "|---|---|---|", *rows[1:]])
    steps = "\n".join(f"{n}. {step}" for n, step in enumerate(STEPS, 1))
    return (f"# {TITLE}\n\n## {HEADINGS[0]}\n\n{PROSE}\n\n{steps}\n\n## {HEADINGS[1]}\n\n{table}\n").encode()


def text() -> bytes:
    return f"{TITLE}\n\n{PROSE}\n\n{' '.join(STEPS)}\n".encode()


def restructured() -> bytes:
    steps = "\n".join(f"{n}. {step}" for n, step in enumerate(STEPS, 1))
    rule = "=======  =======  ======="
    table = "\n".join([rule, "  ".join(f"{c:7}" for c in ROWS[0]), rule])
    table += "\n" + "\n".join("  ".join(f"{c:7}" for c in row) for row in ROWS[1:]) + f"\n{rule}"
    parts = [f"{TITLE}\n{'=' * len(TITLE)}"]
    parts += [f"{HEADINGS[0]}\n{'-' * len(HEADINGS[0])}", PROSE, steps]
    parts += [f"{HEADINGS[1]}\n{'-' * len(HEADINGS[1])}", table]
    return ("\n\n".join(parts) + "\n").encode()


def asciidoc() -> bytes:
    steps = "\n".join(f". {step}" for step in STEPS)
    table = "\n".join(["|===", *("|" + " |".join(row) for row in ROWS), "|==="])
    return f"= {TITLE}\n\n== {HEADINGS[0]}\n\n{PROSE}\n\n{steps}\n\n== {HEADINGS[1]}\n\n{table}\n".encode()


def html() -> bytes:
    return f"<!DOCTYPE html><html><head><title>{TITLE}</title></head>{_body()}</html>".encode()


def _body() -> str:
    steps = "".join(f"<li>{step}</li>" for step in STEPS)
    head = "".join(f"<th>{cell}</th>" for cell in ROWS[0])
    rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in ROWS[1:])
    return (
        f"<body><h1>{TITLE}</h1><h2>{HEADINGS[0]}</h2><p>{PROSE}</p><ol>{steps}</ol>"
        f"<h2>{HEADINGS[1]}</h2><table><tr>{head}</tr>{rows}</table></body>"
    )


def email() -> bytes:
    return (
        f"From: a@example.com\r\nTo: b@example.com\r\nSubject: {TITLE}\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n"
        f"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{PROSE}\r\n\r\n{' '.join(STEPS)}\r\n"
    ).encode()


def docx() -> bytes:
    def paragraph(content: str, style: str = "", extra: str = "") -> str:
        given = f'<w:pStyle w:val="{style}"/>' if style else ""
        return f"<w:p><w:pPr>{given}{extra}</w:pPr><w:r><w:t>{escape(content)}</w:t></w:r></w:p>"

    def row(cells: Sequence[str]) -> str:
        return "<w:tr>" + "".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in cells) + "</w:tr>"

    numbered = '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>'
    body = paragraph(TITLE, "Title") + paragraph(HEADINGS[0], "Heading1") + paragraph(PROSE)
    body += "".join(paragraph(step, "ListParagraph", numbered) for step in STEPS)
    body += paragraph(HEADINGS[1], "Heading1") + "<w:tbl>" + "".join(row(cells) for cells in ROWS) + "</w:tbl>"
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{key}"><w:name w:val="{name}"/></w:style>'
        for key, name in (("Title", "Title"), ("Heading1", "heading 1"), ("ListParagraph", "List Paragraph"))
    )
    numbering = (
        '<w:abstractNum w:abstractNumId="0"><w:lvl w:ilvl="0"><w:start w:val="1"/><w:numFmt w:val="decimal"/>'
        '<w:lvlText w:val="%1."/></w:lvl></w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>'
    )
    document = f"{MAIN}.wordprocessingml"
    return zipped(
        {
            "[Content_Types].xml": _types(
                {
                    "/word/document.xml": f"{document}.document.main+xml",
                    "/word/styles.xml": f"{document}.styles+xml",
                    "/word/numbering.xml": f"{document}.numbering+xml",
                }
            ),
            "_rels/.rels": _rels({"officeDocument": "word/document.xml"}),
            "word/_rels/document.xml.rels": _rels({"styles": "styles.xml", "numbering": "numbering.xml"}),
            "word/document.xml": f'{XML}<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>',
            "word/styles.xml": f'{XML}<w:styles xmlns:w="{W}">{styles}</w:styles>',
            "word/numbering.xml": f'{XML}<w:numbering xmlns:w="{W}">{numbering}</w:numbering>',
        }
    )


def xlsx() -> bytes:
    def row(number: int, cells: Sequence[str]) -> str:
        inner = "".join(
            f'<c r="{"ABCDEFG"[i]}{number}" t="inlineStr"><is><t>{escape(cell)}</t></is></c>'
            for i, cell in enumerate(cells)
        )
        return f'<row r="{number}">{inner}</row>'

    rows = "".join(row(number, cells) for number, cells in enumerate(ROWS, 1))
    sheet = f"{MAIN}.spreadsheetml"
    return zipped(
        {
            "[Content_Types].xml": _types(
                {
                    "/xl/workbook.xml": f"{sheet}.sheet.main+xml",
                    "/xl/worksheets/sheet1.xml": f"{sheet}.worksheet+xml",
                }
            ),
            "_rels/.rels": _rels({"officeDocument": "xl/workbook.xml"}),
            "xl/_rels/workbook.xml.rels": _rels({"worksheet": "worksheets/sheet1.xml"}),
            "xl/workbook.xml": f'{XML}<workbook xmlns="{S}" xmlns:r="{R}"><sheets>'
            f'<sheet name="{HEADINGS[1]}" sheetId="1" r:id="rId1"/></sheets></workbook>',
            "xl/worksheets/sheet1.xml": f'{XML}<worksheet xmlns="{S}"><sheetData>{rows}</sheetData></worksheet>',
        }
    )


def pptx() -> bytes:
    def shape(number: int, kind: str, lines: Sequence[str]) -> str:
        inner = "".join(f"<a:p><a:r><a:t>{escape(line)}</a:t></a:r></a:p>" for line in lines)
        return (
            f'<p:sp><p:nvSpPr><p:cNvPr id="{number}" name="{kind} {number}"/><p:cNvSpPr/>'
            f'<p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr><p:spPr/>'
            f"<p:txBody><a:bodyPr/>{inner}</p:txBody></p:sp>"
        )

    def slide(title: str, lines: Sequence[str]) -> str:
        tree = '<p:nvGrpSpPr><p:cNvPr id="1" name=""/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>'
        tree += shape(2, "title", [title]) + shape(3, "body", lines)
        return f'{XML}<p:sld xmlns:p="{P}" xmlns:a="{A}"><p:cSld><p:spTree>{tree}</p:spTree></p:cSld></p:sld>'

    show = f"{MAIN}.presentationml"
    rows = [" ".join(row) for row in ROWS]
    slides = [slide(HEADINGS[0], [PROSE, *STEPS]), slide(HEADINGS[1], rows)]
    names = [f"slides/slide{n}.xml" for n in range(1, len(slides) + 1)]
    ids = "".join(f'<p:sldId id="{255 + n}" r:id="rId{n}"/>' for n in range(1, len(slides) + 1))
    return zipped(
        {
            "[Content_Types].xml": _types(
                {"/ppt/presentation.xml": f"{show}.presentation.main+xml"}
                | {f"/ppt/{name}": f"{show}.slide+xml" for name in names}
            ),
            "_rels/.rels": _rels({"officeDocument": "ppt/presentation.xml"}),
            "ppt/_rels/presentation.xml.rels": _rels({f"slide{n}": name for n, name in enumerate(names)}),
            "ppt/presentation.xml": f'{XML}<p:presentation xmlns:p="{P}" xmlns:r="{R}"><p:sldIdLst>{ids}</p:sldIdLst>'
            '<p:sldSz cx="9144000" cy="6858000"/></p:presentation>',
            **{f"ppt/{name}": content for name, content in zip(names, slides, strict=True)},
        }
    )


def epub() -> bytes:
    container = (
        '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">'
        f'<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="id">x</dc:identifier>'
        f"<dc:title>{TITLE}</dc:title><dc:language>en</dc:language></metadata>"
        '<manifest><item id="c" href="c.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="c"/></spine></package>'
    )
    chapter = f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>{TITLE}</title></head>{_body()}</html>'
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": XML + container,
            "book.opf": XML + package,
            "c.xhtml": XML + chapter,
        },
        first="mimetype",
    )


def _types(overrides: Mapping[str, str]) -> str:
    parts = "".join(f'<Override PartName="{name}" ContentType="{kind}"/>' for name, kind in overrides.items())
    rels = '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    return f'{XML}<Types xmlns="{TYPES}">{rels}<Default Extension="xml" ContentType="application/xml"/>{parts}</Types>'


def _rels(targets: Mapping[str, str]) -> str:
    parts = "".join(
        f'<Relationship Id="rId{n}" Type="{R}/{kind.rstrip("0123456789")}" Target="{target}"/>'
        for n, (kind, target) in enumerate(targets.items(), 1)
    )
    return f'{XML}<Relationships xmlns="{RELS}">{parts}</Relationships>'


Line = tuple[float, float, float, str]
"""Left, baseline (points from the lower left corner), size of the letters, and the text (Latin-1) of a printed line."""


def pdf(pages: Sequence[Sequence[Line]], *, title: str = "", encrypted: bool = False) -> bytes:
    """A PDF whose pages print these lines in Helvetica; `encrypted` asks for a password that nobody knows."""
    objects: list[bytes] = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    kids = []
    for lines in pages:
        shown = b"".join(
            b"BT /F1 %g Tf 1 0 0 1 %g %g Tm (%s) Tj ET\n" % (size, left, base, _literal(content))
            for left, base, size, content in lines
        )
        packed = zlib.compress(shown)
        objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
            b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica "
            b"/Encoding /WinAnsiEncoding >> >> >> >>" % len(objects)
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(kids))
    objects.append(b"<< /Title (%s) >>" % _literal(title))
    trailer = b"/Root 1 0 R /Info %d 0 R" % len(objects)
    if encrypted:
        key = b"<" + b"5a" * 32 + b">"
        objects.append(b"<< /Filter /Standard /V 2 /R 3 /Length 128 /P -44 /O %s /U %s >>" % (key, key))
        trailer += b" /Encrypt %d 0 R /ID [<00112233445566778899aabbccddeeff> <00112233445566778899aabbccddeeff>]" % (
            len(objects)
        )
    out = bytearray(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, start)
    return bytes(out)


def _literal(content: str) -> bytes:
    raw = content.encode("cp1252")
    return raw.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def small_pdf() -> bytes:
    """The manual on two pages."""
    middle = PROSE.rindex(" ", 0, 52)
    first: list[Line] = [
        (72, 760, 20, TITLE),
        (72, 720, 16, HEADINGS[0]),
        (72, 690, 10, PROSE[:middle]),
        (72, 678, 10, PROSE[middle + 1 :]),
        *((72, 650 - 14 * n, 10, f"{n + 1}. {step}") for n, step in enumerate(STEPS)),
    ]
    second: list[Line] = [(72, 760, 16, HEADINGS[1])]
    second += [
        (72 + 120 * column, 730 - 16 * n, 10, cell) for n, row in enumerate(ROWS) for column, cell in enumerate(row)
    ]
    return pdf([first, second], title=TITLE)


SAMPLES: dict[str, Callable[[], bytes]] = {
    "md": markdown,
    "txt": text,
    "rst": restructured,
    "adoc": asciidoc,
    "html": html,
    "eml": email,
    "docx": docx,
    "xlsx": xlsx,
    "pptx": pptx,
    "epub": epub,
    "pdf": small_pdf,
}
