"""The page needs nothing but itself, says everything, and trusts nothing that it is given."""

import io
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from ambient_ray.reporting.report.document import spans
from ambient_ray.reporting.report.page import study_report
from ambient_ray.reporting.report.pictures import Pictures
from ambient_ray.reporting.report.recall import recall
from ambient_ray.reporting.report.subjects import subjects
from ambient_ray.reporting.report.web import write_page


def picture():
    stored = io.BytesIO()
    Image.new("RGB", (40, 30), "white").save(stored, "PNG")
    return stored.getvalue()


def report(study, **more):
    found = recall(study)
    kinds = dict.fromkeys(("samples", "nearest", "partial"), picture())
    figures = {"front.png": picture(), "front.html": b"<p id='plot'>\"a\" & b</p>", "survival.png": picture()}
    pictures = Pictures(figures, {s.name: kinds for s in subjects(found)}, picture())
    return study_report(
        found, more.pop("pictures", pictures), command="python -m ambient_ray.search study=faces", **more
    )


class Reader(HTMLParser):
    """Tags in order, their attributes, the text, and whether every tag is closed."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


@pytest.fixture
def page(stored):
    return Reader(write_page(report(stored())))


def test_no_address_is_asked_but_a_readers_click(page):
    for tag, attrs in page.tags:
        assert tag not in ("link", "object", "embed", "video", "audio", "base", "form")
        for name in ("src", "href", "data", "poster", "action", "background", "srcset"):
            if (value := attrs.get(name)) is not None:
                assert value.startswith("data:image/png;base64,") or (
                    tag == "a" and value.startswith(("#", "https://"))
                )
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'") and "http" not in policy
    assert not page.open and all(attrs["alt"] for tag, attrs in page.tags if tag == "img")


def test_the_style_asks_for_nothing_either(stored):
    style = write_page(report(stored())).partition("<style>")[2].partition("</style>")[0]
    assert "@media print" in style and "@page" in style and "max-width" in style
    assert "url(" not in style and "@import" not in style


def test_all_that_the_report_promises_is_there(stored, page):
    study = recall(stored())
    assert study.verdict.sentence in page.text
    for words in (
        "Which settings copy the 300 training images of faces least", "Pareto front", "each DDPM stop",
        "Rivals of Ambient",
        "Confirmed on fresh training seeds", "Replica 10 of trial 1 (seed 3) failed after 1 rung: out of memory",
        "Copying by every measure", "held-out images", "No privacy guarantee is claimed", "One data set (faces)",
        "cd" * 32, "ab" * 32, "c0ffee", "python -m ambient_ray.search study=faces", "shah2025ambient", "karras2022edm",
        "heusel2017fid", "@software{ambient_ray", "lr=0.001", "latent seed 0", "Of 5 trials, 3 trained to their end",
        "Trial 4 (sigma_tn 0.5, ratio 0.30) failed: the loss is not finite", "500 a rung",
    ):  # fmt: skip
        assert words in page.text, words
    anchors = {attrs["id"] for tag, attrs in page.tags if tag == "section"}
    assert anchors == {attrs["href"][1:] for tag, attrs in page.tags if tag == "a" and attrs["href"].startswith("#")}


def test_paths_and_passwords_of_the_machine_stay_at_home(page):
    assert "somebody" not in page.text and "secret" not in page.text and "path=faces" in page.text


def test_the_interactive_figure_comes_with_a_picture_for_paper(page):
    (frame,) = [attrs for tag, attrs in page.tags if tag == "iframe"]
    assert frame["srcdoc"] == "<p id='plot'>\"a\" & b</p>"
    figure = next(
        i for i, (tag, attrs) in enumerate(page.tags) if tag == "figure" and "interactive" in attrs.get("class", "")
    )
    assert [tag for tag, _ in page.tags[figure : figure + 3]] == ["figure", "iframe", "img"]


def test_what_a_study_calls_itself_is_text_and_nothing_else(stored):
    evil = replace(stored().dataset, name="<script>alert(1)</script>")
    trials = [replace(t, reason="<img src=x onerror=1>") if t.number == 4 else t for t in stored().trials]
    page = Reader(write_page(report(stored(trials, dataset=evil))))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "<script>alert(1)</script>" in page.text and "<img src=x onerror=1>" in page.text


def test_a_running_study_says_so_first(stored):
    trials = [replace(t, state="running") if t.number in (2, 10) else t for t in stored().trials]
    text = Reader(write_page(report(stored(trials, status="RUNNING", ended=None)))).text
    head = text.partition("At matched fidelity")[0]
    assert "This study is still running. 4 of 6 trials have ended, the last rung was scored on" in head
    assert "not all done: no means yet" in text and "to still running, UTC" in text
    assert "still running" not in Reader(write_page(report(stored()))).text
    assert "did not end" in Reader(write_page(report(stored(status="KILLED")))).text


def test_what_could_not_be_had_is_said(stored):
    trials = [replace(t, from_metrics=(1000, 2000)) if t.number == 1 else t for t in stored().trials]
    study = stored(trials, unread=("OSError: no such folder",))
    text = Reader(write_page(report(study, pictures=Pictures(missing=("the samples of champion (trial 1)",))))).text
    assert "The records of 2 rungs of 1 trial could not be read" in text and "OSError: no such folder" in text
    assert "MLflow did not give the samples of champion" in text


def test_a_study_without_a_score_has_a_page(stored):
    text = Reader(write_page(report(stored([], status="RUNNING"), pictures=Pictures()))).text
    assert "No rung has been scored yet" in text and "Settings as the search resolved them" in text


def test_marks_are_read_and_nothing_is_lost():
    text = "a `b_c` **d** [e](https://f.org/g) [0.1, 0.2] * h `"
    assert [(s.text, s.kind) for s in spans(text)] == [
        ("a ", "plain"), ("b_c", "code"), (" ", "plain"), ("d", "strong"), (" ", "plain"), ("e", "link"),
        (" [0.1, 0.2] * h `", "plain"),
    ]  # fmt: skip
