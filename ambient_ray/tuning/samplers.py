"""The samplers by one key each, and the check that one can search two objectives."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import optuna
import yaml

from ambient_ray.errors import UserError

from .points import distribution
from .proposer import Proposer
from .space import Space

# Ended trials that a sampler's copy of the study holds at the most, so that a suggestion stays quick: TPE takes its
# good trials from the best 25 whatever their number, and a Gaussian process costs the cube of it.
_REMEMBERS = {"TPESampler": 400, "GPSampler": 100}
# Whose model gains by several results of one configuration: densities do; a regression would take them for noise, and
# evolution for clones.
_TOLD_WHOLE_FRONT = {"TPESampler"}
# Whose suggestions are points of one sequence, counted in the study.
_SEQUENCES = {"QMCSampler"}


class SamplerError(UserError):
    """The search's sampler cannot be built, or cannot search two objectives."""


@dataclass(frozen=True)
class SamplerChoice:
    """A sampler as the proposer takes it.

    Attributes:
        make: gives the sampler from a seed, and more arguments for it; None of it where a grid is walked instead.
        remembers: how many ended trials it is told of at the most; None: all.
        grid: points along each range, for an exhaustive grid.
        even_start: the sampler's n_startup_trials: until so many have ended, configurations are evenly spread.
        whole_front: whether it is told all rungs on the front (`Memory`).
        kept: whether it is one object for a whole search (`Memory`): a class of one's own may have a state.
        sequence: whether its suggestions are points of one sequence (`Memory`).
    """

    make: Callable[..., optuna.samplers.BaseSampler | None]
    remembers: int | None = None
    grid: int | None = None
    even_start: int = 0
    whole_front: bool = False
    kept: bool = False
    sequence: bool = False

    def proposer(self, **options: Any) -> Proposer:
        """A proposer with this sampler; options are `Proposer`'s others, and may replace these."""
        own = {"remembers": self.remembers, "grid": self.grid, "even_start": self.even_start}
        own |= {"whole_front": self.whole_front, "kept": self.kept, "sequence": self.sequence}
        return Proposer(self.make, **{**own, **options})


def shipped_sampler(key: str) -> dict[str, Any]:
    """The content of the configuration's group `sampler` by its key: tpe, gp, nsga2, nsga3, qmc, random or grid."""
    return dict(yaml.safe_load((resources.files("ambient_ray.conf") / "sampler" / f"{key}.yaml").read_text()))


def choose_sampler(content: Mapping[str, Any], space: Space) -> SamplerChoice:
    """From the configuration's group `sampler`, checked by asking it twice.

    Args:
        content: `_target_` (a class of Optuna's, or one's own that derives from `optuna.samplers.BaseSampler`) and its
            arguments, or `grid: POINTS`. Optuna's are made anew for every suggestion, from a seed, so that a search
            that is taken up again goes on as it would have; one's own is made once, as nobody knows its state.
        space: what is searched.

    Raises:
        SamplerError: it cannot be built, or cannot suggest for two objectives; one sentence.
    """
    from hydra.utils import instantiate

    if "grid" in content:
        points = content["grid"]
        if not isinstance(points, int) or isinstance(points, bool) or points < 2 or len(content) > 1:
            raise SamplerError(f"sampler: a grid takes the points along each range as grid=, 2 or more; got {content}")
        return SamplerChoice(lambda seed: None, grid=points)
    target = str(content.get("_target_", ""))
    if not target:
        raise SamplerError("sampler: it needs _target_, a class such as optuna.samplers.TPESampler, or grid")
    seeded, own_seed = target.startswith("optuna.samplers."), content.get("seed")
    made: list[Callable[..., optuna.samplers.BaseSampler]] = []  # with its arguments, which take a moment to resolve

    def make(seed: int, **more: Any) -> optuna.samplers.BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "experimental", of arguments that were chosen on purpose
            if not made:
                made.append(instantiate({**content, "_partial_": True}))
            if not seeded:
                return made[0]()
            more = {key: value for key, value in more.items() if key not in content}
            return made[0](seed=seed if own_seed is None else (seed + int(own_seed)) % 2**32, **more)

    _try(make, target, space)
    kind, startup = target.rpartition(".")[2], content.get("n_startup_trials", 0)
    return SamplerChoice(
        make, _REMEMBERS.get(kind), even_start=startup, whole_front=kind in _TOLD_WHOLE_FRONT,
        kept=not seeded, sequence=kind in _SEQUENCES,
    )  # fmt: skip


def _try(make: Callable[[int], Any], target: str, space: Space) -> None:
    """Build it and let it suggest beside a dozen trials of two objectives, in memory."""
    try:
        sampler = make(0)
    except Exception as error:
        raise SamplerError(f"sampler: {target} cannot be built: {' '.join(str(error).split())}") from error
    if not isinstance(sampler, optuna.samplers.BaseSampler):
        raise SamplerError(f"sampler: {target} is no Optuna sampler (it must derive from optuna.samplers.BaseSampler)")
    distributions = {name: distribution(parameter) for name, parameter in space.parameters.items()}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(
                directions=["minimize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0)
            )
            for value in range(12):
                study.tell(study.ask(distributions), [float(value), float(-value)])
            study.sampler = sampler
            study.ask(distributions)
    except Exception as error:
        raise SamplerError(f"sampler: {target} cannot search two objectives: {' '.join(str(error).split())}") from error
    finally:
        optuna.logging.set_verbosity(verbosity)
