"""A zip of pictures, by the same rules as a folder (layout.py), read in place: nothing is extracted."""

import errno
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ..errors import BadContentsError, BrokenFileError, NoImagesError, UnreadableFileError
from ..image_set import ImageSet
from ..picture import Fit, picture_suffixes
from .layout import LabelSource, arrange, is_image_name
from .pictures import ADVICE, PictureSource, read_pictures

MAX_BYTES = 2**29  # one picture, unpacked: above it is no picture but an archive made to exhaust memory
ENCRYPTED = 0x1
# What zipfile meets damaged bytes with; UnicodeDecodeError of a damaged name is a ValueError, an unknown compression a
# NotImplementedError, a password a RuntimeError, and LZMA asks for what memory its header says.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    ValueError,
    struct.error,
)


def read_zip(
    path: Path, fit: Fit, *, inside: str = "", skip_broken: bool = False, labels: LabelSource = "auto"
) -> ImageSet:
    """All pictures of a zip, or of the folder `inside` it ("train"); ids are their paths inside.

    Raises BrokenFileError if the zip itself is damaged, BadContentsError if it is encrypted or names a file
    twice, NoImagesError, MixedLayoutError, and what `read_pictures` raises.
    """
    where = f"{path}/{inside}" if inside else str(path)
    with _open(path) as archive:
        entries = _entries(archive, path, inside)
        if not entries:
            raise NoImagesError(_nothing(archive, where, inside))
        source = PictureSource(
            where, _name(path, inside), arrange(entries, where, labels), _reader(archive, where, entries)
        )
        return read_pictures(source, fit, skip_broken=skip_broken)


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (*DAMAGE, OSError) as error:
        if _is_of_the_system(error):
            raise UnreadableFileError(f"{path} cannot be read: {error}") from error
        raise BrokenFileError(str(path), str(error), "make or fetch the zip again") from error


def _is_of_the_system(error: Exception) -> bool:
    # A damaged offset leads to a seek that cannot be ("Invalid argument"): that is the file's fault, not the
    # disk's.
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def _entries(archive: zipfile.ZipFile, path: Path, inside: str) -> dict[str, zipfile.ZipInfo]:
    suffixes, prefix = picture_suffixes(), f"{inside}/" if inside else ""
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = safe_name(info.filename)
        if (
            info.filename.endswith("/")
            or not name.startswith(prefix)
            or not is_image_name(name[len(prefix) :], suffixes)
        ):
            continue
        if info.flag_bits & ENCRYPTED:
            raise BadContentsError(f"{path} is encrypted ({name}): make the zip without a password")
        if name[len(prefix) :] in entries:
            raise BadContentsError(f"{path} names {name} twice: make the zip again, each image under a name of its own")
        entries[name[len(prefix) :]] = info
    return entries


def safe_name(name: str) -> str:
    """An entry's name without "..", ".", or empty parts: it becomes an id, and perhaps a file name later."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))


def _reader(archive: zipfile.ZipFile, where: str, entries: dict[str, zipfile.ZipInfo]) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        info = entries[name]
        if info.file_size > MAX_BYTES:
            raise BrokenFileError(f"{where}/{name}", f"{info.file_size:,} bytes are no picture", ADVICE)
        try:
            return archive.read(info)
        except (*DAMAGE, OSError) as error:
            if _is_of_the_system(error):
                raise UnreadableFileError(f"{where}/{name} cannot be read: {error}") from error
            raise BrokenFileError(f"{where}/{name}", str(error) or "truncated", ADVICE) from error

    return read


def _nothing(archive: zipfile.ZipFile, where: str, inside: str) -> str:
    files = [safe_name(info.filename) for info in archive.infolist() if not info.filename.endswith("/")]
    tops = sorted({PurePosixPath(name).parts[0] for name in files if name})
    if inside and tops and not any(name.startswith(f"{inside}/") for name in files):
        return f"{where} does not exist: the zip holds {', '.join(tops[:8])}"
    held = f"other files ({len(files):,}, e.g. {files[0]})" if files else "nothing"
    return (
        f"{where} holds no images, but {held}: expected files such as .png or .jpg, directly or in one folder a class"
    )


def _name(path: Path, inside: str) -> str:
    return f"{path.stem}/{inside}" if inside else path.stem
