"""A report as one HTML page that needs nothing else: pictures and style are inside, no address is ever asked."""

from __future__ import annotations

import base64
import html
import re
from importlib.resources import files

from ..tables import Table
from .document import Block, Bullets, Code, Document, Facts, Figure, Notice, Paragraph, numbered, spans

# No picture, style, script or frame from anywhere but this file, whatever its content.
_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; font-src data:; "
    "form-action 'none'; base-uri 'none'"
)


def write_page(document: Document) -> str:
    """The page as text, UTF-8. It opens from a mail attachment, on a phone and on paper."""
    links = "\n".join(f'<a href="#{anchor(s.title)}">{_text(s.title)}</a>' for s in document.sections)
    body = [f"<header><h1>{_text(document.title)}</h1><p class=byline>{_marked(document.byline)}</p></header>"]
    for section, blocks in numbered(document):
        content = "\n".join(_block(block, label) for block, label in blocks)
        if section is None:
            body += [content, f"<nav aria-label=Contents>{links}</nav>"]
        else:
            broken = " class=broken" if section.broken else ""
            head = f'<section id="{anchor(section.title)}"{broken}>\n<h2>{_text(section.title)}</h2>'
            body += [head, content, "</section>"]
    return "\n".join([
        f'<!DOCTYPE html>\n<html lang="{document.language}">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(document.title)}</title>\n<style>{_style()}</style>",
        '<script>document.documentElement.className = "live"</script>\n</head>\n<body>\n<main>',
        *body,
        "</main>\n</body>\n</html>\n",
    ])  # fmt: skip


def anchor(title: str) -> str:
    """A title as the name of its place: lower case, words joined with hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _block(block: Block, label: str) -> str:
    if isinstance(block, Paragraph):
        return f'<p class="{block.kind}">{_marked(block.text)}</p>'
    if isinstance(block, Notice):
        return f'<aside role="note"><strong>{_text(block.title)}</strong> {_marked(block.text)}</aside>'
    if isinstance(block, Bullets):
        return "<ul>" + "".join(f"<li>{_marked(item)}</li>" for item in block.items) + "</ul>"
    if isinstance(block, Facts):
        title = f"<h3>{_text(block.title)}</h3>" if block.title else ""
        rows = "".join(f"<dt>{_marked(name)}</dt><dd>{_marked(value)}</dd>" for name, value in block.rows)
        return f"{title}<dl>{rows}</dl>"
    if isinstance(block, Code):
        title = f"<h3>{_text(block.title)}</h3>" if block.title else ""
        return f'{title}<pre tabindex="0"><code>{_text(block.text)}</code></pre>'
    return _figure(block, label) if isinstance(block, Figure) else _table(block, label)


def _figure(figure: Figure, label: str) -> str:
    source = base64.b64encode(figure.picture).decode("ascii")
    style = "" if figure.width >= 1 else f' style="--width: {round(100 * figure.width)}%"'
    image = f'<img src="data:image/png;base64,{source}" alt="{_text(figure.described)}"{style}>'
    caption = f"<figcaption><b>{label}.</b> {_marked(figure.caption)}</figcaption>"
    if figure.interactive is None:
        return f"<figure>{image}{caption}</figure>"
    frame = f'<iframe srcdoc="{html.escape(figure.interactive)}" title="{_text(figure.described)}"></iframe>'
    return f"<figure class=interactive>{frame}{image}{caption}</figure>"


def _table(table: Table, label: str) -> str:
    head = "".join(f"<th scope=col{_side(c.number)}>{_text(c.name)}</th>" for c in table.columns)
    rows = []
    for i, row in enumerate(table.rows):
        cells = (f"<td{_side(c.number)}>{_bracketed(_marked(v))}</td>" for c, v in zip(table.columns, row, strict=True))
        rows.append(f"<tr{' class=marked' if i in table.marked else ''}>{''.join(cells)}</tr>")
    notes = f" <span class=notes>{_marked(table.notes)}</span>" if table.notes else ""
    return (
        f"<div class=table><p class=caption><b>{label}.</b> {_marked(table.caption)}.{notes}</p>"
        f'<div tabindex="0"><table aria-label="{_text(table.caption)}">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></div>"
    )


def _bracketed(cell: str) -> str:
    """Intervals stay on one line."""
    return re.sub(r"\[[^\]<]*\]", r"<span>\g<0></span>", cell)


def _side(number: bool) -> str:
    return " class=n" if number else ""


def _marked(text: str) -> str:
    marks = {"plain": "{}", "code": "<code>{}</code>", "strong": "<strong>{}</strong>"}
    return "".join(
        f'<a href="{_text(span.href)}">{_text(span.text)}</a>'
        if span.kind == "link"
        else marks[span.kind].format(_text(span.text))
        for span in spans(text)
    )


def _text(text: str) -> str:
    return html.escape(text)


def _style() -> str:
    return files("ambient_ray.reporting.report").joinpath("page.css").read_text(encoding="utf-8")
