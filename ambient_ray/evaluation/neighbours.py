"""Exact nearest neighbours by blocked matrix products: the two nearest in distance, the nearest in angle."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .arrays import Array, Floats, as_array, as_features, augmented_orders, same_width
from .errors import FeatureShapeError

_BLOCK_VALUES = 1 << 22  # values of one block: 16 MiB in float32
_CANDIDATES = 8


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

    A float32 matrix product finds 8 candidates a query; their distances are then computed directly in
    float64, so an exact copy has distance 0. If the product's rounding bound leaves open whether a third
    image was nearer, the query is searched again in float64. Memory: blocks of 16 MiB beside the inputs.
    Ties go to either.
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
    for dtype in (_product_type(), torch.float64):
        index[open_rows], distance[open_rows], certain = _search(rows[open_rows], target, variants, dtype)
        open_rows = open_rows[~certain]
        if not len(open_rows):
            break
    return TwoNearest(index.cpu().numpy(), distance.cpu().numpy())


def _search(
    rows: torch.Tensor, target: torch.Tensor, variants: Sequence[torch.Tensor], dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Indices and exact distances of the two nearest [N, 2], and whether they are certain to be those [N].

    variants: orders of the values, int64 [d], in which a query is looked for besides its own.
    """
    # Centring shrinks the norms, and with them the cancellation in |x|^2 + |y|^2 - 2 <x, y>.
    centre = target.double().mean(dim=0)
    key = (target.double() - centre).to(dtype)
    squares = key.double().square().sum(dim=1).to(dtype)
    reach = squares.max().double().sqrt()
    d, images = rows.shape[1], len(target)
    kept = min(_CANDIDATES, images)
    step = max(1, min(_BLOCK_VALUES // images, _BLOCK_VALUES // (kept * d)))
    found_index, found_distance, found_certain = [], [], []
    for block in torch.split(rows, step):
        query = (block.double() - centre).to(dtype)
        scores = squares - 2 * (query @ key.T)
        norm = largest = query.double().square().sum(dim=1)
        for order in variants:
            query = (block[:, order].double() - centre).to(dtype)
            own = query.double().square().sum(dim=1)
            scores = torch.minimum(scores, squares - 2 * (query @ key.T) + (own - norm).to(dtype)[:, None])
            largest = torch.maximum(largest, own)
        lowest, candidates = scores.topk(kept, largest=False)
        near = target[candidates].double()
        exact = (block.double()[:, None] - near).square().sum(-1)
        for order in variants:
            exact = torch.minimum(exact, (block[:, order].double()[:, None] - near).square().sum(-1))
        best, place = exact.sort(dim=1)
        found_index.append(candidates.gather(1, place[:, :2]))
        found_distance.append(best[:, :2].sqrt())
        # |error| <= gamma (|x| + |y|)^2 with gamma = (d + 8) u (Higham 2002, 3.1): beyond it the order is
        # certain.
        bound = (d + 8) * torch.finfo(dtype).eps * (largest.sqrt() + reach).square()
        certain = lowest[:, -1].double() + norm - bound >= best[:, 1]
        found_certain.append(certain if kept < images else torch.ones_like(certain))
    return torch.cat(found_index), torch.cat(found_distance), torch.cat(found_certain)


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
