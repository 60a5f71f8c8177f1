"""Two Ray nodes by cluster/two-nodes.sh as a test uses them, and jobs on them as a user submits them."""

import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from search_process import environment

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "cluster" / "two-nodes.sh"
SPACE = """
parameters:
  sigma_tn: {low: 0.1, high: 4.0, log: true}
  noisy_ratio: {low: 0.1, high: 0.9}
fixed: {mixing: set_split}
baselines:
  - {sigma_tn: 0.0}
"""


def why_not():
    """Why this machine cannot hold two nodes, or ''."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if missing := [name for name in ("ip", "unshare", "setsid") if shutil.which(name) is None]:
        return f"needs the command {missing[0]}"
    probe = f"probe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode:
        return f"cannot make network namespaces: {made.stderr.strip()}"
    tried = subprocess.run(
        ["ip", "netns", "exec", probe, "unshare", "--pid", "--fork", "--mount-proc", "true"],
        capture_output=True,
        text=True,
    )
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return f"cannot make process namespaces: {tried.stderr.strip()}" if tried.returncode else ""


class TwoNodes:
    """Two nodes under a name of their own, so that several tests may run side by side.

    Args:
        head_cpus: of the head; the other node has 2.
    """

    def __init__(self, head_cpus=2):
        chosen = random.SystemRandom()
        self.name = f"t{chosen.randrange(16**5):05x}"
        self.net = f"10.{chosen.randrange(200, 250)}.{chosen.randrange(256)}"
        self.state = Path(f"/tmp/{self.name}-nodes")
        kept = environment()
        del kept["RAY_AUTH_TOKEN"]  # the nodes' own is in a file, of which it would take precedence
        self._environment = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_worker_niceness": "0",  # else whatever else this machine does goes first
            "TWO_NODES_NAME": self.name,
            "TWO_NODES_NET": self.net,
            "TWO_NODES_HEAD_CPUS": str(head_cpus),
        }

    def __call__(self, *arguments, check=True, seconds=900):
        """Run the script; what it printed."""
        done = subprocess.run(
            [SCRIPT, *arguments], env=self._environment, capture_output=True, text=True, timeout=seconds
        )
        assert not check or done.returncode == 0, f"two-nodes.sh {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout if check else done.stderr

    def ray(self, *arguments, check=True, seconds=200):
        """A `ray` command of a user's, in what `env` says."""
        exports = dict(pair.split("=", 1) for pair in self("env").split() if "=" in pair)
        done = subprocess.run(
            [Path(sys.executable).parent / "ray", *arguments],
            env={**self._environment, **exports}, capture_output=True, text=True, timeout=seconds,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"ray {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout + done.stderr

    def submit(self, job, *overrides):
        """`ray job submit` of a search."""
        command = ["python", "-m", "ambient_ray.search", *overrides]
        self.ray("job", "submit", "--no-wait", "--submission-id", job, "--", *command)

    def status(self, job):
        """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
        said = self.ray("job", "status", job)
        found = re.search(rf"Status for job '{job}': (\w+)|Job '{job}' (?:was )?(\w+)", said)
        assert found, said
        return (found[1] or found[2]).upper()

    def log(self, job):
        """All that a job's entry point has printed."""
        found = sorted(self.state.glob(f"head/session_2*/logs/job-driver-{job}.log"))
        return found[0].read_text() if found else ""

    def until(self, job, text, seconds=600):
        """Wait for a line of a job."""
        deadline = time.monotonic() + seconds
        while text not in (log := self.log(job)):
            over = "entrypoint command exited" in log or time.monotonic() > deadline
            assert not over, f"job {job} never said {text!r}:\n{log}\n{self.last_words()}"
            time.sleep(0.2)
        return log

    def ended(self, job, seconds=900):
        """Wait for a job's end; its status."""
        deadline = time.monotonic() + seconds
        while (status := self.status(job)) in ("PENDING", "RUNNING"):
            assert time.monotonic() < deadline, f"job {job} does not end:\n{self.log(job)}\n{self.last_words()}"
            time.sleep(1)
        return status

    def workers(self, node):
        """The processes of Ray Train's workers on a node."""
        listed = subprocess.run(["ip", "netns", "pids", f"{self.name}-{node}"], capture_output=True, text=True)
        found = []
        for pid in listed.stdout.split():
            try:
                if b"RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
            except OSError:
                continue
        return found

    def last_words(self):
        """The ends of both nodes' logs."""
        return "\n".join(
            f"--- {path}\n{path.read_text()[-2000:]}" for path in (self.state / "head.log", self.state / "node.log")
            if path.exists()
        )  # fmt: skip

    def left(self):
        """Namespaces, interfaces and files of these nodes that are there."""
        listed = [
            subprocess.run(["ip", *what], capture_output=True, text=True).stdout for what in (["netns"], ["-o", "link"])
        ]
        names = [line for line in "".join(listed).splitlines() if f"{self.name}-" in line]
        return names + ([str(self.state)] if self.state.exists() else [])
