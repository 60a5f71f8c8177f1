"""Where checkpoints are: a folder of this machine or NFS, or a bucket; written whole or not at all, verified when read.

Nothing here knows what is trained; `pyarrow.fs` is imported when a URL is first used.
"""

from .cache import fetch
from .check import check_store
from .collect import collect, removable
from .description import DESCRIPTION, MODEL, SAMPLES, TRAIN_STATE, Described, read_description
from .errors import (
    CollectedCheckpointError,
    DamagedCheckpointError,
    StorageGivenUpError,
    StorageRefusedError,
    StorageUrlError,
)
from .patience import Patience, patiently, trouble
from .place import Location, RemoteFolder, locate
from .publish import children, discard, publish

__all__ = [
    "DESCRIPTION",
    "MODEL",
    "SAMPLES",
    "TRAIN_STATE",
    "CollectedCheckpointError",
    "DamagedCheckpointError",
    "Described",
    "Location",
    "Patience",
    "RemoteFolder",
    "StorageGivenUpError",
    "StorageRefusedError",
    "StorageUrlError",
    "check_store",
    "children",
    "collect",
    "discard",
    "fetch",
    "locate",
    "patiently",
    "publish",
    "read_description",
    "removable",
    "trouble",
]
