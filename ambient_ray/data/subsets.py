"""The training subset as a file that can be published: which images, of which data set, in which order they join.

An IndexList is JSON with the data set's name and content hash, n, the seed, the images' ids and their positions in the
set as `load_images` gives it, and a SHA-256 over all of these. Images are listed in the order in which they join, so
that the first k are the subset of k of the same seed.
"""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .errors import SubsetError, UnreadableFileError
from .image_set import ImageSet
from .split import Split, divide, split, without_duplicates

FORMAT = "ambient-ray subset 1"


@dataclass(frozen=True)
class IndexList:
    """n images of a data set, in the order in which they join.

    content_hash: of the whole set (`ImageSet.content_hash`), so also of its resolution and channels
    ids, positions: n each; positions are those in the set
    """

    name: str
    content_hash: str
    n: int
    seed: int
    ids: tuple[str, ...]
    positions: tuple[int, ...]

    @property
    def sha256(self) -> str:
        """Hex, over everything else in the list."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    @property
    def file_name(self) -> str:
        """subset-n300-seed0.json."""
        return f"subset-n{self.n}-seed{self.seed}.json"


def index_list(image_set: ImageSet, parts: Split, *, seed: int) -> IndexList:
    """The training images of a split as a list. seed: the one that they were drawn with.

    Raises ValueError for a split without the order in which its images join.
    """
    if parts.nested is None:
        raise ValueError("the split lacks the order in which its images join")
    ids = [parts.train.ids[row] for row in parts.nested]
    wanted, place = set(ids), {}
    for position, image_id in enumerate(image_set.ids):
        if image_id in wanted:
            place[image_id] = position
    return IndexList(
        image_set.name, image_set.content_hash, len(ids), seed, tuple(ids), tuple(place[image_id] for image_id in ids)
    )


def published_lists(image_set: ImageSet, sizes: list[int], *, seed: int) -> list[IndexList]:
    """Nested lists of these sizes, each that of `split(image_set, n, seed=seed)`. Raises TooFewImagesError."""
    largest = max(sizes)
    whole = index_list(image_set, split(image_set, largest, seed=seed, heldout=2), seed=seed)
    return [replace(whole, n=n, ids=whole.ids[:n], positions=whole.positions[:n]) for n in sorted(set(sizes))]


def write_list(listed: IndexList, folder: Path) -> Path:
    """Write the list to folder/`file_name`, beside its place and renamed. Raises UnreadableFileError."""
    path = folder / listed.file_name
    content = {"format": FORMAT, **asdict(listed), "sha256": listed.sha256}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".subset-", delete=False) as file:
            file.write(json.dumps(content, indent=1) + "\n")
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def read_list(path: Path) -> IndexList:
    """A list from its file.

    Raises SubsetError when it is no such file or was changed since it was written, UnreadableFileError.
    """
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise SubsetError(_not_a_list(path)) from error
    except OSError as error:
        raise UnreadableFileError(f"dataset.subset={path} cannot be read: {error.strerror or error}") from error
    listed = _parsed(content)
    if listed is None:
        raise SubsetError(_not_a_list(path))
    if content["sha256"] != listed.sha256:
        raise SubsetError(
            f"dataset.subset={path} was changed since it was written: its sha256 is {listed.sha256}, and it says "
            f"{content['sha256']!s:.80}; fetch or make it again"
        )
    return listed


def split_by(listed: IndexList, image_set: ImageSet, *, where: str, heldout: int | None = None) -> Split:
    """The split whose training images are those listed; the same as `split` for a list that `split` made.

    where: names the list in errors. heldout: as for `split`, drawn with the list's seed.
    Raises SubsetError for a list of another data set, or of images that the set does not have so.
    """
    if listed.content_hash != image_set.content_hash:
        raise SubsetError(
            f"dataset.subset={where} is of {listed.name or 'images':.80} with content {listed.content_hash[:12]}, and "
            f"these images are {image_set.name or 'others'} with content {image_set.content_hash[:12]}: give the same "
            "data set, with the same dataset.resolution, channels and labels"
        )
    count = len(image_set)
    for image_id, position in zip(listed.ids, listed.positions, strict=True):
        if not 0 <= position < count or image_set.ids[position] != image_id:
            found = image_set.ids[position] if 0 <= position < count else "none"
            raise SubsetError(
                f"dataset.subset={where} lists {image_id:.80} at position {position}, where these images have {found}: "
                "name the files as in the published set"
            )
    unique, duplicates = without_duplicates(image_set)
    repeated = set(listed.positions).difference(unique)
    if repeated:
        raise SubsetError(
            f"dataset.subset={where} lists {image_set.ids[min(repeated)]}, an exact duplicate of another image: "
            "list the first of each group of duplicates alone"
        )
    return divide(image_set, unique, duplicates, list(listed.positions), listed.seed, heldout)


def _parsed(content: Any) -> IndexList | None:
    """The list in this JSON; None where it has another form."""
    kinds = {"name": str, "content_hash": str, "n": int, "seed": int, "ids": list, "positions": list, "sha256": str}
    if not isinstance(content, dict) or content.get("format") != FORMAT or set(content) != {"format", *kinds}:
        return None
    ids, positions, n = content["ids"], content["positions"], content["n"]
    if any(type(content[key]) is not kind for key, kind in kinds.items()):
        return None
    if not all(type(image_id) is str for image_id in ids) or not all(type(position) is int for position in positions):
        return None
    if n < 1 or len(set(ids)) != n or len(ids) != n or len(set(positions)) != n or len(positions) != n:
        return None
    return IndexList(content["name"], content["content_hash"], n, content["seed"], tuple(ids), tuple(positions))


def _not_a_list(path: Path) -> str:
    return (
        f"dataset.subset={path} is no list of a subset: give a file as a study's folder holds one, "
        "e.g. subset-n300-seed0.json"
    )
