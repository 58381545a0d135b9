"""From the bytes of a file to blocks of text.

Markdown, text and tables need nothing; HTML, PDF and DOCX are read by maintained libraries behind the extra
`retrieval`. HTML and DOCX become Markdown first, so that headings, lists and tables are told in one way. Whatever a
document says is data: nothing in it is followed, run or fetched.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable

from steelyard.approaches.retrieval.blocks import Block, paragraphs, parse_markdown, table
from steelyard.cases.formats import check_text, csv_rows
from steelyard.errors import InputError, Problem, require

CONVERTING = 1
"""Raised by one whenever a converter would give other blocks."""
MAX_UNPACKED_MB = 500
"""A DOCX file, which is a zip, is refused if it unpacks to more."""
_UNSEEN = ("script", "style", "noscript", "template", "head", "title", "nav", "svg", "iframe")
"""Parts of a page that no reader sees, or that repeat on every page."""


def convert(name: str, content: bytes) -> list[Block]:
    """The blocks of one document.

    Args:
        name: Its path, which says what kind of file it is, and names it in messages.
        content: The file.

    Raises:
        InputError: It is damaged, protected, in another encoding than UTF-8, or not what its name says.
        MissingExtra: HTML, PDF or DOCX without the extra `retrieval`.
    """
    return CONVERTERS[suffix_of(name)](name, content)


def suffix_of(name: str) -> str:
    """The end of a file's name that says its kind, in lower case with the dot."""
    _, dot, ending = name.rpartition(".")
    return f".{ending.lower()}" if dot else ""


def text_of(name: str, content: bytes) -> str:
    r"""Text from UTF-8, or UTF-16 with a byte order mark; line ends as `\n`.

    Raises:
        InputError: It is something else.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            text = content.decode("utf-16")
        except UnicodeDecodeError as error:
            raise _damaged(name, "UTF-16 text", error) from error
    else:
        check_text(name, content)
        text = content.decode("utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")


# ---- private --------------------------------------------------------------------------------------------------------


def _markdown(name: str, content: bytes) -> list[Block]:
    return parse_markdown(text_of(name, content))


def _text(name: str, content: bytes) -> list[Block]:
    return paragraphs(text_of(name, content))


def _csv(name: str, content: bytes) -> list[Block]:
    if not content.strip():
        return []
    problems: list[Problem] = []
    header, rows = csv_rows(name, content, problems)
    block = table(header, [cells for cells, _ in rows])
    if problems:
        raise InputError(problems)
    return [block]


def _html(name: str, content: bytes) -> list[Block]:
    require("markdownify", "bs4", feature=f"reading {name}", extra="retrieval")
    from bs4 import BeautifulSoup

    if content[:4096].count(b"\x00") > len(content[:4096]) // 8 and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(Problem(what="the file is binary, not HTML", where=name, hint="remove it, or rename it"))
    # UTF-8 first, as for all other files; what is not falls to the encoding the page itself declares.
    page: str | bytes = content
    try:
        page = text_of(name, content)
    except InputError:
        if not re.search(rb"charset\s*=", content[:2048]):
            raise
    return _blocks_of_html(name, BeautifulSoup(page, "html.parser"))


def _docx(name: str, content: bytes) -> list[Block]:
    require("mammoth", "markdownify", "bs4", feature=f"reading {name}", extra="retrieval")
    import mammoth  # type: ignore[import-untyped]
    from bs4 import BeautifulSoup

    if content.startswith(b"\xd0\xcf\x11\xe0"):  # the container of protected documents, and of .doc
        raise InputError(
            Problem(
                what="the document is protected by a password, or an old .doc",
                where=name,
                hint="save it as .docx without a password",
            )
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            unpacked = sum(entry.file_size for entry in packed.infolist())
        if unpacked > MAX_UNPACKED_MB * 1_000_000:
            what = f"the document unpacks to {unpacked / 1e6:,.0f} MB; at most {MAX_UNPACKED_MB} are read"
            raise InputError(Problem(what=what, where=name, hint="split it, or remove its pictures"))
        html = mammoth.convert_to_html(io.BytesIO(content), convert_image=lambda image: []).value
    except InputError:
        raise
    except Exception as error:  # the library raises whatever its zip and XML readers do
        raise _damaged(name, "DOCX document", error) from error
    return _blocks_of_html(name, BeautifulSoup(html, "html.parser"))


def _blocks_of_html(name: str, soup: object) -> list[Block]:
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    assert isinstance(soup, BeautifulSoup)
    title = soup.title.get_text(" ", strip=True) if soup.title and not soup.h1 else ""
    for tag in soup.find_all(_UNSEEN):
        tag.decompose()
    converter = MarkdownConverter(
        heading_style="atx",
        table_infer_header=True,
        escape_asterisks=False,
        escape_underscores=False,
        strip=["a", "img"],
    )
    opening = [Block(kind="heading", text=title, level=1)] if title else []
    try:
        return opening + parse_markdown(converter.convert_soup(soup))
    except RecursionError as error:
        raise _damaged(name, "HTML page (nested too deep)", error) from None


def _pdf(name: str, content: bytes) -> list[Block]:
    require("pypdfium2", feature=f"reading {name}", extra="retrieval")
    import pypdfium2  # type: ignore[import-untyped]

    if b"%PDF-" not in content[:1024]:
        raise InputError(Problem(what="the file is not a PDF", where=name, hint="rename it, or export it again"))
    blocks: list[Block] = []
    try:
        with pypdfium2.PdfDocument(content) as document:
            for number in range(len(document)):
                text = document[number].get_textpage().get_text_range()
                found = paragraphs(text.replace("\r\n", "\n").replace("\x00", "").replace("\ufffe", "-"))
                if found:
                    blocks += [Block(kind="heading", text=f"page {number + 1}", level=6), *found]
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise InputError(
                Problem(what="the PDF is protected by a password", where=name, hint="save it without one, or remove it")
            ) from error
        raise _damaged(name, "PDF", error) from error
    return blocks


def _damaged(name: str, kind: str, error: Exception) -> InputError:
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return InputError(
        Problem(what=f"the file is no {kind} that can be read ({reason})", where=name, hint="export it again")
    )


CONVERTERS: dict[str, Callable[[str, bytes], list[Block]]] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _text,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".docx": _docx,
    ".csv": _csv,
    ".tsv": _csv,
}
"""By the end of the file's name."""
