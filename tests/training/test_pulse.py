"""A pulse proves progress: a step, or processor time where a call shows nothing else; never that a thread is there."""

import threading
import time

import pytest

from ambient_ray.training.pulse import LONGEST_UNSEEN, Pulse, processor_seconds, reported


class World:
    """A clock, and the processor time that a thread has used."""

    def __init__(self):
        self.now = self.used = 0.0
        self.pulse = Pulse(lambda: self.now, lambda thread: self.used)

    def later(self, seconds, used=0.0):
        self.now += seconds
        self.used += used
        return self.pulse.advanced()


def test_only_steps_are_signs_while_steps_are_made():
    world = World()
    assert not world.later(5)
    world.pulse.beat()
    assert world.later(5) and not world.later(5)
    assert not world.later(5, used=5.0), "a spinning wait for another rank is no progress"


def test_in_an_unseen_call_work_is_a_sign_and_waiting_is_none():
    world = World()
    with world.pulse.unseen():
        assert world.later(5), "it has begun"
        assert world.later(5, used=1.0)
        assert not world.later(5, used=0.0), "it waits: for a lock, or a dead file server"
        assert not world.later(5, used=0.01), "a loop that polls"
        assert world.later(5, used=4.0)
    assert world.later(5), "it has ended"
    assert not world.later(5, used=5.0)


def test_no_call_is_believed_for_ever():
    world = World()
    with world.pulse.unseen():
        world.later(0)
        assert world.later(LONGEST_UNSEEN - 1, used=LONGEST_UNSEEN)
        assert not world.later(2, used=2)


def test_an_unseen_call_within_another_is_counted_by_itself_and_then_the_outer_one_again():
    world = World()
    with world.pulse.unseen():
        with world.pulse.unseen():
            assert world.later(5, used=5)
        assert world.later(5)
        assert world.later(5, used=5) and not world.later(5)


def test_a_wall_clock_that_jumps_changes_nothing(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 4e9)
    pulse = Pulse()
    assert not pulse.advanced()
    pulse.beat()
    assert pulse.advanced()


def test_processor_time_is_the_threads_own():
    ready, over = threading.Event(), threading.Event()

    def wait():
        ready.set()
        over.wait(30)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert ready.wait(30)
    before, mine = processor_seconds(waiting.ident), processor_seconds(threading.get_ident())
    began = time.thread_time()
    while time.thread_time() - began < 0.3:
        pass
    assert processor_seconds(waiting.ident) - before < 0.05
    assert processor_seconds(threading.get_ident()) - mine == pytest.approx(0.3, abs=0.15)
    over.set()
    waiting.join(30)


def test_signs_are_passed_on_while_there_are_any_and_end_with_the_block():
    pulse, told = Pulse(), []
    with reported(pulse, lambda: told.append(1), 0.01):
        time.sleep(0.1)
        assert told == []
        pulse.beat()
        deadline = time.monotonic() + 10
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert told == [1]
    pulse.beat()
    time.sleep(0.1)
    assert told == [1]
