"""How a search stands: the study's storage and the driver's live state as one plain object, for `ambient-status`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ambient_ray.tuning.budget import seconds_per_image
from ambient_ray.tuning.reading import StoredStudy
from ambient_ray.tuning.records import TrialRecord

from .driver import Verdict

# The causes of older studies, whose trials have only a sentence; the first that is found.
_SAID = (
    ("out of memory", r"out of memory|OutOfMemory|MemoryError|OOM"),
    ("diverged", r"non-finite"),
    ("unjudgeable", r"missing or not finite"),
    ("storage", r"checkpoint|[Nn]o space left|storage"),
    ("node died", r"node .*(died|dead)|NodeDied"),
    ("worker died", r"[Ww]orker|actor|Actor|without a word"),
)


def standing(
    study: StoredStudy, live: Mapping[str, Any] | None, driver: Verdict, spooled: int, now: float
) -> dict[str, Any]:
    """All that `ambient-status` says of a study, as plain values that JSON can hold.

    Args:
        study: what the storage holds.
        live: what the driver last wrote (`read_live`), or None.
        driver: whether it lives.
        spooled: events that wait for MLflow on the disk.
        now: seconds since 1970.

    Returns:
        The keys that `ambient_ray.status` documents.
    """
    said = live if live is not None and driver.life != "dead" else None
    running = [_running(trial, study, said, now) for trial in study.trials if not trial.ended]
    own = [trial for trial in study.trials if trial.replica_of is None]
    states = Counter(trial.state for trial in own)
    plan = dict((live or {}).get("plan", {}))
    mlflow = dict((said or {}).get("mlflow", {"queued": None, "away_seconds": None}))
    return {
        "study": study.name,
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "driver": {
            "life": driver.life, "why": driver.why, "silent_seconds": _rounded(driver.seconds),
            "host": live["driver"]["host"] if live else None, "pid": live["driver"]["pid"] if live else None,
            "phase": said["phase"] if said else None,
        },
        "searched_seconds": _rounded(study.seconds),
        "trials": {
            **{state: states[state] for state in ("running", "finished", "stopped", "failed")},
            "planned": plan.get("trials"),
            "replicas_ended": sum(t.ended for t in study.trials if t.replica_of is not None),
            "replicas": sum(t.replica_of is not None for t in study.trials),
        },
        "rungs_done": sum(len(trial.rungs) for trial in study.trials),
        "images_seen": sum(trial.rungs[-1].images_seen for trial in study.trials if trial.rungs),
        "running": running,
        "waiting": {
            "room": [one["trial"] for one in running if one["doing"] == "waits for room"],
            "storage": [one["trial"] for one in running if one["doing"] == "waits for storage"],
        },
        "failures": failures(study.trials),
        "front": _front(study),
        "mlflow": {**mlflow, "spooled": spooled},
        "eta": _eta(study, running, plan, driver),
    }  # fmt: skip


def _running(trial: TrialRecord, study: StoredStudy, live: Mapping[str, Any] | None, now: float) -> dict[str, Any]:
    """A trial that has not ended: what it does, where, how far and how fast it is."""
    rungs = tuple(trial.settings.get("rungs", study.rungs))
    done = len(trial.rungs)
    scored = trial.rungs[-1].images_seen if trial.rungs else 0
    heard = None if live is None else live["trials"].get(str(trial.number))
    images = scored if heard is None else max(scored, int(heard["images"]))
    following = rungs[done] if done < len(rungs) else None
    speed = None if heard is None else heard["images_per_second"]
    silent = None if heard is None or live is None else heard["silent_seconds"] + max(0.0, now - live["at"])
    left, rests_on = _trial_seconds(trial, study, images, rungs, speed)
    return {
        "trial": trial.number, "label": trial.label, "arm": trial.arm, "replica_of": trial.replica_of,
        "doing": _doing(heard, live, images, following), "waits_for": (heard or {}).get("waits", ""),
        "where": [] if heard is None else heard["places"],
        "rung": done, "rungs": len(rungs), "images": images, "next_rung": following,
        "images_per_second": _rounded(speed), "loss": None if heard is None else heard["loss"],
        "silent_seconds": _rounded(silent), "starts": 0 if heard is None else heard["starts"],
        "eta_seconds": _rounded(left) if heard is not None else None, "eta_rests_on": rests_on if heard else "",
    }  # fmt: skip


def _doing(heard: Mapping[str, Any] | None, live: Mapping[str, Any] | None, images: int, following: int | None) -> str:
    if live is None:
        return "left behind"
    if heard is None:
        return "waits for its turn"
    if heard["waits"]:
        return "waits for storage"
    if not heard["places"]:
        return "waits for room"
    return "is scored" if following is not None and images >= following else "trains"


def _trial_seconds(
    trial: TrialRecord, study: StoredStudy, images: int, rungs: Sequence[int], speed: float | None
) -> tuple[float | None, str]:
    """Seconds until a trial has gone through all its rungs, if the judge lets it, and what that rests on."""
    left = max(0, rungs[-1] - images) if rungs else 0
    if own := seconds_per_image([trial]):
        return left * own, "its own rungs, scoring included"
    if others := seconds_per_image(study.trials):
        return left * others, "the rungs of the study, scoring included"
    return (left / speed, "its speed in training, scoring not included") if speed else (None, "")


def _eta(
    study: StoredStudy, running: Sequence[Mapping[str, Any]], plan: Mapping[str, Any], driver: Verdict
) -> dict[str, Any]:
    """When the search and its confirmation will have ended: seconds and what they rest on, or why nobody knows."""
    if driver.life == "dead" or not plan:
        return {"seconds": None, "rests_on": "no driver runs" if driver.life == "dead" else "the driver says no plan"}
    ended = [t.rungs[-1].images_seen for t in study.trials if t.ended and t.rungs and t.replica_of is None]
    each = seconds_per_image(study.trials)
    at_once = max(1, int(plan.get("at_once") or 1))
    if not ended or not each:
        return {"seconds": None, "rests_on": "known after the first trial that ends"}
    mean = sum(ended) / len(ended)
    own = sum(t.replica_of is None for t in study.trials)
    begun = [t for t in study.trials if t.replica_of is not None]
    full = max(study.rungs, default=0)
    to_come = max(0, int(plan.get("replicas") or 0) - len(begun)) * full
    unfinished = sum(max(0.0, (full if one["replica_of"] is not None else mean) - one["images"]) for one in running)
    basis = (
        f"ended trials ({len(ended)}) saw {mean:,.0f} images on average, an image takes {1000 * each:.3g} ms with its"
        f" scoring, {at_once} at once"
    )
    bounds = []
    if plan.get("trials") is not None:
        missing = max(0, int(plan["trials"]) - own) * mean
        bounds.append((missing + unfinished + to_come) * each / at_once)
    if plan.get("hours") is not None:
        rest = max(0.0, 3600 * float(plan["hours"]) - study.seconds)
        bounds.append(rest + (unfinished * each / at_once if not rest else 0.0))
        basis += f", {plan['hours']:g} hours at the most"
    if not bounds:
        return {"seconds": None, "rests_on": "GPU hours bound it, which end when they are held"}
    return {"seconds": _rounded(min(bounds)), "rests_on": basis}


def failures(trials: Sequence[TrialRecord]) -> dict[str, dict[str, Any]]:
    """Cause -> the trials that failed for it with their reasons, and how often a trial survived it."""
    found: dict[str, dict[str, Any]] = {}

    def of(cause: str) -> dict[str, Any]:
        return found.setdefault(cause, {"trials": {}, "survived": 0})

    for trial in trials:
        if trial.state == "failed":
            of(cause_of(trial))["trials"][str(trial.number)] = trial.reason
        for fault in trial.faults:
            of(fault.cause)["survived"] += 1
    return dict(sorted(found.items()))


def cause_of(trial: TrialRecord) -> str:
    """Why a trial has failed, in a word or two (`faults.CAUSES`); "error" for what has no name."""
    if trial.cause:
        return trial.cause
    for cause, pattern in _SAID:
        if re.search(pattern, trial.reason):
            return cause
    return "error"


def _front(study: StoredStudy) -> dict[str, Any] | None:
    """The front so far; None for a study that was never claimed."""
    land, objectives = study.landscape(), study.objectives
    if land is None or objectives is None:
        return None
    return {
        "objectives": [objectives.fidelity, objectives.memorization],
        "hypervolume": land.hypervolume,
        "candidates": len(land.candidates),
        "points": [
            {
                "trial": c.trial.number, "label": c.trial.label, "rung": c.rung.rung + 1,
                "images": c.rung.images_seen, "scores": [c.fidelity, c.memorization],
            }
            for c in land.front
        ],
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
