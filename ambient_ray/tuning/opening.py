"""Configurations that no model has chosen: a user's beliefs, an even start, a grid."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ambient_ray.errors import UserError

from .points import draw, grid_points, point_at
from .records import TrialRecord
from .space import Space
from .transfer import FADES_OVER


class SpaceExhaustedError(UserError):
    """A grid has been tried whole: there is nothing left to ask for."""


def prior_share(weight: float, asked: int) -> float:
    """How many of the first `asked` configurations are drawn from the user's belief, at the most: 1 + this.

    The share of such draws starts near `weight` and fades as 1 / (1 + n / 10), so their number grows as a logarithm
    and their share of a study goes to 0: a wrong belief costs a bounded number of trials in any study, and what those
    trials show is told to the sampler like all else.

    Args:
        weight: in [0, 1], the share at the start.
        asked: n.
    """
    return weight * FADES_OVER * math.log1p(asked / FADES_OVER)


def from_belief(space: Space, weight: float, seed: int, asked: int) -> dict[str, Any]:
    """Values from the space's beliefs when it is their turn (`prior_share`), else none: first the beliefs themselves.

    Args:
        space: what is searched.
        weight: `prior_share`'s.
        seed: of the draws.
        asked: how many configurations were asked for before this one.
    """
    believed = {name: p for name, p in space.parameters.items() if p.prior is not None}
    turn = math.floor(prior_share(weight, asked + 1)) > math.floor(prior_share(weight, asked))
    if not believed or weight == 0 or not (turn or asked == 0):
        return {}
    rng = np.random.default_rng([seed, asked, 0x9E37])
    return {name: p.prior if asked == 0 else draw(rng, p) for name, p in believed.items()}


def even_start(space: Space, seed: int, index: int) -> dict[str, Any]:
    """Point `index` of a scrambled Sobol sequence over the space, which covers it better than independent draws do."""
    from scipy.stats.qmc import Sobol

    sequence = Sobol(len(space.order), scramble=True, seed=np.random.default_rng([seed, 0x50B0]))
    if index:
        sequence.fast_forward(index)
    return point_at(space, sequence.random(1)[0].tolist())


def next_of_grid(space: Space, points: int, seed: int, searched: Sequence[TrialRecord]) -> dict[str, Any]:
    """A point of the grid that was not tried, in a seeded order.

    Raises:
        SpaceExhaustedError: all were.
    """
    tried = [{k: v for k, v in t.settings.items() if k in space.parameters} for t in searched]
    left = [point for point in grid_points(space, points) if point not in tried]
    if not left:
        raise SpaceExhaustedError(f"the grid over {space.name} has been tried whole")
    return left[int(np.random.default_rng([seed, len(tried)]).integers(len(left)))]
