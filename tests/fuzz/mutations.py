"""Ways to damage bytes and documents: drawn as small tuples, so that hypothesis can shrink them, and applied here."""

import copy
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

INTERESTING = (0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 4096, 32767, 65535, 2**20, 2**31 - 1, 2**31, 2**32 - 1)
OPERATIONS = (
    "flip", "byte", "u16be", "u16le", "u32be", "u32le", "cut", "drop", "repeat", "zeros", "ones", "append", "swap",
)  # fmt: skip
Edit = tuple[str, int, int]
HEAD = 96  # where most headers end

edit = st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1))
edits = st.lists(edit, max_size=4)


def mutate(data: bytes, changes: Sequence[Edit]) -> bytes:
    """The bytes after these edits, in order. Even positions lie in the first 96 bytes, odd ones anywhere."""
    for operation, where, value in changes:
        if not data:
            return data
        reach = min(HEAD, len(data)) if where % 2 == 0 else len(data)
        at = (where // 2) % reach
        data = _edited(data, operation, at, value)
    return data


def _edited(data: bytes, operation: str, at: int, value: int) -> bytes:
    span = 1 + value % 64
    if operation[0] == "u":
        width = int(operation[1:3]) // 8
        number = INTERESTING[value % len(INTERESTING)] % 2 ** (8 * width)
        return data[:at] + number.to_bytes(width, "big" if operation.endswith("be") else "little") + data[at + width :]
    match operation:
        case "flip":
            return data[:at] + bytes([data[at] ^ 1 << value % 8]) + data[at + 1 :]
        case "byte":
            return data[:at] + bytes([value % 256]) + data[at + 1 :]
        case "cut":
            return data[:at]
        case "drop":
            return data[:at] + data[at + span :]
        case "repeat":
            return data[: at + span] + data[at : at + span] * (1 + value % 3) + data[at + span :]
        case "zeros" | "ones":
            return data[:at] + (b"\0" if operation == "zeros" else b"\xff") * span + data[at + span :]
        case "append":
            return data + data[at : at + 16 * span]
        case _:  # swap
            other = value % len(data)
            low, high = sorted((at, other))
            return data[high:] + data[low:high] + data[:low]


class Raw(str):
    """Text that goes into a document as it is, which no writer would write."""


DEEP = Raw("[" * 100_000 + "]" * 100_000)
HUGE = 10**400
HOSTILE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 1.5, 2**63, HUGE, -HUGE, float("nan"), float("inf"), -float("inf"), 1e308, "",
    "x", "x" * 5000, "../../canary", "/etc/passwd", "\0", "\ud800", "\x1b[31m", "a\nb", "n" * 300, [], {}, [[]], [None],
    {"a": 1}, {"": None}, ["x", 1], [1, 1], [HUGE], DEEP, Raw("9" * 5000), Raw("1e999"), Raw("-0.0"), Raw("nul"),
)  # fmt: skip

# (what is done, which of the document's places, which hostile value)
document_edit = st.tuples(
    st.sampled_from(("set", "set", "set", "delete", "add", "wrap")), st.integers(0, 999), st.integers(0, 999)
)
document_edits = st.lists(document_edit, max_size=3)


def edited(document: Any, changes: Sequence[tuple[str, int, int]]) -> Any:
    """A copy of a document of mappings and lists after these edits; the document itself may be replaced too."""
    root = [copy.deepcopy(document)]
    for operation, where, value in changes:
        places = list(_places(root))
        holder, key = places[where % len(places)]
        hostile = copy.deepcopy(HOSTILE[value % len(HOSTILE)])
        if operation == "delete" and holder is not root:
            del holder[key]
        elif operation == "wrap":
            holder[key] = [holder[key]]
        elif operation == "add" and isinstance(holder[key], dict):
            holder[key][f"added{value % 3}"] = hostile
        elif operation == "add" and isinstance(holder[key], list):
            holder[key].append(hostile)
        else:
            holder[key] = hostile
    return root[0]


def _places(holder: Any):
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    for key in keys:
        yield holder, key
        if isinstance(holder[key], (dict, list)):
            yield from _places(holder[key])


def as_json(document: Any) -> bytes:
    """JSON text, with every `Raw` in it as it is."""
    raws: list[str] = []

    def marked(value: Any) -> Any:
        if isinstance(value, Raw):
            raws.append(str(value))
            return f"@raw{len(raws) - 1}@"
        if isinstance(value, dict):
            return {key: marked(inner) for key, inner in value.items()}
        return [marked(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    text = json.dumps(marked(document))
    for number, raw in enumerate(raws):
        text = text.replace(f'"@raw{number}@"', raw)
    return text.encode()
