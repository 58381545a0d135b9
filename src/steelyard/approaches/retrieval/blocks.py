"""What a document is made of, whatever file it came from: headings, running text, tables, and text kept as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from steelyard.approaches.retrieval.words import one_space

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

Kind = Literal["heading", "text", "table", "lines"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One piece of a document that belongs together."""

    kind: Kind
    text: str
    """Of a table its Markdown lines, the first two of which are the header; of lines (lists, code) the lines."""
    level: int = 0
    """Of a heading, 1..6."""


def as_text(blocks: Sequence[Block]) -> str:
    """A document as one Markdown text."""
    return "\n\n".join("#" * block.level + " " + block.text if block.level else block.text for block in blocks)


def paragraphs(text: str) -> list[Block]:
    """Plain text: a blank line ends a paragraph."""
    return [
        Block(kind="text", text=one_space(paragraph)) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()
    ]


def table(header: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> Block:
    """A table from its cells."""
    lines = [_row(header), "|" + " --- |" * len(header), *(_row(row) for row in rows)]
    return Block(kind="table", text="\n".join(lines))


def parse_markdown(text: str) -> list[Block]:
    """Blocks of a Markdown text (CommonMark with tables), each as it is written."""
    # Lines as the parser counts them: str.splitlines would also cut at separators that end no line of Markdown.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    tokens = _parser().parse(text)
    blocks: list[Block] = []
    for place, token in enumerate(tokens):
        if token.level != 0 or token.map is None or token.nesting < 0:
            continue
        written = "\n".join(lines[token.map[0] : token.map[1]]).strip("\n")
        if token.type == "heading_open":
            title = one_space(tokens[place + 1].content)
            if title:
                blocks.append(Block(kind="heading", text=title, level=int(token.tag[1:])))
        elif token.type == "table_open":
            blocks.append(Block(kind="table", text="\n".join(line.strip() for line in written.splitlines())))
        elif token.type == "paragraph_open":
            blocks.append(Block(kind="text", text=one_space(written)))
        elif written.strip() and token.type != "hr":
            blocks.append(Block(kind="lines", text=written))
    return blocks


# ---- private --------------------------------------------------------------------------------------------------------


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table").disable("inline")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(one_space(cell).replace("|", "\\|") for cell in cells) + " |"
