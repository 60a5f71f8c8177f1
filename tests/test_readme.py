"""Every command in the README is one that this version takes."""

import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ambient_ray.console.command import load
from ambient_ray.console.configuration import validate

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
COMPOSED = {"ambient_ray.search", "ambient_ray.train", "ambient_ray.subsets"}  # by Hydra
PARSED = {"ambient_ray.report", "ambient_ray.promote", "ambient_ray.audit", "ambient_ray.status"}  # by argparse


def test_there_are_commands():
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command):
    words = shlex.split(command)
    if words[0] == "ray":
        words = words[words.index("--") + 1 :]
    if words[0] == "make":
        assert subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, timeout=60).returncode == 0
    elif words[:2] == ["python", "-m"] and words[2] in COMPOSED:
        flags = ("--cfg", "job")
        content = load(words[2].removeprefix("ambient_ray."), [word for word in words[3:] if word not in flags])
        validate({key: value for key, value in content.items() if key not in {"sizes", "to"}})
    elif words[:3] == ["python", "-m", "ambient_ray.generate"]:
        from ambient_ray.generate import parser

        assert parser().parse_args(words[3:]).n == 64
    elif words[:2] == ["python", "-m"] and words[2] in PARSED:
        importlib.import_module(words[2]).parser().parse_args(words[3:])
    elif words[:3] == ["mlflow", "models", "serve"]:
        from mlflow.models.cli import commands

        commands.commands["serve"].make_context("serve", words[3:])
    elif words[0] == "curl":
        assert words[1].endswith("/invocations") and json.loads(words[3])["dataframe_split"]["columns"] == ["seed"]
    else:
        assert command == 'eval "$(ambient-search --shell-completion install=bash)"'


@pytest.mark.timeout(120)
def test_the_default_search_as_a_process_says_what_it_needs(tmp_path):
    command = [sys.executable, "-m", "ambient_ray.search", "dry_run=true", f"output_dir={tmp_path}/out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    for expected in (
        "12 of 12 trials to run over ambient",
        "trials at once:",
        "a trial that is never stopped takes",
        "GB in",
    ):
        assert expected in done.stdout


def test_tab_completion_installs(monkeypatch, capsys):
    from ambient_ray import search

    monkeypatch.setattr("sys.argv", ["ambient-search", "--shell-completion", "install=bash"])
    search.main()
    assert "complete -o nospace -o default -F hydra_bash_completion ambient-search" in capsys.readouterr().out


def test_every_stable_name_of_the_design_has_a_docstring():
    import importlib

    names = {
        "diffusion": "EDMPrecond denoising_loss ambient_loss heun_sampler empirical_denoiser"
        " ambient_empirical_denoiser",
        "data": "load_images split noise_bank ImageSet Split",
        "evaluation": "frechet_distance kernel_distance nearest_similarity memorized_fraction Estimate",
        "tuning": "pareto_front hypervolume ParetoPruner Decision",
        "tracking": "load_model",
    }
    for room, listed in names.items():
        module = importlib.import_module(f"ambient_ray.{room}")
        for name in listed.split():
            assert getattr(module, name).__doc__, f"{room}.{name}"
