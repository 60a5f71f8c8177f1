"""A report as a PDF, written by reportlab from the same content as the page; nothing else is needed."""

from __future__ import annotations

import html
import importlib.util
import io
import re
import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..tables import Table
from .document import Block, Bullets, Code, Document, Facts, Figure, Notice, Paragraph, Section, numbered, spans

if TYPE_CHECKING:
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Flowable

# They come with matplotlib, cover what reports hold (σ, é, –), and may be embedded.
_FONTS = {
    "Text": "STIXGeneral.ttf", "Text-Bold": "STIXGeneralBol.ttf", "Text-Italic": "STIXGeneralItalic.ttf",
    "Table": "DejaVuSans.ttf", "Table-Bold": "DejaVuSans-Bold.ttf", "Mono": "DejaVuSansMono.ttf",
}  # fmt: skip
_MM = 72 / 25.4
_WIDTH, _HEIGHT = 210 * _MM, 297 * _MM
_SIDE, _TOP, _BOTTOM = 21 * _MM, 20 * _MM, 20 * _MM
_TEXT = _WIDTH - 2 * _SIDE
_TALLEST = 0.78 * (_HEIGHT - _TOP - _BOTTOM)  # of a figure, which needs its caption on the same page
_INK, _FAINT, _LINE, _BLUE, _WARN = "#1b1b1b", "#555555", "#cfcfca", "#0072B2", "#D55E00"


def write_pdf(document: Document, path: Path) -> Path:
    """Write the document and return its path. A4; fonts embedded; an outline of the sections."""
    from reportlab.platypus import BaseDocTemplate, Frame, PageTemplate

    _register_fonts()
    template = BaseDocTemplate(
        str(path), pagesize=(_WIDTH, _HEIGHT), leftMargin=_SIDE, rightMargin=_SIDE, topMargin=_TOP,
        bottomMargin=_BOTTOM, title=document.title, subject=_plain(document.opening), author="ambient-ray",
        creator="ambient-ray", lang=document.language,
    )  # fmt: skip
    frame = Frame(_SIDE, _BOTTOM, _TEXT, _HEIGHT - _TOP - _BOTTOM, 0, 0, 0, 0)
    template.addPageTemplates(PageTemplate("page", [frame], onPage=_footer(document.title)))
    template.build(_story(document))
    return path


def _story(document: Document) -> list[Flowable]:
    from reportlab.platypus import CondPageBreak, PageBreak

    story: list[Flowable] = [_text(document.title, "title"), _text(document.byline, "byline")]
    for section, blocks in numbered(document):
        if section is not None:
            story += [PageBreak() if section.broken else CondPageBreak(40 * _MM), _heading(section)]
        for block, label in blocks:
            story += _flowables(block, label)
    return story


def _flowables(block: Block, label: str) -> list[Flowable]:
    from reportlab.platypus import KeepTogether, XPreformatted

    if isinstance(block, Paragraph):
        return [_text(block.text, block.kind)]
    if isinstance(block, Notice):
        return [_text(f"**{block.title}** {block.text}", "notice")]
    if isinstance(block, Bullets):
        return [_text(item, "bullet", bullet="•") for item in block.items]
    if isinstance(block, Facts):
        return _facts(block)
    if isinstance(block, Code):
        lines = "\n".join(_folded(line) for line in block.text.rstrip().splitlines())
        code = XPreformatted(html.escape(lines), _styles()["code"])
        return [KeepTogether([_text(block.title, "h3"), code])] if block.title else [code]
    return [_figure(block, label)] if isinstance(block, Figure) else _table(block, label)


def _figure(figure: Figure, label: str) -> Flowable:
    from PIL import Image as Pictures
    from reportlab.platypus import Image, KeepTogether

    with Pictures.open(io.BytesIO(figure.picture)) as picture:
        wide, high = picture.size
    scale = min(figure.width * _TEXT / wide, _TALLEST / high, 1.0)  # a pixel is a point at the most
    image = Image(io.BytesIO(figure.picture), wide * scale, high * scale, hAlign="CENTER")
    image.spaceBefore = 8
    return KeepTogether([image, _text(f"**{label}.** {figure.caption}", "caption")])


def _facts(facts: Facts) -> list[Flowable]:
    from reportlab.platypus import Table as Grid

    rows = [[_text(name, "fact-name"), _text(value, "fact")] for name, value in facts.rows]
    grid = Grid(rows, colWidths=[0.23 * _TEXT, 0.77 * _TEXT], style=[
        ("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (0, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 4),
        ("TOPPADDING", (0, 0), (-1, -1), 0.5), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
    ])  # fmt: skip
    return [*([_text(facts.title, "h3")] if facts.title else []), grid]


def _table(table: Table, label: str) -> list[Flowable]:
    from reportlab.platypus import LongTable

    numbers = [column.number for column in table.columns]
    head = [_cell(c.name, c.number, bold=True) for c in table.columns]
    body = [
        [_cell(value, number, bold=i in table.marked) for value, number in zip(row, numbers, strict=True)]
        for i, row in enumerate(table.rows)
    ]
    rules: list[tuple[Any, ...]] = [
        ("VALIGN", (0, 0), (-1, 0), "BOTTOM"), ("VALIGN", (0, 1), (-1, -1), "TOP"),
        ("LINEABOVE", (0, 0), (-1, 0), 0.9, _INK), ("LINEBELOW", (0, 0), (-1, 0), 0.6, _INK),
        ("LINEBELOW", (0, 1), (-1, -2), 0.35, _LINE), ("LINEBELOW", (0, -1), (-1, -1), 0.9, _INK),
        ("LEFTPADDING", (0, 0), (-1, -1), 3), ("RIGHTPADDING", (0, 0), (-1, -1), 3),
        ("TOPPADDING", (0, 0), (-1, -1), 2), ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
        *(("BACKGROUND", (0, i + 1), (-1, i + 1), "#e9f2f8") for i in table.marked),
    ]  # fmt: skip
    grid = LongTable([head, *body], colWidths=_widths(table), repeatRows=1, style=rules, spaceAfter=10)
    caption = _text(f"**{label}.** {table.caption}.{' ' + table.notes if table.notes else ''}", "table-caption")
    return [caption, grid]


def _widths(table: Table) -> list[float]:
    """Of the columns: each as much as its longest word needs, the rest shared by how much text they hold."""
    from reportlab.pdfbase.pdfmetrics import stringWidth

    columns = list(zip(*[[c.name for c in table.columns], *table.rows], strict=True))
    size, least, wanted = _styles()["cell"].fontSize, [], []
    for texts in columns:
        words = [stringWidth(word, "Table-Bold", size) for text in texts for word in _unbroken(text).split(" ")]
        least.append(min(max(words, default=0.0), 0.5 * _TEXT) + 7)
        wanted.append(max((stringWidth(text, "Table-Bold", size) for text in texts), default=0.0) + 7)
    spare = _TEXT - sum(least)
    if spare <= 0:
        return [width * _TEXT / sum(least) for width in least]
    more = [max(w - n, 0.0) for w, n in zip(wanted, least, strict=True)]
    share = min(1.0, spare / sum(more)) if sum(more) else 0.0
    filled = [n + share * m for n, m in zip(least, more, strict=True)]
    return [width * max(1.0, _TEXT / sum(filled)) for width in filled]


def _cell(text: str, number: bool, *, bold: bool) -> Flowable:
    from reportlab.platypus import Paragraph as Words

    style = _styles()[f"cell{'-right' if number else ''}{'-bold' if bold else ''}"]
    return Words(_markup(_unbroken(text)), style)


def _unbroken(text: str) -> str:
    """The text with its brackets kept on one line."""
    return re.sub(r"\[[^\]]*\]", lambda found: found[0].replace(" ", "\u00a0"), text)


def _heading(section: Section) -> Flowable:
    from reportlab.platypus import Paragraph as Words

    class Heading(Words):  # type: ignore[misc]
        """A section's title, which the outline leads to."""

        def draw(self) -> None:
            self.canv.bookmarkPage(section.title)
            self.canv.addOutlineEntry(section.title, section.title, 0)
            super().draw()

    return Heading(html.escape(section.title), _styles()["h2"])


def _text(text: str, style: str, bullet: str | None = None) -> Flowable:
    from reportlab.platypus import Paragraph as Words

    return Words(_markup(text), _styles()[style], bulletText=bullet)


def _markup(text: str) -> str:
    """reportlab's own marks for ours."""
    parts = []
    for span in spans(text):
        words = html.escape(span.text, quote=False)
        if span.kind == "code":
            words = f'<font face="Mono" size="-1">{words}</font>'
        elif span.kind == "strong":
            words = f"<b>{words}</b>"
        elif span.kind == "link":
            words = f'<a href="{html.escape(span.href)}" color="{_BLUE}">{words}</a>'
        parts.append(words)
    return "".join(parts)


def _plain(blocks: Sequence[Block]) -> str:
    """The answer, for the file's properties."""
    return next((b.text for b in blocks if isinstance(b, Paragraph) and b.kind == "lead"), "")


def _folded(line: str, width: int = 98) -> str:
    """A line of code cut to the page's width, at spaces where there are any; what follows is set in."""
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    parts = textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False, replace_whitespace=False)
    return "\n".join(parts)


def _footer(title: str) -> Any:
    def draw(canvas: Any, template: Any) -> None:
        canvas.saveState()
        canvas.setFont("Text", 8.5)
        canvas.setFillColor(_FAINT)
        canvas.drawString(_SIDE, 11 * _MM, title)
        canvas.drawRightString(_WIDTH - _SIDE, 11 * _MM, str(template.page))
        canvas.restoreState()

    return draw


def _register_fonts() -> None:
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("matplotlib is not installed")
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    for name, file in _FONTS.items():
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, str(folder / file)))
    pdfmetrics.registerFontFamily("Text", normal="Text", bold="Text-Bold", italic="Text-Italic", boldItalic="Text-Bold")
    pdfmetrics.registerFontFamily("Table", normal="Table", bold="Table-Bold", italic="Table", boldItalic="Table-Bold")


@cache
def _styles() -> dict[str, ParagraphStyle]:
    from reportlab.lib.styles import ParagraphStyle as Style

    body = Style("body", fontName="Text", fontSize=10.4, leading=14, textColor=_INK, spaceBefore=3, spaceAfter=5)
    small = Style("small", body, fontSize=8.8, leading=11.6, textColor=_FAINT)
    cell = Style("cell", fontName="Table", fontSize=6.9, leading=8.8, textColor=_INK)
    bold = Style("cell-bold", cell, fontName="Table-Bold")
    found = [
        body, small, cell, bold,
        Style("cell-right", cell, alignment=2), Style("cell-right-bold", bold, alignment=2),
        Style("title", body, fontName="Text-Bold", fontSize=20, leading=24, spaceAfter=5),
        Style("byline", small, spaceAfter=10),
        Style("lead", body, fontSize=12.2, leading=16.4, leftIndent=11, spaceBefore=8, spaceAfter=9, borderPadding=0),
        Style("notice", body, borderColor=_WARN, borderWidth=0.9, borderPadding=6, spaceBefore=10, spaceAfter=12,
              leftIndent=7, rightIndent=7),
        Style("h2", body, fontName="Text-Bold", fontSize=14.2, leading=18, spaceBefore=14, spaceAfter=4,
              keepWithNext=1),
        Style("h3", body, fontName="Text-Bold", fontSize=10.6, spaceBefore=8, spaceAfter=2, keepWithNext=1),
        Style("bullet", body, leftIndent=12, bulletIndent=2, spaceBefore=1, spaceAfter=3),
        Style("caption", small, spaceBefore=4, spaceAfter=12),
        Style("table-caption", small, spaceBefore=9, spaceAfter=3, keepWithNext=1),
        Style("fact-name", small), Style("fact", small, textColor=_INK, splitLongWords=1),
        Style("code", fontName="Mono", fontSize=6.9, leading=9, textColor=_INK, backColor="#f4f3ee", borderPadding=5,
              spaceBefore=8, spaceAfter=10, leftIndent=5, rightIndent=5),
    ]  # fmt: skip
    return {style.name: style for style in found}
