"""What bounds the hypervolume, in words."""

from ambient_ray.tuning.records import Landscape, Objectives


def bounds(land: Landscape, objectives: Objectives, delta: float) -> str:
    """What bounds the hypervolume, in words: `fd_classifier 9.2 (twice DDPM's best) and f_mem 1`.

    Args:
        land: with the study's reference.
        objectives: the names of the two scores.
        delta: of the study: fidelity worse than (1 + delta) times DDPM's best is of no use.
    """
    if land.reference is None:
        return ""
    whose = "DDPM's" if any(c.trial.arm == "ddpm" for c in land.candidates) else "the first trial's"
    times = "twice" if delta == 1 else f"{1 + delta:g} times"
    fidelity, copied = land.reference
    return f"{objectives.fidelity} {fidelity:.4g} ({times} {whose} best) and {objectives.memorization} {copied:g}"
