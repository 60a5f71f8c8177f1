"""`ambient-report`: a page and a PDF from MLflow alone, one sentence for whatever is wrong."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from ambient_ray.console.command import load
from ambient_ray.console.configuration import validate
from ambient_ray.report import main
from ambient_ray.reporting.verdict import conclude
from ambient_ray.tracking import DatasetFacts, RungScores, StudyRecorder, TrackingStore, resolve_store
from ambient_ray.tracking.reading import read_study
from ambient_ray.tracking.study_files import StudyFiles
from ambient_ray.tuning.champion import Rule
from ambient_ray.tuning.records import Landscape, Objectives, RungRecord, TrialRecord, settled_reference

OBJECTIVES = Objectives("fd_tiny", "f_mem")
RUNGS = (1000, 2000)
FACTS = {"extractor": "tiny", "weight_hash": "ab" * 32, "n": 20, "reference": "heldout", "latent_seed": 0}


def trial(number: int, arm: str, path: list[tuple[float, float]], folder: Path, of: int | None = None) -> TrialRecord:
    """A trial whose rungs have left their samples in `folder`."""
    settings = {"sigma_tn": 0.0} if arm == "ddpm" else {"sigma_tn": 0.5, "noisy_ratio": 0.1 * number}
    settings |= {} if of is None else {"seed": number, "rungs": list(RUNGS)}
    rungs = []
    for i, (fd, m) in enumerate(path):
        checkpoint = folder / f"{number}-{i}"
        checkpoint.mkdir(parents=True, exist_ok=True)
        images = np.random.default_rng(number).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
        np.savez(checkpoint / "samples.npz", samples=images)
        (checkpoint / "model.safetensors").write_bytes(b"")
        values = {
            "fd_tiny": fd,
            "f_mem": m,
            "f_mem_low": max(0, m - 0.02),
            "f_mem_high": m + 0.02,
            "f_mem_heldout": 0.0,
        }
        rungs.append(RungRecord(i, RUNGS[i], values, FACTS, str(checkpoint), 30.0, 1.7e9 + number + i))
    return TrialRecord(number, arm, settings, "finished", tuple(rungs), "", of)


def search(store: TrackingStore, study: str, folder: Path, *, best: float = 0.1, end: bool = True) -> str:
    """Record a search that happened, as the search records it; returns its answer."""
    trials = [
        trial(0, "ddpm", [(8.0, 0.1), (4.6, 0.4)], folder),
        trial(1, "ambient", [(8.0, 0.0), (4.6, best)], folder),
        trial(2, "ambient", [(9.0, 0.0)], folder),
        *(trial(n, "ddpm", [(8.0, 0.1), (4.6 + n / 50, 0.4 + n / 100)], folder, of=0) for n in (3, 4, 5)),
        *(trial(n, "ambient", [(8.0, 0.0), (4.6, best + n / 1000)], folder, of=1) for n in (6, 7, 8)),
    ]
    land = Landscape.of(trials, OBJECTIVES, settled_reference(trials, OBJECTIVES, 1.0))
    answer = conclude(land, trials, OBJECTIVES, Rule()).sentence
    config = validate(load("search", [f"study={study}", "trials=3", "trial.rungs=[1000,2000]"]))
    train = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    recorder = StudyRecorder(store)
    recorder.start(
        study, config.model_dump(mode="json"), dataset=DatasetFacts("digits", "cd" * 32, "digits", (1, 8, 8)),
        train_images=train, objectives=("fd_tiny", "f_mem"), searched=("sigma_tn",), conditional=("noisy_ratio",),
    )  # fmt: skip
    for t in trials:
        recorder.trial_started(t.number, t.arm, t.settings, parent=t.replica_of)
        for r in t.rungs:
            recorder.rung_scored(
                t.number, RungScores(r.rung, r.images_seen, r.scores, r.facts, Path(r.checkpoint), r.seconds, r.at)
            )
        if end or t.number:
            recorder.trial_ended(t.number, "finished")
    if end:
        recorder.log_text(answer + "\n", "answer.txt")
        recorder.finish({"hypervolume": land.hypervolume}, note=answer)
        assert recorder.close() == ()
    else:
        recorder.flush(60)
    return answer


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrackingStore:
    folder = tmp_path_factory.mktemp("outputs")
    store = resolve_store(None, folder)
    search(store, "faces", folder / "faces")
    search(store, "better", folder / "better", best=0.02)
    return store


def shown(page: Path) -> str:
    """The page's text; what stands in frames and scripts is not of it."""
    text = re.sub(
        r'srcdoc="[^"]*"|<style>.*?</style>|<script>.*?</script>|src="[^"]*"', "", page.read_text(), flags=re.S
    )
    return " ".join(re.sub(r"<[^>]*>", " ", text).replace("&#x27;", "'").replace("&quot;", '"').split())


def test_the_page_and_the_pdf_give_the_searchs_own_answer(
    store: TrackingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["faces", "--tracking-uri", store.uri, "--to", str(tmp_path / "new"), "--pdf"]) == 0
    out = capsys.readouterr().out
    page, paper = tmp_path / "new" / "faces-report.html", tmp_path / "new" / "faces-report.pdf"
    assert str(page) in out and str(paper) in out and paper.read_bytes().startswith(b"%PDF-")
    study = read_study(store.uri, "faces")
    with StudyFiles(study.tracking_uri, study.artifact_uris) as files:
        answer = files.fetch(study.run_id, "answer.txt").read_text().strip()
    assert "Ambient copies less, confirmed on 3 fresh training seeds each" in answer
    assert answer in shown(page) and answer in out
    text = shown(page)
    assert "python -m ambient_ray.search \\ study=faces \\ trials=3 \\ 'trial.rungs=[1000,2000]'" in text
    assert "Images are missing" not in text and "Rebuilt from metrics" not in text
    whole = page.read_text()
    assert whole.count("<iframe srcdoc=") == 1 and whole.count('src="data:image/png;base64,') >= 7
    # Only a reader's click leads out: the frame has plotly.js inside, and nobody may ask anywhere.
    assert "default-src 'none'" in whole and not re.search(
        r'<(script|img|link|iframe)[^>]*\s(src|href)="(?!data:)', whole
    )


def test_a_page_may_be_named_and_written_twice(store: TrackingStore, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    page = tmp_path / "a" / "mine.html"
    for _ in range(2):
        assert main(["faces", "--to", str(page)]) == 0
    assert page.is_file() and [p.name for p in page.parent.iterdir()] == ["mine.html"]


def test_on_another_machine_without_files_the_answer_is_the_same(
    store: TrackingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(store.uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    there = store.artifact_location.removeprefix("file://")
    os.rename(there, f"{there}-gone")
    try:
        assert main(["faces", "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db", "--to", str(tmp_path)]) == 0
    finally:
        os.rename(f"{there}-gone", there)
    text = shown(tmp_path / "faces-report.html")
    assert "Ambient copies less, confirmed on 3 fresh training seeds each" in text
    assert "Rebuilt from metrics. The records of 17 rungs of 9 trials could not be read" in text
    assert "Images are missing. MLflow did not give the samples of" in text


def test_two_studies_side_by_side(store: TrackingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--compare", "faces", "better", "--tracking-uri", store.uri, "--to", str(tmp_path), "--pdf"]
    assert main(arguments) == 0
    text = shown(tmp_path / "faces-better-report.html")
    assert "that of better copies less" in text and "Both fronts, with 95 % intervals" in text
    assert (tmp_path / "faces-better-report.pdf").stat().st_size > 10_000
    assert capsys.readouterr().out.startswith("faces: At matched fidelity")


def test_a_running_study_says_so(store: TrackingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search(store, "running", tmp_path / "c", end=False)
    assert main(["running", "--tracking-uri", store.uri, "--to", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("The study is still running; this is how it stands. At matched")
    text = shown(tmp_path / "running-report.html")
    assert "This study is still running. 2 of 3 trials have ended" in text and "Pareto front" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody", "--tracking-uri", "{uri}"], "there is no study 'nobody' in this store (its studies: better, faces"),
        (["faces", "--tracking-uri", "sqlite:///{tmp}/none.db"], "there is no MLflow database"),
        (["faces", "--tracking-uri", "{tmp}/mlruns"], "is a folder of files"),
        (["faces", "--tracking-uri", "http://127.0.0.1:9"], "nothing answers at"),
        ([], "which study?"),
        (["faces", "--compare", "a", "b"], "not both"),
        (["--compare", "a", "a"], "two different studies"),
        (["faces", "--to", "{tmp}/file/x"], "cannot be written to"),
        (["faces", "--to", "{tmp}/r.pdf"], "--pdf"),
        (["faces", "--to", "{tmp}/folder.html"], "is a folder"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str], told: str, store: TrackingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.html").mkdir()
    given = [part.format(tmp=tmp_path, uri=store.uri) for part in arguments]
    assert main([*given, *([] if "--to" in given else ["--to", str(tmp_path)])]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and told in error and error.count("\n") == 1
    assert not list(tmp_path.glob("*-report.html"))


def test_help_does_not_wait_for_mlflow() -> None:
    code = "import sys, ambient_ray.report as r\n"
    code += "try: r.main(['--help'])\nexcept SystemExit as end: assert not end.code\n"
    code += "assert r.main(['--compare', 'a', 'a']) == 2\n"
    code += "assert not {'torch', 'mlflow', 'numpy', 'reportlab'} & set(sys.modules), 'heavy'"
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert "--compare A B" in done.stdout


@pytest.mark.e2e
@pytest.mark.timeout(240)
def test_through_a_tracking_server_that_serves_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", f"{tmp_path}/served",
        "--serve-artifacts",
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"{uri}/health", timeout=5):
                    break
            except OSError:
                assert time.monotonic() < deadline and server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.5)
        answer = search(resolve_store(uri, tmp_path / "here"), "remote", tmp_path / "checkpoints")
        shutil.rmtree(tmp_path / "checkpoints")  # another machine has none
        assert main(["remote", "--tracking-uri", uri, "--to", str(tmp_path)]) == 0
        text = shown(tmp_path / "remote-report.html")
        assert answer in text and "Rebuilt from metrics" not in text and "Images are missing" not in text
        study = read_study(uri, "remote")
        assert study.unread == () and sum(len(t.rungs) for t in study.trials) == 17
        with StudyFiles(uri, study.artifact_uris) as files:
            assert files.fetch(study.run_id, "nothing.png") is None
        shutil.rmtree(tmp_path / "served")
        began = time.monotonic()
        assert main(["remote", "--tracking-uri", uri, "--to", str(tmp_path)]) == 0
        assert time.monotonic() - began < 60  # nothing is asked for again and again
        text = shown(tmp_path / "remote-report.html")
        assert answer in text and "The records of 17 rungs of 9 trials could not be read" in text
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=20)


NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.mark.e2e
@pytest.mark.skipif(BROWSER is None, reason="no browser: install chromium, or name one in $CHROMIUM")
def test_in_a_browser_the_page_is_whole_asks_nobody_and_fits(store: TrackingStore, tmp_path: Path) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    assert main(["faces", "--tracking-uri", store.uri, "--to", str(tmp_path / "page.html")]) == 0
    address = (tmp_path / "page.html").as_uri()
    flags = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=flags, timeout=60_000)
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.set_default_timeout(20_000)
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        frame = page.frame_locator("iframe")
        point = frame.locator(".scatterlayer .trace .points path").last
        point.scroll_into_view_if_needed()
        point.hover(force=True)
        card = frame.locator("#front-card")
        api.expect(card).to_be_visible(timeout=20_000)
        assert card.locator("img").evaluate("image => image.naturalWidth") > 20
        assert {url for url in asked if not url.startswith(("data:", "blob:"))} == {address} and said == []
        broken = "[...document.images].filter(image => !image.naturalWidth).length"
        assert page.evaluate(broken) == 0 and page.evaluate("document.images.length") >= 7
        picture = page.locator("figure.interactive > img")
        api.expect(picture).to_be_hidden()
        page.emulate_media(media="print")
        api.expect(picture).to_be_visible()
        api.expect(page.locator("iframe")).to_be_hidden()
        page.emulate_media(media="screen")
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        plain = browser.new_context(java_script_enabled=False).new_page()  # a mail program's viewer
        plain.goto(address)
        api.expect(plain.locator("figure.interactive > img")).to_be_visible(timeout=20_000)
        browser.close()
