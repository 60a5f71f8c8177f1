"""What `ray job submit --working-dir .` uploads of a checkout in use, by Ray's own code."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from recipes import ROOT

LIMIT = 100 * 2**20  # bytes, Ray's own
#: What a checkout gathers, which nobody wants to send.
GATHERED = (".git/objects/pack", ".venv/lib/python3.11/site-packages", "outputs/faces/trials", ".mypy_cache", "dist")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the tracked files with a large file in each folder that use fills."""
    folder = tmp_path_factory.mktemp("upload") / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a checkout of git")
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    for name in GATHERED:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "large.bin").write_bytes(bytes(1000))  # its name is what counts
    return folder


def uploaded(folder):
    """{name: bytes} of the package that Ray makes of a folder."""
    from ray._private.ray_constants import RAY_RUNTIME_ENV_DEFAULT_EXCLUDES
    from ray._private.runtime_env.packaging import create_package

    target = folder.parent / "package.zip"
    target.unlink(missing_ok=True)
    create_package(str(folder), target, include_gitignore=True, excludes=RAY_RUNTIME_ENV_DEFAULT_EXCLUDES.split(","))
    with zipfile.ZipFile(target) as package:
        return {entry.filename: entry.file_size for entry in package.infolist()}


def test_the_upload_is_small_and_whole(checkout):
    found = uploaded(checkout)
    assert sum(found.values()) < LIMIT / 10
    for needed in ("ambient_ray/search.py", "ambient_ray/conf/search.yaml", "search_spaces/ambient.yaml"):
        assert needed in found
    assert not [name for name in found if name.startswith((".git/", ".venv/", "outputs/", "tests/")) or "large" in name]


def test_without_its_ignore_files_a_searchs_output_would_go_too(checkout):
    """Ray leaves out .git and .venv by itself, but not what a search and tools write."""
    for name in (".rayignore", ".gitignore"):
        (checkout / name).rename(checkout / f"{name}.away")
    try:
        found = uploaded(checkout)
    finally:
        for name in (".rayignore", ".gitignore"):
            (checkout / f"{name}.away").rename(checkout / name)
    assert {"outputs/faces/trials/large.bin", ".mypy_cache/large.bin"} <= found.keys()
    assert not [name for name in found if name.startswith((".git/", ".venv/"))]
