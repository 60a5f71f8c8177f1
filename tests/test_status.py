"""`ambient-status`: what a study's storage and its driver's word say, from another process, at once and read-only."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ambient_ray.console.driver import judge_driver
from ambient_ray.console.live import FILE, Live
from ambient_ray.status import main
from ambient_ray.tuning.lease import Holder
from ambient_ray.tuning.reading import read_study
from ambient_ray.tuning.records import Objectives, RungRecord
from ambient_ray.tuning.space import Range, Space
from ambient_ray.tuning.study import Study

OBJECTIVES = Objectives("fd", "f_mem")
RUNGS = (1000, 2000, 4000)
SPACE = Space("s", {"sigma_tn": Range(0.1, 1.0)}, {}, ({"sigma_tn": 0.0},))
PLACE = {"rank": 0, "host": "gpu1", "address": "10.0.0.7", "pid": 4711, "gpus": ["3"]}


def rung(index, fd, f_mem):
    return RungRecord(index, RUNGS[index], {"fd": fd, "f_mem": f_mem}, {}, "c", seconds=RUNGS[index] / 100)


def make(folder, storage=None):
    """Trial 0 has finished, 1 diverged, 2 has a rung and runs, 3 was begun."""
    (folder / "faces").mkdir(parents=True, exist_ok=True)
    study = Study("faces", storage or f"journal:{folder}/faces/study.journal", OBJECTIVES)
    study.claim({"evaluation.fidelity": "fd", "evaluation.memorization": "f_mem", "trial.rungs": list(RUNGS)})
    for number in range(4):
        study.ask(SPACE)
        if number == 0:
            for index in range(3):
                study.record_rung(0, rung(index, 90.0 - 30 * index, 0.1 * index))
            study.finish(0, "finished")
        if number == 1:
            study.finish(1, "failed", "the loss became non-finite between image 0 and image 640; try a lower lr")
    study.record_rung(2, rung(0, 80.0, 0.0))
    study.searched(7300.0)
    return study


def live_of(study, folder, **more):
    return Live("faces", folder / "faces", {"trials": 10, "hours": None, "replicas": 2, "at_once": 2}, **more)


def looked(folder, capsys, *more):
    code = main(["faces", "--output-dir", str(folder), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def test_what_runs_where_how_far_it_is_and_how_long_it_takes(tmp_path, capsys):
    study = make(tmp_path)
    live = live_of(study, tmp_path, mlflow=lambda: (7, 61.0))
    with live:
        live.phase("searches")
        live.trial_started(study.trial(2), True)
        live.trial_started(study.trial(3), False)
        live.trial_told(study.trial(2), {"place": PLACE})
        live.heard({2: (1200, 0.5), 3: (0, float("nan"))})
        time.sleep(0.05)
        live.heard({2: (1300, 0.25)})
        live.trial_noted(study.trial(3), "waits: no space left on device at /data; free some")
        live.trial_noted(study.trial(3), "goes on after 9 s: /data takes what it is given again")
        live._write()
        code, found = looked(tmp_path, capsys)
        main(["faces", "--output-dir", str(tmp_path)])
        page = capsys.readouterr().out
    assert code == 0 and found["driver"]["life"] == "alive"
    assert (found["driver"]["pid"], found["driver"]["phase"]) == (os.getpid(), "searches")
    assert found["trials"] == {
        "running": 2, "finished": 1, "stopped": 0, "failed": 1, "planned": 10, "replicas": 0, "replicas_ended": 0,
    }  # fmt: skip
    assert (found["rungs_done"], found["images_seen"]) == (4, 5000)
    runs, waits = found["running"]
    assert (runs["trial"], runs["doing"], runs["where"], runs["rung"], runs["rungs"]) == (2, "trains", [PLACE], 1, 3)
    assert (runs["images"], runs["next_rung"], runs["loss"]) == (1300, 2000, 0.25)
    assert 100 < runs["images_per_second"] <= 2000 and 0 <= runs["silent_seconds"] < 60
    # Its own rung took 10 ms an image, so the 2,700 images that are left take 27 s.
    assert runs["eta_seconds"] == pytest.approx(27.0) and "its own rungs" in runs["eta_rests_on"]
    assert (waits["trial"], waits["doing"]) == (3, "waits for room") and found["waiting"]["room"] == [3]
    assert found["failures"]["diverged"]["trials"]["1"].startswith("the loss became non-finite")
    points = [(point["trial"], point["rung"], point["scores"]) for point in found["front"]["points"]]
    assert points == [(0, 3, [30.0, 0.2]), (0, 2, [60.0, 0.1]), (2, 1, [80.0, 0.0])]
    assert found["mlflow"] == {"queued": 7, "away_seconds": 61.0, "spooled": 0}
    # An image took (70 + 10) s / 5,000. 6 trials of 4,000 images are to come, 2,700 and 4,000 of the running ones, and
    # two replicas of 4,000; two at once.
    each = 80 / 5000
    assert found["eta"]["seconds"] == pytest.approx(each * (6 * 4000 + 2700 + 4000 + 8000) / 2, rel=0.001)
    assert "ended trials (1) saw 4,000 images on average" in found["eta"]["rests_on"]
    for text in ("the driver lives", "10.0.0.7 GPU 3", "1/3", "1,300 of 2,000", "waiting for room: trial 3",
                 "diverged · trials failed: 1", "front of 3 among 4", "MLflow has been away for 61 s: 7"):  # fmt: skip
        assert text in page, page


def test_a_search_that_has_ended_says_so_and_leaves_nothing_running(tmp_path, capsys):
    study = make(tmp_path)
    for number in (2, 3):
        study.finish(number, "stopped", "dominated at rung 1 of 3", rungs_left=0.5)
    with live_of(study, tmp_path) as live:
        live.ended = "finished"
    code, found = looked(tmp_path, capsys)
    assert code == 0 and found["driver"]["life"] == "dead" and "has ended: finished" in found["driver"]["why"]
    assert found["running"] == [] and found["eta"]["seconds"] is None


@pytest.mark.timeout(120)
def test_a_killed_driver_is_told_from_a_living_one(tmp_path, capsys):
    """Its file stays, and looks like a living one's; that the process is gone decides, not the file's age."""
    make(tmp_path)
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from ambient_ray.console.live import Live\n"
        f"with Live('faces', Path({str(tmp_path)!r}) / 'faces', {{'trials': 10}}):\n"
        "    print('there', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        code, found = looked(tmp_path, capsys)
        assert (code, found["driver"]["life"], found["driver"]["pid"]) == (0, "alive", process.pid)
        process.send_signal(signal.SIGKILL)
        time.sleep(0.2)  # killed, and not yet buried by its parent: a zombie is not a driver
        code, found = looked(tmp_path, capsys)
    finally:
        process.kill()
        process.wait(30)
    assert code == 3 and found["driver"]["life"] == "dead"
    assert "is gone, without having said that it ended" in found["driver"]["why"]
    assert [one["doing"] for one in found["running"]] == ["left behind", "left behind"]
    assert main(["faces", "--output-dir", str(tmp_path)]) == 3


def elsewhere(folder, **more):
    """The live state as if written on another machine."""
    path = folder / "faces" / FILE
    state = json.loads(path.read_text())
    state["driver"] |= {"host": "gpu9", "machine": "another start of another machine"}
    path.write_text(json.dumps(state | {"every": 0.2} | more))


def test_another_machines_word_is_believed_by_its_count_and_not_by_its_clock(tmp_path, capsys):
    study = make(tmp_path)
    with live_of(study, tmp_path):
        pass
    elsewhere(tmp_path, ended="", at=time.time() + 0.1)
    code, found = looked(tmp_path, capsys)
    assert (code, found["driver"]["life"]) == (0, "alive") and "by the clocks of the two" in found["driver"]["why"]
    elsewhere(tmp_path, ended="", at=time.time() - 3600)
    code, found = looked(tmp_path, capsys)
    assert (code, found["driver"]["life"]) == (3, "dead") and "has not written for" in found["driver"]["why"]

    elsewhere(tmp_path, ended="", at=time.time() - 3600, every=10.0)  # an hour slow, and alive: it goes on counting
    again = (
        "import json, sys, time\n"
        "time.sleep(1)\n"
        "state = json.load(open(sys.argv[1]))\n"
        "open(sys.argv[1], 'w').write(json.dumps(state | {'count': state['count'] + 1}))\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", again, str(tmp_path / "faces" / FILE)])
    code, found = looked(tmp_path, capsys)
    assert writer.wait(30) == 0
    assert (code, found["driver"]["life"]) == (0, "alive") and "has written while this was watched" in str(found)


def test_without_a_word_of_a_driver_nobody_is_called_dead(tmp_path, capsys):
    make(tmp_path)
    code, found = looked(tmp_path, capsys)
    assert (code, found["driver"]["life"]) == (0, "unknown") and found["running"][0]["doing"] == "left behind"


def test_from_a_database_alone_the_same_is_read(tmp_path, capsys):
    """Another machine shares the database and not the folder."""
    storage = f"sqlite:///{tmp_path}/study.db"
    study = make(tmp_path / "here", storage)
    with live_of(study, tmp_path / "here", publish=study.show_live, every=0.5) as live:
        live.trial_started(study.trial(2), True)
        live.trial_told(study.trial(2), {"place": PLACE})
        deadline = time.monotonic() + 60
        while not read_study("faces", storage).attrs["live"]["trials"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        code, found = looked(tmp_path / "elsewhere", capsys, "--storage", storage)
    assert code == 0 and found["driver"]["life"] == "alive" and found["running"][0]["where"] == [PLACE]
    assert not (tmp_path / "elsewhere").exists()


def test_it_writes_and_makes_nothing(tmp_path, capsys):
    study = make(tmp_path)
    with live_of(study, tmp_path) as live:
        live.ended = "finished"
    paths = sorted(tmp_path.rglob("*"))
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}
    for path in reversed([tmp_path, *paths]):
        path.chmod(stat.S_IRUSR | (stat.S_IXUSR if path.is_dir() else 0))
    try:
        assert main(["faces", "--output-dir", str(tmp_path)]) == 3
    finally:
        for path in [tmp_path, *paths]:
            path.chmod(stat.S_IRWXU)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(tmp_path.rglob("*"))} == before
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody"], "the file does not exist"),
        (["nobody", "--storage", "journal:{tmp}/faces/study.journal"], "there is no study 'nobody' in journal:"),
        (["nobody", "--storage", "journal:{tmp}/faces/study.journal"], "there is faces"),
        (["faces", "--storage", "sqlite:///{tmp}/nothing.db"], "the file does not exist"),
        (["faces", "--storage", "postgresql://me:secret@127.0.0.1:1/db"], "cannot be read"),
        (["faces", "--storage", "no://where"], "cannot be read"),
        (["faces", "--watch", "0"], "--watch takes seconds above 0"),
    ],
)
def test_bad_input_is_one_sentence(arguments, told, tmp_path, capsys):
    make(tmp_path)
    given = [part.format(tmp=tmp_path) for part in arguments]
    assert main([*given, "--output-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and told in error and error.count("\n") == 1 and "secret" not in error
    assert not (tmp_path / "nothing.db").exists() and not (tmp_path / "nobody").exists()


def test_what_happens_is_written_soon(tmp_path, capsys):
    study = make(tmp_path)
    with live_of(study, tmp_path, every=3600.0) as live:
        live.trial_started(study.trial(2), True)
        live.trial_told(study.trial(2), {"place": PLACE})
        deadline = time.monotonic() + 60
        while looked(tmp_path, capsys)[1]["running"][0]["where"] != [PLACE]:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_torn_line_of_the_journal_and_a_broken_file_are_no_matter(tmp_path, capsys):
    make(tmp_path)
    with (tmp_path / "faces" / "study.journal").open("a") as journal:
        journal.write('{"op_code": 8, "worker')  # the search is writing at this moment
    (tmp_path / "faces" / FILE).write_text("{")
    code, found = looked(tmp_path, capsys)
    assert code == 0 and found["rungs_done"] == 4 and found["driver"]["life"] == "unknown"


def test_watching_ends_when_the_search_has(tmp_path, capsys):
    study = make(tmp_path)
    with live_of(study, tmp_path, every=0.2) as live:
        import threading

        threading.Timer(1.0, live.__exit__, (None, None, None)).start()
        assert main(["faces", "--output-dir", str(tmp_path), "--json", "--watch", "0.3"]) == 3  # two trials are left
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) >= 2 and [line["driver"]["life"] for line in (lines[0], lines[-1])] == ["alive", "dead"]


@pytest.mark.timeout(120)
def test_it_starts_without_what_takes_seconds_to_import(tmp_path):
    make(tmp_path)
    script = (
        "import sys\n"
        "from ambient_ray.status import main\n"
        f"assert main(['faces', '--output-dir', {str(tmp_path)!r}]) == 0\n"
        "late = {'torch', 'ray', 'mlflow', 'hydra', 'scipy', 'sklearn', 'matplotlib', 'pandas', 'pydantic'}\n"
        "assert not late & set(sys.modules), late & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_a_pid_that_was_given_to_another_process_is_not_the_driver():
    me = Holder.me()
    word = {"at": 100.0, "every": 10.0, "ended": ""}
    assert judge_driver({**word, "driver": asdict(me)}, 101.0).life == "alive"
    later = replace(me, started=me.started + 1)
    assert judge_driver({**word, "driver": asdict(later)}, 101.0).life == "dead"
    elsewhere = replace(me, machine="another start of this machine")
    assert judge_driver({**word, "driver": asdict(elsewhere)}, 101.0).life == "alive"  # by its word
    assert judge_driver({**word, "driver": asdict(elsewhere)}, 1000.0).life == "unknown"
    assert judge_driver({**word, "driver": asdict(elsewhere)}, 1000.0, False).life == "dead"


def test_the_keys_that_the_module_documents_are_those_that_are_printed(tmp_path, capsys):
    import ambient_ray.status as module

    make(tmp_path)
    _, found = looked(tmp_path, capsys)
    documented = str(module.__doc__)
    for key in [*found, *found["trials"], *found["driver"], *found["running"][0], *found["mlflow"], *found["front"]]:
        assert key in documented, key
    assert Path(str(module.__file__)).name == "status.py"
