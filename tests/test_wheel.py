"""What pip installs is whole: the search spaces and Hydra's defaults are in the wheel, tests are not."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_holds_spaces_and_defaults(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    for space in (ROOT / "search_spaces").glob("*.yaml"):
        assert f"ambient_ray/search_spaces/{space.name}" in names
    for default in (ROOT / "ambient_ray" / "conf").rglob("*.yaml"):
        assert str(default.relative_to(ROOT)) in names
    assert "ambient_ray/py.typed" in names
    assert not any(name.startswith("tests/") for name in names)
