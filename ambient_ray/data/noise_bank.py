"""The fixed noise n_i of each training image: a pure function of (seed, image id, draw).

Ambient Diffusion stands on n_i staying the same over epochs, ranks, restarts and subsets (SCIENCE: the two
losses). So no generator is shared or advanced: each noise has its own Philox generator, keyed by a hash of
what names it. Philox is counter-based (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"):
keys give independent streams.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def noise_bank(ids: Sequence[str], shape: Sequence[int], *, seed: int, draws: int = 1) -> NDArray[np.float32]:
    """Standard normal noise for each id, float32 [N,draws,*shape]; [i, d] is `fixed_noise` of id i, draw d.

    ids: names of the images (`ImageSet.ids`); shape: (C, H, W); seed: any integer; draws: fixed noises an
    image, >= 1. The value at one id depends on nothing but (seed, id, draw): not on order, other ids,
    processes or global generators.
    Raises ValueError for draws < 1, TypeError for an id that is no text.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
    if isinstance(ids, str):
        raise TypeError("ids must be a sequence of texts, not one text")
    bank = np.empty((len(ids), draws, *shape), dtype=np.float32)
    for row, image_id in zip(bank, ids, strict=True):
        for draw in range(draws):
            _generator(image_id, seed, draw).standard_normal(dtype=np.float32, out=row[draw])
    return bank


def fixed_noise(id: str, shape: Sequence[int], *, seed: int, draw: int = 0) -> NDArray[np.float32]:
    """One image's noise number `draw` (from 0): standard normal, float32 of this shape.

    Raises ValueError for a negative draw, TypeError for an id that is no text.
    """
    return _generator(id, seed, draw).standard_normal(tuple(shape), dtype=np.float32)


def _generator(image_id: str, seed: int, draw: int) -> np.random.Generator:
    if not isinstance(image_id, str):
        raise TypeError(f"an id must be text, not {image_id!r}")
    if draw < 0:
        raise ValueError(f"draw must be at least 0, not {draw}")
    # The two integers first: no id, whatever it holds, can imitate another seed or draw. File names that are
    # not valid UTF-8 reach Python with lone surrogates, hence surrogatepass.
    name = f"{int(seed)}/{int(draw)}/{image_id}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(name, digest_size=16, person=b"ambient-noise-1").digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
