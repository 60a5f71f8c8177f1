"""The PDF holds the report's words and pictures; its fonts travel with it."""

import base64
import io
import re
import zlib

import numpy as np
import pytest
from PIL import Image

from ambient_ray.reporting.report.document import Code, Document, Facts, Figure, Notice, Paragraph, Section
from ambient_ray.reporting.report.page import study_report
from ambient_ray.reporting.report.paper import write_pdf
from ambient_ray.reporting.report.pictures import Pictures
from ambient_ray.reporting.report.recall import recall
from ambient_ray.reporting.tables import Column, Table


def text_of(pdf):
    """All that the pages show, white space dropped; the fonts' subsets keep ASCII where it is."""
    found = []
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        try:
            page = zlib.decompress(base64.a85decode(stream.strip().removesuffix(b"~>")))
        except (ValueError, zlib.error):
            continue
        for shown in re.findall(rb"\(((?:\\.|[^\\()])*)\) Tj", page, re.DOTALL):
            found.append(re.sub(rb"\\([()\\])", rb"\1", shown).decode("latin-1"))
    return "".join("".join(found).split())


def squeezed(text):
    return "".join(text.split())


def test_the_answer_and_every_section_are_in_the_pdf(stored, tmp_path):
    study = recall(stored())
    document = study_report(study, Pictures(), command="python -m ambient_ray.search study=faces")
    pdf = write_pdf(document, tmp_path / "r.pdf").read_bytes()
    text = text_of(pdf)
    assert pdf.startswith(b"%PDF-") and squeezed(study.verdict.sentence) in text
    for section in document.sections:
        assert squeezed(section.title) in text, section.title
    for words in ("No privacy guarantee is claimed", "Table 1", "@software{ambient_ray", "of trial 1", "cd" * 32):
        assert squeezed(words) in text, words
    assert b"/FontFile2" in pdf and b"/Outlines" in pdf


def picture(width, height):
    stored = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stored, "PNG")
    return stored.getvalue()


@pytest.mark.parametrize("size", [(30, 4000), (4000, 30), (1000, 1000)])
def test_a_picture_of_any_shape_fits_a_page(size, tmp_path):
    figure = Figure(picture(*size), "A caption. " * 20, "x")
    assert write_pdf(Document("t", "b", (figure, figure), ()), tmp_path / "r.pdf").stat().st_size > 10_000


def test_long_words_long_tables_and_awkward_characters_fit(tmp_path):
    awkward = "<b>&amp; σ_tn ≥ 0,5 · é – " + "x" * 400
    rows = tuple((str(i), awkward if i == 7 else "short", "0.120 [0.100, 0.140]") for i in range(300))
    table = Table("Long", (Column("n"), Column("what", False), Column("score")), rows, frozenset({3}))
    blocks = (Notice(awkward, awkward), Paragraph(awkward), Facts(((awkward, awkward),), "f"), Code(awkward), table)
    pdf = write_pdf(Document(awkward, awkward, (), (Section(awkward, blocks, broken=True),)), tmp_path / "r.pdf")
    text = text_of(pdf.read_bytes())
    assert "299" in text and text.count("0.120[0.100,0.140]") == 300
