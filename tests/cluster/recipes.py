"""The files of cluster/ as the tests read them, and copies with a fault planted."""

import copy
import re
import shlex
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
NATIVE = ("kuberay/base.yaml", "mlflow/kubernetes.yaml")
LAUNCHERS = ("aws.yaml", "gcp.yaml")


def documents(name):
    """All documents of a YAML file of cluster/."""
    return [found for found in yaml.safe_load_all((CLUSTER / name).read_text()) if found]


def document(name):
    """The one document of a YAML file of cluster/."""
    (found,) = documents(name)
    return found


def planted(tree, path, value):
    """A copy of a tree in which `path`, a tuple of keys and indices, is `value`; the rest is as it was."""
    tree = copy.deepcopy(tree)
    place = tree
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return tree


def nodes(tree, path=()):
    """Every (path, value) below a tree of dictionaries and lists, itself included."""
    yield path, tree
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from nodes(value, (*path, key))


def cluster_specs():
    """The Ray clusters of the two KubeRay files."""
    return {
        "rayjob.yaml": document("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"],
        "raycluster.yaml": document("kuberay/raycluster.yaml")["spec"],
    }


def blocks(text, language="bash"):
    """The fenced blocks of a Markdown text, continued lines joined."""
    return [b.replace("\\\n", " ") for b in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]


def search_commands():
    """{where: overrides} of every search that a file of cluster/ starts."""
    found = {"rayjob.yaml": shlex.split(document("kuberay/rayjob.yaml")["spec"]["entrypoint"])}
    for name in ("README.md", "mlflow/README.md"):
        for block in blocks((CLUSTER / name).read_text()):
            for line in block.splitlines():
                if "ambient_ray.search" in line:
                    found[f"{name}: {len(found)}"] = shlex.split(line.split(" #")[0])
    for line in (CLUSTER / "slurm.sbatch").read_text().splitlines():
        if line.startswith("#   sbatch cluster/slurm.sbatch"):
            found["slurm.sbatch"] = ["ambient_ray.search", *shlex.split(line)[3:]]
    return {
        where: [word for word in words[words.index("ambient_ray.search") + 1 :] if "=" in word]
        for where, words in found.items()
    }


def quantity(text):
    """A Kubernetes quantity as a number: `500m`, `7`, `26Gi`."""
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()
    scale = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 1e3, "M": 1e6, "G": 1e9}
    return float(number) * scale[unit]
