"""What can be wrong with an audit: one class a cause."""

from ambient_ray.errors import UserError


class AuditInputError(UserError):
    """What is to be audited, and what it is to be compared with, do not fit together or are too few."""


class AuditFolderError(UserError):
    """The folder of an audit's report cannot be written."""
