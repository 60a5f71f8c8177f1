"""What the names of image files say: their ids, their classes, and which folders are only wrapping.

The rules, the same for a folder and for a zip:
1. Hidden files and folders (".x"), `__MACOSX` and what is not named like an image do not count.
2. A single folder that holds everything is looked through, again and again: it is wrapping, not a class.
3. No sub-folders: no labels. Sub-folders: the first level are the classes, deeper levels are part of the ids.
4. Where the first level is nothing but splits (`train/`, `test/`, `val/`, ...), all are read together, since
   the training subset is drawn later, and the classes are the level below. `path/train` reads one of them
   alone.
   Tiny ImageNet as published (`train/CLASS/images/`, and `val/images/`, `test/images/` that are unsorted) gives its
   training images, with the ids that `path/train` alone would give.
5. Images beside folders of images are refused: nothing says what class they would be.
6. Folders that only number their images in portions, as FFHQ's do (`00000/00000.png` to `69000/69999.png`, or
   `00000/img00000000.png` to `00069/img00069999.png`), are no classes.

`dataset.labels` overrides 3 to 6: "none" takes all images, without labels; "folders" makes classes of any folders.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import MixedLayoutError

SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev"})
JUNK = frozenset({"__MACOSX"})
PORTION = re.compile(r"\d{5}")
NUMBERED = re.compile(r"(?:img)?(\d{5,8})")
PORTION_SIZE = 1000
LabelSource = Literal["auto", "folders", "none"]


@dataclass(frozen=True)
class Layout:
    """What to read, and what it is.

    names: as in the source; ids: the names without wrapping, sorted
    labels: int64 [N] with their class_names, or None
    """

    names: list[str]
    ids: list[str]
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]


def is_image_name(name: str, suffixes: frozenset[str]) -> bool:
    """Whether a path relative to the source ("cats/1.png") is to be read as an image."""
    parts = name.split("/")
    hidden = any(part.startswith(".") or part in JUNK for part in parts)
    return not hidden and "." in parts[-1] and "." + parts[-1].rsplit(".", 1)[1].lower() in suffixes


def arrange(names: Iterable[str], where: str, labels: LabelSource = "auto") -> Layout:
    """Names of images (at least one) inside the source -> Layout. Raises MixedLayoutError (rules 4, 5)."""
    names = sorted(names)
    parts = {name: name.split("/") for name in names}
    while all(len(path) > 1 for path in parts.values()) and len({path[0] for path in parts.values()}) == 1:
        parts = {name: path[1:] for name, path in parts.items()}
    if labels == "none":
        return Layout(names, ["/".join(parts[name]) for name in names], None, ())
    if _is_tiny_imagenet(parts):
        parts = {name: path[1:] for name, path in parts.items() if path[0] == "train"}
        names = list(parts)
    folders = parts
    if _folders(parts, where) and all(path[0].lower() in SPLITS for path in parts.values()):
        folders = {name: path[1:] for name, path in parts.items()}
        _check_splits(parts, where)
    ids = ["/".join(parts[name]) for name in names]
    classes = _folders(folders, where)
    if len(classes) < 2 or (labels == "auto" and all(_in_portions(path) for path in folders.values())):
        return Layout(names, ids, None, ())
    number = {name: label for label, name in enumerate(classes)}
    numbers = np.array([number[folders[name][0]] for name in names], dtype=np.int64)
    return Layout(names, ids, numbers, tuple(classes))


def _is_tiny_imagenet(parts: Mapping[str, Sequence[str]]) -> bool:
    sorted_in = {path[0] for path in parts.values() if len(path) == 4 and path[2] == "images"}
    unsorted = {path[0] for path in parts.values() if len(path) == 3 and path[1] == "images"}
    whole = all(len(path) in (3, 4) for path in parts.values())
    return whole and sorted_in == {"train"} and bool(unsorted) and unsorted <= {"val", "test"}


def _in_portions(path: Sequence[str]) -> bool:
    """Whether the folder says no more than the first digits of the image's own number."""
    number = NUMBERED.fullmatch(path[-1].rsplit(".", 1)[0])
    if len(path) != 2 or number is None or not PORTION.fullmatch(path[0]):
        return False
    portion = int(number[1]) // PORTION_SIZE
    return int(path[0]) in (portion, portion * PORTION_SIZE)


def _folders(parts: Mapping[str, Sequence[str]], where: str) -> list[str]:
    """First-level folders, sorted; none if all images lie directly; an error if only some do."""
    direct = next((name for name, path in parts.items() if len(path) == 1), None)
    nested = next((name for name, path in parts.items() if len(path) > 1), None)
    if direct is not None and nested is not None:
        raise MixedLayoutError(
            f"{where} holds images both beside folders ({direct}) and inside them ({nested}), "
            "so their classes are unclear: "
            "put every image into the folder of its class, or all of them into one folder"
        )
    return [] if nested is None else sorted({path[0] for path in parts.values()})


def _check_splits(parts: Mapping[str, Sequence[str]], where: str) -> None:
    """Refuse splits whose classes differ, as where `test/` is unsorted: one must have the classes of all."""
    classes: dict[str, set[str]] = {}
    for path in parts.values():
        classes.setdefault(path[0], set()).update(path[1:2] if len(path) > 2 else ())
    everything = set().union(*classes.values())
    if all(found != everything for found in classes.values()):
        largest = max(sorted(classes), key=lambda split: len(classes[split]))
        name, path = next((name, path) for name, path in parts.items() if path[0] == largest)
        wrapping = name.removesuffix("/".join(path))
        raise MixedLayoutError(
            f"{where} is split into {', '.join(sorted(classes))}, and none of them has the classes of all: "
            f"name the one to read, e.g. {where}/{wrapping}{largest}"
        )
