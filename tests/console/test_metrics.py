"""What a search counts is found where Prometheus looks: a real scrape of Ray's endpoint, in a process of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ambient_ray.console.metrics import METRICS

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "cluster" / "metrics.md").read_text()

# A search of two trials, as the listeners hear it; then what its node's agent says to Prometheus.
SCRIPT = """
import json, socket, sys, time, urllib.request
import ray
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
ray.init(address="local", num_cpus=1, include_dashboard=False, _metrics_export_port=port,
         log_to_driver=False, logging_level="ERROR", object_store_memory=80 * 2**20,
         _system_config={"metrics_report_interval_ms": 500})
from ambient_ray.console.metrics import Metrics
from ambient_ray.tuning.faults import Fault
from ambient_ray.tuning.records import RungRecord, TrialRecord
metrics = Metrics("faces")
old = TrialRecord(0, "ddpm", {}, "finished", (RungRecord(0, 640, {}, {}, "c"),))
metrics.known([old])
trial = TrialRecord(1, "ambient", {})
metrics.trial_started(trial, False)
metrics.trial_told(trial, {"place": {"rank": 0}})
metrics.trial_told(trial, {"place": {"rank": 1}})
for index, seen in ((0, 640), (1, 1280)):
    rung = RungRecord(index, seen, {}, {}, "c")
    trial = trial.with_rung(rung)
    metrics.trial_told(trial, {"judged": {"goes_on": True, "seconds": 0.01}, "saved": {"seconds": 0.3, "bytes": 500}})
    metrics.rung_scored(trial, rung)
metrics.trial_survived(trial, Fault("worker died", "its worker died"))
failed = TrialRecord(2, "ambient", {}, "failed", reason="the loss became non-finite")
metrics.trial_ended(failed)
for at in (100.0, 110.0):
    metrics.tick({"at": at, "mlflow": {"queued": 5, "away_seconds": 61.0}, "trials": {
        "1": {"places": [1], "waits": "", "images_per_second": 250.0, "loss": 0.5},
        "3": {"places": [], "waits": "waits: the disk is full", "images_per_second": None, "loss": None}}})
deadline = time.monotonic() + 100
while time.monotonic() < deadline:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            text = page.read().decode()
    except OSError:
        text = ""
    if "ambient_judge_seconds_count" in text and "ambient_mlflow_queue" in text:
        break
    time.sleep(0.5)
print(text)
ray.shutdown()
"""


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_prometheus_finds_names_and_values_at_rays_endpoint(tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        if read := re.match(r"(ray_ambient_\w+)\{(.*)\} (\S+)$", line):
            tags = dict(re.findall(r'(\w+)="([^"]*)"', read[2]))
            assert tags.pop("study") == "faces", line
            kept = tuple(tags[key] for key in ("state", "for", "of", "answer", "cause") if key in tags)
            found[(read[1], *kept)] = float(read[3])
    for name, value in {
        ("ray_ambient_trials", "running"): 1, ("ray_ambient_trials", "finished"): 1,
        ("ray_ambient_trials", "failed"): 1, ("ray_ambient_trials", "stopped"): 0,
        ("ray_ambient_trials_at_once",): 2, ("ray_ambient_trials_waiting", "room"): 1,
        ("ray_ambient_trials_waiting", "storage"): 1, ("ray_ambient_rungs_total",): 2,
        ("ray_ambient_images_seen_total",): 1280, ("ray_ambient_images_per_second",): 250,
        ("ray_ambient_loss", "median"): 0.5, ("ray_ambient_judged_total", "go_on"): 2,
        ("ray_ambient_judge_seconds_count",): 2, ("ray_ambient_failures_total", "diverged"): 1,
        ("ray_ambient_survived_total", "worker died"): 1,
        ("ray_ambient_worker_starts_total",): 1, ("ray_ambient_checkpoint_seconds_count",): 2,
        ("ray_ambient_checkpoint_bytes_total",): 1000, ("ray_ambient_storage_wait_seconds_total",): 10,
        ("ray_ambient_mlflow_queue",): 5, ("ray_ambient_mlflow_away_seconds",): 61,
    }.items():  # fmt: skip
        assert found.get(name) == pytest.approx(value), (name, found)
    scraped = {name for name, *_ in found}
    documented = set(re.findall(r"`(ray_ambient_\w+)`", DOCUMENT))
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in scraped}
    assert documented <= shown, documented - shown


def test_every_metric_is_documented_with_its_tags():
    for name, (kind, tags, _) in METRICS.items():
        row = next(
            (
                line
                for line in DOCUMENT.splitlines()
                if line.startswith(f"| `ray_{name}{'_total' * (kind == 'counter')}`")
            ),
            "",
        )
        assert kind in row and all(f"`{tag}`" in row for tag in tags), name
