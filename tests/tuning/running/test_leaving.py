"""Workers that have to leave: their trial is for the next ones, has not failed, and is given to nobody twice."""

import sys
import threading
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, RayActorError
from ray.train import WorkerGroupError

sys.path.insert(0, str(Path(__file__).parent))
from test_slot import JOB, OTHER, Workers, plain, until

from ambient_ray.tuning.running.nodes import Placements, was_preempted
from ambient_ray.tuning.running.slot import Slot


class Room:
    """How many workers there should be, and how many a launch has."""

    def __init__(self):
        self.wanted = 1
        self.sizes = []


@pytest.fixture
def place():
    """A slot whose trials may not fail once, its workers, and the cluster's room."""
    workers, room = Workers(), Room()

    def run(launch):
        room.sizes.append(room.wanted)
        workers.run(launch)

    def misfits():
        return room.sizes[-1] != room.wanted

    slot = Slot(run, 0, plain, first_launch=100, preempted=lambda e: "preempted" in str(e), misfits=misfits)
    until(lambda: workers.launches == [100])
    yield slot, workers, room
    threading.Thread(target=slot.close, args=(5,)).start()
    until(lambda: slot._closed)
    workers.end(workers.launches[-1])


@pytest.mark.parametrize("error", [None, RuntimeError("its node is gone")])
def test_a_paused_trial_is_given_to_the_next_workers_however_often_and_has_not_failed(place, error):
    """Whether its workers went home in time or not."""
    slot, workers, _ = place
    slot.submit(0, JOB)
    for launch in range(100, 106):
        until(lambda launch=launch: workers.launches[-1] == launch)
        assert slot.next(launch, 0) == ("jobs", [JOB])
        slot.leave(launch)
        assert slot.leaving(launch, seconds=0)
        assert slot.next(launch, 1) == ("end", [])
        workers.end(launch, error)
    until(lambda: workers.launches[-1] == 106)
    assert slot.next(106, 0) == ("jobs", [JOB]) and not slot.leaving(106, seconds=0)
    assert slot.tell(106, 7, {"state": "finished"})
    assert slot.news(7, 0) == [{"state": "finished"}]


def test_a_node_taken_away_before_its_notice_was_heard_is_no_failure_but_a_crash_is(place):
    slot, workers, _ = place
    slot.submit(0, JOB)
    slot.next(100, 0)
    workers.end(100, RuntimeError("the node was preempted"))
    until(lambda: workers.launches[-1] == 101)
    slot.next(101, 0)
    workers.end(101, RuntimeError("killed"))
    survived = {"faults": [{"cause": "error", "reason": "the node was preempted", "key": "100"}]}
    until(lambda: len(slot.news(7, 0)) == 2)
    assert slot.news(7, 0) == [survived, {"state": "failed", "reason": "killed", "cause": "error"}]


def test_workers_that_leave_before_their_first_trial_are_not_stillborn(place):
    slot, workers, _ = place
    for launch in range(100, 106):
        until(lambda launch=launch: workers.launches[-1] == launch)
        slot.leave(launch)
        workers.end(launch)
    until(lambda: workers.launches[-1] == 106)
    slot.submit(0, JOB)
    assert slot.next(106, 0) == ("jobs", [JOB])


def test_every_rank_of_a_group_that_leaves_gets_the_trial_that_one_of_them_has_and_none_the_next(place):
    slot, _, _ = place
    slot.submit(0, JOB)
    assert slot.next(100, 0) == ("jobs", [JOB])  # one rank
    slot.leave(100)  # SIGTERM to the other
    assert slot.next(100, 0) == ("jobs", [JOB])  # which therefore joins it, to pause together
    assert slot.tell(100, 7, {"state": "finished"})  # had it ended just then
    slot.submit(0, OTHER)
    assert slot.next(100, 1) == ("end", [])


def test_who_waits_for_a_trial_goes_home_when_the_group_leaves(place):
    slot, _, _ = place
    answers = []
    thread = threading.Thread(target=lambda: answers.append(slot.next(100, 0, seconds=30)))
    thread.start()
    slot.leave(100)
    thread.join(10)
    assert answers == [("end", [])]


def test_the_word_to_leave_is_of_one_launch(place):
    slot, workers, _ = place
    slot.leave(99)
    assert not slot.leaving(100, seconds=0)
    slot.leave(100)
    workers.end(100)
    until(lambda: workers.launches[-1] == 101)
    assert slot.leaving(100, seconds=0), "workers that were replaced have to leave, too"
    assert not slot.leaving(101, seconds=0)


def test_a_group_is_made_anew_for_the_next_trial_when_there_is_other_room(place):
    slot, workers, room = place
    slot.submit(0, JOB)
    assert slot.next(100, 0) == ("jobs", [JOB])
    room.wanted = 3
    assert slot.tell(100, 7, {"rungs": [0]}) and slot.tell(100, 7, {"state": "finished"})
    assert slot.next(100, 1, seconds=0) == ("wait", []), "as long as nobody needs more workers"
    slot.submit(0, OTHER)
    assert slot.next(100, 1) == ("end", [])
    workers.end(100)
    until(lambda: workers.launches[-1] == 101)
    assert room.sizes == [1, 3]
    assert slot.next(101, 0) == ("jobs", [OTHER]), "and the trial that has ended is not trained again"
    assert slot.news(7, 0, seconds=0) is None and slot.news(8, 0, seconds=0) == []


def test_nodes_that_go_away_are_told_to_those_who_are_on_them_once():
    places = Placements("head")
    for slot, launch, node in ((0, 1, "a"), (0, 1, "b"), (1, 1, "b"), (2, 1, "c")):
        places.arrived(slot, launch, node, 2)
    assert places.to_tell(set()) == [] == places.to_tell({"elsewhere"})
    assert places.to_tell({"b"}) == [(0, 1), (1, 1)]
    assert places.to_tell({"b"}) == []
    places.arrived(0, 2, "a", 2)
    places.arrived(0, 1, "b", 2)  # a word that came late
    assert places.to_tell({"b"}) == []
    assert places.to_tell({"a", "b"}) == [(0, 2)]
    places.arrived(0, 3, "a", 1)
    assert [places.size(slot) for slot in (0, 1, 9)] == [1, 2, None]


def test_a_node_that_the_slots_themselves_are_on_is_told_once_and_not_to_every_group_that_follows():
    places = Placements("head")
    places.arrived(0, 1, "a", 2)
    assert places.to_tell({"head"}) == [(0, 1)]
    places.arrived(0, 2, "a", 2)
    assert places.to_tell({"head"}) == []
    assert places.to_tell({"head", "a"}) == [(0, 2)]


def test_ray_s_word_that_a_node_was_taken_away_is_found_wherever_it_stands():
    died = ActorDiedError()
    died._preempted = True
    assert was_preempted(died) and not was_preempted(ActorDiedError()) and not was_preempted(ValueError("no"))
    assert was_preempted(WorkerGroupError("failed", {0: ValueError("lost its peer"), 1: died}))
    assert not was_preempted(WorkerGroupError("failed", {0: RayActorError()}))
