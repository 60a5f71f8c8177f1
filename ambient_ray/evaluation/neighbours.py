"""Exact nearest neighbours by blocked matrix products: the two nearest in distance, the nearest in angle."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .arrays import Array, Floats, as_array, as_features, augmented_orders, same_width
from .errors import FeatureShapeError
from .memory import free_memory

_BLOCK_VALUES = 1 << 22  # values of one block on a processor: 16 MiB in float32
_MOST_VALUES = 1 << 27  # and on a GPU with memory to spare, which smaller ones leave idle
_KEYS = 1 << 12  # training images of one block, so that it has some hundred queries, and the product its speed
_FEW, _MANY = 4, 16  # candidates of a query that are compared exactly, and those of one for which few don't do


@dataclass(frozen=True)
class TwoNearest:
    """The two nearest training images of each query: index int64, distance float64, [N, 2], nearest first."""

    index: npt.NDArray[np.int64]
    distance: Floats

    @property
    def ratio(self) -> Floats:
        """d1/d2 in [0, 1], [N]; 0 where d1 = 0, even if a duplicate in the training set makes d2 = 0 too."""
        nearest, second = self.distance.T
        return np.asarray(np.divide(nearest, second, out=np.zeros_like(nearest), where=second > 0))


def two_nearest(
    queries: Array, train: Array, *, mirror: bool = False, shift: int = 0, device: str | torch.device = "cpu"
) -> TwoNearest:
    """The two training images nearest to each query in L2 distance, exactly.

    queries [N, ...], train [M, ...], M >= 2: features or images, flattened, of one scale (mixing uint8 with
    floats is refused). mirror, shift: the distance to a training image is that to the nearest of the image, its
    mirror image, and both moved by up to `shift` whole pixels (wrapping round), so the two neighbours are always two
    different training images; both need image shapes. Costs one search a variant: (2 shift + 1)^2, twice with mirror.

    A float32 matrix product finds 4 candidates a query; their distances are then computed directly in
    float64, so an exact copy has distance 0. If the product's rounding bound leaves open whether a fifth
    image was nearer, the query is searched again with 16, and then in float64. Ties go to either.

    Memory beside the inputs: one centred float32 copy of the training set, and on a processor less than 150 MiB of
    blocks. On a GPU (device) the training set itself goes there as well, queries in blocks of up to 512 MiB.
    """
    _same_scale(queries, train)
    orders = augmented_orders(train, mirror=mirror, shift=shift, name="training images") if mirror or shift else []
    target = _tensor(as_features(train, "training images", at_least=2, bytes_too=True)).to(device)
    rows = _tensor(as_features(queries, "generated images", bytes_too=True))
    same_width(rows, target, "nearest neighbours")
    # |q - t[order]| = |q[inverse] - t|: a variant of all training images is one of the query, which is smaller.
    variants = [torch.from_numpy(np.argsort(order)).to(device) for order in orders[1:]]
    index = torch.empty(len(rows), 2, dtype=torch.int64)
    distance = torch.empty(len(rows), 2, dtype=torch.float64)
    open_rows = torch.arange(len(rows))
    for dtype, kept in ((_product_type(), _FEW), (_product_type(), _MANY), (torch.float64, _MANY)):
        part = rows if len(open_rows) == len(rows) else rows[open_rows]
        found = _search(part, target, variants, dtype, kept)
        index[open_rows], distance[open_rows], certain = (values.cpu() for values in found)
        open_rows = open_rows[~certain]
        if not len(open_rows):
            break
    return TwoNearest(index.numpy(), distance.numpy())


def _search(
    rows: torch.Tensor, target: torch.Tensor, variants: Sequence[torch.Tensor], dtype: torch.dtype, kept: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Indices and exact distances of the two nearest [N, 2], and whether they are certain to be those [N].

    variants: orders of the values, int64 [d], in which a query is looked for besides its own. kept: candidates.
    """
    d, images = target.shape[1], len(target)
    # Centring shrinks the norms, and with them the cancellation in |x|^2 + |y|^2 - 2 <x, y>. The centre is a value of
    # this type, so that taking it from queries and keys rounds each of them once and moves none against another.
    centre = (torch.stack([part.double().sum(dim=0) for part in _parts(target)]).sum(dim=0) / images).to(dtype)
    key = _made(target, dtype, lambda part: _centred(part, centre))
    squares = torch.cat([part.square().sum(dim=1) for part in _parts(key)])
    reach = squares.max().double().sqrt()
    kept = min(kept, images)
    index = torch.empty(len(rows), 2, dtype=torch.int64, device=target.device)
    distance = torch.empty(len(rows), 2, dtype=torch.float64, device=target.device)
    certain = torch.ones(len(rows), dtype=torch.bool, device=target.device)
    for at, block in _blocks(rows, target):
        query = _centred(block, centre)
        norm = largest = query.square().sum(dim=1)

        def scores(part: slice, block: torch.Tensor = block, query: torch.Tensor = query) -> torch.Tensor:
            lowest = torch.addmm(squares[part], query, key[part].T, alpha=-2)
            for order in variants:
                moved = _centred(block[:, order], centre)
                more = moved.square().sum(dim=1) - query.square().sum(dim=1)
                other = torch.addmm(squares[part], moved, key[part].T, alpha=-2).add_(more[:, None])
                lowest = torch.minimum(lowest, other, out=other)
            return lowest

        lowest, candidates = _lowest(scores, images, kept)
        exact = torch.stack([_distance(block, target[column], variants) for column in candidates.T], dim=1)
        for order in variants:
            largest = torch.maximum(largest, _centred(block[:, order], centre).square().sum(dim=1))
        best, place = exact.sort(dim=1)
        index[at], distance[at] = candidates.gather(1, place[:, :2]), best[:, :2]
        if kept == images:
            continue
        # With unit roundoff u = eps / 2: the product and both sums of squares are off by at most
        # gamma (|x| + |y|)^2, gamma = (d + 8) u (Higham 2002, 3.1), and the centred values by u each, which
        # moves a distance by less than 4 u (|x| + |y|)^2. Beyond twice that the order is certain.
        bound = (d + 8) * torch.finfo(dtype).eps * (largest.double().sqrt() + reach).square()
        certain[at] = lowest[:, -1].double() + norm.double() - bound >= best[:, 1].square()
    return index, distance, certain


def _distance(block: torch.Tensor, near: torch.Tensor, variants: Sequence[torch.Tensor]) -> torch.Tensor:
    """Of each row [N, d], or its nearest variant, to one candidate [N, d], in float64: [N]."""
    rows, near = block.double(), near.double()
    squares = (rows - near).square_().sum(dim=1)
    for order in variants:
        squares = torch.minimum(squares, (rows[:, order] - near).square_().sum(dim=1))
    return squares.sqrt()


def _centred(values: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """values - centre in the centre's type, subtracted in the finer of both, so that large means cost no digits."""
    finer = torch.promote_types(values.dtype, centre.dtype)
    return (values.to(finer) - centre.to(finer)).to(centre.dtype)


def nearest_cosine(
    queries: Array, train: Array, *, mirrored: Array | None = None, device: str | torch.device = "cpu"
) -> tuple[npt.NDArray[np.int64], Floats]:
    """The training feature of highest cosine to each query: index int64 [N], cosine float64 [N] in [-1, 1].

    queries [N, d], train [M, d], M >= 1; more axes are flattened. mirrored [M, d]: the features of the training
    images' mirror images, in the same order; the cosine to a training image is then the higher of that to it and to
    its mirror image, at the cost of a second search. A zero vector has cosine 0 with everything.

    A float32 matrix product finds 4 candidates a query, and their cosines are computed in float64, so a copy has 1 up
    to 1e-15, unless five training features agree to the product's rounding, about 1e-7: then it is that much less.
    Memory as for `two_nearest`, with one normalised float32 copy (mirrored: two).

    Raises FeatureShapeError (other widths; mirrored of another number than train), TooFewImagesError,
    NonFiniteFeaturesError.
    """
    sides = {"training features": train} | ({} if mirrored is None else {"mirrored training features": mirrored})
    targets = []
    for name, values in sides.items():
        _same_scale(queries, values)
        targets.append(_tensor(as_features(values, name)).to(device))
    rows, images = _tensor(as_features(queries, "generated features")), len(targets[0])
    if len(targets[-1]) != images:
        raise FeatureShapeError(
            f"There are {len(targets[-1])} mirrored training features for {images} training images; pass one for each."
        )
    for target in targets:
        same_width(rows, target, "nearest neighbours")
    keys = [_made(target, _product_type(), _unit) for target in targets]
    found_index = torch.empty(len(rows), dtype=torch.int64, device=keys[0].device)
    found_cosine = torch.empty(len(rows), dtype=torch.float64, device=keys[0].device)
    for at, block in _blocks(rows, targets[0]):
        query = _unit(block).neg_().to(keys[0].dtype)  # negative, so that the lowest product is the nearest

        def scores(part: slice, query: torch.Tensor = query) -> torch.Tensor:
            lowest = query @ keys[0][part].T
            for key in keys[1:]:
                other = query @ key[part].T
                lowest = torch.minimum(lowest, other, out=other)
            return lowest

        candidates = _lowest(scores, images, min(_FEW, images))[1]
        exact = torch.stack(
            [
                torch.stack([_cosine(block, target[column]) for target in targets]).amax(dim=0)
                for column in candidates.T
            ],
            dim=1,
        )
        best, place = exact.max(dim=1, keepdim=True)
        found_index[at], found_cosine[at] = candidates.gather(1, place)[:, 0], best[:, 0]
    return found_index.cpu().numpy(), found_cosine.cpu().numpy()


def _unit(values: torch.Tensor) -> torch.Tensor:
    """float64 rows of norm 1; a zero row stays one."""
    values = values.double()
    norm = values.norm(dim=1, keepdim=True)
    return values / torch.where(norm > 0, norm, torch.ones_like(norm))


def _cosine(block: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Of each row [N, d] with one candidate [N, d], in float64: [N]."""
    rows, near = block.double(), near.double()
    norms = rows.square().sum(dim=1).sqrt() * near.square().sum(dim=1).sqrt()
    return ((rows * near).sum(dim=1) / torch.where(norms > 0, norms, torch.ones_like(norms))).clamp(-1, 1)


def _lowest(scores: Callable[[slice], torch.Tensor], images: int, kept: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `kept` lowest scores of each query, ascending, and whose they are: [N, kept] each.

    scores: of a part of the training images, [N, part]; asked for part by part, so that memory does not grow with them.
    """
    values, indices = [], []
    for start in range(0, images, _KEYS):
        part = scores(slice(start, start + _KEYS))
        value, index = part.topk(min(kept, part.shape[1]), largest=False)
        values.append(value)
        indices.append(index + start)
    lowest, place = torch.cat(values, dim=1).topk(kept, largest=False)
    return lowest, torch.cat(indices, dim=1).gather(1, place)


def _blocks(rows: torch.Tensor, target: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Queries, which lie in host memory, on the device of the training images, as many at once as it takes.

    With their place. What is found is written there: small arrays that outlived a block would lie between large ones
    and keep their memory from the next block.
    """
    images, d = target.shape
    room = _room(target.device)
    step = max(1, min(room // min(images, _KEYS), room // (4 * d)))
    for start in range(0, len(rows), step):
        at = slice(start, start + step)
        # From pinned memory a copy waits for no kernel, so that the device never waits for the host.
        block = rows[at].pin_memory() if target.is_cuda else rows[at]
        yield at, block.to(target.device, non_blocking=target.is_cuda)


def _room(device: torch.device) -> int:
    """Values of one block: on a GPU a sixteenth of its free memory in float32 (some ten blocks are held at once)."""
    if device.type != "cuda":
        return _BLOCK_VALUES
    return max(_BLOCK_VALUES, min(_MOST_VALUES, int(free_memory(device)) // 64))


def _parts(values: torch.Tensor) -> Sequence[torch.Tensor]:
    return torch.split(values, max(1, _BLOCK_VALUES // (4 * values.shape[1])))


def _made(values: torch.Tensor, dtype: torch.dtype, make: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """`make` of all rows, in one array of this type and no other of its size."""
    result = torch.empty(values.shape, dtype=dtype, device=values.device)
    for part, out in zip(_parts(values), _parts(result), strict=True):
        out.copy_(make(part))
    return result


def _product_type() -> torch.dtype:
    """float32, unless this process lets float32 products be computed in TF32 or bfloat16."""
    return torch.float32 if torch.get_float32_matmul_precision() == "highest" else torch.float64


def _tensor(values: npt.NDArray[np.uint8 | np.float32 | np.float64]) -> torch.Tensor:
    """The array as a tensor on the processor, without a copy of it."""
    if any(stride < 0 for stride in values.strides):  # which tensors don't have
        values = values.copy()
    with warnings.catch_warnings():
        # Arrays in Ray's object store are read-only, which tensors can't be, and torch warns; nothing here writes.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(values)


def _same_scale(a: Array, b: Array) -> None:
    first, second = as_array(a).dtype, as_array(b).dtype
    if (first == np.uint8) != (second == np.uint8):
        raise FeatureShapeError(
            f"Images of {first} and of {second} have different scales; convert both to one of them."
        )
