"""Where Ray keeps records that nothing here reads: a folder of this node alone, in Ray's own session."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ray_scratch(kind: str) -> Iterator[str]:
    """A folder of this node for Ray's `storage_path`, removed in the end.

    Ray asks for a place that every node reaches, for the checkpoints that are reported to it. None is: a trial writes
    its own. What is left is a marker that each process looks for where it has just put it, and Tune's pickles of its
    own state, which must not lie where others could write.

    Args:
        kind: of records, part of its name.
    """
    import ray

    session = Path(ray._private.worker._global_node.get_session_dir_path())
    session.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"ambient-{kind}-", dir=session, ignore_cleanup_errors=True) as folder:
        yield folder
