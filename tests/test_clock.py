"""The date in records while the wall clock is set."""

import time

from ambient_ray.clock import SteadyClock, now


def test_a_wall_clock_that_jumps_moves_nothing():
    wall, passed = [1_000_000.0], [50.0]
    clock = SteadyClock(lambda: wall[0], lambda: passed[0])
    seen = [clock()]
    for jump, seconds in ((7200.0, 1.0), (-86_400.0, 2.0), (0.5, 0.25)):
        wall[0] += jump
        passed[0] += seconds
        seen.append(clock())
    assert seen == [1_000_000.0, 1_000_001.0, 1_000_003.0, 1_000_003.25]


def test_it_is_the_date():
    assert abs(now() - time.time()) < 3600
