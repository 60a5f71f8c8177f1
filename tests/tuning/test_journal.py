"""The journal of a study whose writer was killed in the middle of a line, or while it held the lock."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ambient_ray.tuning.journal import Journal
from ambient_ray.tuning.records import Objectives
from ambient_ray.tuning.study import Study


@pytest.mark.parametrize("length", [1, 20, 70_000])
def test_what_is_left_of_a_line_is_cut_off_and_the_entries_before_it_stay(tmp_path, length):
    path = tmp_path / "study.journal"
    journal = Journal(path)
    journal.append_logs([{"n": 1}, {"n": 2}])
    with path.open("ab") as file:
        file.write(json.dumps({"n": "x" * length}).encode()[: length + 5])
    assert list(Journal(path).read_logs(0)) == [{"n": 1}, {"n": 2}]
    Journal(path).append_logs([{"n": 3}])
    assert list(Journal(path).read_logs(0)) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert path.read_bytes().count(b"\n") == 3


def test_a_journal_that_is_nothing_but_an_unfinished_line_begins_anew(tmp_path):
    path = tmp_path / "study.journal"
    path.write_bytes(b'{"op_code": 0')
    study = Study("s", f"journal:{path}", Objectives("fd", "f_mem"))
    assert Study("s", f"journal:{path}", Objectives("fd", "f_mem")).uid == study.uid


def test_the_lock_of_a_killed_writer_holds_nobody_up(tmp_path):
    path = tmp_path / "study.journal"
    script = (
        "import sys, time; from pathlib import Path; from ambient_ray.tuning.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1])); journal._lock.acquire(); print('held', flush=True); time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(timeout=60)
    began = time.monotonic()
    Journal(path).append_logs([{"n": 1}])
    assert time.monotonic() - began < 15  # Optuna's own lock is broken after 30 s
    assert list(Journal(path).read_logs(0)) == [{"n": 1}]
