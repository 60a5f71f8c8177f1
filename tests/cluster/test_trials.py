"""What no tool checks: the commands in the recipes are ones this version takes, and their trials fit the nodes."""

import functools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from recipes import CLUSTER, LAUNCHERS, cluster_specs, document, planted, quantity, search_commands

from ambient_ray.console.command import ConfigurationError, load
from ambient_ray.console.configuration import validate
from ambient_ray.tuning.running.shape import TrialShape, TrialShapeError

GIB = 2**30
#: Memory of a node: Ray's own processes, the driver's share of the object store, and 6 GiB for each training worker
#: (PyTorch with CUDA is about 4 before the first batch).
RAY_MEMORY, WORKER_MEMORY = 4 * GIB, 6 * GIB
#: GiB of the machines that the launchers name (the clouds' documentation).
MACHINES = {
    "g6.2xlarge": (8, 32, 1), "g5.2xlarge": (8, 32, 1), "m7i.xlarge": (4, 16, 0),
    "g2-standard-8": (8, 32, 1), "n1-standard-8": (8, 30, 1), "n2-standard-4": (4, 16, 0),
}  # fmt: skip
#: The longest that a rung's evaluation may leave a node without work, in seconds: sampling and scoring of the largest
#: preset takes 1,446 + 22 s over its four rungs on an A100 (benchmarks/SCALE.md), and spot machines are smaller.
EVALUATION = 1.5 * (1446 + 22) / 4


@functools.cache
def _composed(overrides):
    return validate(load("search", overrides))


def composed(overrides):
    """The validated configuration of a command. Raises ConfigurationError."""
    return _composed(tuple(overrides))


COMMANDS = search_commands()


def test_every_recipe_starts_a_search():
    assert {"rayjob.yaml", "slurm.sbatch"} <= COMMANDS.keys()
    assert sum(where.startswith("README.md") for where in COMMANDS) >= 3


@pytest.mark.parametrize("where", sorted(COMMANDS))
def test_commands_are_ones_that_this_version_takes(where):
    config = composed(COMMANDS[where])
    assert config.study == "faces"
    assert str(config.dataset.path).startswith("/"), "a job's working directory is a temporary copy"


def test_an_unknown_key_in_a_command_is_found():
    with pytest.raises(ConfigurationError, match="checkpoint_folder"):
        composed([*COMMANDS["rayjob.yaml"], "checkpoint_folder=/x"])
    with pytest.raises(ConfigurationError, match="preset"):
        composed([*COMMANDS["rayjob.yaml"], "+preset=ffhq65"])


def group_nodes(cluster):
    """{group: (resources as Ray counts them, bytes of memory)} of a KubeRay cluster's workers."""
    found = {}
    for group in cluster["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        resources = {"CPU": int(quantity(limits["cpu"])), "GPU": int(quantity(limits.get("nvidia.com/gpu", 0)))}
        found[group["groupName"]] = (resources, quantity(limits["memory"]))
    return found


def launcher_nodes(config):
    """The same of a cluster launcher's workers."""
    found = {}
    for name, kind in config["available_node_types"].items():
        machine = kind["node_config"].get("InstanceType") or kind["node_config"]["machineType"]
        cpus, gib, gpus = MACHINES[machine]
        told = kind["resources"]
        assert told["CPU"] <= cpus and told.get("GPU", 0) <= gpus, f"{name}: Ray is told of more than {machine} has"
        if name != config["head_node_type"]:
            found[name] = (told, gib * GIB)
    return found


def fit_problems(shape, nodes):
    """On which kinds of node a trial does not fit: by Ray's resources, and by memory."""
    found = []
    for name, (resources, memory) in nodes.items():
        single = TrialShape(1, shape.cpus, shape.gpus)
        try:
            workers = single.concurrency([resources])
        except TrialShapeError as error:
            found.append(f"{name}: {error}")
            continue
        if RAY_MEMORY + workers * WORKER_MEMORY > memory:
            found.append(f"{name}: {workers} workers want more than its {memory / GIB:g} GiB of memory")
        if shape.gpus and not resources.get("GPU"):
            found.append(f"{name}: no GPU")
    return found


def shape_of(where):
    trial = composed(COMMANDS[where]).trial
    return TrialShape(trial.workers, trial.cpus_per_worker, trial.gpus_per_worker)


TARGETS = {
    **{name: group_nodes(cluster) for name, cluster in cluster_specs().items()},
    **{name: launcher_nodes(document(name)) for name in LAUNCHERS},
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_trial_fits_every_kind_of_worker(target):
    for where in COMMANDS:
        if where != "slurm.sbatch" and composed(COMMANDS[where]).trial.gpus_per_worker:
            assert fit_problems(shape_of(where), TARGETS[target]) == [], where


def test_slurms_trial_fits_its_nodes():
    directives = dict(
        line.removeprefix("#SBATCH --").split("=", 1)
        for line in (CLUSTER / "slurm.sbatch").read_text().splitlines()
        if line.startswith("#SBATCH --") and "=" in line
    )
    node = {"CPU": int(directives["cpus-per-task"]), "GPU": int(directives["gpus-per-node"])}
    assert fit_problems(shape_of("slurm.sbatch"), {"node": (node, 256 * GIB)}) == []
    assert shape_of("slurm.sbatch").concurrency([node] * int(directives["nodes"])) == node["GPU"] * int(
        directives["nodes"]
    )


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ({"cpu": "4", "memory": "26Gi", "nvidia.com/gpu": "1"}, "no node can hold"),
        ({"cpu": "7", "memory": "26Gi"}, "no node can hold"),
        ({"cpu": "7", "memory": "8Gi", "nvidia.com/gpu": "1"}, "memory"),
    ],
)
def test_a_node_that_is_too_small_is_found(limits, word):
    path = ("workerGroupSpecs", 0, "template", "spec", "containers", 0, "resources", "limits")
    small = planted(cluster_specs()["rayjob.yaml"], path, limits)
    problems = fit_problems(shape_of("rayjob.yaml"), group_nodes(small))
    assert any(word in problem for problem in problems), problems


def idle_seconds():
    """{where: after how many seconds without work a node is taken away}."""
    found = {name: document(name)["idle_timeout_minutes"] * 60 for name in LAUNCHERS}
    for name, cluster in cluster_specs().items():
        found[name] = cluster["autoscalerOptions"]["idleTimeoutSeconds"]
        for group in cluster["workerGroupSpecs"]:
            found[f"{name}: {group['groupName']}"] = group.get("idleTimeoutSeconds", found[name])
    return found


def test_no_node_is_taken_away_while_a_rung_is_evaluated():
    assert all(seconds > EVALUATION for seconds in idle_seconds().values()), idle_seconds()
    assert max(idle_seconds().values()) <= 3600, "an idle GPU costs"


def test_the_study_and_its_checkpoints_outlive_the_cluster():
    config = composed(COMMANDS["rayjob.yaml"])
    assert config.storage and config.storage.startswith("postgresql+psycopg2://")
    assert ":" not in config.storage.partition("://")[2].partition("@")[0], "a password in a command"
    assert str(config.model_dump().get("checkpoints", "")).startswith("s3://")
