"""Zip archives that tell lies: entries as wanted, and damage to the fields of their headers."""

import io
import struct
import zipfile
from collections.abc import Sequence

from hypothesis import strategies as st

from .mutations import INTERESTING

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# Signature -> (offset, width) of each field behind it.
FIELDS = {
    b"PK\x03\x04": ((4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
    b"PK\x01\x02": ((6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (38, 4), (42, 4)),
    b"PK\x05\x06": ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
    b"PK\x06\x06": ((4, 4), (24, 4), (32, 4), (40, 4), (48, 4)),
    b"PK\x06\x07": ((4, 4), (8, 4), (16, 4)),
}
# (which header, which field, the value): more of the interesting ones are small than not
lie = st.tuples(st.integers(0, 99), st.integers(0, 10), st.integers(0, len(INTERESTING) + 3))
lies = st.lists(lie, max_size=2)


def archive(entries: Sequence[tuple[str, bytes, int, int]]) -> bytes:
    """A zip of (name, contents, method, mode): the mode is Unix's, 0o120777 a symbolic link; names as they are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as held:
        for name, data, method, mode in entries:
            info = zipfile.ZipInfo("x")
            info.filename, info.external_attr, info.compress_type = name, mode << 16, method
            with held.open(info, "w", force_zip64=mode == 0) as target:
                target.write(data)
    return file.getvalue()


def lied(data: bytes, changes: Sequence[tuple[int, int, int]]) -> bytes:
    """The archive after these changes of header fields."""
    for which, field, value in changes:
        found = [
            (at, fields) for sign, fields in FIELDS.items() for at in _places(data, sign) if at + 46 <= len(data) + 24
        ]
        if not found:
            return data
        at, fields = found[which % len(found)]
        offset, width = fields[field % len(fields)]
        number = (*INTERESTING, len(data), 9, 12)[value % (len(INTERESTING) + 3)] % 2 ** (8 * width)
        packed = struct.pack("<H" if width == 2 else "<I", number)
        data = data[: at + offset] + packed + data[at + offset + width :]
    return data


def _places(data: bytes, sign: bytes) -> list[int]:
    found, at = [], data.find(sign)
    while at >= 0:
        found.append(at)
        at = data.find(sign, at + 1)
    return found
