"""The registry through crashes, refusals and rivals: whatever write fails, the state explains itself and a rerun ends it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ambient_ray.interval import Interval
from ambient_ray.tracking import NotRegisteredError, Registration, TrackingStore, register_models
from ambient_ray.tracking.aliases import CHAMPION, DONE, PREVIOUS, STATE, aliases
from ambient_ray.tracking.origin import Origin
from ambient_ray.tracking.promotion import BASELINE, BEST, LOWEST, Evidence
from ambient_ray.tracking.store import open_client
from ambient_ray.tracking.versions import MODEL_ID, Entry, versions

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


@pytest.fixture
def world(store: TrackingStore, write_checkpoint: Callable[..., Path]) -> World:
    return World(store, write_checkpoint)


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


@pytest.mark.parametrize(
    ("how", "of"),
    [("crash", WRITES), ("refused", MOVES), ("away", MOVES[:2]), ("lost", MOVES[:1])],
)
def test_whatever_write_fails_the_state_explains_itself_and_a_rerun_completes_it(
    world: World, how: str, of: tuple[str, ...]
) -> None:
    """A study's first choice, then its front with a better one: for every k, the k-th write fails, and it runs again.

    A crash at every write; what the code does about a refusal only where aliases move.
    """
    first, second = world.front(1, 0.3, 0.4)[:1], world.front(2, 0.1, 0.2)
    register_models(world.client, f"count-{how}", first)
    names = writes(world, f"count-{how}", second)
    assert len(names) > 25 and names.count("create_model_version") == 2
    for k in [k for k, name in enumerate(names, 1) if name.startswith(of)]:
        model = f"fail-{how}-{k}"
        register_models(world.client, model, first)
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
