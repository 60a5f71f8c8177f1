"""Exact nearest neighbours by blocked matrix products: the two nearest in distance, the nearest in angle."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .arrays import Array, Floats, as_array, as_features, augmented_orders, same_width
from .errors import FeatureShapeError

_BLOCK_VALUES = 1 << 22  # values of one block: 16 MiB in float32
_FEW, _MANY = 4, 16  # candidates of a query whose distances are computed exactly, and of one for which few don't do


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
    image was nearer, the query is searched again with 16, and then in float64. Memory: a centred copy of the
    training set and blocks of 16 MiB beside the inputs. Ties go to either.
    """
    _same_scale(queries, train)
    orders = augmented_orders(train, mirror=mirror, shift=shift, name="training images") if mirror or shift else []
    matrix = as_features(train, "training images", at_least=2)
    wanted = as_features(queries, "generated images")
    same_width(wanted, matrix, "nearest neighbours")
    target, rows = _tensor(matrix, device), _tensor(wanted, device)
    # |q - t[order]| = |q[inverse] - t|: a variant of all training images is one of the query, which is smaller.
    variants = [torch.from_numpy(np.argsort(order)).to(device) for order in orders[1:]]
    index = torch.empty(len(rows), 2, dtype=torch.int64, device=rows.device)
    distance = torch.empty(len(rows), 2, dtype=torch.float64, device=rows.device)
    open_rows = torch.arange(len(rows), device=rows.device)
    for dtype, kept in ((_product_type(), _FEW), (_product_type(), _MANY), (torch.float64, _MANY)):
        part = rows if len(open_rows) == len(rows) else rows[open_rows]
        index[open_rows], distance[open_rows], certain = _search(part, target, variants, dtype, kept)
        open_rows = open_rows[~certain]
        if not len(open_rows):
            break
    return TwoNearest(index.cpu().numpy(), distance.cpu().numpy())


def _search(
    rows: torch.Tensor, target: torch.Tensor, variants: Sequence[torch.Tensor], dtype: torch.dtype, kept: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Indices and exact distances of the two nearest [N, 2], and whether they are certain to be those [N].

    variants: orders of the values, int64 [d], in which a query is looked for besides its own. kept: candidates.
    """
    # Centring shrinks the norms, and with them the cancellation in |x|^2 + |y|^2 - 2 <x, y>. The centre is a value of
    # this type, so that taking it from queries and keys rounds each of them once and moves none against another.
    centre = target.mean(dim=0, dtype=torch.float64).to(dtype)
    key = _centred(target, centre)
    d, images = rows.shape[1], len(target)
    squares = torch.cat([part.square().sum(dim=1) for part in torch.split(key, max(1, _BLOCK_VALUES // d))])
    reach = squares.max().double().sqrt()
    kept = min(kept, images)
    step = max(1, min(_BLOCK_VALUES // images, _BLOCK_VALUES // (kept * d)))
    found_index, found_distance, found_certain = [], [], []
    for block in torch.split(rows, step):
        query = _centred(block, centre)
        scores = torch.addmm(squares, query, key.T, alpha=-2)
        norm = largest = query.square().sum(dim=1)
        for order in variants:
            query = _centred(block[:, order], centre)
            own = query.square().sum(dim=1)
            scores = torch.minimum(scores, torch.addmm(squares, query, key.T, alpha=-2) + (own - norm)[:, None])
            largest = torch.maximum(largest, own)
        lowest, candidates = scores.topk(kept, largest=False)
        near, exactly = target[candidates].double(), block.double()
        exact = (exactly[:, None] - near).square_().sum(-1).sqrt()
        for order in variants:
            exact = torch.minimum(exact, torch.linalg.vector_norm(exactly[:, order][:, None] - near, dim=-1))
        best, place = exact.sort(dim=1)
        found_index.append(candidates.gather(1, place[:, :2]))
        found_distance.append(best[:, :2])
        # With unit roundoff u = eps / 2: the product and both sums of squares are off by at most
        # gamma (|x| + |y|)^2, gamma = (d + 8) u (Higham 2002, 3.1), and the centred values by u each, which
        # moves a distance by less than 4 u (|x| + |y|)^2. Beyond twice that the order is certain.
        bound = (d + 8) * torch.finfo(dtype).eps * (largest.double().sqrt() + reach).square()
        certain = lowest[:, -1].double() + norm.double() - bound >= best[:, 1].square()
        found_certain.append(certain if kept < images else torch.ones_like(certain))
    return torch.cat(found_index), torch.cat(found_distance), torch.cat(found_certain)


def _centred(values: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """values - centre in the centre's type, subtracted in the finer of both, so that large means cost no digits."""
    finer = torch.promote_types(values.dtype, centre.dtype)
    return (values.to(finer) - centre.to(finer)).to(centre.dtype)


def nearest_cosine(
    queries: Array, train: Array, *, device: str | torch.device = "cpu"
) -> tuple[npt.NDArray[np.int64], Floats]:
    """The training feature of highest cosine to each query: index int64 [N], cosine float64 [N] in [-1, 1].

    queries [N, d], train [M, d], M >= 1; more axes are flattened. A zero vector has cosine 0 with
    everything. The winner is found in float32 blocks and its cosine computed in float64, so a copy has 1 up
    to 1e-15.
    """
    _same_scale(queries, train)
    wanted, matrix = as_features(queries, "generated features"), as_features(train, "training features")
    same_width(wanted, matrix, "nearest neighbours")
    rows, targets = (_unit(_tensor(values, device)) for values in (wanted, matrix))
    dtype = _product_type()
    keys = targets.to(dtype)
    index, cosine = [], []
    for block in torch.split(rows, max(1, _BLOCK_VALUES // len(keys))):
        index.append((block.to(dtype) @ keys.T).argmax(dim=1))
        cosine.append((block * targets[index[-1]]).sum(dim=1))
    return torch.cat(index).cpu().numpy(), torch.cat(cosine).clamp(-1, 1).cpu().numpy()


def _unit(values: torch.Tensor) -> torch.Tensor:
    values = values.double()
    norm = values.norm(dim=1, keepdim=True)
    return values / torch.where(norm > 0, norm, torch.ones_like(norm))


def _product_type() -> torch.dtype:
    """float32, unless this process lets float32 products be computed in TF32 or bfloat16."""
    return torch.float32 if torch.get_float32_matmul_precision() == "highest" else torch.float64


def _tensor(values: npt.NDArray[np.float32 | np.float64], device: str | torch.device) -> torch.Tensor:
    # Shared, read-only arrays (Ray's object store) are copied: torch would warn that it cannot guard them.
    return torch.from_numpy(values if values.flags.writeable and values.flags.c_contiguous else values.copy()).to(
        device
    )


def _same_scale(a: Array, b: Array) -> None:
    first, second = as_array(a).dtype, as_array(b).dtype
    if (first == np.uint8) != (second == np.uint8):
        raise FeatureShapeError(
            f"Images of {first} and of {second} have different scales; convert both to one of them."
        )
