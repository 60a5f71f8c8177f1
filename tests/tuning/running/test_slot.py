"""A slot keeps its trial through the deaths of its workers, gives every worker the same, and hears no ghosts."""

import threading
import time

import pytest

from ambient_ray.tuning.running.slot import Slot

JOB, OTHER = {"number": 7}, {"number": 8}


def plain(error):
    return "error", str(error)


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)


class Workers:
    """Stands for Ray Train: `run` blocks as `fit` does, until the test ends that launch."""

    def __init__(self):
        self.launches = []
        self._ends = {}

    def run(self, launch):
        self._ends[launch] = (threading.Event(), [])
        self.launches.append(launch)
        over, error = self._ends[launch]
        assert over.wait(30)
        if error:
            raise error[0]

    def end(self, launch, error=None):
        over, why = self._ends[launch]
        why.extend([error] if error else [])
        over.set()


@pytest.fixture
def workers():
    return Workers()


@pytest.fixture
def slot(workers):
    slot = Slot(
        workers.run, max_failures=1, explain=lambda error: ("worker died", f"because {error}"), first_launch=100
    )
    until(lambda: workers.launches == [100])
    yield slot
    threading.Thread(target=slot.close, args=(5,)).start()
    until(lambda: slot._closed)
    workers.end(workers.launches[-1])


def test_workers_that_wait_get_what_is_submitted_each_the_same(slot):
    assert slot.next(100, 0, seconds=0) == ("wait", [])
    slot.submit(0, JOB)
    assert slot.next(100, 0) == ("jobs", [JOB]) == slot.next(100, 0)  # two ranks
    assert slot.next(100, 1, seconds=0) == ("wait", [])


def test_what_is_told_arrives_in_order_and_once(slot):
    slot.submit(0, JOB)
    slot.next(100, 0)
    assert slot.tell(100, 7, {"rungs": [0]}) and slot.tell(100, 7, {"rungs": [1]})
    assert slot.about["trial"] == 7
    assert slot.news(7, 0) == [{"rungs": [0]}, {"rungs": [1]}]
    assert slot.tell(100, 7, {"state": "finished"})
    assert slot.news(7, 2) == [{"state": "finished"}]
    assert slot.news(7, 3, seconds=0) == []


def test_whoever_waits_wakes_at_once(slot):
    heard = []
    thread = threading.Thread(target=lambda: heard.extend(slot.news(7, 0, seconds=30)))
    slot.submit(0, JOB)
    thread.start()
    slot.next(100, 0)
    slot.tell(100, 7, {"state": "finished"})
    thread.join(10)
    assert heard == [{"state": "finished"}]


def test_the_next_trial_goes_to_the_same_workers(slot):
    for index, job in enumerate((JOB, OTHER)):
        slot.submit(0, job)
        assert slot.next(100, index) == ("jobs", [job])
        slot.tell(100, job["number"], {"state": "finished"})
    assert slot.next(100, 0) == ("jobs", [JOB])  # a rank that comes late


def test_a_driver_that_comes_back_finds_its_trial(slot):
    slot.submit(0, JOB)
    slot.next(100, 0)
    slot.tell(100, 7, {"rungs": [0]})
    slot.submit(0, JOB)
    assert slot.news(7, 0) == [{"rungs": [0]}]
    assert slot.news(8, 0, seconds=0) is None


def test_a_trial_survives_its_workers_once_and_then_fails_with_their_reason(slot, workers):
    slot.submit(0, JOB)
    slot.next(100, 0)
    slot.tell(100, 7, {"rungs": [0]})
    workers.end(100, RuntimeError("killed"))
    until(lambda: workers.launches == [100, 101])
    assert slot.next(101, 0) == ("jobs", [JOB])
    survived = {"faults": [{"cause": "worker died", "reason": "because killed", "key": "100"}]}
    assert slot.news(7, 1, seconds=0) == [survived]
    workers.end(101, RuntimeError("killed again"))
    assert slot.news(7, 2) == [{"state": "failed", "reason": "because killed again", "cause": "worker died"}]
    until(lambda: workers.launches == [100, 101, 102])
    slot.submit(0, OTHER)  # and the slot lives
    assert slot.next(102, 0) == ("jobs", [OTHER])


def test_each_trial_has_its_own_failures(slot, workers):
    for launch, job in ((100, JOB), (101, OTHER)):
        slot.submit(0, job)
        slot.next(launch, 0)
        workers.end(launch, RuntimeError("killed"))
        until(lambda launch=launch: workers.launches[-1] == launch + 1)
        assert slot.next(launch + 1, 0) == ("jobs", [job])
        slot.tell(launch + 1, job["number"], {"state": "finished"})


def test_replaced_workers_are_sent_home_and_not_heard(slot, workers):
    slot.submit(0, JOB)
    slot.next(100, 0)
    workers.end(100, RuntimeError("lost"))
    until(lambda: workers.launches == [100, 101])
    assert not slot.tell(100, 7, {"state": "finished"})
    assert slot.next(100, 1) == ("end", [])
    assert [list(message) for message in slot.news(7, 0, seconds=0)] == [["faults"]]


def test_a_trial_that_another_has_followed_is_not_wanted(slot):
    slot.submit(0, JOB)
    slot.next(100, 0)
    slot.submit(0, OTHER)  # the driver of the first died in Ray Tune
    assert not slot.tell(100, 7, {"rungs": [0]})
    assert slot.next(100, 1) == ("jobs", [OTHER])


def test_an_ended_trial_stays_as_it_ended(slot, workers):
    slot.submit(0, JOB)
    slot.next(100, 0)
    slot.tell(100, 7, {"state": "stopped"})
    assert not slot.tell(100, 7, {"state": "failed"})
    workers.end(100, RuntimeError("afterwards"))
    until(lambda: workers.launches == [100, 101])
    assert slot.news(7, 0) == [{"state": "stopped"}]
    assert slot.next(101, 0, seconds=0) == ("wait", [])


def test_workers_that_cannot_even_start_fail_the_trials_and_do_not_loop(workers):
    slot = Slot(workers.run, max_failures=5, explain=plain)
    slot.submit(0, JOB)
    for launch in (0, 1, 2):
        until(lambda launch=launch: workers.launches[-1:] == [launch])
        workers.end(launch, ImportError("no torch"))
    assert slot.news(7, 0) == [{"state": "failed", "reason": "no torch", "cause": "error"}]
    slot.submit(0, OTHER)
    assert slot.news(8, 0) == [{"state": "failed", "reason": "no torch", "cause": "error"}]
    time.sleep(0.05)
    assert workers.launches == [0, 1, 2]


def test_idle_workers_may_die_as_often_as_they_like(slot, workers):
    for launch in range(100, 105):
        until(lambda launch=launch: workers.launches[-1] == launch)
        slot.next(launch, 0, seconds=0)
        workers.end(launch, RuntimeError("spot node gone"))
    until(lambda: workers.launches[-1] == 105)
    slot.submit(0, JOB)
    assert slot.next(105, 0) == ("jobs", [JOB])


def test_closing_sends_the_workers_home(slot, workers):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(slot.next(100, 0, seconds=30)))
    thread.start()
    workers._ends[100][0].set()  # they leave as soon as they are told
    slot.close(10)
    thread.join(10)
    assert answers == [("end", [])] and not slot._thread.is_alive()


@pytest.fixture
def bench(workers, monkeypatch):
    """A slot of three seats, whose trials are given together."""
    monkeypatch.setattr("ambient_ray.tuning.running.slot.GATHER", 0.05)
    bench = Slot(workers.run, max_failures=1, explain=plain, seats=3)
    until(lambda: workers.launches == [0])
    yield bench
    threading.Thread(target=bench.close, args=(5,)).start()
    until(lambda: bench._closed)
    workers.end(workers.launches[-1])


def jobs(*numbers):
    return [{"number": number} for number in numbers]


def test_a_full_bench_begins_at_once_and_a_part_of_one_when_no_more_come(bench, monkeypatch):
    for seat, job in enumerate(jobs(1, 2)):
        bench.submit(seat, job)
    assert bench.next(0, 0, seconds=5) == ("jobs", jobs(1, 2))
    for job in jobs(1, 2):
        bench.tell(0, job["number"], {"state": "finished"})
    monkeypatch.setattr("ambient_ray.tuning.running.slot.GATHER", 1000.0)
    for seat, job in enumerate(jobs(3, 4, 5)):
        assert bench.next(0, 1, seconds=0) == ("wait", [])
        bench.submit(seat, job)
    assert bench.next(0, 1) == ("jobs", jobs(3, 4, 5))


def test_a_seat_that_is_free_early_waits_for_the_next_pack(bench):
    for seat, job in enumerate(jobs(1, 2, 3)):
        bench.submit(seat, job)
    bench.next(0, 0)
    assert bench.tell(0, 2, {"state": "stopped"})
    bench.submit(1, {"number": 4})
    assert bench.next(0, 0) == ("jobs", jobs(1, 2, 3))
    assert bench.tell(0, 1, {"rungs": [0]}) and not bench.tell(0, 2, {"rungs": [1]})
    assert bench.news(1, 0) == [{"rungs": [0]}] and bench.news(4, 0, seconds=0) == []
    assert bench.next(0, 1, seconds=5) == ("jobs", jobs(4))


def test_a_pack_whose_workers_die_is_given_again_without_those_that_had_ended(bench, workers):
    for seat, job in enumerate(jobs(1, 2, 3)):
        bench.submit(seat, job)
    bench.next(0, 0)
    bench.tell(0, 2, {"state": "stopped"})
    workers.end(0, RuntimeError("killed"))
    until(lambda: workers.launches == [0, 1])
    assert bench.next(1, 0, seconds=5) == ("jobs", jobs(1, 3))
    workers.end(1, RuntimeError("again"))
    end = {"state": "failed", "reason": "again", "cause": "error"}
    assert bench.news(1, 1) == bench.news(3, 1) == [end]
    assert bench.news(2, 0) == [{"state": "stopped"}]


class Watched:
    """A slot with a clock of the test's, whose workers' killings are noted and end them."""

    def __init__(self, workers, **others):
        self.now, self.killed = 0.0, []
        kill = {"kill": lambda launch: self._kill(workers, launch)}
        self.slot = Slot(workers.run, 1, plain, hang=60.0, clock=lambda: self.now, **kill, **others)
        until(lambda: workers.launches == [0])

    def _kill(self, workers, launch):
        self.killed.append(launch)
        workers.end(launch, RuntimeError("killed"))

    def after(self, seconds):
        """Time passes, and the watchdog looks every second of it; what it has killed so far."""
        for _ in range(int(seconds)):
            self.now += 1.0
            self.slot.look()
        return self.killed


@pytest.fixture
def watched(workers):
    watched = Watched(workers)
    yield watched
    threading.Thread(target=watched.slot.close, args=(5,)).start()
    until(lambda: watched.slot._closed)
    workers.end(workers.launches[-1])


def test_workers_without_a_sign_of_life_are_killed_and_their_trial_is_taken_up_once(watched, workers):
    slot = watched.slot
    slot.submit(0, JOB)
    slot.next(0, 0)
    assert watched.after(59) == []
    slot.alive(0)
    assert watched.after(59) == [] and watched.after(2) == [0]
    until(lambda: workers.launches == [0, 1])
    reason = "it hung: no sign of life for 1 minutes (trial.hang_minutes)"
    assert slot.news(7, 0) == [{"faults": [{"cause": "hang", "reason": reason, "key": "0"}]}]
    assert slot.next(1, 0) == ("jobs", [JOB])
    assert watched.after(61) == [0, 1]
    assert slot.news(7, 1) == [{"state": "failed", "reason": reason, "cause": "hang"}]
    until(lambda: workers.launches == [0, 1, 2])
    slot.submit(0, OTHER)
    slot.next(2, 0)
    workers.end(2, RuntimeError("killed"))
    assert slot.news(8, 0) == [{"faults": [{"cause": "error", "reason": "killed", "key": "2"}]}], "another cause again"


def test_nothing_hangs_that_has_no_trial_or_tells_of_one(watched):
    slot = watched.slot
    assert watched.after(500) == []  # workers that wait
    slot.submit(0, JOB)
    assert watched.after(500) == []  # a trial that waits for workers
    slot.next(0, 0)
    for index in range(5):
        assert watched.after(50) == []
        slot.tell(0, 7, {"rungs": [index]})
    slot.tell(0, 7, {"state": "finished"})
    assert watched.after(500) == []


def test_signs_of_replaced_workers_keep_nobody_alive(watched, workers):
    slot = watched.slot
    slot.submit(0, JOB)
    slot.next(0, 0)
    watched.after(61)
    until(lambda: workers.launches == [0, 1])
    slot.next(1, 0)
    watched.after(40)
    slot.alive(0)
    assert watched.after(21) == [0, 1]


def test_a_watchdog_that_was_stopped_itself_does_not_bite_when_it_wakes(watched):
    slot = watched.slot
    slot.submit(0, JOB)
    slot.next(0, 0)
    watched.after(30)
    watched.now += 3600.0  # the host's process, or the whole machine, slept
    assert watched.after(25) == []
    assert watched.after(10) == [0]


def test_a_wall_clock_that_jumps_by_hours_kills_nobody(workers, monkeypatch):
    slot = Slot(workers.run, 1, plain, hang=60.0, kill=lambda launch: pytest.fail("killed"))
    until(lambda: workers.launches == [0])
    slot.submit(0, JOB)
    slot.next(0, 0)
    for wall in (4e9, 0.0):
        monkeypatch.setattr(time, "time", lambda wall=wall: wall)
        slot.look()
        assert slot.news(7, 0, seconds=0.01) == []
    threading.Thread(target=slot.close, args=(5,)).start()
    until(lambda: slot._closed)
    workers.end(0)


def test_a_trial_brings_its_failures_along_to_a_host_that_was_started_again(slot, workers):
    slot.submit(0, {**JOB, "causes": ["hang"]})
    slot.next(100, 0)
    workers.end(100, RuntimeError("killed"))
    assert [m["state"] for m in slot.news(7, 0)] == ["failed"]
