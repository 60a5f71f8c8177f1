"""The image and its locks: linted, pinned, complete, and of the versions that everything else names."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

sys.path.insert(0, str(Path(__file__).parent))
from recipes import CLUSTER, LAUNCHERS, ROOT, cluster_specs, document, documents, nodes

DOCKERFILE = (CLUSTER / "Dockerfile").read_text()
LOCK = (CLUSTER / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
IMAGE_ENVIRONMENT = default_environment() | {
    "python_version": "3.11", "python_full_version": "3.11.14", "sys_platform": "linux", "platform_system": "Linux",
    "platform_machine": "x86_64", "os_name": "posix", "implementation_name": "cpython",
}  # fmt: skip


def locked(text):
    """{name: version} of a lock."""
    found = re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ]+) \\$", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def lock_problems(text, requirements):
    """Packages without hashes, anything that is neither a package nor a hash, and requirements that are not met."""
    found = []
    packages = re.split(r"^(?=[a-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)
    for block in packages[1:]:
        lines = block.rstrip().splitlines()
        if not re.fullmatch(r"[a-z0-9._-]+==[A-Za-z0-9.+!]+ \\", lines[0]):
            found.append(f"not a pinned package: {lines[0]}")
        if len(lines) < 2 or not all(re.fullmatch(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines[1:]):
            found.append(f"no hash, or something else: {lines[0]}")
    versions = locked(text)
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate(IMAGE_ENVIRONMENT):
            continue
        version = versions.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement} is not met by {version}")
    return found


RUNTIME = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["cluster"]]


def test_the_lock_meets_the_projects_requirements():
    assert lock_problems(LOCK, RUNTIME) == []
    assert lock_problems((CLUSTER / "build.lock").read_text(), PROJECT["build-system"]["requires"]) == []


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (r"^ray==2[^ ]+", "ray==2.40.0", "ray"),
        (r"^mlflow==[^ ]+", "mlflow==3.18.0", "mlflow"),
        (r"^psycopg2-binary==[^ ]+ \\\n(    --hash.*\n)+", "", "psycopg2"),
        (r"^(safetensors==[^ ]+ \\\n)(    --hash.*\n)+", r"\1", "no hash"),
        (r"\A", "--index-url https://example.org/simple\n", "not a pinned package"),
        (r"^torch==", "torch>=", "not a pinned package"),
    ],
)
def test_a_fault_in_the_lock_is_found(old, new, word):
    faulty = re.sub(old, new, LOCK, count=1, flags=re.MULTILINE)
    assert faulty != LOCK
    problems = lock_problems("a==1 \\\n    --hash=sha256:" + "0" * 64 + "\n" + faulty, RUNTIME)
    assert any(word in problem for problem in problems) or "index-url" in new, problems
    if "index-url" in new:
        assert any("no hash, or something else" in problem for problem in problems), problems


def test_the_lock_is_the_whole_closure_of_what_this_environment_has():
    """What each locked package needs is locked too, as far as is known here: pip installs with --no-deps."""
    from importlib import metadata

    versions, missing, known = locked(LOCK), set(), 0
    for name, version in versions.items():
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if found.version != version:
            continue
        known += 1
        for requirement in map(Requirement, found.requires or []):
            wanted = requirement.marker is None or requirement.marker.evaluate(IMAGE_ENVIRONMENT | {"extra": ""})
            if wanted and canonicalize_name(requirement.name) not in versions:
                missing.add(f"{name} needs {requirement}")
    assert not missing
    assert known > 20


def test_images_name_the_versions_of_the_lock():
    """One image, everywhere the same tag, which says what is in it; Ray's version is said to KubeRay too."""
    versions = locked(LOCK)
    package = PROJECT["project"]["version"]
    expected = f"ambient-ray:{package}-ray{versions['ray']}-py311"
    images = {}
    for name in LAUNCHERS:
        images[name] = document(name)["docker"]["image"]
    for name in ("kuberay/rayjob.yaml", "kuberay/raycluster.yaml", "mlflow/kubernetes.yaml"):
        for resource in documents(name):
            for path, value in nodes(resource):
                if path and path[-1] == "image" and "postgres" not in value:
                    images[f"{name}: {path}"] = value
    assert len(images) >= 9
    assert {image.rpartition("/")[2] for image in images.values()} == {expected}
    assert f"/{expected} " in DOCKERFILE
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert all(cluster["rayVersion"] == versions["ray"] for cluster in cluster_specs().values())
    assert {
        f.removeprefix("python").replace(".", "")
        for f in re.findall(r"python3\.\d+", (CLUSTER / "lock.sh").read_text())
    } == {"311"}


def test_the_lock_is_what_this_suite_ran_with():
    """Where an environment is newer than the lock, lock.sh is due; what decides results must not differ unseen."""
    from importlib import metadata

    versions = locked(LOCK)
    assert {name: metadata.version(name).split("+")[0].split(".")[:2] for name in ("ray", "optuna", "mlflow")} == {
        name: versions[name].split(".")[:2] for name in ("ray", "optuna", "mlflow")
    }


def test_the_cpu_image_leaves_out_pytorchs_cuda_and_nothing_else(tmp_path):
    """The line of the Dockerfile itself, run."""
    program = re.search(r"awk '([^']+)' /tmp/requirements\.lock", DOCKERFILE).group(1)
    done = subprocess.run(["awk", program, CLUSTER / "requirements.lock"], capture_output=True, text=True, check=True)
    left_out = locked(LOCK).keys() - locked(done.stdout).keys()
    assert {"torch", "torchvision", "triton"} < left_out
    assert all(re.match(r"torch$|torchvision$|triton$|nvidia-|cuda-", name) for name in left_out)
    assert "torch-fidelity" in locked(done.stdout) and lock_problems(done.stdout, []) == []


def dockerfile_problems(text, folder):
    """hadolint's complaints, and what it does not look for: a user who is not root, a pinned base, hashes."""
    (folder / "Dockerfile").write_text(text)
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [hadolint, "--no-color", folder / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    found = done.stdout.splitlines()
    last = text.rpartition("\nFROM ")[2]
    users = re.findall(r"^USER (\S+)", last, re.MULTILINE)
    if not users or users[-1].split(":")[0] in ("0", "root"):
        found.append("runs as root")
    if not re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", text, re.MULTILINE):
        found.append("its base is not pinned")
    for line in re.findall(r"pip install [^;&|\n]*", text):
        if "--require-hashes" not in line and "/wheels/" not in line and '"$TORCH_INDEX"' not in line:
            found.append(f"installs without hashes: {line}")
    return found


def test_the_dockerfile_is_clean(tmp_path):
    assert dockerfile_problems(DOCKERFILE, tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("USER 1000:1000", "USER root", "root"),
        ("@sha256:", "#", "pinned"),
        ("--require-hashes --no-deps --no-build-isolation -r", "-r", "without hashes"),
        ("apt-get install --yes", "apt-get install", "DL3014"),
        ("WORKDIR /home/ray", "RUN cd /home/ray", "DL3003"),
    ],
)
def test_a_fault_in_the_dockerfile_is_found(tmp_path, old, new, word):
    faulty = DOCKERFILE.replace(old, new)
    assert faulty != DOCKERFILE
    problems = dockerfile_problems(faulty, tmp_path)
    assert any(word in problem for problem in problems), problems


def test_what_the_dockerfile_copies_is_there_and_not_ignored():
    kept = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = []
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE):
        copied += line.split()[:-1]
    assert len(copied) >= 6
    for path in copied:
        assert (ROOT / path).exists(), path
        assert path in kept, f".dockerignore leaves out {path}"


def test_actions_are_pinned_by_commit():
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        uses = re.findall(r"uses: (\S+)", path.read_text())
        assert uses and all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", use) for use in uses), path
