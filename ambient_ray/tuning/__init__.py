"""The two-objective search: space, study, searcher, pruner and judge, the trial's driver, the front."""

from .pareto import hypervolume, pareto_front
from .pruner import Decision, ParetoPruner

__all__ = ["Decision", "ParetoPruner", "hypervolume", "pareto_front"]
