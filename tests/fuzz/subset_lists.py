"""Published lists of a subset: changed, of another form, of other images."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from ambient_ray.data import ImageSet
from ambient_ray.data.subsets import FORMAT, IndexList, read_list, split_by

from .harness import Kind
from .mutations import as_json, document_edits, edited, edits, mutate
from .texts import ODD

IMAGES = ImageSet(
    np.random.default_rng(0).integers(0, 256, (9, 4, 4, 1), dtype=np.uint8), None, [f"{n:06d}" for n in range(9)]
)
LIST = IndexList("set", IMAGES.content_hash, 3, 5, ("000004", "000000", "000007"), (4, 0, 7))
CONTENT = json.loads(json.dumps({"format": FORMAT, **asdict(LIST), "sha256": LIST.sha256}))


@dataclass(frozen=True)
class ListFile:
    """A file's bytes."""

    whole: bool
    data: bytes

    def __repr__(self) -> str:
        return f"whole={self.whole} {self.data[:1500]!r}"


@st.composite
def files(draw) -> ListFile:
    if draw(st.integers(0, 15)) == 0:
        return ListFile(False, draw(st.sampled_from(ODD)).encode("utf-8", "surrogatepass"))
    changes, damage = draw(document_edits), draw(edits) if draw(st.integers(0, 3)) == 0 else []
    content = edited(CONTENT, changes)
    if isinstance(content, dict) and changes and draw(st.booleans()):  # signed by whoever changed it
        try:
            rest = {key: value for key, value in content.items() if key != "sha256"}
            text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
            content["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        except TypeError:
            pass
    return ListFile(not changes and not damage, mutate(as_json(content), damage))


def write(case: ListFile, folder: Path) -> None:
    (folder / "list.json").write_bytes(case.data)


def read(case: ListFile, folder: Path):
    listed = read_list(folder / "list.json")
    return listed, split_by(listed, IMAGES, where=str(folder / "list.json"))


def verify(case: ListFile, folder: Path, found) -> None:
    listed, parts = found
    assert json.loads(case.data)["sha256"] == listed.sha256
    assert [parts.train.ids[row] for row in parts.nested] == list(listed.ids)
    assert not set(parts.train.ids) & set(parts.heldout.ids)


KIND = Kind(
    "subset_lists", files(), write, read, verify, lambda case, folder: ("dataset.subset", "n_train"), lambda case: case.whole,
)  # fmt: skip
