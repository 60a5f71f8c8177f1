"""rayjob.yaml and raycluster.yaml against KubeRay's schema made strict, its operator's rules, and Ray's autoscaler."""

import copy
import json
import os
import re
import sys
from pathlib import Path

import jsonschema
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from recipes import cluster_specs, document, nodes, planted

VARIABLE = "AMBIENT_KUBERAY_CRDS"
FILES = ("rayjob.yaml", "raycluster.yaml")


def strict(schema):
    """A copy in which a field that the schema does not know is an error, as a typo is; the API server would drop it."""
    schema = copy.deepcopy(schema)
    for _, node in nodes(schema):
        if isinstance(node, dict) and isinstance(node.get("properties"), dict):
            open_to_all = node.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in node
            if node.get("type", "object") == "object" and not open_to_all:
                node["additionalProperties"] = False
    return schema


@pytest.fixture(scope="module")
def schemas():
    """{kind/version: strict schema} of KubeRay 1.7, which is not part of this project."""
    path = os.environ.get(VARIABLE)
    if not path:
        pytest.skip(f"{VARIABLE} names no file with KubeRay's schemas ({{kind/version: openAPIV3Schema}} as JSON)")
    return {name: strict(found) for name, found in json.loads(Path(path).read_text()).items()}


def schema_problems(resource, schemas):
    schema = schemas[f"{resource['kind']}/{resource['apiVersion'].rpartition('/')[2]}"]
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in jsonschema.Draft202012Validator(schema).iter_errors(resource)
    ]


@pytest.mark.parametrize("name", FILES)
def test_every_field_is_one_that_kuberay_knows(schemas, name):
    assert schema_problems(document(f"kuberay/{name}"), schemas) == []


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("spec", "backofLimit"), 5, "backofLimit"),
        (("spec", "submissionMode"), 7, "submissionMode"),
        (("spec", "rayClusterSpec", "autoscalerOptions", "version"), "v3", "v3"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "prioritty"), 1, "prioritty"),
        (
            ("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "tolerations", 0, "efect"),
            "x",
            "efect",
        ),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "imagee"), "x", "imagee"),
        (("spec", "deletionStrategy", "deletionRules", 0, "policy"), "DeleteAll", "DeleteAll"),
    ],
)
def test_a_typo_or_a_wrong_value_is_found(schemas, path, value, word):
    problems = schema_problems(planted(document("kuberay/rayjob.yaml"), path, value), schemas)
    assert any(word in problem for problem in problems), problems


def operator_problems(resource):
    """What KubeRay's operator refuses though the schema has it, by its documentation of RayJob and authentication."""
    spec = resource["spec"]
    job = resource["kind"] == "RayJob"
    cluster = spec["rayClusterSpec"] if job else spec
    groups = cluster["workerGroupSpecs"]
    found = []
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", resource["metadata"]["name"]):
        found.append("name: at most 47 small letters, digits and hyphens")
    for group in [cluster["headGroupSpec"], *groups]:
        if group.get("resources") and group["rayStartParams"].keys() & {"num-cpus", "num-gpus", "memory", "resources"}:
            found.append("resources are given twice")
        if "labels" in group["rayStartParams"]:
            found.append("labels belong to the group")
        if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            found.append("autoscaler v2 wants restartPolicy Never")
        if group.get("suspend"):
            found.append("a group cannot be suspended with autoscaling")
    if cluster.get("authOptions", {}).get("mode") == "token":
        if tuple(map(int, cluster.get("rayVersion", "0.0").split(".")[:2])) < (2, 52):
            found.append("tokens need rayVersion 2.52")
    else:
        found.append("no token")
    if cluster.get("autoscalerOptions", {}).get("version") != "v2" or not cluster.get("enableInTreeAutoscaling"):
        found.append("priority and idle times of groups need autoscaler v2")
    return found + (_job_problems(spec) if job else [])


def _job_problems(spec):
    found = []
    if spec["submissionMode"] == "SidecarMode":
        found += [
            f"not with SidecarMode: {k}"
            for k in ("submitterPodTemplate", "submitterConfig", "clusterSelector")
            if k in spec
        ]
    if spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"):
        found.append("cannot be suspended")
    rules = spec["deletionStrategy"]["deletionRules"]
    if spec.get("shutdownAfterJobFinishes") or spec.get("ttlSecondsAfterFinished"):
        found.append("deletionRules exclude shutdownAfterJobFinishes and its time")
    seen = {}
    for rule in rules:
        condition, policy = rule["condition"], rule["policy"]
        if ("jobStatus" in condition) == ("jobDeploymentStatus" in condition):
            found.append("a condition has one status")
        if policy == "DeleteWorkers":
            found.append("DeleteWorkers is not for clusters with autoscaling")
        status = (condition.get("jobStatus"), condition.get("jobDeploymentStatus"))
        if policy in seen.setdefault(status, {}):
            found.append(f"two rules for {policy} at {status}")
        seen[status][policy] = condition.get("ttlSeconds", 0)
    for times in seen.values():
        if times.get("DeleteSelf", 10**9) < times.get("DeleteCluster", 0):
            found.append("the job would go before its cluster")
    return found


@pytest.mark.parametrize("name", FILES)
def test_the_operator_takes_it(name):
    assert operator_problems(document(f"kuberay/{name}")) == []


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("metadata", "name"), "Faces", "small letters"),
        (("spec", "shutdownAfterJobFinishes"), True, "exclude"),
        (("spec", "submitterConfig"), {"backoffLimit": 2}, "SidecarMode"),
        (("spec", "deletionStrategy", "deletionRules", 0, "policy"), "DeleteWorkers", "autoscaling"),
        (("spec", "deletionStrategy", "deletionRules", 2, "condition", "ttlSeconds"), 1, "before its cluster"),
        (("spec", "deletionStrategy", "deletionRules", 4, "condition", "jobStatus"), "FAILED", "one status"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "disabled", "no token"),
        (("spec", "rayClusterSpec", "autoscalerOptions", "version"), "v1", "autoscaler v2"),
        (("spec", "rayClusterSpec", "headGroupSpec", "resources"), {"CPU": "0"}, "twice"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "restartPolicy"), "Always", "restartPolicy"),
    ],
)
def test_what_the_operator_would_refuse_is_found(path, value, word):
    problems = operator_problems(planted(document("kuberay/rayjob.yaml"), path, value))
    assert any(word in problem for problem in problems), problems


def test_both_files_describe_the_same_cluster():
    one, other = cluster_specs().values()
    assert one == other


def autoscaler_config():
    """What Ray's autoscaler makes of the cluster, by its own code; it validates what it made."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    resource = copy.deepcopy(document("kuberay/raycluster.yaml"))
    return _derive_autoscaling_config_from_ray_cr(resource)


def test_rays_autoscaler_prefers_spot_and_puts_no_trial_on_the_head():
    types = autoscaler_config()["available_node_types"]
    head, spot, kept = types["headgroup"], types["gpu-spot"], types["gpu-on-demand"]
    assert head["resources"]["CPU"] == 0 and "GPU" not in head["resources"]
    assert spot["priority"] > kept["priority"]
    assert spot["resources"] == kept["resources"] and spot["resources"]["GPU"] == 1
    assert spot["max_workers"] > 0 and kept["max_workers"] > 0  # when no spot machine can be had


def test_the_head_is_never_on_a_machine_that_may_be_taken_away():
    for name, cluster in cluster_specs().items():
        affinity = cluster["headGroupSpec"]["template"]["spec"]["affinity"]["nodeAffinity"]
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        refused = {
            (e["key"], v.lower()) for e in term["matchExpressions"] if e["operator"] == "NotIn" for v in e["values"]
        }
        spot = next(g for g in cluster["workerGroupSpecs"] if g["groupName"] == "gpu-spot")
        chosen = {(key, value.lower()) for key, value in spot["template"]["spec"]["nodeSelector"].items()}
        assert chosen <= refused, name
