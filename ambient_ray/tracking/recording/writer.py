"""The thread that writes a study's events into MLflow, in their order, whatever becomes of the store meanwhile.

While the store is away, its event is tried again and again, and all that waits is kept in the spool, so that a process
that is killed then loses nothing.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ambient_ray.errors import UserError
from ambient_ray.redaction import redacted

from ..store import SQLITE, TrackingStore, TrackingUnreachableError, check_tracking
from . import events
from .backlog import Backlog, Waiting, fail, renewed
from .event_json import SpooledEventError
from .outage import Fault, fault, reason
from .spool import SpoolBusyError

if TYPE_CHECKING:
    from .runs import StudyRuns

_log = logging.getLogger(__name__)
_KEPT = 50  # problems kept by their text; more are only counted
_UNCLEAR_TRIES = 5  # at an answer of 500, which may be the server's trouble or this event's; about 8 s
_QUIET = 2.0  # seconds that a store may be away before it is worth a line
_AWAY_FOR_NOW = 15.0  # seconds after which a registration waits no longer for a store that is away,
_PROMISE = 2.0  # but so long in any case
_GRACE = 10.0  # seconds that closing waits for a store that is away, when what waits is in the spool


class TrackingFailedError(UserError):
    """Nothing can be recorded: the store could not be opened, or it refuses the study."""


class Writer:
    """Takes events with `put`, from any thread; one thread of its own writes them.

    store: where to. folder: of the spool, or None for none. backoff: seconds between tries, first and longest.
    """

    def __init__(
        self, store: TrackingStore, folder: Path | None = None, *, backoff: tuple[float, float] = (0.25, 5.0)
    ) -> None:
        self.on_state: Callable[[str], None] | None = None
        self.fatal: Exception | None = None
        self.refreshed: float | None = 0.0  # seconds that the last drawing of the study's pictures took; None: waiting
        self.cpu_seconds = 0.0  # processor time of the thread so far
        self._store, self._backoff = store, backoff
        self._backlog = Backlog(folder, store)
        self._name = f"MLflow at {redacted(store.uri)}"
        self._ping: Callable[[], None] | None = None
        self._said = False
        self._since: float | None = None  # when the store went away
        self._why = ""
        self._delay = 0.0
        self._problems: list[str] = []
        self._missed = 0
        self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)

    # -- for the threads that have something to record

    def start(self) -> None:
        """Start the thread; it imports MLflow, opens the store and writes what an earlier life left in the spool."""
        self._thread.start()

    def put(self, event: events.Event) -> None:
        """Queue an event. Raises RuntimeError after `close`."""
        self._backlog.put(event)

    def flush(self, timeout: float) -> bool:
        """Wait until everything so far is written, for at most `timeout` seconds; whether it is."""
        return self._backlog.flush(timeout)

    def close(self, timeout: float) -> tuple[str, ...]:
        """Write what is queued, for at most `timeout` seconds, put the rest into the spool; what went wrong."""
        backlog = self._backlog
        backlog.close()
        if self._thread.ident is None:  # nothing was ever recorded
            return self.problems
        if not backlog.abandoned:
            self._join(timeout)
        if backlog.folder is not None and len(backlog):
            backlog.abandon()  # the thread may be inside a call; it touches nothing when that returns
            with tempfile.TemporaryDirectory(prefix="ambient-figures-") as scratch:
                self._tell(backlog.draw(Path(scratch)), "the study's pictures")
                self._tell(backlog.keep(again=True))
            backlog.promise_later(0.0, self._later())
            backlog.release()
        return (*self.problems, *self._unwritten(timeout))

    @property
    def queued(self) -> int:
        """How many events are not written yet."""
        return len(self._backlog)

    @property
    def away(self) -> float | None:
        """For how many seconds the store has not answered; None while it does."""
        since = self._since
        return None if since is None else time.monotonic() - since

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be written so far, one sentence each."""
        more = (f"{self._missed} more events were not written",) if self._missed else ()
        return (*self._problems, *more)

    def _join(self, timeout: float) -> None:
        began = time.monotonic()
        while self._thread.is_alive() and (waited := time.monotonic() - began) < timeout:
            if self._since is not None and self._backlog.folder is not None and waited > _GRACE:
                return
            self._thread.join(min(0.1, timeout))

    def _unwritten(self, timeout: float) -> list[str]:
        """The sentences for what is not in MLflow at the end."""
        backlog, why = self._backlog, f"still writing after {timeout:g} s"
        store = redacted(self._store.uri)
        if self.fatal is not None:
            why = f"{store} refuses this study"
        elif self._since is not None:
            why = f"{store} does not answer ({self._why})"
        told = []
        if (kept := backlog.kept()) > 0:
            later = "which the next command of this study that reaches it uploads"
            told.append(f"{why}: {_are(kept)} kept in {backlog.folder}, {later}")
        if lost := backlog.lost():
            full = f": they cannot be kept in {backlog.folder} ({backlog.error})" if backlog.error else ""
            told.append(f"{why}: {_are(lost)} not recorded{full}")
        return told

    # -- the thread

    def _work(self) -> None:
        backlog, runs = self._backlog, self._open()
        self._ping = None if runs is None else runs.ping
        while (head := backlog.head()) is not None:
            try:
                if runs is not None:
                    backlog.load(head)
            except SpooledEventError as error:
                self._tell(error, "an earlier search's event is left out")
                backlog.done(head)
                continue
            began = time.thread_time()
            if runs is None or self.fatal is not None:
                self._refuse(head)
            elif self._written(runs, head) and self.fatal is None:
                backlog.done(head)
            self.cpu_seconds = time.thread_time()
            if isinstance(head.event, events.FiguresDue):
                self.refreshed = self.cpu_seconds - began
        if not backlog.abandoned:
            backlog.release()

    def _open(self) -> StudyRuns | None:
        from .runs import StudyRuns

        while not self._backlog.abandoned:
            try:
                runs = StudyRuns(self._store)
            except Exception as error:  # kept for check() and close(); a thread's own traceback would be lost
                nowhere = self._store.uri.startswith(SQLITE) and "unable to open" in str(error)
                if nowhere or fault(error) is not Fault.AWAY:
                    self.fatal = error
                    self._tell(error, "MLflow cannot be opened")
                    return None
                self._outlast(error)
                continue
            self._back()
            self._take_up()
            return runs
        return None

    def _take_up(self) -> None:
        try:
            earlier = self._backlog.take_up()
        except (SpoolBusyError, OSError) as error:
            self._tell(error, "an earlier search's events stay where they are")
            return
        if earlier:
            self._say(f"{self._name}: {_are(earlier)} uploaded that an earlier search kept in {self._backlog.folder}")

    def _written(self, runs: StudyRuns, head: Waiting) -> bool:
        """Write one event, however often it takes; False when the writer is to end before."""
        tries = 0
        while not self._backlog.abandoned:
            head.event = renewed(head.event)
            runs.at, runs.last_try = head.at, tries >= _UNCLEAR_TRIES
            try:
                runs.write(head.event)
            except Exception as error:  # one event that fails must not stop the others, nor the search
                kind = fault(error)
                if kind is Fault.AWAY:
                    self._outlast(error)
                    continue
                if kind is Fault.UNCLEAR and not runs.last_try:
                    tries += 1
                    self._pause()
                    continue
                if isinstance(head.event, events.StudyStarted) and not runs.run_id:
                    self.fatal = error  # nothing that follows has a run to go to
                if not fail(head.event, error):  # else who waits for it tells it
                    self._tell(error, type(head.event).__name__)
            self._back()
            return True
        return False

    def _refuse(self, head: Waiting) -> None:
        """Nothing can be written at all: into the spool with it, if there is one."""
        self._tell(self._backlog.keep())
        fail(head.event, TrackingFailedError(f"MLflow cannot record this study: {sentence(self.fatal)}"))
        if head.entry is None:
            self._missed += 1
        self._backlog.done(head, keep=True)

    # -- while the store is away

    def _outlast(self, error: Exception) -> None:
        """Return when the store may be tried again, or the writer is to end."""
        if self._since is None:
            self._since = time.monotonic()
            _log.info("the store is away", exc_info=error)
        self._why = reason(error)
        while True:
            self._pause()
            if self._backlog.abandoned or self._answers():
                return

    def _answers(self) -> bool:
        """Whether the store is there again: asked by a call that costs little and has a short time limit."""
        try:
            if not self._store.uri.startswith(SQLITE):
                check_tracking(self._store.uri, timeout=3.0)
            if self._ping is not None:
                self._ping()
        except Exception as error:
            self._why = reason(error)
            return not isinstance(error, TrackingUnreachableError) and fault(error) is not Fault.AWAY
        return True

    def _pause(self) -> None:
        """Wait before the next try, each time longer, and keep what arrives in the spool."""
        first, longest = self._backoff
        self._delay = min(longest, max(first, 2 * self._delay))
        deadline = time.monotonic() + self._delay
        while not self._backlog.abandoned and (left := deadline - time.monotonic()) > 0:
            if self._since is not None:
                self._announce()
                self._tell(self._backlog.keep())
                if time.monotonic() - self._since > _AWAY_FOR_NOW:
                    self._backlog.promise_later(_PROMISE, self._later())
            self._backlog.pause(min(left, 0.5))

    def _announce(self) -> None:
        if self._said or self._since is None or time.monotonic() - self._since < _QUIET:
            return
        self._said = True
        kept = "" if self._backlog.folder is None else f" and in {self._backlog.folder}"
        self._say(f"{self._name} does not answer ({self._why}); what it is to record waits in memory{kept}")

    def _back(self) -> None:
        """A call went through."""
        self._delay = 0.0
        if self._since is None:
            return
        seconds, self._since = time.monotonic() - self._since, None
        if self._said:
            self._say(f"{self._name} answers again after {seconds:.0f} s; {_are(len(self._backlog))} caught up with")
        self._said = False

    # -- words

    def _later(self) -> str:
        return f"{self._name} does not answer: the registration"

    def _say(self, line: str) -> None:
        if self.on_state is None:
            _log.warning("%s", line)
            return
        try:
            self.on_state(line)
        except Exception as error:  # a display must not end the recording
            _log.warning("%s (%s)", line, error)

    def _tell(self, error: Exception | None, what: str = "") -> None:
        """A problem for the end; None is none."""
        if error is None:
            return
        what = what or f"what waits for MLflow cannot be kept in {self._backlog.folder}"
        _log.warning("%s: %s", what, error, exc_info=_log.isEnabledFor(logging.DEBUG))
        if len(self._problems) < _KEPT:
            self._problems.append(f"{what}: {sentence(error)}")
        else:
            self._missed += 1


def sentence(error: Exception | None) -> str:
    """An error as one line."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _are(count: int) -> str:
    return f"{count:,} event is" if count == 1 else f"{count:,} events are"
