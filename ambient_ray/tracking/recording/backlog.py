"""What waits for MLflow: a queue in memory and, when the store is away or the search ends before it, in the spool."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ambient_ray.clock import now
from ambient_ray.errors import UserError

from ..labels import FIGURES
from ..store import TrackingStore
from . import events
from .spool import Spool, SpoolBusyError, entries, read_entry
from .system import machine_tags, source_tags

_log = logging.getLogger(__name__)
_PASSING = (events.FiguresDue, events.Afterwards)  # not for the disk
_AGAIN = 30.0  # seconds after which a spool that could not be written is tried again


class WaitingError(UserError):
    """MLflow is away; what was asked of it is done when it is back."""


@dataclass
class Waiting:
    """An event that waits. event: None until it is read from its entry in the spool; at: when it happened."""

    event: Any
    at: float
    entry: Path | None = None


class Backlog:
    """The events that are not written yet, oldest first; safe to use from any thread.

    An event stays at the head until `done`. folder: of the spool, None for none; store: what they are for.
    """

    def __init__(self, folder: Path | None, store: TrackingStore) -> None:
        self.folder = folder
        self.error = ""  # why nothing more goes into the spool
        self._failed = 0.0  # when that was
        self._store = store
        self._queue: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._spooling = threading.Lock()  # held while the spool changes; taken before `_changed`
        self._spool: Spool | None = None
        self._begun: dict[int | None, Waiting] = {}  # the study's start (None) and open trials', as far as written
        self._preamble: dict[int | None, Path] = {}  # these again, in the spool
        self._closed = self._abandoned = False

    # -- the queue

    def put(self, event: events.Event) -> None:
        """Queue an event. Raises RuntimeError after `close`."""
        with self._changed:
            if self._closed:
                raise RuntimeError("this recorder is closed")
            self._queue.append(Waiting(event, now()))
            self._changed.notify_all()

    def head(self) -> Waiting | None:
        """The oldest event, waited for; None when there will be no more."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            return self._queue[0] if self._queue and not self._abandoned else None

    def done(self, head: Waiting, *, keep: bool = False) -> None:
        """The head is written, or given up. keep: what is in the spool stays there."""
        with self._spooling:
            if self._abandoned:
                return
            if not keep:
                self._remember(head)
                self._remove(head.entry)
            with self._changed:
                self._queue.popleft()
                self._changed.notify_all()
                more = any(later.entry is not None for later in self._queue)
            if not more and not keep:
                for entry in self._preamble.values():
                    self._remove(entry)
                self._preamble.clear()
                self._release()

    def flush(self, timeout: float) -> bool:
        """Wait until nothing waits, for at most `timeout` seconds; whether that is so."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._queue and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return not self._queue

    def pause(self, seconds: float) -> None:
        """Wait until something is queued, closed or abandoned, for at most `seconds`."""
        with self._changed:
            if not self._abandoned:
                self._changed.wait(seconds)

    def close(self) -> None:
        """Take no more events."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Give nothing more out, and let nothing more be taken off: what is left goes into the spool."""
        with self._spooling, self._changed:
            self._abandoned = True
            self._changed.notify_all()

    @property
    def abandoned(self) -> bool:
        """Whether the writer is to end."""
        return self._abandoned

    def __len__(self) -> int:
        return len(self._queue)

    # -- the spool

    def take_up(self) -> int:
        """Put what an earlier life left in the spool before all that is queued; how many events.

        Raises SpoolBusyError and OSError.
        """
        if self.folder is None or not entries(self.folder):
            return 0
        with self._spooling:
            if self._spool is None:
                self._spool = Spool(self.folder, self._store, patience=60.0)
            with self._changed:
                known = {waiting.entry for waiting in self._queue} | set(self._preamble.values())
                earlier = [entry for entry in entries(self.folder) if entry not in known]
                self._queue.extendleft(Waiting(None, 0.0, entry) for entry in reversed(earlier))
            if not earlier and not known:  # somebody else has just uploaded them
                self._release()
        return len(earlier)

    def load(self, head: Waiting) -> None:
        """Read an event of an earlier life. Raises SpooledEventError; it is then kept beside the others."""
        if head.event is not None or head.entry is None:
            return
        try:
            stored = read_entry(head.entry)
            head.event, head.at = stored.event, stored.at
        except UserError:
            with self._spooling:
                if self._spool is not None and not self._abandoned:
                    self._spool.set_aside(head.entry)
            head.entry = None
            raise

    def keep(self, *, again: bool = False) -> Exception | None:
        """Put all that waits and is not there yet into the spool; what prevents it, told once.

        Where that failed it is tried again after 30 s, as a full disk may have got room. again: try at once.
        """
        with self._spooling:
            if self.folder is None or (self.error and not again and time.monotonic() - self._failed < _AGAIN):
                return None
            with self._changed:
                todo = [w for w in self._queue if w.entry is None and not isinstance(w.event, (*_PASSING, type(None)))]
            if not todo:
                return None
            try:
                if self._spool is None:
                    self._spool = Spool(self.folder, self._store, patience=2.0)
                for key, begun in self._begun.items():
                    if key not in self._preamble:
                        self._preamble[key] = self._spool.add(_for_disk(begun.event), begun.at)
                for waiting in todo:
                    waiting.entry = self._spool.add(_for_disk(waiting.event), waiting.at)
            except (OSError, SpoolBusyError) as error:
                new, self._failed = not self.error, time.monotonic()
                self.error = getattr(error, "strerror", None) or str(error)
                return error if new else None
            self.error = ""
            return None

    def draw(self, folder: Path) -> Exception | None:
        """Draw the last pictures that wait, which are no event for the disk, into files, which are; what fails.

        folder: an empty one, for as long as it takes to `keep` them. Earlier pictures are out of date.
        """
        with self._spooling, self._changed:
            due = [waiting for waiting in self._queue if isinstance(waiting.event, events.FiguresDue)]
            for outdated in due[:-1]:
                self._queue.remove(outdated)
        for waiting in due[-1:]:
            try:
                (folder / FIGURES).mkdir()
                waiting.event.draw(folder / FIGURES)
            except Exception as error:  # pictures are worth a sentence, not the search's end
                self._queue.remove(waiting)
                return error
            waiting.event = events.FileLogged(folder / FIGURES, "", None)
        return None

    def kept(self) -> int:
        """How many events are in the spool, besides those that it must begin with."""
        return 0 if self.folder is None else len(entries(self.folder)) - len(self._preamble)

    def lost(self) -> int:
        """How many events wait in memory only."""
        waiting = [w for w in list(self._queue) if not isinstance(w.event, events.Afterwards)]
        return sum(w.entry is None for w in waiting)

    def release(self) -> None:
        """Give the spool's lock back."""
        with self._spooling:
            self._release()

    def _release(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _remember(self, head: Waiting) -> None:
        """Keep what a spool must begin with: later events are nothing without the start of their study and trial."""
        event = head.event
        if isinstance(event, events.StudyStarted):
            self._begun = {None: Waiting(event, head.at)}
        elif isinstance(event, events.TrialStarted):
            self._begun[event.number] = Waiting(event, head.at)
        elif isinstance(event, events.TrialEnded):
            self._begun.pop(event.number, None)
            self._remove(self._preamble.pop(event.number, None))

    def _remove(self, entry: Path | None) -> None:
        if entry is None or self._spool is None:
            return
        try:
            self._spool.remove(entry)
        except OSError as error:  # it will be uploaded once more, which changes nothing
            _log.warning("%s stays in the spool: %s", entry, error)

    # -- promises

    def promise_later(self, patience: float, text: str) -> None:
        """Nobody waits longer than `patience` seconds for an event's promise: it raises WaitingError(text)."""
        with self._changed:
            late = [waiting for waiting in self._queue if now() - waiting.at >= patience]
        for waiting in late:
            where = f"waits in {self.folder} and is made by the next command of this study that reaches it"
            fail(waiting.event, WaitingError(f"{text} {where if waiting.entry else 'is made if it answers in time'}"))


def _for_disk(event: Any) -> Any:
    """The event as another process may write it: a study's start says where it was, not where it is uploaded."""
    if not isinstance(event, events.StudyStarted):
        return event
    return replace(event, tags={**machine_tags(), **source_tags(), **event.tags})


def fail(event: Any, error: Exception) -> bool:
    """Whoever waits for this event's promises gets `error`; whether somebody does."""
    open_ = [future for future in _promises(event) if not future.done() and not isinstance(future, _Unheard)]
    for future in open_:
        future.set_exception(error)
    return bool(open_)


def renewed(event: Any) -> Any:
    """The event with promises that nobody waits for, if some of its own are settled already."""
    if not any(future.done() for future in _promises(event)):
        return event
    names = [field.name for field in fields(event) if isinstance(getattr(event, field.name), Future)]
    return replace(event, **{name: _Unheard() for name in names})


class _Unheard(Future[Any]):
    """A promise whose own future was settled before: told that it will be kept later."""


def _promises(event: Any) -> list[Future[Any]]:
    """The futures in an event, whatever its type."""
    if event is None:
        return []
    values = [getattr(event, field.name) for field in fields(event)]
    return [value for value in values if isinstance(value, Future)]
