"""Cut documents into chunks along their structure: headings first, then paragraphs, then sentences, then words.

A chunk never spans two headings. Tables are kept whole where they fit and cut between rows where they do not, with the
header repeated. Where running text is cut, its last sentences are repeated in the next chunk. Title and headings are
put before the text that is embedded and searched, since a paragraph often does not say what it is about.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from steelyard.approaches.retrieval.blocks import Block
from steelyard.approaches.retrieval.documents import Document
from steelyard.approaches.retrieval.words import count_tokens, sentences

CHUNKING = 1
"""Raised by one whenever a document would be cut otherwise: indexes made before are then made again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A piece of a document that can be found."""

    id: str
    """Document id, headings and the number of the chunk under them; stays when other sections change."""
    headings: tuple[str, ...]
    """From the outermost to the one right above; without the title of the document."""
    text: str
    n_tokens: int
    """Of the text, estimated."""
    searched: str
    """What is embedded and indexed: title, headings and text."""

    @property
    def digest(self) -> str:
        """Content address of what is embedded, 32 hexadecimal characters."""
        return hashlib.blake2b(self.searched.encode(), digest_size=16).hexdigest()


def chunk_document(document: Document, *, tokens: int, overlap: int) -> list[Chunk]:
    """The chunks of a document, in its order.

    Args:
        document: What to cut.
        tokens: Most tokens of a chunk with its title and headings; where these alone take more than half, the text may
            still take half.
        overlap: Most tokens of the sentences that are repeated in the next chunk.
    """
    chunks: list[Chunk] = []
    numbers: Counter[str] = Counter()
    for headings, blocks in _sections(document):
        above = _above(document.title, headings)
        room = max(tokens - count_tokens(above), tokens // 2)
        path = "/".join(_slug(heading) for heading in headings)
        for text, n_tokens in _packed(blocks, room=room, overlap=min(overlap, room // 2)):
            numbers[path] += 1
            place = f"{path}:{numbers[path]}" if path else str(numbers[path])
            chunks.append(
                Chunk(
                    id=f"{document.id}#{place}",
                    headings=headings,
                    text=text,
                    n_tokens=n_tokens,
                    searched=f"{above}\n{text}",
                )
            )
    return chunks


# ---- private --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """The smallest part a chunk is put together from."""

    text: str
    n_tokens: int
    before: str
    """What separates it from the piece before."""
    repeats: bool = False
    """Whether it may be repeated in the next chunk: running text alone."""
    header: str = ""
    """Of a row of a table."""


def _sections(document: Document) -> Iterator[tuple[tuple[str, ...], list[Block]]]:
    """Blocks with the headings above them; a document of headings alone is one section that lists them."""
    stack: list[Block] = []
    blocks: list[Block] = []
    is_any = False
    for block in document.blocks:
        if block.kind != "heading":
            blocks.append(block)
            continue
        if blocks:
            is_any = True
            yield _titles(stack, document.title), blocks
        blocks = []
        while stack and stack[-1].level >= block.level:
            stack.pop()
        stack.append(block)
    if blocks:
        yield _titles(stack, document.title), blocks
    elif not is_any and document.blocks:
        yield (), [Block(kind="lines", text="\n".join(block.text for block in document.blocks))]


def _titles(stack: Sequence[Block], title: str) -> tuple[str, ...]:
    titles = tuple(block.text for block in stack)
    return titles[1:] if titles[:1] == (title,) else titles


def _above(title: str, headings: Sequence[str]) -> str:
    return " > ".join((title, *headings))


def _packed(blocks: Sequence[Block], *, room: int, overlap: int) -> Iterator[tuple[str, int]]:
    """Texts of at most `room` tokens: whole blocks as long as they fit, and parts of those that never would."""
    held: list[_Piece] = []
    n_new = 0  # pieces that are not repeated ones
    for block in blocks:
        pieces = _pieces(block, room)
        if n_new and _n_tokens(held, pieces) > room >= _n_tokens(pieces):
            yield _joined(held)
            held, n_new = [], 0
        for piece in pieces:
            if n_new and _n_tokens(held, [piece]) > room:
                yield _joined(held)
                held, n_new = _repeated(held, overlap), 0
                if _n_tokens(held, [piece]) > room:
                    held = []
            held.append(piece)
            n_new += 1
    if n_new:
        yield _joined(held)


def _n_tokens(*lists: Sequence[_Piece]) -> int:
    """Tokens of pieces put together, each header counted once."""
    pieces = [piece for one in lists for piece in one]
    headers = {piece.header for piece in pieces if piece.header}
    return sum(piece.n_tokens for piece in pieces) + sum(count_tokens(header) for header in headers)


def _repeated(held: Sequence[_Piece], overlap: int) -> list[_Piece]:
    """The last sentences, as many as fit the overlap."""
    kept: list[_Piece] = []
    for piece in reversed(held):
        if not piece.repeats or sum(one.n_tokens for one in kept) + piece.n_tokens > overlap:
            break
        kept.insert(0, piece)
    return kept


def _joined(pieces: Sequence[_Piece]) -> tuple[str, int]:
    text, header = "", ""
    for piece in pieces:
        opening = f"{piece.header}\n" if piece.header and piece.header != header else ""
        # A table opens with its header, and what comes first needs no separator.
        text += ("\n\n" if opening else piece.before) * bool(text) + opening + piece.text
        header = piece.header
    return text, _n_tokens(pieces)


def _pieces(block: Block, room: int) -> list[_Piece]:
    if block.kind == "table":
        return _rows(block, room)
    if block.kind == "lines":
        return _lines(block.text.split("\n"), room)
    found: list[_Piece] = []
    for sentence in sentences(block.text):
        for part, n_tokens in _cut(sentence, room):
            found.append(_Piece(part, n_tokens, " " if found else "\n\n", repeats=True))
    return found


def _lines(lines: Sequence[str], room: int) -> list[_Piece]:
    cut = [part for line in lines for part in _cut(line, room) or [("", 0)]]
    return [_Piece(line, n_tokens, "\n" if place else "\n\n") for place, (line, n_tokens) in enumerate(cut)]


def _rows(block: Block, room: int) -> list[_Piece]:
    """Rows of a table, each with the header; a header that takes more than half of the room is not repeated."""
    lines = block.text.split("\n")
    header, rows = "\n".join(lines[:2]), lines[2:]
    n_header = count_tokens(header)
    if not rows or n_header > room // 2:
        return _lines(lines, room)
    return [
        _Piece(part, n_tokens, "\n", header=header) for row in rows for part, n_tokens in _cut(row, room - n_header)
    ]


def _cut(text: str, room: int) -> list[tuple[str, int]]:
    """A text in parts of at most `room` tokens, with their tokens: between words, and within a word only where that alone is longer."""
    n_whole = count_tokens(text)
    if n_whole <= room:
        return [(text, n_whole)] if text.strip() else []
    parts: list[tuple[str, int]] = []
    held: list[str] = []
    n_held = 0
    # A text without any spaces (Chinese, a key, an encoded picture) is cut by length.
    for word in re.findall(r"\S{1,40}", text):
        n_tokens = count_tokens(word)
        if held and n_held + n_tokens > room:
            parts.append((" ".join(held), n_held))
            held, n_held = [], 0
        held.append(word)
        n_held += n_tokens
    return [*parts, (" ".join(held), n_held)]


def _slug(heading: str) -> str:
    """A heading as it stands in an id: lower case, words joined by hyphens."""
    text = unicodedata.normalize("NFKC", heading).casefold()
    return re.sub(r"[^\w]+", "-", text).strip("-")[:60] or "-"
