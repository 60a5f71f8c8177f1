"""Runs one kind of hostile input in this process, counts what became of each case, and holds what must hold.

Each case is written into a folder, read by the package's public readers, and then
- accepted: what was read equals what an oracle says (`verify`);
- or refused: a UserError whose text is one line of bounded length that names the file or key;
- and in both cases nothing was written outside of the case's own cache folder, no process was started, nothing
  unpickled and no connection made (an audit hook watches), and memory and processor time stayed within the bounds.
Anything else is a failure, which hypothesis shrinks and this module prints.
"""

import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from ambient_ray.errors import UserError

BLOCK = 1000  # cases a run of hypothesis, whose own memory grows with each
LONGEST = 1500  # characters of an error's text, its paths not counted
ADDRESS_SPACE = 8 * 2**30  # bytes: protects the machine; the bounds that are held are the kinds' own
CHANGES = {
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
}  # fmt: skip
NEVER = {
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "pickle.find_class",
    "socket.connect", "socket.bind", "os.setxattr",
}  # fmt: skip
PHASES = (Phase.generate, Phase.shrink)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    cases: what is generated; `valid(case)` says which of them must be accepted.
    write: puts a case into a folder; read: the package's readers, watched; verify: what was read against an oracle.
    named: texts of which a refusal must hold one. memory: bytes a case may take; seconds: of processor time.
    prepare: once, before the first case.
    """

    name: str
    cases: SearchStrategy[Any]
    write: Callable[[Any, Path], None]
    read: Callable[[Any, Path], Any]
    verify: Callable[[Any, Path, Any], None]
    named: Callable[[Any, Path], tuple[str, ...]]
    valid: Callable[[Any], bool]
    memory: int = 128 * 2**20
    seconds: float = 10.0
    prepare: Callable[[Path], None] = lambda folder: None


@dataclass
class Tally:
    """What became of the cases."""

    cases: int = 0
    accepted: int = 0
    valid: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    peak: int = 0
    slowest: float = 0.0

    def numbers(self) -> dict[str, Any]:
        """For the last line of `make faults`."""
        return {
            "cases": self.cases, "accepted": self.accepted, "refused": sum(self.refused.values()),
            "valid": self.valid, **dict(self.refused.most_common()),
            "peak_mb": round(self.peak / 2**20), "slowest_s": round(self.slowest, 2),
        }  # fmt: skip


class BrokenPromiseError(AssertionError):
    """A case that broke a promise."""


class _Slow(BaseException):
    """Beyond what a case may take; no reader catches it."""


class Watch:
    """What a reader does to the world, by Python's audit events, while it is on."""

    def __init__(self, allowed: Path) -> None:
        self.allowed, self.on, self.seen = str(allowed), False, list[str]()
        sys.addaudithook(self._event)

    def _event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in NEVER:
            self.seen.append(f"{event}{arguments!r:.200}")
        elif event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITES:
                self._written(event, path)
        elif event in CHANGES:
            below = arguments[-1] if event in {"os.remove", "os.rmdir", "os.mkdir"} else -1
            for path in arguments[:2] if event in {"os.rename", "os.link", "os.symlink"} else arguments[:1]:
                self._written(event, path, below)

    def _written(self, event: str, path: object, below: int = -1) -> None:
        if isinstance(path, int):  # an open file, which was seen when it was opened
            return
        base = os.readlink(f"/proc/self/fd/{below}") if below >= 0 else ""
        real = os.path.realpath(os.path.join(base, os.fsdecode(path)))  # type: ignore[arg-type]
        if real != "/dev/null" and not real.startswith(self.allowed + os.sep):
            self.seen.append(f"{event} {real}")

    @contextmanager
    def watching(self):
        """Record what happens inside."""
        self.seen, self.on = [], True
        try:
            yield
        finally:
            self.on = False


def run(kind: Kind, cases: int, scratch: Path, first_seed: int = 0) -> Tally:
    """Run so many cases of a kind in scratch/case, scratch/case/cache being the one place that may be written.

    Raises BrokenPromiseError with the smallest case that breaks a promise.
    """
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.dont_write_bytecode = True
    folder = scratch / "case"
    allowed = folder / "cache"
    os.environ |= {"AMBIENT_RAY_CACHE": str(allowed), "TMPDIR": str(allowed)}
    kind.prepare(scratch / "made")
    canary = _plant(scratch)
    watch, tally = Watch(allowed), Tally()
    signal.signal(signal.SIGPROF, _too_slow)
    number = first_seed
    while tally.cases < cases:
        _block(kind, min(BLOCK, cases - tally.cases), number, folder, watch, tally)
        number += 1
    if canary != _listing(scratch):
        raise BrokenPromiseError(
            f"{kind.name}: the folders around the cases changed: {canary} became {_listing(scratch)}"
        )
    return tally


def _block(kind: Kind, cases: int, number: int, folder: Path, watch: Watch, tally: Tally) -> None:
    @seed(number)
    @settings(
        max_examples=cases, deadline=None, database=None, phases=PHASES,
        suppress_health_check=list(HealthCheck), print_blob=False, report_multiple_bugs=False,
    )  # fmt: skip
    @given(kind.cases)
    def one(case: Any) -> None:
        if tally.cases >= tally_end:
            return  # hypothesis' own repetitions are not counted twice
        _one(kind, case, folder, watch, tally)

    tally_end = tally.cases + cases
    one()


def _one(kind: Kind, case: Any, folder: Path, watch: Watch, tally: Tally) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "cache").mkdir(parents=True)
    kind.write(case, folder)
    before, began = _memory(reset=True), time.process_time()
    found: Any = None
    error: UserError | None = None
    signal.setitimer(signal.ITIMER_PROF, 4 * kind.seconds)
    try:
        with watch.watching():
            found = kind.read(case, folder)
    except UserError as refusal:
        error = refusal
    except (Exception, _Slow) as crash:
        raise BrokenPromiseError(_told(kind, case, "".join(traceback.format_exception(crash)[-14:]))) from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    spent, taken = time.process_time() - began, _memory() - before
    if watch.seen:
        raise BrokenPromiseError(_told(kind, case, f"touched the world: {'; '.join(watch.seen[:5])}"))
    if spent > kind.seconds or taken > kind.memory:
        raise BrokenPromiseError(
            _told(kind, case, f"took {spent:.1f} s and {taken / 2**20:.0f} MB ({error or 'accepted'})")
        )
    if error is not None:
        _check_sentence(kind, case, folder, error)
        if kind.valid(case):
            raise BrokenPromiseError(_told(kind, case, f"valid, and refused: {error}"))
    else:
        try:
            kind.verify(case, folder, found)
        except AssertionError as wrong:
            raise BrokenPromiseError(_told(kind, case, "".join(traceback.format_exception(wrong)[-3:]))) from None
    tally.cases += 1
    tally.valid += kind.valid(case)
    tally.peak, tally.slowest = max(tally.peak, taken), max(tally.slowest, spent)
    if error is None:
        tally.accepted += 1
    else:
        tally.refused[type(error).__name__] += 1


def _check_sentence(kind: Kind, case: Any, folder: Path, error: UserError) -> None:
    text = str(error)
    short = text.replace(str(folder), "")
    if not text.strip() or len(short) > LONGEST:
        raise BrokenPromiseError(_told(kind, case, f"no sentence, but {len(text)} characters: {short[:300]!r}"))
    names = kind.named(case, folder)
    if names and not any(name in text for name in names):
        raise BrokenPromiseError(_told(kind, case, f"names none of {names}: {short!r}"))


def _told(kind: Kind, case: Any, what: str) -> str:
    return f"{kind.name}: {what}\ncase: {case!r:.3000}"


def _too_slow(*_: object) -> None:
    raise _Slow("beyond the processor time that a case may take")


def _memory(*, reset: bool = False) -> int:
    """Bytes in memory now (reset), and then the most since: Linux forgets the peak when asked to."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    wanted = "VmRSS:" if reset else "VmHWM:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(wanted)) * 1024


def _plant(scratch: Path) -> list[str]:
    """Canaries where a traversal would lead to."""
    for name in ("canary", "around/canary", "images/canary"):
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_text("untouched")
    return _listing(scratch)


def _listing(scratch: Path) -> list[str]:
    return sorted(
        f"{path.relative_to(scratch)} {path.stat().st_size if path.is_file() else ''}"
        for path in scratch.rglob("*")
        if not path.is_relative_to(scratch / "case")
    )


def report(kind: Kind, cases: int, scratch: Path, first_seed: int) -> int:
    """Run, and print one line of JSON; 1 and the failure where a promise was broken."""
    try:
        tally = run(kind, cases, scratch, first_seed)
    except BrokenPromiseError as failure:
        print(json.dumps({"failure": str(failure)}))
        return 1
    print(json.dumps(tally.numbers()))
    return 0
