"""Kubernetes' own objects: by Kubernetes' schemas, by what they refer to, and by how little they may."""

import sys
from pathlib import Path

import kubernetes_validate
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from recipes import NATIVE, cluster_specs, documents, nodes, planted

#: Secrets that the commands in cluster/README.md make, with their keys.
SECRETS = {
    "ambient-ray-study": {"password"},
    "ambient-ray-mlflow": {"username", "password"},
    "postgres": {"mlflow", "studies"},
    "mlflow-server": {"session", "admin"},
}
ALL = [(name, found) for name in NATIVE for found in documents(name)]


def title(pair):
    return f"{pair[0]}-{pair[1]['kind']}-{pair[1]['metadata']['name']}"


@pytest.mark.parametrize(("name", "resource"), ALL, ids=map(title, ALL))
def test_kubernetes_takes_it(name, resource):
    for version in ("1.33", "1.37"):
        kubernetes_validate.validate(resource, version, strict=True)


def one(kind, name="mlflow/kubernetes.yaml"):
    return next(found for found in documents(name) if found["kind"] == kind)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "template", "spec", "containers", 0, "imagee"), "x"),
        ("Deployment", ("spec", "replicas"), "one"),
        ("NetworkPolicy", ("spec", "ingres"), []),
        ("StatefulSet", ("spec", "template", "spec", "containers", 0, "readinesProbe"), {}),
    ],
)
def test_a_typo_is_found(kind, path, value):
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(planted(one(kind), path, value), "1.37", strict=True)


def pods():
    """{where: the pod's spec} of everything that runs."""
    found = {}
    for name, resource in ALL:
        if resource["kind"] in ("Deployment", "StatefulSet"):
            found[f"{name}: {resource['metadata']['name']}"] = resource["spec"]["template"]["spec"]
    for name, cluster in cluster_specs().items():
        found[f"{name}: head"] = cluster["headGroupSpec"]["template"]["spec"]
        for group in cluster["workerGroupSpecs"]:
            found[f"{name}: {group['groupName']}"] = group["template"]["spec"]
    return found


def pod_problems(pod):
    """What the restricted standard for pods would refuse, what is not bounded, and references that lead nowhere."""
    found = []
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        found.append("may run as root")
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        found.append("no seccomp profile")
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in pod["containers"]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities") != {"drop": ["ALL"]}:
            found.append("may gain privileges")
        if not {"cpu", "memory"} <= container.get("resources", {}).get("limits", {}).keys():
            found.append("its memory has no bound")
        if container["image"].endswith(":latest") or ":" not in container["image"]:
            found.append("its image is not pinned")
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])} - {"data"}
        found += [f"mounts {name}, which is no volume" for name in mounts - volumes]
        for variable in container.get("env", []):
            secret = any(word in variable["name"] for word in ("PASSWORD", "SECRET", "TOKEN", "KEY"))
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if secret and "value" in variable:
                found.append(f"{variable['name']} stands in the file")
            if reference and reference["key"] not in SECRETS.get(reference["name"], set()):
                found.append(f"{variable['name']} comes from a Secret that nobody makes")
    return found


@pytest.mark.parametrize("where", sorted(pods()))
def test_pods_are_bounded_and_take_secrets_by_reference(where):
    assert pod_problems(pods()[where]) == []


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("securityContext", "runAsNonRoot"), False, "root"),
        (("securityContext", "seccompProfile"), {}, "seccomp"),
        (("containers", 0, "securityContext"), {}, "privileges"),
        (("containers", 0, "resources"), {}, "bound"),
        (("containers", 0, "image"), "ambient-ray:latest", "pinned"),
        (("containers", 0, "env"), [{"name": "PGPASSWORD", "value": "x"}], "stands in the file"),
        (("containers", 0, "volumeMounts", 0, "name"), "sharde", "no volume"),
        (
            ("containers", 0, "env"),
            [{"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": {"name": "postgrse", "key": "mlflow"}}}],
            "nobody makes",
        ),
    ],
)
def test_a_fault_in_a_pod_is_found(path, value, word):
    problems = pod_problems(planted(pods()["rayjob.yaml: head"], path, value))
    assert any(word in problem for problem in problems), problems


def test_the_readme_makes_exactly_these_secrets():
    text = (Path(__file__).parents[2] / "cluster" / "README.md").read_text()
    made = {}
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split()
        if words[:4] == ["kubectl", "create", "secret", "generic"]:
            keys = {w.removeprefix("--from-literal=").split("=")[0] for w in words if w.startswith("--from-literal=")}
            made.setdefault(words[4], set()).update(keys)
    assert made == SECRETS


def test_what_is_referred_to_is_there():
    """Claims, service accounts, configuration, ports and the selectors of services and policies."""
    names = {}
    for _, resource in ALL:
        names.setdefault(resource["kind"], set()).add(
            (resource["metadata"].get("namespace"), resource["metadata"]["name"])
        )
    for where, pod in pods().items():
        space = "mlflow" if where.startswith("mlflow") else "ambient-ray"
        if "serviceAccountName" in pod:
            assert (space, pod["serviceAccountName"]) in names["ServiceAccount"], where
        for path, value in nodes(pod.get("volumes", [])):
            if path and path[-1] == "claimName":
                assert (space, value) in names["PersistentVolumeClaim"], where
            if len(path) > 1 and path[-2:] == ("configMap", "name"):
                assert (space, value) in names["ConfigMap"], where
    workloads = [r for _, r in ALL if r["kind"] in ("Deployment", "StatefulSet")]
    labels = [w["spec"]["template"]["metadata"]["labels"] for w in workloads]
    for _, resource in ALL:
        if resource["kind"] == "Service":
            (target,) = [
                w
                for w in workloads
                if resource["spec"]["selector"].items() <= w["spec"]["template"]["metadata"]["labels"].items()
            ]
            ports = {p["name"] for c in target["spec"]["template"]["spec"]["containers"] for p in c["ports"]}
            assert {p["targetPort"] for p in resource["spec"]["ports"]} <= ports
        if resource["kind"] == "NetworkPolicy" and resource["metadata"]["namespace"] == "mlflow":
            assert resource["spec"]["podSelector"]["matchLabels"] in labels
        if resource["kind"] in ("Deployment", "StatefulSet"):
            assert (
                resource["spec"]["selector"]["matchLabels"].items()
                <= resource["spec"]["template"]["metadata"]["labels"].items()
            )


def test_every_namespace_of_ours_lets_nobody_in_by_default():
    policies = [r for _, r in ALL if r["kind"] == "NetworkPolicy"]
    assert {p["metadata"]["namespace"] for p in policies} == {"ambient-ray", "mlflow"}
    for policy in policies:
        assert policy["spec"]["policyTypes"] == ["Ingress"]
        for rule in policy["spec"]["ingress"]:
            assert rule["from"] and all(source for source in rule["from"])  # an empty one would be everybody


def test_the_server_allows_the_names_that_it_is_called_by():
    """It answers 403 to any other Host header: of searches, and of Kubernetes' probes."""
    (container,) = pods()["mlflow/kubernetes.yaml: mlflow"]["containers"]
    allowed = next(v["value"] for v in container["env"] if v["name"] == "MLFLOW_SERVER_ALLOWED_HOSTS").split(",")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        (header,) = container[probe]["httpGet"]["httpHeaders"]
        assert header["name"] == "Host" and header["value"] in allowed
    entrypoint = next(d for d in documents("kuberay/rayjob.yaml"))["spec"]["entrypoint"]
    uri = next(word.partition("=")[2] for word in entrypoint.split() if word.startswith("tracking.uri="))
    assert uri.removeprefix("http://") in allowed
