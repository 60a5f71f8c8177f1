"""Checkpoints: garbled descriptions, names that lead elsewhere, safetensors and samples that lie about themselves."""

import hashlib
import json
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from safetensors.torch import load_file

sys.path.append(str(Path(__file__).parent.parent / "training"))
import small_world as world

from ambient_ray.errors import UserError
from ambient_ray.tracking.checkpoint import read_checkpoint as read_description
from ambient_ray.tracking.checkpoint import read_samples
from ambient_ray.training import World, read_checkpoint
from ambient_ray.training.checkpoint import restore, save_checkpoint
from ambient_ray.training.state import TrainState
from ambient_ray.training.trial import RungResult

from .archives import lied, lies
from .arrays import PICKLE, npy
from .harness import Kind
from .mutations import as_json, document_edits, edited, edits, mutate

DESCRIPTION, TENSORS, SAMPLES = "checkpoint.json", ("model.safetensors", "train_state.safetensors"), "samples.npz"
made: dict[str, bytes] = {}  # a whole checkpoint's files
states: list[TrainState] = []


@dataclass(frozen=True)
class Damage:
    """What is done to the checkpoint: to one tensor file or the samples, to the description, and whether hashes fit."""

    file: str
    header: tuple
    edits: tuple
    lies: tuple
    pickled: bool
    document: tuple
    rehashed: bool
    missing: str

    @property
    def whole(self) -> bool:
        return not (self.header or self.edits or self.lies or self.pickled or self.document or self.missing)

    def files(self) -> dict[str, bytes]:
        """The damaged checkpoint."""
        files = dict(made)
        data = files[self.file]
        if self.file == SAMPLES:
            if self.pickled:
                from .archives import archive

                data = archive([("samples.npy", npy("|O", False, (1,), PICKLE), 0, 0o644)])
            data = lied(data, self.lies)
        elif self.header:
            length = struct.unpack("<Q", data[:8])[0]
            text = as_json(edited(json.loads(data[8 : 8 + length]), self.header))
            data = struct.pack("<Q", len(text)) + text + data[8 + length :]
        files[self.file] = mutate(data, self.edits)
        description = json.loads(files[DESCRIPTION])
        if self.rehashed:
            for name in description["files"]:
                description["files"][name] = {
                    "bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()
                }  # fmt: skip
        files[DESCRIPTION] = as_json(edited(description, self.document))
        files.pop(self.missing, None)
        return files


@st.composite
def damages(draw) -> Damage:
    file = draw(st.sampled_from([*TENSORS, SAMPLES]))
    return Damage(
        file,
        tuple(draw(document_edits)) if file != SAMPLES and draw(st.booleans()) else (),
        tuple(draw(edits)) if draw(st.integers(0, 2)) == 0 else (),
        tuple(draw(lies)) if file == SAMPLES else (),
        file == SAMPLES and draw(st.integers(0, 9)) == 0,
        tuple(draw(document_edits)) if draw(st.booleans()) else (),
        draw(st.integers(0, 3)) > 0,
        draw(st.sampled_from(["", "", "", "", "", "", "", DESCRIPTION, SAMPLES, *TENSORS])),
    )


def prepare(folder: Path) -> None:
    settings = world.settings(rungs=(32, 64), batch_size=16)
    state = TrainState(settings, world.data(), World())
    for _ in range(2):
        state.step()
    result = RungResult(0, 32, {"brightness": 0.5}, {"n": 6}, None, 1.0)
    arrays = {"samples": np.zeros((6, 6, 6, 1), dtype=np.uint8)}
    save_checkpoint(folder / "rung-00", state, (result,), content_hash="abc", arrays=arrays)
    made.update({path.name: path.read_bytes() for path in (folder / "rung-00").iterdir()})
    states.append(state)


def write(case: Damage, folder: Path) -> None:
    (folder / "rung-00").mkdir()
    for name, data in case.files().items():
        (folder / "rung-00" / name).write_bytes(data)


def read(case: Damage, folder: Path):
    """All three readers, whatever the others say; the first refusal last."""
    where, refusals = folder / "rung-00", []
    for reader in (_continued, read_description, read_samples):
        try:
            reader(where)
        except UserError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]
    return where


def _continued(where: Path) -> None:
    restore(states[0], read_checkpoint(where))


def verify(case: Damage, folder: Path, found: Path) -> None:
    """The network that continues has the weights that the file holds."""
    weights = load_file(found / TENSORS[0])
    for name, tensor in states[0].ema.model.backbone.state_dict().items():
        assert torch.equal(tensor.nan_to_num(), weights[name].to(tensor.dtype).nan_to_num()), name
    assert states[0].images_seen >= 0


KIND = Kind(
    "checkpoints", damages(), write, read, verify, lambda case, folder: (str(folder / "rung-00"), "setting", "rungs", "backbone"),
    lambda case: case.whole, prepare=prepare,
)  # fmt: skip
