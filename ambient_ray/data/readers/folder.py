"""A folder of pictures, its sub-folders being classes (rules: layout.py)."""

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import NoImagesError, UnreadableFileError
from ..image_set import ImageSet
from ..picture import Fit, picture_suffixes
from .layout import LabelSource, arrange, is_image_name
from .pictures import PictureSource, read_pictures


def read_folder(path: Path, fit: Fit, *, skip_broken: bool = False, labels: LabelSource = "auto") -> ImageSet:
    """All pictures below a folder, symbolic links followed; ids are their paths inside it, always with "/".

    Raises NoImagesError, UnreadableFileError, MixedLayoutError, and what `read_pictures` raises.
    """
    found = sorted(walk(path))
    suffixes = picture_suffixes()
    names = [name for name in found if is_image_name(name, suffixes)]
    if not names:
        held = f"other files ({len(found):,}, e.g. {found[0]})" if found else "nothing"
        raise NoImagesError(
            f"{path} holds no images, but {held}: "
            "expected files such as .png or .jpg, directly or in one sub-folder a class"
        )

    def read(name: str) -> bytes:
        try:
            return (path / name).read_bytes()
        except OSError as error:
            raise UnreadableFileError(f"{path / name} cannot be read: {error.strerror or error}") from error

    return read_pictures(
        PictureSource(str(path), path.name, arrange(names, str(path), labels), read), fit, skip_broken=skip_broken
    )


def walk(root: Path, prefix: str = "", above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """Files below a folder, as "a/b.png"; a link back to a folder above it is not followed again."""
    try:
        folder = root / prefix
        status = folder.stat()
        key = (status.st_dev, status.st_ino)
        if key in above:
            return
        with os.scandir(folder) as entries:
            listed = sorted((entry.name, entry.is_dir(), entry.is_file()) for entry in entries)
    except OSError as error:
        raise UnreadableFileError(f"{root / prefix} cannot be listed: {error.strerror or error}") from error
    for name, is_dir, is_file in listed:
        if is_dir:
            yield from walk(root, f"{prefix}{name}/", above | {key})
        elif is_file:
            yield prefix + name
