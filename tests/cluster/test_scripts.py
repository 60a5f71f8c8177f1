"""All shell scripts by shellcheck, and the Slurm script run for real with stand-ins for Slurm, Ray and the search."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from recipes import CLUSTER, ROOT, documents

SCRIPTS = sorted([*CLUSTER.rglob("*.sh"), *CLUSTER.rglob("*.sbatch"), ROOT / ".ci" / "run"])
SHELLCHECK = Path(sys.executable).parent / "shellcheck"


def complaints(path):
    return subprocess.run([SHELLCHECK, "--severity=info", path], capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=[str(path.relative_to(ROOT)) for path in SCRIPTS])
def test_shellcheck_has_nothing_to_say(path):
    assert complaints(path) == ""
    assert os.access(path, os.X_OK), f"{path} is not executable"


def test_scripts_inside_of_manifests_pass_too(tmp_path):
    found = 0
    for resource in documents("mlflow/kubernetes.yaml"):
        for name, text in resource.get("data", {}).items():
            if name.endswith(".sh"):
                (tmp_path / name).write_text(text)
                assert complaints(tmp_path / name) == ""
                found += 1
    assert found == 1


def test_shellcheck_finds_a_fault(tmp_path):
    (tmp_path / "faulty.sh").write_text("#!/usr/bin/env bash\nrm -rf $1/*\n")
    assert "SC2086" in complaints(tmp_path / "faulty.sh")


SLURM = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "2"}
STANDINS = {
    "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"\n',
    "ray": 'echo "ray $*" >> "$STAGE/ray"; [ "$(stat -c %a "$RAY_AUTH_TOKEN_PATH")" = 600 ] || exit 9\n'
    'letters="$(wc -c < "$RAY_AUTH_TOKEN_PATH")"\n'
    'echo "$RAY_AUTH_MODE $letters $RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT" >> "$STAGE/token"\n'
    'while [ "$1" != -- ]; do shift; done; shift; "$@"\n',
    "scontrol": 'echo "$*" >> "$STAGE/scontrol"\n',
    "hostname": 'echo "127.0.0.1 192.0.2.7 fe80::1 "\n',
}
# Stands for the search: says how it was called, then ends with a code, or waits for Ctrl-C as a search does.
SEARCH = """#!{python}
import os, signal, sys, time
if sys.argv[1] == "-c":
    exec(sys.argv[2]); sys.exit()
assert sys.argv[1:3] == ["-m", "ambient_ray.search"], sys.argv
stage = os.environ["STAGE"]
open(stage + "/search", "a").write(" ".join(sys.argv[3:]) + "\\n")
if "wait=true" not in sys.argv:
    sys.exit(int(dict(a.split("=") for a in sys.argv[3:] if "=" in a).get("code", 0)))
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "Ctrl-C would be ignored"
open(stage + "/running", "w").close()
try:
    time.sleep(120)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def stage(tmp_path):
    for name, text in STANDINS.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "bin" / "python").write_text(SEARCH.format(python=sys.executable))
    (tmp_path / "bin" / "python").chmod(0o755)
    return tmp_path


def submit(stage, *overrides):
    environment = {
        **os.environ, **SLURM, "STAGE": str(stage), "AMBIENT_VENV": str(stage), "AMBIENT_OUTPUT": str(stage / "out"),
        "AMBIENT_NOTICE": "60",
    }  # fmt: skip
    return subprocess.Popen(
        ["bash", CLUSTER / "slurm.sbatch", *overrides],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def said(stage, name):
    path = stage / name
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("code", [0, 2, 1])
def test_slurm_the_searchs_exit_code_is_the_jobs_and_nothing_is_queued_again(stage, code):
    job = submit(stage, "study=faces", f"code={code}")
    out, _ = job.communicate(timeout=60)
    assert job.returncode == code, out
    assert said(stage, "scontrol") == []
    (search,) = said(stage, "search")
    assert search == f"address=192.0.2.7:24711 output_dir={stage}/out study=faces code={code}"
    (ray,) = said(stage, "ray")
    assert "symmetric-run --address 192.0.2.7:24711 --min-nodes 1" in ray and "--dashboard-host=127.0.0.1" in ray
    assert said(stage, "token") == ["token 64 900"]
    assert not (stage / "out" / "slurm-4711").exists(), "the token outlives its job"


def test_slurm_before_the_time_limit_the_search_is_stopped_as_by_ctrl_c_and_queued_again(stage):
    job = submit(stage, "study=faces", "wait=true")
    try:
        deadline = time.monotonic() + 60
        while not (stage / "running").exists() and time.monotonic() < deadline:
            assert job.poll() is None, job.communicate()[0]
            time.sleep(0.05)
        job.send_signal(signal.SIGUSR1)
        job.wait(60)
    finally:
        job.kill()
    assert job.returncode == 130
    assert said(stage, "scontrol") == ["requeue 4711"]


def test_slurm_has_time_to_stop_before_the_limit():
    text = (CLUSTER / "slurm.sbatch").read_text()
    notice = int(text.split("--signal=B:USR1@")[1].split()[0])
    asked = int(text.split("AMBIENT_NOTICE:=")[1].split("}")[0])
    assert asked + 60 <= notice
