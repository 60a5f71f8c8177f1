"""Trials at once follow the cluster's nodes; a slot that lost its nodes is not left waiting behind idle ones."""

import itertools

import pytest

from ambient_ray.tuning.running.following import Following
from ambient_ray.tuning.running.roster import Roster
from ambient_ray.tuning.running.shape import TrialShape

TWO = {"CPU": 2.0}


class Cluster:
    """Slots of some seats each, as `Slots` has them: those that fit the nodes have workers, the first first."""

    def __init__(self, nodes, pack=1, shape=None, bound=99):
        self.nodes, self.pack, self.shape = nodes, pack, shape or TrialShape()
        self.numbers, self.alive = itertools.count(), []
        self.lines, self.asked = [], []
        self.roster = Roster((), lambda seat: seat[0])
        self.following = Following(
            self.shape, pack, bound, lambda: self.nodes, self, self.roster, self.lines.append, self.asked.append
        )
        self.roster.add(self.more(min(self.shape.at_once(nodes) * pack, bound)))

    def more(self, seats):
        new = [next(self.numbers) for _ in range(-(-seats // self.pack))]
        self.alive += new
        return [(slot, seat) for slot in new for seat in range(self.pack)]

    def lose(self, slot):
        """Its workers' node is gone: it queues for room behind all the others."""
        self.alive.remove(slot)
        self.alive.append(slot)

    def served(self, slots):
        with_room = self.alive[: self.shape.at_once(self.nodes)]
        return [slot in with_room for slot in slots]

    def retire(self, slot):
        self.alive.remove(slot)


def test_slots_follow_nodes_that_come_up_to_the_bound():
    cluster = Cluster([TWO], bound=5)
    assert len(cluster.roster) == 2
    cluster.nodes = [TWO, TWO]
    cluster.following.look()
    assert len(cluster.roster) == 4
    cluster.nodes = [TWO, TWO, TWO]
    cluster.following.look()
    assert len(cluster.roster) == 5 and cluster.alive == [0, 1, 2, 3, 4]
    cluster.following.look()
    assert len(cluster.roster) == 5


def test_an_autoscaler_is_asked_for_what_has_no_room_yet():
    cluster = Cluster([TWO], bound=5)
    cluster.following.look()
    cluster.nodes = [TWO, TWO]
    cluster.following.look()
    cluster.nodes = [TWO, TWO, TWO]
    cluster.following.look()
    assert cluster.asked == [3, 1, 0]


def test_a_trial_without_room_takes_that_of_a_slot_without_a_trial():
    cluster = Cluster([TWO, TWO], shape=TrialShape(workers=1, cpus=2))
    stays, displaced = cluster.roster.take(), cluster.roster.take()
    cluster.nodes = [TWO]
    cluster.lose(displaced[0])
    cluster.following.look()
    assert cluster.alive == [stays[0], displaced[0]] and cluster.served([displaced[0]]) == [False]
    cluster.roster.give(stays)
    assert cluster.roster.take() is None, "no new trial before the one that was begun"
    cluster.following.look()
    assert cluster.alive == [displaced[0]] and cluster.served([displaced[0]]) == [True]
    cluster.roster.give(displaced)
    cluster.following.look()
    assert cluster.roster.take() == displaced


def test_trials_that_have_workers_are_never_disturbed():
    cluster = Cluster([TWO, TWO])
    taken = [cluster.roster.take() for _ in range(4)]
    cluster.nodes = [TWO]
    for seat in taken[2:]:
        cluster.lose(seat[0])
    for _ in range(3):
        cluster.following.look()
    assert sorted(cluster.alive) == [0, 1, 2, 3]
    cluster.nodes = [TWO, TWO]
    cluster.following.look()
    assert sorted(cluster.alive) == [0, 1, 2, 3] and all(cluster.served(cluster.alive))


def test_idle_slots_that_lost_their_nodes_are_closed_and_come_again_with_nodes():
    cluster = Cluster([TWO, TWO])
    cluster.nodes = [TWO]
    cluster.following.look()
    assert cluster.alive == [0, 1] and len(cluster.roster) == 2
    cluster.nodes = [TWO, TWO]
    cluster.following.look()
    assert cluster.alive == [0, 1, 4, 5] and len(cluster.roster) == 4


def test_a_slot_of_several_seats_leaves_only_when_all_are_free():
    cluster = Cluster([TWO, TWO], pack=2, shape=TrialShape(cpus=2))
    seats = [cluster.roster.take() for _ in range(3)]  # both of the first slot, one of the second
    cluster.nodes = [TWO]
    cluster.lose(0)
    cluster.following.look()
    assert sorted(cluster.alive) == [0, 1]
    cluster.roster.give(seats[2])
    cluster.following.look()
    assert cluster.alive == [0] and len(cluster.roster) == 2


def test_it_says_what_it_waits_for_once_and_when_it_goes_on():
    cluster = Cluster([TWO, TWO], shape=TrialShape(workers=2, cpus=2))
    cluster.roster.take()
    cluster.following.look()
    assert cluster.lines == []
    cluster.nodes = [TWO]
    for _ in range(3):
        cluster.following.look()
    assert cluster.lines == [
        "no room for any trial: a trial needs 2 places of 2 CPUs, and the cluster has 1; waiting for nodes to come back"
    ]
    cluster.nodes = [TWO, TWO]
    for _ in range(3):
        cluster.following.look()
    assert cluster.lines[1:] == ["2 nodes are there now, with room for 1 trials at once"]


def test_nodes_beyond_the_bound_are_not_worth_a_word():
    cluster = Cluster([TWO], bound=2)
    cluster.following.look()
    cluster.nodes = [TWO, TWO]
    cluster.following.look()
    assert cluster.lines == [] and len(cluster.roster) == 2


def test_a_seat_that_is_taken_meanwhile_keeps_its_slot():
    roster = Roster("ab")
    assert roster.take() == "a"
    assert not roster.remove_idle("a") and roster.remove_idle("b") and len(roster) == 1
    with pytest.raises(ValueError):
        roster.give("b")
