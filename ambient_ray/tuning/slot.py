"""One place for a trial, without Ray: what is submitted to it, who works on it, and what was told."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

# Seconds after which a call that waits for news comes back without any, and is made again.
POLL = 20.0
# Groups of workers in a row that ended before they asked for a trial, after which a slot gives up.
_STILLBORN = 3

Job = Mapping[str, Any]
Message = Mapping[str, Any]


class Slot:
    """One place for a trial: what is submitted, who works on it, and what was told. All methods may be called by any
    thread.

    Args:
        run: starts workers that serve this slot, as the given launch, and waits until they have ended; raises when
            they failed. Called in the slot's own thread, again after every failure.
        max_failures: how often a trial is given to new workers after its workers failed.
        reason: one sentence for an error that `run` raised.
        first_launch: what the first launch is called; larger than any that workers still alive may belong to.
    """

    def __init__(
        self,
        run: Callable[[int], None],
        max_failures: int,
        reason: Callable[[BaseException], str],
        first_launch: int = 0,
    ) -> None:
        self._run, self._max_failures, self._reason = run, max_failures, reason
        self._changed = threading.Condition()
        self._job: Job | None = None
        self._told: list[Message] = []
        self._failures = 0
        self._launch = first_launch - 1
        self._given: list[Job] = []  # to the workers of this launch, in order
        self._asked = False
        self._taken = True
        self._closed = False
        self._broken = ""
        self._thread = threading.Thread(target=self._keep_running, name="slot", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Hold this trial. Once more about the trial that is held already (its driver came back) changes nothing."""
        with self._changed:
            if self._job is not None and self._job["number"] == job["number"]:
                return
            self._job, self._told, self._failures, self._taken = job, [], 0, False
            if self._broken:
                self._end({"state": "failed", "reason": self._broken})
            self._changed.notify_all()

    def news(self, number: int, after: int, seconds: float = POLL) -> list[Message] | None:
        """What was told of trial `number` beyond its first `after` messages; waits for it for so many seconds.

        Returns:
            The messages, perhaps none; None when the slot knows nothing of this trial, which must be submitted (again).
        """

        def there() -> bool:
            return self._job is None or self._job["number"] != number or len(self._told) > after

        with self._changed:
            self._changed.wait_for(there, seconds)
            if self._job is None or self._job["number"] != number:
                return None
            return self._told[after:]

    def next(self, launch: int, index: int, seconds: float = POLL) -> tuple[str, Job | None]:
        """The index-th trial for the workers of a launch, the same for every one of them.

        Returns:
            ("job", the trial), ("wait", None) when there is none yet, or ("end", None) for workers that may leave.
        """

        def ready() -> bool:
            return self._closed or launch != self._launch or len(self._given) > index or not self._taken

        with self._changed:
            self._asked = self._asked or launch == self._launch
            self._changed.wait_for(ready, seconds)
            if self._closed or launch != self._launch:
                return "end", None
            if len(self._given) == index and not self._taken:
                assert self._job is not None  # what is not taken was submitted
                self._given.append(self._job)
                self._taken = True
                self._changed.notify_all()
            return ("job", self._given[index]) if len(self._given) > index else ("wait", None)

    def tell(self, launch: int, number: int, message: Message) -> bool:
        """A worker reports; True while its trial is wanted. Workers that were replaced are not heard, and neither is
        what they say of a trial that has ended or that another has followed."""
        with self._changed:
            wanted = launch == self._launch and self._job is not None and self._job["number"] == number
            wanted = wanted and not self._ended
            if wanted:
                self._told.append(message)
                self._changed.notify_all()
            return wanted

    def close(self, seconds: float) -> None:
        """Send the workers home and wait for them, at most so long."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(seconds)

    def _end(self, message: Message) -> None:
        if not self._ended:
            self._told.append(message)
            self._taken = True

    @property
    def _ended(self) -> bool:
        return bool(self._told) and "state" in self._told[-1]

    def _keep_running(self) -> None:
        stillborn = 0
        while True:
            with self._changed:
                if self._closed:
                    return
                self._launch += 1
                self._given, self._asked = [], False
            try:
                self._run(self._launch)
                reason = "its workers ended without a word"
            except Exception as error:  # whatever ended the workers is the trial's end at the worst, not the slot's
                reason = self._reason(error)
            with self._changed:
                stillborn = 0 if self._asked else stillborn + 1
                if self._given:
                    self._failed(reason)
                elif stillborn >= _STILLBORN:
                    self._broken = reason
                    if self._job is not None:
                        self._end({"state": "failed", "reason": reason})
                self._changed.notify_all()
                if self._broken:
                    return

    def _failed(self, reason: str) -> None:
        """Workers are gone: their trial is for the next ones, or has failed."""
        if self._job is None or self._ended or not self._taken:
            return
        self._failures += 1
        if self._failures > self._max_failures:
            self._end({"state": "failed", "reason": reason})
        else:
            self._taken = False
