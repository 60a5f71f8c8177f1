"""One driver a study, wherever drivers run: who is dead is followed, who lives is not, and clocks are not asked."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from ambient_ray.tuning.lease import FileBoard, Holder, Lease, StudyBusyError
from ambient_ray.tuning.records import Objectives
from ambient_ray.tuning.study import Study

OBJECTIVES = Objectives("fd", "f_mem")
QUICK = {"period": 0.05, "patience": 1.0, "settle": 0.05}


@pytest.fixture(params=["journal", "sqlite"])
def board(request, tmp_path):
    """Of a study in each kind of storage."""
    url = f"journal:{tmp_path}/study.journal" if request.param == "journal" else f"sqlite:///{tmp_path}/study.db"
    found = Study("faces", url, OBJECTIVES).board()
    assert found is not None
    return found


def elsewhere(**values):
    return replace(Holder.me(), host="node7", machine="node7/boot/pid", pid=4242, **values)


def test_a_study_is_held_by_one_and_given_back(board):
    first = Lease("faces", board, **QUICK)
    assert first.take() == 0
    with pytest.raises(StudyBusyError, match=rf"study 'faces' is being searched by process {os.getpid()} on \S+ alre"):
        Lease("faces", board, **QUICK).take()
    first.release()
    second = Lease("faces", board, **QUICK)
    second.take()
    second.release()


def test_renewals_count_on_and_carry_the_seconds_searched(board):
    lease = Lease("faces", board, lambda: 12.5, **QUICK)
    lease.take()
    until(lambda: board.read()["count"] >= 3)
    lease.release()
    assert board.read()["count"] == -1
    assert Lease("faces", board, **QUICK).take() == 12.5


def test_a_driver_that_was_killed_on_this_machine_is_followed_at_once(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    script = (
        "import sys, time; from ambient_ray.tuning.study import Study\n"
        "from ambient_ray.tuning.records import Objectives; from ambient_ray.tuning.lease import Lease\n"
        "study = Study('faces', sys.argv[1], Objectives('fd', 'f_mem'))\n"
        "Lease('faces', study.board(), lambda: 77.0, period=.1).take()\n"
        "time.sleep(.5); print('held', flush=True); time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        board = Study("faces", url, OBJECTIVES).board()
        assert board is not None
        with pytest.raises(StudyBusyError, match=f"process {holder.pid} on"):
            Lease("faces", board).take()
        os.kill(holder.pid, signal.SIGKILL)  # not waited for: what is left of it is a zombie
        until(lambda: Holder(**board.read()).dead)
        said = []
        lease = Lease("faces", board, settle=0.05)
        assert lease.take(said.append) == 77.0 and said == []
        lease.release()
    finally:
        holder.kill()
        holder.wait(60)


def test_another_process_that_got_the_dead_ones_number_does_not_stand_in_its_way(board):
    board.write(asdict(replace(Holder.me(), started=1.0)))
    lease = Lease("faces", board, **QUICK)
    lease.take()
    assert board.read()["name"] == lease._own.name
    lease.release()


def test_a_driver_on_another_machine_that_renews_is_left_alone(board):
    board.write(asdict(elsewhere(count=5)))
    quit_ = threading.Event()

    def renew():
        for count in range(6, 10_000):
            if quit_.wait(0.1):
                return
            board.write(asdict(replace(Holder(**board.read()), count=count)))

    thread = threading.Thread(target=renew)
    thread.start()
    said = []
    try:
        with pytest.raises(StudyBusyError, match="process 4242 on node7 already"):
            Lease("faces", board, patience=30.0).take(said.append)
    finally:
        quit_.set()
        thread.join()
    assert said == ["study faces was searched by process 4242 on node7; watching if it still is"]


def test_a_driver_on_another_machine_that_is_not_heard_of_is_followed_when_patience_ends(board):
    board.write(asdict(elsewhere(count=5, seconds=40.0)))
    lease = Lease("faces", board, **QUICK)
    began = time.monotonic()
    assert lease.take() == 40.0
    assert time.monotonic() - began >= QUICK["patience"]
    lease.release()


def test_who_was_given_up_finds_out_and_stops(board):
    told = threading.Event()
    halted = Lease("faces", board, on_lost=told.set, **QUICK)
    halted.take()
    board.write(asdict(elsewhere()))
    assert told.wait(30)
    assert "process 4242 on node7 has taken study 'faces' over" in halted.lost
    halted.release()
    assert board.read()["pid"] == 4242, "the other's lease stays"


def test_of_two_newcomers_at_once_one_searches(board):
    taken, refused, barrier = [], [], threading.Barrier(2)

    def come():
        lease = Lease("faces", board, period=0.05, settle=0.5)
        # As of two machines: neither can see that the other's process lives.
        lease._own = replace(lease._own, machine=lease._own.name)
        barrier.wait()
        try:
            lease.take()
            taken.append(lease)
        except StudyBusyError:
            refused.append(lease)

    threads = [threading.Thread(target=come) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (1, 1)
    taken[0].release()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": 3}'])
def test_what_is_no_lease_holds_nobody_up(tmp_path, text):
    (tmp_path / "lease").write_text(text)
    lease = Lease("faces", FileBoard(tmp_path / "lease"), **QUICK)
    lease.take()
    assert FileBoard(tmp_path / "lease").read()["name"] == lease._own.name
    lease.release()


def test_the_seconds_of_a_study_run_while_it_is_searched(tmp_path):
    study = Study("faces", f"journal:{tmp_path}/study.journal", OBJECTIVES)
    study.searched(10.0)
    assert study.elapsed() == 10.0
    study.begin_counting()
    time.sleep(0.05)
    assert 10.0 < study.elapsed() < 1000 and study.seconds == 10.0


def until(holds, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
