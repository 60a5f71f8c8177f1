"""The journal of a study whose writer was killed in the middle of a line, or while it held the lock; a full disk."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest
from optuna.storages.journal import JournalFileBackend

from ambient_ray.storage import Patience, StorageGivenUpError
from ambient_ray.tuning import journal as module
from ambient_ray.tuning.journal import Journal, end_of_last_line
from ambient_ray.tuning.records import Objectives, RungRecord
from ambient_ray.tuning.space import Range, Space
from ambient_ray.tuning.study import Study

OBJECTIVES = Objectives("fd", "f_mem")
SPACE = Space("s", {"sigma_tn": Range(0.1, 1.0)}, {}, ({"sigma_tn": 0.0},))


def opened(path):
    return Study("faces", f"journal:{path}", OBJECTIVES)


def rung(index):
    return RungRecord(index, 10 * (index + 1), {"fd": 1.0, "f_mem": 0.1}, {}, "c")


@pytest.mark.parametrize("cut", [1, 2, 17, 60])
def test_a_line_that_a_kill_cut_off_costs_itself_and_nothing_else(tmp_path, cut):
    path = tmp_path / "study.journal"
    study = opened(path)
    number = study.ask(SPACE).number
    study.record_rung(number, rung(0))
    whole = path.read_bytes()
    study.record_rung(number, rung(1))
    line = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + line[: max(1, len(line) - cut)])

    again = opened(path)
    assert [r.rung for r in again.trial(number).rungs] == [0]
    again.record_rung(number, rung(1))
    again.finish(number, "finished")
    assert [r.rung for r in opened(path).trial(number).rungs] == [0, 1]
    for written in path.read_bytes().splitlines():
        json.loads(written)


def test_optunas_own_journal_is_unreadable_after_that(tmp_path):
    """Why there is one of our own; when this fails, it can go."""
    path = tmp_path / "study.journal"
    backend = JournalFileBackend(str(path))
    backend.append_logs([{"a": 1}])
    with path.open("ab") as file:
        file.write(b'{"b": 2')
    JournalFileBackend(str(path)).append_logs([{"c": 3}, {"d": 4}])
    with pytest.raises(ValueError, match=r"Expecting|Invalid|delimiter"):
        list(JournalFileBackend(str(path)).read_logs(0))


def test_the_end_of_the_last_line_is_found_wherever_it_is(tmp_path):
    for content in (b"", b"abc", b"a\n", b"a\nb", b"a\n" + b"x" * 200_000, b"x" * 65536 + b"\n", b"\n" + b"y" * 65536):
        path = tmp_path / "f"
        path.write_bytes(content)
        with path.open("rb") as file:
            assert end_of_last_line(file.fileno()) == content.rfind(b"\n") + 1


def test_a_full_disk_pauses_the_study_and_tears_no_line(tmp_path, monkeypatch):
    """The limit of a file's size stands for the disk's: the write really stops in the middle of a line."""
    path = tmp_path / "study.journal"
    study = opened(path)
    number = study.ask(SPACE).number
    study.record_rung(number, rung(0))
    said, full = [], threading.Event()

    def say(text):
        said.append(text)
        full.set()

    study.tell_waits(say)
    monkeypatch.setattr(Patience, "__init__", Patience.__init__)
    study._journal._patience = Patience(hours=1, first=0.05, longest=0.1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = path.stat().st_size
    room = threading.Thread(
        target=lambda: (full.wait(30), resource.setrlimit(resource.RLIMIT_FSIZE, before)), daemon=True
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, before[1]))
    try:
        room.start()
        study.record_rung(number, rung(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert said[0].startswith("study waits: ") and str(path) in said[0]
    assert said[-1].startswith("study goes on after")
    assert [r.rung for r in opened(path).trial(number).rungs] == [0, 1]
    for line in path.read_bytes().splitlines():
        json.loads(line)


def test_while_it_waits_a_reader_sees_whole_lines_only(tmp_path, monkeypatch):
    path = tmp_path / "study.journal"
    study = opened(path)
    number = study.ask(SPACE).number
    seen = []

    def half(handle, text, at):
        os.pwrite(handle, text[: len(text) // 2], at)
        raise OSError(errno.ENOSPC, "No space left on device")

    real = module._write

    def told(text):
        monkeypatch.setattr(module, "_write", real)  # to open a study is to write, too
        seen.append(path.read_bytes().endswith(b"\n") and len(opened(path).trials()))

    monkeypatch.setattr(module, "_write", half)
    study.tell_waits(told)
    study._journal._patience = Patience(first=0.01, longest=0.01)
    study.record_rung(number, rung(0))
    assert seen[0] == 1 and len(opened(path).trial(number).rungs) == 1


def test_a_disk_that_stays_full_ends_with_a_sentence(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "j", Patience(hours=0))

    def full(handle, text, at):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(StorageGivenUpError, match=r"no space left on device at .*; free some; given up after 0 s"):
        journal.append_logs([{"a": 1}])


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
