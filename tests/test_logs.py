"""Log lines are one JSON object each, say which trial they are about, and hide passwords."""

import json
import logging
import threading

import pytest

from ambient_ray.console.search_log import EventLog
from ambient_ray.logs import PACKAGE, JsonLines, LogFile, about, logging_to
from ambient_ray.tuning.faults import Fault
from ambient_ray.tuning.records import RungRecord, TrialRecord

LOG = logging.getLogger("ambient_ray.somewhere")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_what_it_is_about_whoever_makes_it(tmp_path):
    with logging_to(tmp_path / "log", study="faces"):
        with about(trial=7):
            LOG.info("within %d", 1)
            with about(trial=8, rung=2):
                LOG.warning("deeper")
        other = threading.Thread(target=LOG.info, args=("a thread of its own",))
        other.start()
        other.join()
    LOG.warning("after the search: not in its log")
    first, second, third = lines(tmp_path / "log")
    assert (first["message"], first["study"], first["trial"], first["level"]) == ("within 1", "faces", 7, "INFO")
    assert (second["trial"], second["rung"], second["logger"]) == (8, 2, "ambient_ray.somewhere")
    assert third["study"] == "faces" and "trial" not in third
    assert first["time"].endswith("Z") and logging.getLogger(PACKAGE).handlers == []


def test_passwords_and_numbers_that_json_does_not_have(tmp_path):
    with logging_to(tmp_path / "log", study="faces"):
        LOG.info(
            "at %s", "postgresql://me:hunter2@db/x", extra={"scores": {"fd": float("nan")}, "uri": ["s3://k:hunter2@b"]}
        )
        try:
            raise OSError("s3://key:hunter2@bucket is away")
        except OSError:
            LOG.exception("gone")
    text = (tmp_path / "log").read_text()
    assert "hunter2" not in text and "me:***@db" in text
    first, second = lines(tmp_path / "log")
    assert first["scores"] == {"fd": None} and "Traceback" in second["error"]


def test_warnings_still_reach_the_terminal(tmp_path, capsys):
    with logging_to(tmp_path / "log"):
        LOG.info("for the file")
        LOG.warning("for the terminal")
    assert capsys.readouterr().err.strip() == "for the terminal"


def test_a_full_disk_is_counted_and_ends_nothing(tmp_path, capsys):
    with logging_to(tmp_path / "log") as file:
        LOG.info("before")

        class Full:
            def write(self, text):
                raise OSError(28, "No space left on device")

            def flush(self):
                pass

            def close(self):
                pass

            def tell(self):
                return 0

            def seek(self, *where):
                return 0

        whole, file.stream = file.stream, Full()
        for _ in range(3):
            LOG.info("lost")
        file.stream = whole
        LOG.info("after")
    assert file.lost == 3 and [line["message"] for line in lines(tmp_path / "log")] == ["before", "after"]
    assert capsys.readouterr().err == ""


def test_it_is_rotated(tmp_path):
    file = LogFile(tmp_path / "log")
    file.maxBytes = 2000
    for number in range(200):
        file.emit(logging.LogRecord("ambient_ray", logging.INFO, "", 0, f"line {number}", (), None))
    file.close()
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 6 and all(path.stat().st_size <= 2000 for path in kept)
    assert lines(tmp_path / "log")[-1]["message"] == "line 199"


def test_each_event_of_a_trial_can_be_asked_for(tmp_path):
    trial = TrialRecord(3, "ambient", {"sigma_tn": 0.5})
    rung = RungRecord(0, 1000, {"fd": 9.0, "f_mem": 0.1}, {}, "c", seconds=2.0)
    told, log = [], EventLog()
    with logging_to(tmp_path / "log", study="faces"):
        log.search_began(plan={"trials": 4})
        log.trial_started(trial, False)
        log.trial_told(trial, {"place": {"rank": 0, "host": "gpu1", "pid": 12}})
        log.rung_scored(trial, rung)
        log.trial_told(trial, {"judged": {"rung": 0, "goes_on": True, "seconds": 0.01}})
        log.trial_started(trial.with_rung(rung), True)
        log.said(told.append)("MLflow at http://x does not answer")
        log.trial_noted(trial, "waits: no space left on device at /data; free some")
        log.trial_survived(trial, Fault("worker died", "its worker died (exit code 1)", 1000))
        log.trial_ended(TrialRecord(3, "ambient", {}, "failed", reason="the loss became non-finite"))
        log.search_ended("finished")
    found = lines(tmp_path / "log")
    assert [line["event"] for line in found] == [
        "search began", "trial started", "worker up", "rung scored", "judged", "trial taken up again", "said",
        "waits", "survived", "trial ended", "search ended",
    ]  # fmt: skip
    assert {line["trial"] for line in found if line["event"] not in {"search began", "said", "search ended"}} == {3}
    assert found[3]["scores"] == {"fd": 9.0, "f_mem": 0.1} and found[3]["rung"] == 0
    assert (found[8]["cause"], found[8]["message"]) == (
        "worker died", "its worker died (exit code 1); taken up from image 1,000",
    )  # fmt: skip
    assert (found[9]["cause"], found[9]["level"]) == ("diverged", "WARNING")
    assert told == ["MLflow at http://x does not answer"]


@pytest.mark.parametrize("broken", [object(), {1: object()}, {2, 3}])
def test_whatever_is_given_with_a_record_is_written(broken):
    record = logging.LogRecord("x", logging.INFO, "", 0, "text", (), None)
    record.given = broken
    assert "given" in json.loads(JsonLines().format(record))
