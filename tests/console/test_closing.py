"""What a search leaves on the terminal: the confirmation, what bounds the volume, who holds the alias and why."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from ambient_ray.console.closing import Registered, print_closing, rich_table
from ambient_ray.reporting.tables import confirmed_table
from ambient_ray.reporting.verdict import conclude
from ambient_ray.reporting.volume import bounds
from ambient_ray.tracking import Registration
from ambient_ray.tuning.champion import Rule
from ambient_ray.tuning.confirmation import failed_replicas
from ambient_ray.tuning.records import Landscape, Objectives, RungRecord, TrialRecord

OBJECTIVES = Objectives("fd", "f_mem")


def trial(number, arm, *path, of=None, seed=1, state="finished", reason=""):
    rungs = tuple(RungRecord(i, 1000 * 2**i, {"fd": fd, "f_mem": m}, {}, "c") for i, (fd, m) in enumerate(path))
    settings = {"sigma_tn": 0.0 if arm == "ddpm" else 0.5} | ({} if of is None else {"seed": seed, "rungs": [1000]})
    return TrialRecord(number, arm, settings, state, rungs, reason, replica_of=of)


TRIALS = [
    trial(0, "ddpm", (4.6, 0.4)),
    trial(1, "ambient", (4.7, 0.1)),
    *(trial(2 + s, "ddpm", (4.6 + s / 10, 0.4), of=0, seed=1 + s) for s in range(3)),
    *(trial(5 + s, "ambient", (4.6, 0.1 + s / 100), of=1, seed=1 + s) for s in range(2)),
    trial(7, "ambient", of=1, seed=3, state="failed", reason="the loss is not finite"),
]
LAND = Landscape.of(TRIALS, OBJECTIVES, (9.2, 1.0))


def closing(registration):
    page = io.StringIO()
    print_closing(
        Console(file=page, width=160), LAND, OBJECTIVES, conclude(LAND, TRIALS, OBJECTIVES, Rule()),
        tolerance=0.05, delta=1.0, tracking_uri="sqlite:////data/mlflow.db", model="faces", registration=registration,
        figure=None, output_dir=Path("/data"), failed=failed_replicas(TRIALS),
    )  # fmt: skip
    return page.getvalue()


def test_the_confirmation_stands_before_the_sentence_with_its_seeds_and_losses():
    text = closing(Registered(Registration(3, 3, True, "the model had no champion")))
    table, _, rest = text.partition("Confirmed on fresh training seeds")[2].partition("At matched fidelity (fd within")
    assert "0.105 [0.041, 0.169]" in table and "1, 2; 1 failed" in table and "champion" in table
    assert "Replica 7 of trial 1 (seed 3) failed after 0 rungs: the loss is not finite" in table
    assert "Ambient copies less, confirmed on 2 and 3 fresh training seeds" in rest
    assert "The champion is version 3 of the model faces:" in rest


def test_who_keeps_the_alias_is_said_with_the_reason():
    text = closing(Registered(Registration(4, 3, False, "no gain that the 95 % intervals carry")))
    assert "The champion is version 3" in text and "version 4 and did not take its place: no gain" in text
    assert "The champion is" not in closing(None)


def test_every_model_and_alias_of_the_registry_is_told():
    told = {
        "lowest-memorization": "version 5",
        "best-fidelity": "stays at version 1 of the study old, not version 4: no gain",
    }
    found = Registration(3, 3, True, "the model had no champion", (3, 4, 5), told)
    text = closing(Registered(found, left_out=2))
    assert "3 models of this search are versions 3 to 5 of the model faces; 2 more of the front are not" in text
    assert "(tracking.register_front):" in text
    assert "@lowest-memorization: version 5" in text and "@best-fidelity: stays at version 1 of the study old" in text
    assert "models of this search" not in closing(Registered(Registration(3, 3, True, "first", (3,))))


def test_a_registry_that_refuses_is_told_in_one_sentence_with_what_to_do():
    text = closing(Registered(None, 0, "2 of 3 models of faces are not registered (read-only database)"))
    assert text.count("2 of 3 models of faces are not registered (read-only database)") == 1
    assert "The same command again registers what is missing, and trains nothing." in text
    assert "At matched fidelity" in text and "The champion is" not in text


@pytest.mark.parametrize(
    ("delta", "trials", "said"),
    [
        (1.0, TRIALS, "fd 9.2 (twice DDPM's best) and f_mem 1"),
        (0.5, TRIALS, "fd 9.2 (1.5 times DDPM's best) and f_mem 1"),
        (1.0, TRIALS[1:2], "fd 9.2 (twice the first trial's best) and f_mem 1"),
    ],
)
def test_the_volumes_bound_is_explained(delta, trials, said):
    assert bounds(Landscape.of(trials, OBJECTIVES, (9.2, 1.0)), OBJECTIVES, delta) == said
    assert bounds(Landscape.of(trials, OBJECTIVES), OBJECTIVES, delta) == ""


def test_one_seed_is_shown_without_an_interval():
    page = io.StringIO()
    one = [TRIALS[0], trial(2, "ddpm", (4.6, 0.4), of=0)]
    verdict = conclude(Landscape.of(one, OBJECTIVES), one, OBJECTIVES, Rule())
    Console(file=page, width=160).print(rich_table(confirmed_table(verdict.confirmed, OBJECTIVES, verdict.champion)))
    assert "0.400 (no interval)" in page.getvalue()
