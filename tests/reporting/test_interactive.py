"""The interactive front holds every candidate, needs no network, and shows samples beside the pointer."""

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import plotly.graph_objects
import pytest
from PIL import Image

from ambient_ray.reporting.figures.interactive import interactive_front, shown_first
from ambient_ray.reporting.figures.study_view import key_of
from ambient_ray.reporting.figures.thumbnails import samples_thumbnail

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


def picture(candidate):
    """A thumbnail whose colour tells the candidate."""
    colour = (candidate.trial.number, 80 * candidate.rung.rung, 255 - candidate.trial.number)
    return samples_thumbnail(np.broadcast_to(np.array(colour, dtype=np.uint8), (16, 8, 8, 3)))


def parts_of(page):
    """What the script knows, and plotly's data, layout and configuration."""
    decode = json.JSONDecoder()
    hover = decode.raw_decode(page, page.index("const data = ") + len("const data = "))[0]
    at = page.index("Plotly.newPlot(")
    data, end = decode.raw_decode(page, page.index("[{", at))
    layout, end = decode.raw_decode(page, page.index("{", end))
    config, _ = decode.raw_decode(page, page.index("{", end))
    return hover, data, layout, config


def test_every_candidate_is_there_with_its_numbers(make_study, tmp_path):
    view = make_study(40)
    page = interactive_front(view, tmp_path / "front.html", thumbnail=picture).read_text()
    hover, data, layout, config = parts_of(page)
    plotly.graph_objects.Figure(data=data, layout=layout)  # plotly's own validation
    assert len(hover["points"]) == len(view.candidates)
    for point, candidate in zip(hover["points"], view.candidates, strict=True):
        scores = candidate.rung.scores
        assert point[:2] == [candidate.trial.number, candidate.rung.rung]
        assert point[3:6] == pytest.approx([scores[key] for key in ("fd", "fd_low", "fd_high")], rel=1e-3)
        assert point[6:9] == pytest.approx([scores[key] for key in ("f_mem", "f_mem_low", "f_mem_high")], rel=1e-3)
    shown = {}
    for trace in data:
        shown |= dict(zip(trace.get("customdata", ()), zip(trace["x"], trace["y"], strict=True), strict=False))
    assert sorted(shown) == list(range(len(view.candidates)))
    for index, (x, y) in shown.items():
        assert (x, y) == pytest.approx(view.candidates[index].point, rel=1e-3)
    names = {trace["name"] for trace in data}
    assert {"Pareto front", "champion", "held-out images (null)", "95 % intervals of f_mem"} <= names
    assert any(name.startswith("DDPM as it trains") for name in names)
    assert "sendChartToCloud" in config["modeBarButtonsToRemove"]


def test_the_front_is_the_step_between_what_is_dominated_and_what_is_not(make_study, tmp_path):
    view = make_study(40)
    _, data, _, _ = parts_of(interactive_front(view, tmp_path / "front.html", thumbnail=picture).read_text())
    (step,) = [trace for trace in data if trace["name"] == "Pareto front"]
    assert list(zip(step["x"][1:-1], step["y"][1:-1], strict=True)) == [
        pytest.approx(c.point, rel=1e-3) for c in view.front
    ]
    assert step["line"]["shape"] == "hv" and step["x"] == sorted(step["x"])


def test_the_pictures_are_those_of_their_candidates(make_study, tmp_path):
    view = make_study(60)
    page = interactive_front(view, tmp_path / "front.html", thumbnail=picture).read_text()
    hover = parts_of(page)[0]
    front = {key_of(c) for c in [*view.front, *view.ddpm]}
    for point in hover["points"]:
        url, seen = hover["images"][point[9]], point[10]
        pixel = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB").getpixel((3, 3))
        assert pixel[0] == point[0]  # the trial's own
        if (point[0], point[1]) in front:
            assert pixel[1] == 80 * point[1] and seen == point[2]  # and the rung's own


def test_the_front_gets_pictures_first_and_the_page_stays_small(make_study, tmp_path):
    view = make_study(1_000)
    asked = []
    rng = np.random.default_rng(0)
    large = samples_thumbnail(rng.integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)).ljust(15_000, b"\0")

    def thumbnail(candidate):
        asked.append(key_of(candidate))
        return large

    path = interactive_front(view, tmp_path / "front.html", thumbnail=thumbnail)
    assert len(asked) == 200 == len(set(asked))
    first = [key_of(c) for c in shown_first(view)]
    assert asked == first[:200] and first[: len(view.front)] == [key_of(c) for c in view.front]
    assert {key_of(c) for c in view.best} <= set(first)
    assert path.stat().st_size < 8_000_000
    hover = parts_of(path.read_text())[0]
    assert 100 < len(hover["images"]) < 200  # as many as there was room for
    assert {p[0] for p in hover["points"] if p[9] is None}  # and the others go without


def test_what_people_named_is_no_markup(make_study, tmp_path):
    view = make_study(3)
    evil = "</script><img src=x onerror=alert(1)>"
    trials = [replace(t, settings={**t.settings, "lr": evil}, reason=evil) for t in view.trials]
    view = replace(view, name=evil, trials=trials, searched=("lr",))
    page = interactive_front(view, tmp_path / "front.html", thumbnail=lambda c: None).read_text()
    assert evil not in page
    assert parts_of(page)[0]["trials"]["1"]["settings"] == [["lr", evil]]


def test_nothing_is_written_before_there_is_a_candidate(make_study, tmp_path):
    view = replace(make_study(3), trials=[])
    assert interactive_front(view, tmp_path / "front.html", thumbnail=picture) is None
    assert not list(tmp_path.iterdir())


def test_nothing_is_loaded_from_elsewhere(make_study, tmp_path):
    page = interactive_front(make_study(3), tmp_path / "front.html", thumbnail=picture).read_text()
    tags = re.findall(
        r"<(?:script|link|img|iframe)\b[^>]*>", page[: page.index("<body")] + page[page.rindex("<script") :]
    )
    assert not [tag for tag in tags if "src=" in tag or "href=" in tag]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_pointer_shows_samples_in_a_sandboxed_frame(make_study, tmp_path):
    """As MLflow shows an artifact: scripts and nothing else allowed, no network, no storage."""
    api = pytest.importorskip("playwright.sync_api")
    view = make_study(20)
    page_path = interactive_front(view, tmp_path / "front.html", thumbnail=picture)
    frame_page = b'<iframe sandbox="allow-scripts" src="/front.html" style="width:1000px;height:700px"></iframe>'

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page_path.read_bytes() if self.path == "/front.html" else frame_page)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    try:
        with api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags, timeout=60_000)
            try:
                _point_at_the_champion(browser, f"http://127.0.0.1:{server.server_port}/", view)
            finally:
                browser.close()
    finally:
        server.shutdown()


def _point_at_the_champion(browser, url, view):
    page = browser.new_page(viewport={"width": 1100, "height": 760})
    page.set_default_timeout(30_000)
    problems, asked = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    frame = page.frames[1]
    frame.wait_for_selector(".scatterlayer .point")
    card, image = frame.locator("#front-card"), frame.locator("#front-card img")
    assert not card.is_visible()
    box = frame.locator(".scatterlayer .point").last.bounding_box()  # the star lies above all other points
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def go(x, y):  # as a hand does: plotly looks at the pointer every 50 ms
        page.mouse.move(x, y, steps=6)
        page.wait_for_timeout(150)

    go(middle[0] - 40, middle[1] - 40)
    go(*middle)
    image.wait_for(state="visible")
    number, index = view.champion
    candidate = next(c for c in view.candidates if key_of(c) == view.champion)
    assert (card.get_attribute("data-trial"), card.get_attribute("data-rung")) == (str(number), str(index))
    assert f"{candidate.fidelity:.4g}" in card.inner_text()
    frame.wait_for_function("document.querySelector('#front-card img').naturalWidth > 0")
    page.mouse.click(*middle)
    go(20, 600)
    assert card.is_visible()  # a click keeps it
    page.keyboard.press("Escape")
    card.wait_for(state="hidden")
    page.wait_for_timeout(600)  # two clicks in a row would be a double one, which resets the axes
    go(*middle)
    card.wait_for(state="visible")
    page.mouse.click(*middle)
    go(middle[0] - 40, middle[1] - 60)
    assert card.is_visible()
    page.wait_for_timeout(600)
    page.mouse.click(middle[0] - 40, middle[1] - 60)  # beside any point
    card.wait_for(state="hidden")
    assert not problems
    assert len(asked) == 2 and all(request.startswith(url) for request in asked)  # the two pages themselves
