"""A study in MLflow's own pages, as a person meets it: a real browser, a real server, a recorded study.

Screenshots go to $AMBIENT_SCREENSHOTS, or to a temporary folder. Without a browser these tests are skipped: install
Debian's chromium, or name another one in $CHROMIUM.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ambient_ray.diffusion import build_backbone
from ambient_ray.interval import Interval
from ambient_ray.reporting.figures.study_figures import StudyView, draw_study, samples_thumbnail
from ambient_ray.tracking import DatasetFacts, Evidence, RungScores, StudyRecorder, TrackingStore, resolve_store
from ambient_ray.tuning.records import Objectives, RungRecord, TrialRecord, settled_reference

api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(BROWSER is None, reason="no browser: install chromium, or name one in $CHROMIUM"),
]

STUDY, TRIALS, TRAINING = "seen", 12, "workflowType=machine_learning"
WAIT = 20_000  # milliseconds, for anything on a page
BACKBONE = {
    "_target_": "ambient_ray.diffusion.backbones.UNet",
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_groups": 2,
}


@dataclass(frozen=True)
class Site:
    """MLflow's pages in a browser: their address, a fresh tab, and where screenshots go."""

    base: str
    page: "api.Page"
    shots: Path

    def go(self, route: str) -> None:
        self.page.goto(f"{self.base}/#/{route}")

    def shot(self, name: str, page: "api.Page | None" = None) -> None:
        (page or self.page).screenshot(path=self.shots / f"{name}.png")


def checkpoint(folder: Path) -> Path:
    """A checkpoint of a tiny network, as the training room writes it."""
    folder.mkdir()
    torch.manual_seed(0)
    backbone = build_backbone(BACKBONE, channels=1, resolution=8, num_classes=None)
    save_file(backbone.state_dict(), folder / "model.safetensors")
    image = {"channels": 1, "resolution": 8, "num_classes": None}
    stored = {"backbone": BACKBONE, "sigma_data": 0.5, "image": image, "images_seen": 200, "sampler": {"steps": 3}}
    (folder / "checkpoint.json").write_text(json.dumps(stored))
    samples = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    np.savez(folder / "samples.npz", samples=samples)
    return folder


def scored(number: int, rung: int, folder: Path) -> RungScores:
    fd, f_mem = 20.0 - number / 2 - 5 * rung, 0.02 * number * (rung + 1)
    scores = {
        "fd": fd, "fd_low": fd - 1, "fd_high": fd + 1, "kid": fd / 10, "images_per_second": 800.0,
        "f_mem": f_mem, "f_mem_low": f_mem / 2, "f_mem_high": 1.5 * f_mem,
    }  # fmt: skip
    return RungScores(rung, 100 * (rung + 1), scores, {"extractor": "pixels", "n": 20}, folder, seconds=1.5)


def draw_figures(folder: Path) -> dict[str, float]:
    """The study's figures, as a search draws them."""
    trials = []
    for number in range(TRIALS):
        rungs = []
        for rung in range(2):
            there = scored(number, rung, folder)
            rungs.append(RungRecord(rung, there.images_seen, there.scores, there.facts, str(folder), 1.5, rung + 1.0))
        arm, settings = ("ambient", {"sigma_tn": 0.1 + number}) if number else ("ddpm", {"sigma_tn": 0.0})
        trials.append(TrialRecord(number, arm, settings, "finished", tuple(rungs)))
    objectives = Objectives("fd", "f_mem")
    reference = settled_reference(trials, objectives, 1.0)
    samples = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), dtype=np.uint8)
    picture = samples_thumbnail(samples)
    view = StudyView(STUDY, trials, objectives, reference, (100, 200), ("sigma_tn",), champion=(TRIALS - 1, 1))
    draw_study(view, folder, thumbnail=lambda candidate: picture)
    return {}


def record(recorder: StudyRecorder, folder: Path) -> None:
    """Twelve trials of two rungs, the last one repeated on two seeds, a figure, and a champion."""
    weights = checkpoint(folder / "checkpoint")
    settings = {"mixing": "set_split", "sigma_tn": 0.0}
    for number in range(TRIALS):
        if number:
            settings |= {"sigma_tn": round(0.1 * 40 ** (number / TRIALS), 4), "noisy_ratio": number / TRIALS}
        recorder.trial_started(number, "ambient" if number else "ddpm", settings)
        for rung in range(2):
            recorder.rung_scored(number, scored(number, rung, weights))
        recorder.trial_ended(number, "finished" if number % 3 else "stopped", "" if number % 3 else "dominated")
    for seed in (1, 2):
        number = TRIALS - 1 + seed
        recorder.trial_started(number, "ambient", settings | {"seed": seed}, parent=TRIALS - 1)
        recorder.rung_scored(number, scored(number, 1, weights))
        recorder.trial_ended(number, "finished")
    evidence = Evidence(
        ("fd", "f_mem"), Interval(9.0, 8.0, 10.0), Interval(0.1, 0.05, 0.15), confirmed=True, seeds=(1, 2),
        sentence="Ambient copies less.", facts={"extractor": "pixels", "n": 20},
    )  # fmt: skip
    champion = recorder.register_champion(TRIALS + 1, scored(TRIALS + 1, 1, weights), evidence)
    recorder.refresh(draw_figures, 100 * TRIALS)
    recorder.finish({"hypervolume": 1.5}, note="**Ambient** copies less.")
    assert recorder.flush(timeout=120)
    assert champion.result(1).champion == 1 and recorder.problems == ()


@contextlib.contextmanager
def serving(store: TrackingStore, folder: Path) -> Iterator[str]:
    """The address of `mlflow ui` over `store`; it and what it starts end with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri, "--host", "127.0.0.1"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port), "--workers", "1"],
            stdout=log, stderr=subprocess.STDOUT, env=os.environ | quiet, cwd=folder, start_new_session=True,
        )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(timeout=15)


def until_it_answers(base: str, log: Path, limit: float = 90.0) -> None:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=2):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(f"mlflow ui does not answer after {limit:g} s:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The study, recorded while the server starts: the address of its pages."""
    folder = tmp_path_factory.mktemp("browser")
    store = resolve_store(None, folder)
    train = np.random.default_rng(1).integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    dataset = DatasetFacts("digits", "ab" * 32, "built-in", (1, 8, 8), {"n_train": 30})
    with StudyRecorder(store) as recorder:
        recorder.start(
            STUDY, {"seed": 0, "trials": TRIALS}, dataset=dataset, train_images=train,
            objectives=("fd", "f_mem"), searched=("sigma_tn", "noisy_ratio"),
        )  # fmt: skip
        assert recorder.flush(timeout=120)  # the schema is there: a server can start beside it
        with serving(store, folder) as base:
            record(recorder, folder)
            until_it_answers(base, folder / "server.log")
            yield base


@pytest.fixture(scope="module")
def profile(served: str) -> Iterator["api.BrowserContext"]:
    """A browser with the profile of a person who comes for the first time. It reaches this machine alone."""
    flags = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    flags += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    api.expect.set_options(timeout=WAIT)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=flags, timeout=60_000)
        opened = browser.new_context(viewport={"width": 1600, "height": 1000})
        opened.set_default_timeout(WAIT)
        # MLflow's assistant would open at the first visit and cover a quarter of the page.
        opened.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
        yield opened
        browser.close()


@pytest.fixture
def site(served: str, profile: "api.BrowserContext", tmp_path: Path) -> Iterator[Site]:
    shots = Path(os.environ.get("AMBIENT_SCREENSHOTS") or tmp_path)
    shots.mkdir(parents=True, exist_ok=True)
    page = profile.new_page()
    yield Site(served, page, shots)
    page.close()


def rows(page: "api.Page", text: str = "") -> "api.Locator":
    """The rows of the table of runs, or those of which a link's text has `text`, and no digit behind it.

    Not the row's whole text: there "trial 1" is followed at once by "12 seconds ago".
    """
    found = page.locator(".ag-pinned-left-cols-container .ag-row")
    return found.filter(has=page.get_by_role("link", name=re.compile(re.escape(text) + r"(?!\d)"))) if text else found


def test_the_study_opens_and_its_trials_and_their_repetitions_nest(site: Site) -> None:
    site.go(f"experiments?{TRAINING}")
    page = site.page
    page.get_by_role("link", name=STUDY, exact=True).click()
    page.get_by_text("Model training").click()  # MLflow shows its pages for language models to newcomers
    api.expect(rows(page)).to_have_count(1)
    site.shot("1-study")
    rows(page).first.get_by_role("button").first.click()
    api.expect(rows(page)).to_have_count(1 + TRIALS)
    api.expect(rows(page, "DDPM · trial 0")).to_have_count(1)
    rows(page, f"trial {TRIALS - 1}").get_by_role("button").first.click()
    for seed in (1, 2):
        api.expect(rows(page, f"seed {seed}")).to_have_count(1)
    site.shot("2-nested")


def test_the_link_in_the_description_opens_charts_of_all_trials(site: Site) -> None:
    site.go(f"experiments/1/runs?{TRAINING}")
    with site.page.context.expect_page(timeout=WAIT) as opened:
        site.page.get_by_role("link", name="Open the charts").click()
    page = opened.value
    api.expect(rows(page)).to_have_count(TRIALS)
    drawn = """() => Array.from(document.querySelectorAll('.js-plotly-plot')).map(plot => ({
        x: plot.layout.xaxis.title?.text, y: plot.layout.yaxis.title?.text,
        points: plot.querySelectorAll('.scatterlayer path.point').length}))"""
    for x, y in (("fd", "f_mem"), ("sigma_tn", "fd"), ("sigma_tn", "f_mem")):
        there = f"({drawn})().some(p => p.x === '{x}' && p.y === '{y}' && p.points === {TRIALS})"
        page.wait_for_function(there, timeout=WAIT)
    axes = page.locator(".parcoords .dimension .label")
    api.expect(axes).to_have_text(["sigma_tn", "noisy_ratio", "fd", "f_mem"])
    site.shot("3-charts", page)
    page.get_by_test_id("saved-views-trigger").click()
    api.expect(page.get_by_test_id("saved-views-item-ambient-ray")).to_have_text("Fidelity and memorization")
    page.close()


def test_the_front_figure_is_drawn_and_tells_of_a_point_under_the_mouse(site: Site) -> None:
    site.go(f"experiments/1/runs?{TRAINING}")
    page = site.page
    rows(page).get_by_role("link", name=STUDY, exact=True).click()
    api.expect(page.get_by_text("copies less")).to_be_visible()
    api.expect(page.get_by_role("link", name="All trials in charts")).to_be_visible()
    site.shot("4-study-run")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("figures", exact=True).click()
    page.get_by_text("front.html", exact=True).click()
    figure = page.frame_locator("iframe.mlflow-html-iframe")
    points = figure.locator(".scatterlayer path.point")
    api.expect(points.first).to_be_visible()
    assert points.count() >= 2 * TRIALS  # every trial at every rung
    card = figure.locator("#front-card")
    api.expect(card).to_be_hidden()
    shown = None
    for index in range(points.count()):  # some lie below others
        place = points.nth(index).bounding_box(timeout=WAIT)
        assert place is not None
        across, down = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
        page.mouse.move(across - 60, down - 60)
        page.mouse.move(across, down, steps=5)
        page.wait_for_timeout(100)
        if card.is_visible():
            shown = card.get_attribute("data-trial")
            break
    assert shown is not None
    api.expect(card.locator("img")).to_be_visible()
    api.expect(card).to_contain_text("f_mem")
    site.shot("5-front")


def test_the_views_columns_and_two_trials_side_by_side(site: Site) -> None:
    page = site.page
    site.go(f"experiments/1/runs?viewStateShareKey=ambient-ray&{TRAINING}")
    for column in ("tags.`ambient_ray.state`", "params.`sigma_tn`", "metrics.`fd_high`"):  # others need scrolling
        api.expect(page.locator(f'.ag-header-cell[col-id="{column}"]')).to_be_visible()
    api.expect(rows(page)).to_have_count(TRIALS)  # the rows of the page before have gone
    site.shot("6-columns")
    pair = ("DDPM · trial 0", f"trial {TRIALS - 1}")
    for name in pair:
        rows(page, name).locator(".ag-selection-checkbox input").check(force=True)
    page.get_by_test_id("runs-compare-button").click()
    page.wait_for_url("**/compare-runs?**", timeout=WAIT)
    for text in (*pair, "sigma_tn", "f_mem_high"):
        api.expect(page.get_by_text(text).first).to_be_attached()
    site.shot("7-compared")


def test_the_champions_page_shows_its_card_its_alias_and_where_it_comes_from(site: Site) -> None:
    site.go(f"models/{STUDY}/versions/1?{TRAINING}")
    api.expect(site.page.get_by_text("champion").first).to_be_visible()
    api.expect(site.page.get_by_role("link", name="seed 2")).to_be_visible()
    api.expect(site.page.get_by_text("No privacy guarantee is claimed").first).to_be_attached()
    site.shot("8-champion")
