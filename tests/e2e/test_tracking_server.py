"""cluster/mlflow/README.md run for real: its shell blocks, PostgreSQL, a tracking server, and a study through both.

The blocks run as they stand, with other paths and ports. AMBIENT_OUTAGE_S=60 makes the outage as long as that.
"""

import configparser
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from ambient_ray.interval import Interval
from ambient_ray.tracking import (
    DatasetFacts,
    Evidence,
    Registration,
    RungScores,
    StudyRecorder,
    TrackingRefusedError,
    TrackingUnreachableError,
    check_tracking,
    load_model,
    resolve_store,
)
from ambient_ray.tracking.recording.spool import entries

RECIPE = Path(__file__).parents[2] / "cluster" / "mlflow" / "README.md"
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
OUTAGE = float(os.environ.get("AMBIENT_OUTAGE_S", "3"))
EVIDENCE = Evidence(("fd", "f_mem"), Interval(9.0, 8.0, 10.0), Interval(0.1, 0.0, 0.2), confirmed=True, seeds=(3, 4))

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(POSTGRES is None, reason="PostgreSQL is not installed (apt-get install postgresql)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="the recipe runs as root, which starts PostgreSQL as its own user"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


def blocks() -> dict[str, str]:
    """The recipe's marked shell blocks by name."""
    found = re.findall(r"<!-- run: (\w+) -->\n```bash\n(.*?)```", RECIPE.read_text(encoding="utf-8"), re.DOTALL)
    return dict(found)


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@dataclass
class Site:
    """A machine set up by the recipe."""

    root: Path
    environment: dict[str, str]
    server: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.environment['MLFLOW_PORT']}"

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    def script(self, name: str) -> str:
        known = blocks()
        return f"set -eu\n{known['settings']}\n{known[name]}"

    def run(self, name: str) -> str:
        done = subprocess.run(
            ["bash", "-c", self.script(name)],
            env=self.environment, cwd=self.root, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, command: str = "mlflow server") -> None:
        """Start the server and wait until it answers."""
        with self.log.open("ab") as log:
            self.server = subprocess.Popen(
                ["bash", "-c", self.script("serve").replace("mlflow server", command)],
                env=self.environment, cwd=self.root, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 150
        while True:
            try:
                check_tracking(self.uri, timeout=5)
                return
            except TrackingRefusedError:
                return
            except TrackingUnreachableError:
                assert self.server.poll() is None and time.monotonic() < deadline, self.log.read_text()[-3000:]
                time.sleep(0.2)

    def kill(self) -> None:
        """End the server and its workers at once, as a machine does that loses its power."""
        if self.server is not None:
            os.killpg(self.server.pid, signal.SIGKILL)  # a session of its own
            self.server.wait(timeout=30)
            self.server = None


@dataclass
class Database:
    """A PostgreSQL server of our own."""

    folder: Path
    environment: dict[str, str]

    def control(self, *what: str) -> None:
        """What pg_ctl does, as PostgreSQL's own user."""
        assert POSTGRES is not None
        subprocess.run(
            ["runuser", "-u", "postgres", "--", POSTGRES.parent / "pg_ctl", "-D", self.folder / "data", "-w", *what],
            check=True, capture_output=True, timeout=120, cwd=self.folder, env=self.environment,
        )  # fmt: skip

    def start(self) -> None:
        options = f"-p {self.environment['DB_PORT']} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.control("-l", str(self.folder / "log"), "-o", f"{options} -c log_statement=all", "start")

    def stop(self) -> None:
        self.control("-m", "immediate", "stop")


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """It asks for passwords over TCP, and logs every statement."""
    assert POSTGRES is not None
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # short: a socket's path has room for 107 characters
    shutil.chown(folder, "postgres")
    path = f"{POSTGRES.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    found = Database(folder, {**os.environ, "PATH": path, "DB_PORT": str(free_port()), "DB_SOCKET": str(folder)})
    try:
        found.control("-o", "--auth-local=peer --auth-host=scram-sha-256 --no-sync", "initdb")
        found.start()
        try:
            yield found
        finally:
            found.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def site(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("site")
    kept = {key: value for key, value in database.environment.items() if not key.startswith(("MLFLOW_", "PG"))}
    own = {"MLFLOW_ROOT": str(root), "MLFLOW_PORT": str(free_port()), "MLFLOW_WORKERS": "1"}
    site = Site(root, kept | own)
    site.run("database")
    site.run("configure")
    site.start()
    try:
        yield site
    finally:
        site.kill()


def checkpoint_of(folder: Path) -> Path:
    """A tiny network's checkpoint, as the training room writes it."""
    import json

    import torch
    from safetensors.torch import save_file

    from ambient_ray.diffusion import build_backbone

    unet = {
        "_target_": "ambient_ray.diffusion.backbones.UNet", "block_out_channels": [8, 16], "layers_per_block": 1,
        "norm_groups": 2,
    }  # fmt: skip
    stored = {
        "backbone": unet, "sigma_data": 0.5, "image": {"channels": 1, "resolution": 8, "num_classes": None},
        "images_seen": 200, "sampler": {"steps": 3, "sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0},
        "scores": {}, "facts": {},
    }  # fmt: skip
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_file(build_backbone(unet, channels=1, resolution=8).state_dict(), folder / "model.safetensors")
    (folder / "checkpoint.json").write_text(json.dumps(stored))
    samples = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    np.savez(folder / "samples.npz", samples=samples)
    return folder


def begin(recorder: StudyRecorder, study: str) -> None:
    train = np.random.default_rng(1).integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    recorder.start(study, {"seed": 0}, dataset=DatasetFacts("digits", "ab" * 32, "built-in"), train_images=train)


def record_trial(recorder: StudyRecorder, number: int, checkpoint: Path | None = None) -> None:
    recorder.trial_started(number, "ddpm", {"objective.sigma_tn": 0.0, "seed": number})
    for rung in range(2):
        scores = {"fd": 90.0 - number - rung, "f_mem": 0.1}
        recorder.rung_scored(number, RungScores(rung, 100 * (rung + 1), scores, {"n": 20}, checkpoint))
    recorder.trial_ended(number, "finished")


def check_trials(uri: str, study: str, numbers: range) -> None:
    """Each trial once, each rung once and in order, every file there."""
    from mlflow import MlflowClient

    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert set(by_name) == {study, *(f"DDPM · trial {n}" for n in numbers)} and len(runs) == len(by_name)
    assert {run.info.status for run in runs} == {"FINISHED"}
    for number in numbers:
        run = by_name[f"DDPM · trial {number}"]
        history = client.get_metric_history(run.info.run_id, "fd")
        assert [(m.step, m.value) for m in history] == [(100, 90.0 - number), (200, 89.0 - number)]
        files = [file.path for file in client.list_artifacts(run.info.run_id, "rungs")]
        assert files == ["rungs/0000000100.json", "rungs/0000000200.json"]


def test_a_study_through_the_server_into_postgresql_and_its_model_back(site: Site, tmp_path: Path) -> None:
    site.run("health")
    store = resolve_store(site.uri, tmp_path)
    checkpoint = checkpoint_of(tmp_path / "checkpoint")
    with StudyRecorder(store, spool=tmp_path / "spool") as recorder:
        begin(recorder, "through-http")
        record_trial(recorder, 0, checkpoint)
        scored = RungScores(1, 200, {"fd": 89.0, "f_mem": 0.1}, {"n": 20}, checkpoint)
        future: Future[Registration] = recorder.register_champion(0, scored, EVIDENCE)
        recorder.finish({"hypervolume": 1.0}, note="done")
        assert recorder.close() == ()
    assert future.result(timeout=0).champion == 1 and not (tmp_path / "spool").exists()
    check_trials(site.uri, "through-http", range(1))
    images = load_model("models:/through-http@champion", tracking_uri=site.uri, device="cpu").sample(2, seed=0)
    assert images.shape == (2, 8, 8, 1) and images.dtype == np.uint8
    assert any((site.root / "artifacts").rglob("*.safetensors"))  # the server has put it where the recipe says


def test_the_databases_password_is_in_one_file_only(site: Site, database: Database) -> None:
    secret = (site.root / "pgpass").read_text().strip().rpartition(":")[2]
    assert len(secret) >= 32 and (site.root / "pgpass").stat().st_mode & 0o077 == 0
    commands, environments = [], []
    for process in psutil.process_iter():
        try:
            commands.append(" ".join(process.cmdline()))
            environments.append(" ".join(process.environ().values()))
        except psutil.Error:
            continue
    assert any("mlflow" in command for command in commands)
    assert not any(secret in text for text in commands + environments)
    assert secret not in site.log.read_text()
    assert secret not in (database.folder / "log").read_text()  # which logs every statement


def test_a_server_that_dies_in_mid_search_costs_nothing(site: Site, tmp_path: Path) -> None:
    lines: list[str] = []
    spool = tmp_path / "spool"
    checkpoint = checkpoint_of(tmp_path / "checkpoint")
    with StudyRecorder(resolve_store(site.uri, tmp_path), spool=spool, on_state=lines.append) as recorder:
        begin(recorder, "outage")
        record_trial(recorder, 0)
        recorder.trial_started(1, "ddpm", {"objective.sigma_tn": 0.0, "seed": 1})
        time.sleep(0.05)  # somewhere in the middle
        site.kill()
        died = time.monotonic()
        for rung in range(2):
            recorder.rung_scored(1, RungScores(rung, 100 * (rung + 1), {"fd": 89.0 - rung}, {"n": 20}, checkpoint))
        recorder.trial_ended(1, "finished")
        for number in range(2, 6):
            began = time.perf_counter()
            record_trial(recorder, number, checkpoint)
            assert time.perf_counter() - began < 0.5  # the search does not wait
        until(lambda: time.monotonic() - died >= OUTAGE and len(entries(spool)) > 0, OUTAGE + 60)
        site.start()
        assert recorder.flush(timeout=120)
        recorder.finish()
        assert recorder.close() == ()
    check_trials(site.uri, "outage", range(6))
    assert len(lines) == 2 and "does not answer (Connection refused)" in lines[0], lines
    assert re.search(r"answers again after \d+ s", lines[1]) and not spool.exists()


def test_a_database_that_goes_away_behind_the_server_costs_nothing(
    site: Site, database: Database, tmp_path: Path
) -> None:
    with StudyRecorder(resolve_store(site.uri, tmp_path), spool=tmp_path / "spool") as recorder:
        begin(recorder, "database")
        record_trial(recorder, 0)
        assert recorder.flush()
        database.stop()
        check_health = subprocess.run(["bash", "-c", site.script("health")], env=site.environment, capture_output=True)
        assert b"OK" in check_health.stdout and check_health.returncode != 0  # the recipe's second question sees it
        record_trial(recorder, 1)
        until(lambda: len(entries(tmp_path / "spool")) > 0)
        database.start()
        assert recorder.flush(timeout=120)
        recorder.finish()
        assert recorder.close() == ()
    check_trials(site.uri, "database", range(2))


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_straight_into_postgresql_whose_connections_are_cut(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSFILE", str(site.root / "pgpass"))
    uri = f"postgresql://mlflow@127.0.0.1:{site.environment['DB_PORT']}/mlflow"
    store = resolve_store(uri, tmp_path)
    check_tracking(store.uri)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mlflow'"
    psql = ["runuser", "-u", "postgres", "--", "psql", "-qt", "-h", site.environment["DB_SOCKET"]]
    with StudyRecorder(store) as recorder:
        begin(recorder, "direct")
        for number in range(4):
            record_trial(recorder, number)
            subprocess.run(
                [*psql, "-p", site.environment["DB_PORT"], "-c", cut],
                check=True, capture_output=True, timeout=30, cwd="/", env=site.environment,
            )  # fmt: skip
        recorder.finish()
        assert recorder.close() == ()
    check_trials(store.uri, "direct", range(4))


def test_a_backup_comes_back_and_an_upgrade_leaves_the_runs(site: Site) -> None:
    site.run("backup")
    site.run("restore")
    site.run("upgrade")
    counts = [
        subprocess.run(
            ["psql", "-qtA", "-c", "SELECT count(*) FROM runs", f"postgresql://mlflow@127.0.0.1:{port}/{name}"],
            check=True, capture_output=True, text=True, timeout=30,
            env={**site.environment, "PGPASSFILE": str(site.root / "pgpass")},
        ).stdout.strip()
        for port in [site.environment["DB_PORT"]]
        for name in ("mlflow", "mlflow_restored")
    ]  # fmt: skip
    assert counts[0] == counts[1] and int(counts[0]) > 0
    folders = (site.root / "artifacts", site.root / "backup" / "artifacts")
    stored, copied = ({path.relative_to(folder) for path in folder.rglob("*")} for folder in folders)
    assert stored == copied and stored


@pytest.mark.skipif(importlib.util.find_spec("flask_wtf") is None, reason="mlflow[auth] is not installed")
def test_passwords_are_asked_for_and_given(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.kill()
    site.run("passwords")
    site.start("mlflow server --app-name basic-auth")
    with pytest.raises(TrackingRefusedError, match="asks for a user and a password"):
        check_tracking(site.uri)
    settings = dict(line.split("=", 1) for line in (site.root / "mlflow.env").read_text().splitlines())
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", settings["MLFLOW_AUTH_ADMIN_PASSWORD"])
    from mlflow.server.auth.client import AuthServiceClient

    AuthServiceClient(site.uri).create_user("searches", "long-enough-for-it")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "searches")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "long-enough-for-it")
    check_tracking(site.uri)
    with StudyRecorder(resolve_store(site.uri, tmp_path)) as recorder:
        begin(recorder, "guarded")
        record_trial(recorder, 0)
        recorder.finish()
        assert recorder.close() == ()
    check_trials(site.uri, "guarded", range(1))


def test_the_service_runs_what_the_test_runs() -> None:
    text = RECIPE.read_text(encoding="utf-8")
    (unit,) = re.findall(r"<!-- unit -->\n```ini\n(.*?)```", text, re.DOTALL)
    parsed = configparser.ConfigParser(interpolation=None, strict=False)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(unit)
    root = re.search(r"MLFLOW_ROOT:-([^}]+)\}", blocks()["settings"])
    assert root is not None
    assert parsed["Service"]["EnvironmentFile"] == f"{root[1]}/mlflow.env"
    command = blocks()["serve"].strip().splitlines()[-1].removeprefix("exec ")
    assert parsed["Service"]["ExecStart"] == f"{root[1]}/venv/bin/{command}"
