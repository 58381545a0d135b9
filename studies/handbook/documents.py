"""The documents of the handbook: reading the hand-written pages, drawing their versions, finding passages.

A material file holds pages, each under a line `=== id | format | versions | access | owner | title`. `versions` names
by number the dates of `DATES` at which the page changed. In a page `{{a||b||c}}` says what stands there in its first,
second, third version; a line that begins with `@2-`, `@-2` or `@2-3` is only in those versions; `[[id]]` is a
reference. `countries.txt` holds facts by country and pages that are written once for each of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

from studies.handbook import files

FOLDER = Path(__file__).parent / "material" / "documents"
DATES = (date(2025, 3, 1), date(2025, 9, 1), date(2026, 2, 1), date(2026, 7, 1))
"""The days on which versions came into force."""
END = date(2026, 8, 31)
"""The last day on which a question is asked."""

_CHOICE = re.compile(r"\{\{(.*?)\}\}")
_SLOT = re.compile(r"<([a-z0-9]+)>")
_LINE_OF_VERSIONS = re.compile(r"@(\d?)(-?)(\d?) (.*)")
_REFERENCE = re.compile(r"\[\[([a-z0-9-]+)\]\]")
_LEANS_ON_WHAT_IS_BEFORE = re.compile(r"(It|They|Its|Ours|This|These|Half of it|Above|Each of us|Sheets)\b")
_SENTENCE_END = re.compile(r"(?<!^\d\.)(?<=[.!?])\s+(?=[A-Z\"*])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page as written, with all its versions in it."""

    name: str
    format: str
    dates: tuple[date, ...]
    access: str
    owner: str
    title: str
    folder: str
    body: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One version of a page, as it is shipped."""

    page: Page
    ordinal: int
    """0 for the first version."""
    text: str
    """The text as a reader or converter sees it, one paragraph, list item or table row a line."""
    content: bytes

    @property
    def valid_from(self) -> date:
        """The day from which the version counts."""
        return self.page.dates[self.ordinal]

    @property
    def version_id(self) -> str:
        """Names page and version."""
        return f"{self.page.name}@{self.valid_from}"

    @property
    def path(self) -> str:
        """Where the file lies below `docs/`; what was replaced lies in the archive."""
        if self.ordinal + 1 < len(self.page.dates):
            return f"archive/{self.page.name}-{self.valid_from}.{self.page.format}"
        return _current_path(self.page)

    @property
    def supersedes(self) -> str | None:
        """The version before."""
        return f"{self.page.name}@{self.page.dates[self.ordinal - 1]}" if self.ordinal else None

    def passages(self, snippet: str) -> tuple[str, ...]:
        """The sentence that holds a few words, or the table row with the row of column names before it.

        Raises:
            ValueError: The words occur in no sentence, or in several.
        """
        lines = self.text.splitlines()
        found: list[tuple[str, ...]] = []
        for number, line in enumerate(lines):
            if snippet not in line:
                continue
            if self.page.format == "csv":
                found.append((lines[0], line))
            elif line.startswith("| "):
                header = max(k for k in range(number) if lines[k].startswith("| ---")) - 1
                found.append((lines[header], line))
            else:
                found += [(whole,) for sentence, whole in _sentences(line) if snippet in sentence]
        if len(found) != 1:
            raise ValueError(f"{self.version_id}: {snippet!r} is in {len(found)} passages, not in one")
        return found[0]


@cache
def countries() -> dict[str, dict[str, str]]:
    """Facts by country code; a value may hold choices by version."""
    facts: dict[str, dict[str, str]] = {}
    for line in _parts("countries.txt")[0].splitlines():
        if line.startswith("["):
            facts[line.strip("[]")] = {"cc": line.strip("[]").lower()}
        elif line:
            name, _, value = line.partition(": ")
            list(facts.values())[-1][name] = value
    return facts


@cache
def pages() -> dict[str, Page]:
    """Every page by name."""
    found: dict[str, Page] = {}
    for path in sorted(FOLDER.glob("*.txt")):
        _, *texts = (_parts(path.name)[1] if path.stem == "countries" else path.read_text("utf-8")).split("=== ")
        for text in texts:
            variants = countries().items() if path.stem == "countries" else [("", {})]
            for code, facts in variants:
                head, _, body = filled(text, facts).partition("\n")
                name, form, versions, access, owner, title = head.split(" | ")
                found[name] = Page(
                    name=name,
                    format=form,
                    dates=tuple(DATES[int(number) - 1] for number in versions),
                    access=access.replace(code.lower(), code) if code else access,
                    owner=owner,
                    title=title,
                    folder=path.stem,
                    body=body.strip(),
                )
    return found


@cache
def documents() -> dict[str, Document]:
    """Every version of every page by version id."""
    drawn = [_document(page, ordinal) for page in pages().values() for ordinal in range(len(page.dates))]
    return {document.version_id: document for document in drawn}


def valid(name: str, day: date) -> Document | None:
    """The version of a page that counts on a day; None before its first."""
    dates = [since for since in pages()[name].dates if since <= day]
    return documents()[f"{name}@{dates[-1]}"] if dates else None


def chosen(text: str, ordinal: int) -> str:
    """Text with its `{{..||..}}` choices made for one version.

    Raises:
        ValueError: A choice does not reach so far.
    """

    def pick(match: re.Match[str]) -> str:
        options = match[1].split("||")
        if ordinal >= len(options):
            raise ValueError(f"no option {ordinal + 1} in {match[0]}")
        return options[ordinal]

    return _CHOICE.sub(pick, text)


def filled(text: str, facts: dict[str, str]) -> str:
    """Text with the slots that the facts name put in."""
    return _SLOT.sub(lambda match: facts.get(match[1], match[0]), text)


def catalogue() -> str:
    """The sidecar `documents.yaml`: one entry a file."""
    lines = ["# One entry for each file. `id` names the page as it stood from a day on, `version_of` the page."]
    for document in documents().values():
        page = document.page
        supersedes = document.supersedes or "null"
        lines += [
            f"- path: {document.path}",
            f"  id: {document.version_id}",
            f"  version_of: {page.name}",
            f'  title: "{page.title}"',
            f"  valid_from: {document.valid_from}",
            f"  supersedes: {supersedes}",
            f"  access: [{page.access}]",
            f"  owner: {page.owner}",
            "  language: en",
        ]
    return "\n".join(lines) + "\n"


# --- private ----------------------------------------------------------------------------------------------------


def _parts(name: str) -> list[str]:
    return (FOLDER / name).read_text(encoding="utf-8").split("\n===\n")


def _sentences(paragraph: str) -> Iterator[tuple[str, str]]:
    """Each sentence, and with the one before where it says "it", so that it can be understood alone."""
    starts = [0, *(match.end() for match in _SENTENCE_END.finditer(paragraph))]
    ends = [*(match.start() for match in _SENTENCE_END.finditer(paragraph)), len(paragraph)]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        leans = number > 0 and _LEANS_ON_WHAT_IS_BEFORE.match(paragraph, start)
        yield paragraph[start:end], paragraph[starts[number - 1] if leans else start : end]


def _current_path(page: Page) -> str:
    return f"{page.folder}/{page.name}.{page.format}"


def _document(page: Page, ordinal: int) -> Document:
    body = "\n".join(_lines(chosen(page.body, ordinal), ordinal))
    since = page.dates[ordinal]
    note = f"Valid from {since.day} {since:%B} {since.year}. Owner: {page.owner}."

    def refer(match: re.Match[str]) -> str:
        other = pages()[match[1]]
        return f"[{other.title}](../{_current_path(other)})" if page.format == "md" else f'"{other.title}"'

    text, content = files.WRITERS[page.format](page.title, note, _REFERENCE.sub(refer, body))
    return Document(page=page, ordinal=ordinal, text=text, content=content)


def _lines(body: str, ordinal: int) -> Iterator[str]:
    for line in body.splitlines():
        match = _LINE_OF_VERSIONS.fullmatch(line)
        if match is None:
            yield line
            continue
        first, dash, last, text = match.groups()
        low = int(first or 1)
        high = int(last) if last else 99 if dash else low
        if low <= ordinal + 1 <= high:
            yield text
