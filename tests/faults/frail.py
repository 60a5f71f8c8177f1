"""A search whose network fails where a file says so, in a process of its own that is watched and hurt."""

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from search_process import start

# The smallest network that learns anything. Where a file `slow` is beside it, it sleeps at each step, so that it is
# there to be hit. A file `hang` or `memory` is taken by the first worker that sees it, which then does that, once.
NETWORK = """
import os, time
from pathlib import Path
import torch
from torch import nn

HERE = Path(__file__).parent

class Frail(nn.Module):
    def __init__(self, channels, resolution, num_classes=None, pause=0.005, **of_the_small_unet):
        super().__init__()
        self.first, self.last = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, channels, 3, padding=1)
        self.pause = pause

    def forward(self, x, c_noise, labels=None):
        if (HERE / "armed").exists():
            for kind in ("hang", "memory"):
                try:
                    os.rename(HERE / kind, HERE / f"{kind}.taken")
                except FileNotFoundError:
                    continue
                if kind == "memory":
                    raise MemoryError("planted: 1 GiB")
                time.sleep(1e6)
        if self.training:
            time.sleep(0.25 if (HERE / "slow").exists() else self.pause)
        return self.last(torch.nn.functional.silu(self.first(x) + c_noise.view(-1, 1, 1, 1)))
"""
FRAIL = [
    "backbone._target_=frail_network.Frail", "training.precision=fp32", "training.compile=false",
    "trial.max_concurrent=2", "tracking.register_front=0", "evaluation.features=pixels", "trial.reduction_factor=null",
]  # fmt: skip


class Frail:
    """A search in a process, what it has printed so far, and its processes by what Ray calls them."""

    def __init__(self, folder: Path, space: str, *overrides: str) -> None:
        (folder / "frail_network.py").write_text(NETWORK)
        self.folder, self.lines = folder, []
        self.process = start(folder, *FRAIL, *overrides, space=space)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with (self.folder / "printed").open("w", buffering=1) as printed:  # for whoever watches a test
            for line in self.process.stdout:
                printed.write(line)
                self.lines.append(line.rstrip("\n"))

    def slowly(self, slowly: bool) -> None:
        """Let steps take a quarter of a second, so that trials are there to be hurt, or as long as they need."""
        (self.folder / "slow").touch() if slowly else (self.folder / "slow").unlink(missing_ok=True)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def until(self, pattern: str, *, after: int = 0, seconds: float = 600.0) -> int:
        """Wait for a line that matches, beyond the first `after`; how many lines there are up to it."""
        deadline = time.monotonic() + seconds
        while True:
            for number, line in enumerate(self.lines[after:], after):
                if re.search(pattern, line):
                    return number + 1
            assert self.process.poll() is None, f"ended without {pattern!r}:\n{self.text}"
            assert time.monotonic() < deadline, f"no {pattern!r}:\n{self.text}"
            time.sleep(0.05)

    def named(self, name: str) -> list[psutil.Process]:
        """Its processes that Ray calls so, idle ones among them."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if "".join(process.cmdline()[:1]).startswith(f"ray::{name}"):
                    found.append(process)
            except psutil.Error:  # it has just ended
                continue
        return found

    def some(self, name: str, seconds: float = 300.0) -> list[psutil.Process]:
        """Its processes that Ray calls so, waited for: one may just be being started again."""
        deadline = time.monotonic() + seconds
        while not (found := self.named(name)):
            assert self.process.poll() is None, f"ended without any {name}:\n{self.text}"
            assert time.monotonic() < deadline, f"no process is called {name}:\n{self.text}"
            time.sleep(0.1)
        return found

    def hurt(self, name: str, sign: str, which: int = 0, tries: int = 8) -> int:
        """SIGKILL a process of this name until the search has a word for it; how many it took."""
        for attempt in range(1, tries + 1):
            before = len(self.lines)
            found = self.some(name)
            found[which % len(found)].kill()
            try:
                self.until(sign, after=before, seconds=25)  # it may have been an idle one
                return attempt
            except AssertionError:
                if attempt == tries or self.process.poll() is not None:
                    raise
        raise AssertionError("unreachable")

    def plant(self, kind: str) -> None:
        """Have the next worker that computes fail."""
        (self.folder / kind).touch()
        (self.folder / "armed").touch()

    def stop(self, name: str, seconds: float) -> psutil.Process:
        """SIGSTOP to a process of this name for so long."""
        process = self.some(name)[0]
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        return process

    def end(self, seconds: float = 300.0) -> int:
        """Wait for its end; the exit code."""
        try:
            code = self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                os.kill(self.process.pid, signal.SIGKILL)
        self._reader.join(30)
        return code
