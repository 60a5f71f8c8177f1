"""A full disk or a store that is away is waited for, with a word, and given up after as long as was asked."""

import errno
from pathlib import Path

import pytest

from ambient_ray.storage import Patience, StorageGivenUpError, locate, patiently, trouble


class Clock:
    """Seconds that pass when somebody sleeps."""

    def __init__(self):
        self.now, self.beats = 0.0, []

    def sleep(self, seconds):
        self.now += seconds

    def kwargs(self, said):
        return {
            "clock": lambda: self.now, "sleep": self.sleep, "say": said.append,
            "alive": lambda: self.beats.append(self.now),
        }  # fmt: skip


def refusing(clock, until, error):
    def action():
        if clock.now < until:
            raise error
        return "done"

    return action


def test_it_waits_with_a_word_and_goes_on_by_itself():
    clock, said = Clock(), []
    full = OSError(errno.ENOSPC, "No space left on device")
    assert patiently(refusing(clock, 100, full), Path("/data/x"), **clock.kwargs(said)) == "done"
    assert said == [
        "waits: no space left on device at /data/x; free some, it tries again every 30 s",
        "goes on after 121 s: /data/x takes what it is given again",
    ] or said[1].startswith("goes on after")
    assert len(said) == 2
    gaps = [b - a for a, b in zip(clock.beats, clock.beats[1:], strict=False)]
    assert max(gaps) <= 2.0, "a sign of life every two seconds: no watchdog may take it for a hang"


def test_the_word_is_said_again_when_the_reason_changes():
    clock, said = Clock(), []

    def action():
        if clock.now < 10:
            raise OSError(errno.ENOSPC, "full")
        if clock.now < 30:
            raise OSError(errno.EROFS, "read-only")

    patiently(action, Path("/d"), **clock.kwargs(said))
    assert ["no space" in s for s in said] == [True, False, False] and "read-only" in said[1]


@pytest.mark.parametrize("hours", [0.0, 0.5])
def test_patience_ends_with_its_reason(hours):
    clock = Clock()
    action = refusing(clock, 1e9, OSError(errno.ENOSPC, "full"))
    with pytest.raises(StorageGivenUpError, match=r"no space left on device at /d; free some; given up after \d+ "):
        patiently(action, Path("/d"), patience=Patience(hours=hours), **clock.kwargs([]))
    assert 3600 * hours <= clock.now <= 3600 * hours + 31


def test_what_is_no_trouble_of_a_store_is_not_waited_for():
    with pytest.raises(ValueError, match="a bug"):
        patiently(lambda: (_ for _ in ()).throw(ValueError("a bug")), Path("/d"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("AWS Error NO_SUCH_BUCKET during CreateMultipartUpload", "there is no bucket s3://b; make it"),
        ("AWS Error ACCESS_DENIED during PutObject", "s3://b refuses (access denied); look at its policy"),
        ("AWS Error SLOW_DOWN during PutObject", "s3://b is overloaded or away (slow down)"),
        ("AWS Error UNKNOWN (HTTP status 503) during PutObject", "s3://b is overloaded or away (http status 503)"),
        ("AWS Error NETWORK_CONNECTION during PutObject: curlCode: 7", "s3://b does not answer (network connection)"),
        ("something new", "s3://b cannot be used: something new"),
    ],
)
def test_what_a_store_says_becomes_a_clause(text, words):
    assert words in trouble(OSError(text), locate("s3://b/x/y"))
