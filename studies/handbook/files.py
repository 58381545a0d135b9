"""Writing a page as Markdown, text, CSV, HTML, DOCX or PDF, the same bytes each time.

A writer takes title, note and body in light Markdown, and returns the text that a reader finds in the file, one
paragraph a line, and the bytes of the file. Nothing is compressed, since compressors differ from machine to machine.
"""

from __future__ import annotations

import io
import textwrap
import zipfile
from collections.abc import Callable
from html import escape

_CHARS_PER_LINE = 88
_LINES_PER_PAGE = 50

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_DOCX_PARTS = {
    "[Content_Types].xml": f'{_XML}<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/word/document.xml" ContentType='
    '"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/>'
    '<Override PartName="/word/styles.xml" ContentType='
    '"application/vnd.openxmlformats-officedocument.wordprocessingml.styles+xml"/></Types>',
    "_rels/.rels": f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" Type='
    '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="word/document.xml"/></Relationships>',
    "word/_rels/document.xml.rels": f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" '
    'Target="styles.xml"/></Relationships>',
    "word/styles.xml": f'{_XML}<w:styles xmlns:w="{_WORD}">'
    '<w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/></w:style>'
    + "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{level}"><w:name w:val="heading {level}"/>'
        f'<w:basedOn w:val="Normal"/><w:pPr><w:outlineLvl w:val="{level - 1}"/></w:pPr>'
        f'<w:rPr><w:b/><w:sz w:val="{36 - 8 * (level - 1)}"/></w:rPr></w:style>'
        for level in (1, 2)
    )
    + "</w:styles>",
}


def markdown(title: str, note: str, body: str) -> tuple[str, bytes]:
    """Write a page as Markdown."""
    text = f"# {title}\n\n*{note}*\n\n{body}\n"
    return text, text.encode()


def plain(title: str, note: str, body: str) -> tuple[str, bytes]:
    """Write a page as text with the title underlined."""
    text = f"{title.upper()}\n{'=' * len(title)}\n{note}\n\n{body}\n"
    return text, text.encode()


def csv(title: str, note: str, body: str) -> tuple[str, bytes]:
    """Write a table as it is; title and note have no place in it."""
    del title, note
    return f"{body}\n", f"{body}\n".encode()


def html(title: str, note: str, body: str) -> tuple[str, bytes]:
    """Write a page as HTML; a line that begins with `<!--` is copied as it is."""
    lines = [f"<h1>{escape(title)}</h1>", f"<p><small>{escape(note)}</small></p>"]
    for line in filter(None, body.splitlines()):
        if line.startswith("<!--"):
            lines.append(line)
        elif line.startswith("## "):
            lines.append(f"<h2>{escape(line[3:], quote=False)}</h2>")
        else:
            lines.append(f"<p>{escape(line, quote=False)}</p>")
    page = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(title)}</title></head>\n<body>\n'
        + "\n".join(lines)
        + "\n</body>\n</html>\n"
    )
    seen = "\n".join(line for line in body.splitlines() if not line.startswith("<!--"))
    return _read(title, note, seen), page.encode()


def docx(title: str, note: str, body: str) -> tuple[str, bytes]:
    """Write a page as a small Word document."""
    paragraphs = [_paragraph(title, "Heading1"), _paragraph(note, "Normal")]
    for line in filter(None, body.splitlines()):
        is_heading = line.startswith("## ")
        paragraphs.append(_paragraph(line.removeprefix("## "), "Heading2" if is_heading else "Normal"))
    document = (
        f'{_XML}<w:document xmlns:w="{_WORD}"><w:body>{"".join(paragraphs)}'
        '<w:sectPr><w:pgSz w:w="11906" w:h="16838"/></w:sectPr></w:body></w:document>'
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {**_DOCX_PARTS, "word/document.xml": document}.items():
            entry = zipfile.ZipInfo(name, date_time=(2025, 1, 1, 0, 0, 0))
            entry.create_system = 3  # else it says on what system it was made
            archive.writestr(entry, content.encode())
    return _read(title, note, body), buffer.getvalue()


def pdf(title: str, note: str, body: str) -> tuple[str, bytes]:
    """Write a page as PDF 1.4 with one of the fonts that every reader has."""
    rows: list[tuple[str, str, int]] = [("F2", title, 16), ("F1", note, 9), ("F1", "", 9)]
    for line in filter(None, body.splitlines()):
        if line.startswith("## "):
            rows += [("F1", "", 11), ("F2", line[3:], 12)]
        else:
            rows += [("F1", row, 11) for row in textwrap.wrap(line, _CHARS_PER_LINE)]
    sheets = [rows[start : start + _LINES_PER_PAGE] for start in range(0, len(rows), _LINES_PER_PAGE)]
    kids = " ".join(f"{6 + 2 * number} 0 R" for number in range(len(sheets)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /Lang (en) >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(sheets)} >>".encode(),
        _font("Helvetica"),
        _font("Helvetica-Bold"),
        b"<< /Title (" + _literal(title) + b") >>",
    ]
    for number, sheet in enumerate(sheets):
        stream = b"BT\n15 TL\n60 780 Td\n" + b"".join(
            f"/{font} {size} Tf\n(".encode() + _literal(text) + b") Tj T*\n" for font, text, size in sheet
        )
        stream += b"ET\n"
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> "
            + f"/Contents {7 + 2 * number} 0 R >>".encode(),
            f"<< /Length {len(stream)} >>\nstream\n".encode() + stream + b"endstream",
        ]
    return _read(title, note, body), _assembled(objects)


WRITERS: dict[str, Callable[[str, str, str], tuple[str, bytes]]] = {
    "md": markdown,
    "txt": plain,
    "csv": csv,
    "html": html,
    "docx": docx,
    "pdf": pdf,
}
"""The writer of each format, by the ending of its files."""


# --- private ----------------------------------------------------------------------------------------------------


def _read(title: str, note: str, body: str) -> str:
    return "\n".join([title, note, *(line.removeprefix("## ") for line in filter(None, body.splitlines()))]) + "\n"


def _paragraph(text: str, style: str) -> str:
    run = f'<w:r><w:t xml:space="preserve">{escape(text, quote=False)}</w:t></w:r>'
    return f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr>{run}</w:p>'


def _font(name: str) -> bytes:
    return f"<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>".encode()


def _literal(text: str) -> bytes:
    return text.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _assembled(objects: list[bytes]) -> bytes:
    """A PDF file of numbered objects: the catalogue first, the information fifth."""
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010} 00000 n \n".encode() for offset in offsets)
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info 5 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)
