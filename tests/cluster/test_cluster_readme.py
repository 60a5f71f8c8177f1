"""Every file that the pages of cluster/ name is there, and every script and Make target that they call."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from recipes import CLUSTER, ROOT, blocks

PAGES = ("README.md", "mlflow/README.md")


def missing(text, folder):
    """Links, and paths in commands, that lead nowhere."""
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    found = [link for link in links if link and not (folder / link).exists()]
    for block in blocks(text):
        found += [path for path in re.findall(r"\bcluster/[\w./-]+", block) if not (ROOT / path).exists()]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return found + [f"make {target}" for target in re.findall(r"`make ([a-z-]+)`", text) if target not in targets]


@pytest.mark.parametrize("page", PAGES)
def test_everything_named_is_there(page):
    assert missing((CLUSTER / page).read_text(), (CLUSTER / page).parent) == []


def test_a_dead_link_is_found():
    text = "[a](nowhere.yaml) `make nothing`\n```bash\nray up cluster/azure.yaml\n```\n"
    assert missing(text, CLUSTER) == ["nowhere.yaml", "cluster/azure.yaml", "make nothing"]


def test_every_recipe_is_on_the_page():
    text = (CLUSTER / "README.md").read_text()
    for path in CLUSTER.rglob("*"):
        if path.is_file() and path.name != "README.md" and path.suffix != ".pyc":
            name = str(path.relative_to(CLUSTER))
            assert name in text or path.name == "build.lock", f"cluster/README.md does not name {name}"
    assert "\n## Runbook\n" in text


def listening(makefile, recipe, sbatch):
    """Servers that are started on other addresses than the loopback."""
    found = [line for line in makefile.splitlines() if "mlflow ui" in line and "--host 127.0.0.1" not in line]
    found += [
        line for line in recipe.splitlines() if line.startswith("MLFLOW_HOST=") and line != "MLFLOW_HOST=127.0.0.1"
    ]
    return found + ([] if "--dashboard-host=127.0.0.1" in sbatch else ["slurm.sbatch: Ray's dashboard"])


def test_servers_listen_on_the_loopback_unless_told_otherwise():
    texts = [path.read_text() for path in (ROOT / "Makefile", CLUSTER / "mlflow/README.md", CLUSTER / "slurm.sbatch")]
    assert "mlflow ui" in texts[0] and "MLFLOW_HOST=" in texts[1]
    assert listening(*texts) == []
    opened = [text.replace("127.0.0.1", "0.0.0.0") for text in texts]
    assert len(listening(*opened)) == 3
