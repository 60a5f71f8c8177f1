"""What can be wrong with where checkpoints are, one class a cause."""

from ambient_ray.errors import UserError


class StorageUrlError(UserError):
    """A place for checkpoints that names no file system, or holds credentials."""


class StorageRefusedError(UserError):
    """A store that cannot be written to: no such bucket, wrong credentials, nobody there."""


class StorageGivenUpError(UserError):
    """A store that was waited for, for as long as was asked."""


class DamagedCheckpointError(UserError):
    """A checkpoint lacks a file or key, or a file is not what was written."""


class CollectedCheckpointError(DamagedCheckpointError):
    """A checkpoint whose files were deleted, as nothing needs them; its description is still there."""
