"""A search's own Ray lets nobody in who has not its token, and an open one that is joined is called so."""

import os
import subprocess
import sys

import pytest

from ambient_ray.tuning.running import guard

VARIABLES = (guard.MODE, guard.TOKEN, guard.TOKEN_PATH)


@pytest.fixture
def environment(monkeypatch):
    """The process's environment without Ray's settings, and a process that has not imported Ray."""
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")  # so that it is put back
        monkeypatch.delenv(variable)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ray")
    return monkeypatch


def test_a_token_is_made_and_is_another_each_time(environment):
    guard.guard_own_cluster()
    first = os.environ[guard.TOKEN]
    assert os.environ[guard.MODE] == "token" and len(first) == 64
    environment.delenv(guard.TOKEN)
    guard.guard_own_cluster()
    assert os.environ[guard.TOKEN] != first


def test_the_users_own_token_and_choice_win(environment):
    environment.setenv(guard.TOKEN_PATH, "/somewhere/token")
    guard.guard_own_cluster()
    assert guard.TOKEN not in os.environ
    environment.delenv(guard.TOKEN_PATH)
    environment.setenv(guard.MODE, "disabled")
    guard.guard_own_cluster()
    assert os.environ[guard.MODE] == "disabled" and guard.TOKEN not in os.environ


OWN = '''
import os, subprocess, sys
import ray  # before its settings are made, as a test or a notebook would
from ambient_ray.tuning.running.guard import open_to_everybody
from ambient_ray.tuning.running.run import start_ray

start_ray(None, 1)
assert ray.get(ray.remote(num_cpus=0)(lambda: 7).remote(), timeout=120) == 7
address, token = ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"]
logs = ray._private.worker._global_node.get_session_dir_path()
stranger = f"""from ray._raylet import GcsClient
GcsClient(address={address!r}).check_alive([], timeout=20)
print('let in')"""
kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
for name, given in {"none": {"RAY_AUTH_MODE": "disabled"},
                    "wrong": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}}.items():
    done = subprocess.run([sys.executable, "-c", stranger], env={**kept, **given}, capture_output=True, text=True)
    print(name, "let in" if "let in" in done.stdout else "refused" if "nauthenticated" in done.stderr else done.stderr)
written = [os.path.join(where, name) for where, _, names in os.walk(logs) for name in names]
found = [p for p in written if os.path.isfile(p) and token.encode() in open(p, "rb").read()]
print("files", len(written) > 5, "token in", found)
print("warning:", repr(open_to_everybody()))
'''
OPEN = """
import ray
from ambient_ray.tuning.running.guard import open_to_everybody
ray.init(address="local", num_cpus=0, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
print(open_to_everybody())
"""


def said(program, **settings):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**kept, **settings}, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_nobody_uses_a_searchs_own_ray_without_its_token():
    lines = said(OWN).splitlines()
    assert lines == ["none refused", "wrong refused", "files True token in []", "warning: ''"]


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_a_cluster_without_tokens_is_called_open():
    out = said(OPEN, RAY_AUTH_MODE="disabled")
    assert out.startswith("warning: this Ray cluster asks for no token") and "RAY_AUTH_MODE=token" in out
