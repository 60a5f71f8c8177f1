"""A worker goes on asking while the network is cut, and takes a death for what it is."""

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError

from ambient_ray.tuning.running.reached import reached


def answers(monkeypatch, *those):
    given = iter(those)

    def get(reference):
        answer = next(given)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(ray, "get", get)
    return given


def cut():
    return ActorUnavailableError("the network is cut", b"\0" * 16)


def test_an_actor_that_was_out_of_reach_is_asked_again(monkeypatch):
    rest = answers(monkeypatch, cut(), cut(), "jobs")
    assert reached(lambda: None, pause=0) == "jobs" and list(rest) == []


def test_a_dead_actor_is_not(monkeypatch):
    rest = answers(monkeypatch, cut(), ActorDiedError(), "jobs")
    with pytest.raises(ActorDiedError):
        reached(lambda: None, pause=0)
    assert list(rest) == ["jobs"]


def test_it_gives_up_in_the_end(monkeypatch):
    rest = answers(monkeypatch, cut(), "jobs")
    with pytest.raises(ActorUnavailableError, match="cut"):
        reached(lambda: None, seconds=0)
    assert list(rest) == ["jobs"]
