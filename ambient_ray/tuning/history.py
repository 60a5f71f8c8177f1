"""A study's history: what was known when each of its trials was asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .records import RungRecord, TrialRecord


def turns(trial: TrialRecord) -> list[int]:
    """The places of a trial's start, rungs and end in the history of its study; 0 for one that nobody noted."""
    return [trial.begun, *(rung.turn for rung in trial.rungs), trial.over]


def history(trials: Sequence[TrialRecord]) -> Iterator[tuple[list[TrialRecord], TrialRecord]]:
    """The study as it was when each of its trials was asked for, and that trial, in that order.

    Of studies that kept no order the trials are taken to have run one after the other.

    Args:
        trials: all of a study's, by number.

    Yields:
        The trials before it, running ones with the rungs that they had, and the trial with all that became of it. The
        list is one and the same all along, and changes.
    """
    events: list[tuple[int, int, int, int, RungRecord | None]] = []  # turn, trial, rung, place, record
    for place, trial in enumerate(trials):
        events.append((trial.begun, trial.number, -1, place, None))
        events += [(rung.turn, trial.number, rung.rung, place, rung) for rung in trial.rungs]
        if trial.ended:
            events.append((trial.over, trial.number, len(trial.rungs), place, None))
    known: list[TrialRecord] = []
    for _, _, index, place, rung in sorted(events, key=lambda event: event[:3]):
        trial = trials[place]
        if index < 0:
            yield known, trial
            known.append(replace(trial, state="running", rungs=(), reason="", spared=0.0, over=0))
        elif rung is not None:
            known[place] = known[place].with_rung(rung)
        else:
            known[place] = replace(known[place], state=trial.state, reason=trial.reason, spared=trial.spared)
