"""Uploads what a search could not record, because MLflow was away, from another command of its study."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ambient_ray.redaction import redacted

from ..labels import KIND
from ..location import existing_store
from ..store import SQLITE, TrackingStore, open_client, sqlite_path
from . import events
from .event_json import SpooledEventError
from .outage import Fault, fault, reason
from .spool import Spool, SpoolBusyError, entries, read_entry, store_of

if TYPE_CHECKING:
    from .runs import StudyRuns

SPOOL = "spool"  # in the folder of a study
_TRIES = 4


@dataclass(frozen=True)
class Uploaded:
    """What became of a spool.

    Attributes:
        folder: the spool.
        written: events that MLflow has now.
        left: events that still wait in the folder.
        problems: one sentence each: why they wait, and what could not be written and never will be.
    """

    folder: Path
    written: int
    left: int
    problems: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What to tell the user; empty where there was nothing to upload."""
        if not self.written and not self.left:
            return ""
        said = f"{self.written:,} events that a search had kept in {self.folder} are in MLflow now"
        return said + (f", {self.left:,} still wait there" if self.left else "")


def upload_spool(store: TrackingStore, folder: Path) -> Uploaded:
    """Write the events in `folder` into `store`, in their order; those that are written leave the folder.

    Nothing happens where there are none: neither is MLflow imported. Where the store is away, or a search that runs
    has the spool, they stay. A study whose search was killed during the outage is ended as killed.
    """
    waiting = len(entries(folder))
    if not waiting:
        return Uploaded(folder, 0, 0)
    try:
        spool = Spool(folder, store)
    except (SpoolBusyError, OSError) as error:
        return Uploaded(folder, 0, waiting, (str(error),))
    try:
        return _upload(store, spool)
    finally:
        spool.close()


def upload_spools(store: TrackingStore, output_dir: Path) -> list[Uploaded]:
    """`upload_spool` for each study below `output_dir` whose spool was meant for this store."""
    uploaded = []
    for folder in sorted(output_dir.glob(f"*/{SPOOL}")):
        meant = store_of(folder)
        if meant is not None and meant.uri == redacted(store.uri):
            uploaded.append(upload_spool(TrackingStore(store.uri, meant.artifact_location), folder))
    return uploaded


def catch_up(tracking_uri: str | None) -> list[str]:
    """Upload what searches kept for this store; what to tell the user.

    What a command calls that is about to read from the store. Looked for in `./outputs`, beside the store's database,
    and in the output folders that its studies name, where this machine has them. tracking_uri: as for `existing_store`,
    whose errors it raises.
    """
    uri = existing_store(tracking_uri)
    folders = {Path("outputs").resolve()} | ({sqlite_path(uri).parent} if uri.startswith(SQLITE) else set())
    folders |= _output_folders(uri)
    found = [one for folder in sorted(folders) for one in upload_spools(TrackingStore(uri, None), folder)]
    return [said for one in found for said in (one.sentence, *one.problems) if said]


def _output_folders(uri: str) -> set[Path]:
    """`output_dir` of the studies in a store."""
    client = open_client(uri)
    experiments = [found.experiment_id for found in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`{KIND}` = 'study'") if experiments else []
    return {Path(run.data.params["output_dir"]) for run in runs if "output_dir" in run.data.params}


def _upload(store: TrackingStore, spool: Spool) -> Uploaded:
    from .runs import StudyRuns

    written, problems, last = 0, [], None
    try:
        runs = StudyRuns(store)
        for entry in entries(spool.folder):
            try:
                stored = read_entry(entry)
            except SpooledEventError as error:
                problems.append(f"{error}; it is kept in {spool.set_aside(entry)}")
                continue
            runs.at, last = stored.at, stored.event
            problems += _write(runs, stored.event)
            spool.remove(entry)
            written += 1
        if runs.run_id and not isinstance(last, events.StudyFinished):
            runs.write(events.StudyFinished({}, "killed", ""))
    except Exception as error:  # what is left stays; the command that uploads has work of its own
        away = fault(error) is Fault.AWAY
        said = f"does not answer ({reason(error)})" if away else f"cannot take them ({type(error).__name__}: {error})"
        problems.append(f"MLflow at {redacted(store.uri)} {said}".partition("\n")[0])
    return Uploaded(spool.folder, written, len(entries(spool.folder)), tuple(problems))


def _write(runs: StudyRuns, event: events.Event) -> list[str]:
    """Write one event; the problem if it is a bad one. Raises what says that the store is away."""
    for tries in range(_TRIES):
        runs.last_try = tries == _TRIES - 1
        try:
            runs.write(event)
        except Exception as error:
            kind = fault(error)
            if kind is Fault.AWAY and runs.last_try:
                raise
            if kind is Fault.BAD or runs.last_try:
                return [f"{type(event).__name__}: {type(error).__name__}: {error}".partition("\n")[0]]
            time.sleep(0.25 * 2**tries)
        else:
            break
    return []
