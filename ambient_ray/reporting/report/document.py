"""What a report says, before it is a page or a PDF: sections of paragraphs, tables and figures.

Texts may hold three marks: `code` in backticks, **strong** in double asterisks, and [links](https://...). Everything
else stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from ..tables import Table

_MARKS = re.compile(r"`(?P<code>[^`]+)`|\*\*(?P<strong>.+?)\*\*|\[(?P<link>[^\]]+)\]\((?P<href>https?://[^)\s]+)\)")


@dataclass(frozen=True)
class Paragraph:
    """Running text; the lead is set larger, small text is for remarks."""

    text: str
    kind: Literal["body", "lead", "small"] = "body"


@dataclass(frozen=True)
class Notice:
    """A sentence or two that must not be overlooked."""

    title: str
    text: str


@dataclass(frozen=True)
class Bullets:
    """Points, a text each."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Names and what they are, in two columns."""

    rows: tuple[tuple[str, str], ...]
    title: str = ""


@dataclass(frozen=True)
class Code:
    """Text to be copied: a command, or BibTeX."""

    text: str
    title: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture.

    picture: PNG; caption: what is seen; described: the same for who cannot see it; interactive: a whole HTML document
    that a page shows instead where scripts run; width: share of the text's width on paper.
    """

    picture: bytes = field(repr=False)
    caption: str
    described: str
    interactive: str | None = field(default=None, repr=False)
    width: float = 1.0


Block: TypeAlias = Paragraph | Notice | Bullets | Facts | Code | Figure | Table


@dataclass(frozen=True)
class Section:
    """A titled part. broken: a new page of paper begins with it."""

    title: str
    blocks: tuple[Block, ...]
    broken: bool = False


@dataclass(frozen=True)
class Document:
    """A report.

    byline: small print below the title; opening: what stands before the first section: notices, the answer.
    """

    title: str
    byline: str
    opening: tuple[Block, ...]
    sections: tuple[Section, ...]
    language: str = "en"


class Span(NamedTuple):
    """A stretch of text. kind: plain, code, strong or link; href: of a link."""

    text: str
    kind: str
    href: str = ""


def spans(text: str) -> Iterator[Span]:
    """The stretches of a text, by their marks."""
    end = 0
    for found in _MARKS.finditer(text):
        if found.start() > end:
            yield Span(text[end : found.start()], "plain")
        kind = str(found.lastgroup)
        if found["link"] is not None:
            yield Span(found["link"], "link", found["href"])
        else:
            yield Span(found[kind], kind)
        end = found.end()
    if end < len(text):
        yield Span(text[end:], "plain")


def numbered(document: Document) -> Iterator[tuple[Section | None, list[tuple[Block, str]]]]:
    """The opening (as None) and each section, with its blocks and their labels: `Table 2`, `Figure 1`, else empty."""
    counts = {"Table": 0, "Figure": 0}

    def label(block: Block) -> str:
        kind = "Table" if isinstance(block, Table) else "Figure" if isinstance(block, Figure) else ""
        if not kind:
            return ""
        counts[kind] += 1
        return f"{kind} {counts[kind]}"

    yield None, [(block, label(block)) for block in document.opening]
    for section in document.sections:
        yield section, [(block, label(block)) for block in section.blocks]
