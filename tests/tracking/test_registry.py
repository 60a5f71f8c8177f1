"""The registry through crashes, refusals and rivals: the state always explains itself, and a rerun completes it."""

import contextlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ambient_ray.interval import Interval
from ambient_ray.tracking import NotRegisteredError, Registration, TrackingStore, register_models, resolve_store
from ambient_ray.tracking.models.aliases import (
    CHAMPION,
    DONE,
    PREVIOUS,
    STATE,
    AliasMovedError,
    Note,
    aliases,
    now,
    promote,
)
from ambient_ray.tracking.models.origin import Origin
from ambient_ray.tracking.models.promotion import BASELINE, BEST, LOWEST, Evidence
from ambient_ray.tracking.models.versions import MODEL_ID, Entry, versions
from ambient_ray.tracking.store import open_client, sqlite_path

WRITES = ("create_", "set_", "delete_", "update_", "log_", "finalize_")
FACTS = {"extractor": "classifier", "n": 500}
FRONT = {0: (CHAMPION, LOWEST), 1: (BEST, BASELINE)}


class Crash(BaseException):
    """A SIGKILL, as far as the code can tell: nothing after it runs."""


class Wrapped:
    """A client whose k-th write fails. how: crash | refused (that write alone) | away (all from then on) | lost (the
    write is done, its answer is not heard)."""

    def __init__(self, client: MlflowClient, k: int, how: str) -> None:
        self.client, self.k, self.how, self.count = client, k, how, 0
        self.names: list[str] = []
        self.before: Callable[[str], None] = lambda name: None

    def __getattr__(self, name: str) -> object:
        method = getattr(self.client, name)
        if not name.startswith(WRITES):
            return method

        def write(*args: object, **kwargs: object) -> object:
            self.count += 1
            self.names.append(name)
            self.before(name)
            if self.how == "crash" and self.count == self.k:
                raise Crash(name)
            if self.how == "lost" and self.count == self.k:
                method(*args, **kwargs)
            if (self.count == self.k and self.how != "crash") or (self.how == "away" and self.count > self.k):
                raise MlflowException(f"attempt to write a readonly database ({name})")
            return method(*args, **kwargs)

        return write


class World:
    """One study's checkpoints and runs; every `register` is one life of its search."""

    def __init__(self, store: TrackingStore, write_checkpoint: Callable[..., Path]) -> None:
        self.client, self.count = open_client(store.uri), 0
        self.write_checkpoint = write_checkpoint
        found = self.client.get_experiment_by_name("registry")
        location = f"{store.artifact_location}/registry"
        self.experiment = found.experiment_id if found else self.client.create_experiment("registry", location)
        EXPERIMENT[:] = [self.experiment]

    def entry(self, seed: int, low: float, high: float, aliases: tuple[str, ...], study: str = "one", fd: float = 4.5):
        self.count += 1
        spread = Interval((low + high) / 2, low, high)
        evidence = Evidence(("fd", "f_mem"), Interval(fd, fd - 0.1, fd + 0.1), spread, True, facts=FACTS, seeds=(1, 2))
        run = self.client.create_run(self.experiment).info.run_id
        origin = Origin(study, seed, "ambient", dataset={"name": "digits", "content_hash": "ab", "n_train": 300})
        checkpoint = self.write_checkpoint(f"c{self.count}", seed=seed)
        return Entry(checkpoint, run, {"f_mem": 0.1, "f_mem_low": 0.08}, FACTS, evidence, origin, aliases)

    def front(self, seed: int, low: float, high: float, study: str = "one") -> list[Entry]:
        """Two models: the champion's evidence is [low, high]."""
        return [self.entry(10 * seed + n, low, high, names, study) for n, names in FRONT.items()]


@pytest.fixture(scope="module")
def fast_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingStore]:
    """A store in memory where the system has such a folder: its thousand commits need not reach a disk."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory)) if memory.is_dir() else tmp_path_factory.mktemp("registry")
    yield resolve_store(None, folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def world(fast_store: TrackingStore, write_checkpoint: Callable[..., Path]) -> World:
    return World(fast_store, write_checkpoint)


EXPERIMENT: list[str] = []


def explain(client: MlflowClient, model: str) -> dict[str, int]:
    """Assert all that must hold whatever happened, and return the aliases."""
    if not client.search_registered_models(f"name='{model}'"):
        return {}
    held = aliases(client, model)
    for version in versions(client, model):
        assert Evidence.read(version.tags) is not None and json.loads(version.tags["reproduce"])["study"]
        assert version.description and "No privacy guarantee is claimed" in version.description
        logged = client.get_logged_model(version.tags[MODEL_ID])
        assert logged.status == "READY"
    known = {int(v.version): v for v in versions(client, model)}
    assert set(held.values()) <= set(known)
    if CHAMPION in held:
        tags = known[held[CHAMPION]].tags
        assert tags[STATE] and tags["promoted.reason"] and tags["promoted.by"] and tags["promoted.at"]
        stepped_down = tags["promoted.from"]
        if stepped_down:  # the one before is reachable, unless the next promotion has begun
            assert held[PREVIOUS] in (int(stepped_down), held[CHAMPION])
    return held


def whole(client: MlflowClient, model: str, found: Registration) -> None:
    """Assert that the second front holds all aliases, with a card that says so."""
    held = explain(client, model)
    assert held[CHAMPION] == held[LOWEST] == found.champion == found.version and found.champion in (2, 3)
    assert held[BEST] == held[BASELINE] and {held[BEST], held[CHAMPION]} == {2, 3} and held[PREVIOUS] == 1
    assert sorted(int(v.version) for v in versions(client, model)) == [1, 2, 3]
    uploaded = [m for m in client.search_logged_models(EXPERIMENT, f"name = '{model}'") if m.status != "FAILED"]
    assert len(uploaded) == 3 and {m.status for m in uploaded} == {"READY"}, "one a version, whatever was interrupted"
    champion = client.get_model_version(model, str(held[CHAMPION]))
    assert champion.tags[STATE] == DONE and "## Promotion" in champion.description
    told = client.get_registered_model(model).tags
    for alias in (LOWEST, BEST, BASELINE):
        assert told[f"alias.{alias}"].startswith(f"version {held[alias]} since ")


def writes(world: World, model: str, entries: list[Entry]) -> list[str]:
    counted = Wrapped(world.client, -1, "refused")
    register_models(counted, model, entries)  # type: ignore[arg-type]
    return counted.names


MOVES = ("set_registered_model_alias", "set_model_version_tag", "set_registered_model_tag", "update_model_version")


def quick_folder(checkpoint: Path, folder: Path, **named: object) -> Path:
    """In place of `write_generator`: what a model's folder holds is other tests' matter."""
    folder.mkdir()
    shutil.copy(checkpoint / "model.safetensors", folder)
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ambient_ray.tracking.models.versions.write_generator", quick_folder)
    monkeypatch.setattr("ambient_ray.tracking.models.versions.write_mlflow_model", lambda generator, folder: generator)


@pytest.fixture
def again(fast_store: TrackingStore) -> Iterator[Callable[[], None]]:
    """A function that brings the database back to what it was when first called."""
    with contextlib.closing(sqlite3.connect(":memory:")) as kept:

        def restore() -> None:
            with contextlib.closing(sqlite3.connect(sqlite_path(fast_store.uri))) as now:
                known = kept.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
                (kept.backup(now) if known else now.backup(kept))

        yield restore


@pytest.mark.parametrize(
    ("how", "of"),
    [("crash", WRITES), ("refused", MOVES), ("away", MOVES[:2]), ("lost", MOVES[:1])],
)
def test_whatever_write_fails_the_state_explains_itself_and_a_rerun_completes_it(
    world: World, quick: None, again: Callable[[], None], how: str, of: tuple[str, ...]
) -> None:
    """A study's first choice, then its front with a better one: for every k, the k-th write fails, and it runs again.

    A crash at every write; what the code does about a refusal only where aliases move.
    """
    first, second = world.front(1, 0.3, 0.4)[:1], world.front(2, 0.1, 0.2)
    model = f"fail-{how}"
    register_models(world.client, model, first)
    again()
    names = writes(world, model, second)
    assert len(names) > 25 and names.count("create_model_version") == 2
    for k in [k for k, name in enumerate(names, 1) if name.startswith(of)]:
        again()
        failing = Wrapped(world.client, k, how)
        try:
            register_models(failing, model, second)  # type: ignore[arg-type]
            assert how == "lost", "only an answer that is lost may go unnoticed: the alias was there after all"
        except NotRegisteredError as error:
            assert how != "crash" and "readonly database" in str(error) and "\n" not in str(error)
        except Crash:
            assert how == "crash"
        assert failing.count >= k
        held = explain(world.client, model)
        assert held[CHAMPION] in (1, 2) and held.get(PREVIOUS) in (None, 1)
        if how == "refused" and held[CHAMPION] == 1:
            assert PREVIOUS not in held, "what was begun was undone"
        whole(world.client, model, register_models(world.client, model, second))
    assert writes(world, model, second) == [], "nothing is written that is there"


@pytest.mark.parametrize("turn", [1, 2])
def test_a_rival_who_is_faster_is_not_passed_over(world: World, turn: int) -> None:
    """Another search promotes between our decision and our write: we decide again, against the newcomer."""
    model = f"rival-{turn}"
    register_models(world.client, model, [world.entry(1, 0.3, 0.4, (CHAMPION,))])
    rival = world.entry(2, 0.1, 0.2, (CHAMPION,), study="other")
    ours = world.entry(3, (0.15, 0.0)[turn - 1], (0.25, 0.05)[turn - 1], (CHAMPION,))

    def overtake(name: str) -> None:
        if name == "set_registered_model_alias":
            racing.before = lambda name: None
            register_models(world.client, model, [rival])

    racing = Wrapped(world.client, -1, "refused")
    racing.before = overtake
    found = register_models(racing, model, [ours])  # type: ignore[arg-type]
    held = explain(world.client, model)
    if turn == 1:  # better than the old champion, not than the rival's
        assert not found.promoted and found.champion == held[CHAMPION] == 3 and held[PREVIOUS] == 1
        assert "no gain" in found.why
    else:
        assert found.promoted and held[CHAMPION] == found.version == 2 and held[PREVIOUS] == 3


def test_a_rival_at_the_very_same_moment_is_told(world: World) -> None:
    register_models(world.client, "same", [world.entry(1, 0.3, 0.4, (CHAMPION,))])
    register_models(world.client, "same", [world.entry(2, 0.3, 0.4, ())])

    class Blind(Wrapped):
        """Its read just before the write sees nothing of the rival, who writes just after it."""

        def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
            self.client.set_registered_model_alias(name, alias, version)
            if alias == CHAMPION:
                self.client.set_registered_model_alias(name, alias, "1")

    with pytest.raises(
        AliasMovedError, match="another writer made version 1 the champion at the same moment as version 2"
    ):
        promote(Blind(world.client, -1, ""), "same", 2, 1, Note("me", "a test", "none", now()))  # type: ignore[arg-type]


def test_descriptive_aliases_follow_their_study_and_leave_it_for_a_shown_gain_alone(world: World) -> None:
    def life(study: str, seed: int, low: float, high: float, **changed: object) -> Registration:
        entry = world.entry(seed, low, high, (LOWEST,), study)
        return register_models(world.client, "described", [replace(entry, evidence=replace(entry.evidence, **changed))])

    assert life("one", 1, 0.2, 0.3).aliases == {LOWEST: "version 1"}
    assert life("one", 2, 0.4, 0.5).aliases == {LOWEST: "version 2, before: version 1"}  # worse: the front moved on
    told = life("two", 3, 0.35, 0.45).aliases[LOWEST]
    assert told.startswith("stays at version 2 of the study one, not version 3: ") and "no gain" in told
    assert "do not compare" in life("two", 4, 0.0, 0.1, facts={"n": 50}).aliases[LOWEST]
    assert life("two", 5, 0.0, 0.1).aliases[LOWEST].startswith("version 5, before: version 2 (better than version 2")
    assert aliases(world.client, "described") == {LOWEST: 5}
    said = world.client.get_registered_model("described").tags[f"alias.{LOWEST}"]
    assert said.startswith("version 5 since ") and "0.050 [0.000, 0.100] against 0.450 [0.400, 0.500]" in said


def test_confirmed_evidence_is_not_replaced_by_a_single_run(world: World) -> None:
    entry = world.entry(1, 0.3, 0.4, (CHAMPION,))
    register_models(world.client, "kept", [entry])
    guess = replace(entry, evidence=replace(entry.evidence, confirmed=False, memorization=Interval(0.0)))
    register_models(world.client, "kept", [guess])
    found = Evidence.read(world.client.get_model_version("kept", "1").tags)
    assert found is not None and found.confirmed and found.memorization == Interval(0.35, 0.3, 0.4)


def test_a_read_only_database_is_told_in_one_sentence(world: World, tmp_path: Path) -> None:
    entries = world.front(7, 0.1, 0.2)
    refusing = Wrapped(world.client, 1, "away")
    with pytest.raises(NotRegisteredError, match=r"^2 of 2 models of refused are not registered \(attempt to write a"):
        register_models(refusing, "refused", entries)  # type: ignore[arg-type]
    late = Wrapped(world.client, 14, "away")
    with pytest.raises(NotRegisteredError, match=r"[12] of 2 models of refused are not registered"):
        register_models(late, "refused", entries)  # type: ignore[arg-type]
    assert register_models(world.client, "refused", entries).versions == (1, 2)
