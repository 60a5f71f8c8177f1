"""What can be wrong with a user's images: one class a cause, each with one sentence that says what to do."""

from ambient_ray.errors import UserError

MAX_REASON = 160  # some decoders quote the file's bytes


class UnknownSourceError(UserError):
    """The given text is neither a built-in data set nor a path that exists."""


class UnknownFormatError(UserError):
    """The path exists, but is none of the formats that are read."""


class NoImagesError(UserError):
    """A folder or zip without a single (readable) image."""


class UnreadableFileError(UserError):
    """A file or folder that the operating system refuses (permissions, disk); never skipped as broken."""


class BrokenFileError(UserError):
    """A file that is empty, truncated or not what its name says; `path` and `reason` say which and why."""

    def __init__(self, path: str, reason: str, advice: str) -> None:
        """`advice` ends the sentence: what to do about it."""
        reason = " ".join(reason.split()).rstrip(".")
        reason = reason if len(reason) <= MAX_REASON else reason[: MAX_REASON - 3] + "..."
        super().__init__(f"{path} is broken ({reason}): {advice}")
        self.path = path
        self.reason = reason


class BadContentsError(UserError):
    """A readable array file (.npy, .npz, IDX, CIFAR) whose contents are not images and labels as expected."""


class MixedLayoutError(UserError):
    """Folders that do not say clearly which class an image belongs to."""


class MixedChannelsError(UserError):
    """Greyscale and colour images in one data set, without a word on what they shall become."""


class MixedSizesError(UserError):
    """Images of different size, without a resolution to bring them to."""


class ChecksumError(UserError):
    """A file that is not the published one, byte for byte."""


class FetchError(UserError):
    """A published file that cannot be fetched: no connection, a refusing server, a read-only folder."""


class TooLargeError(UserError):
    """Images that this machine's memory does not hold, without `memory_map`."""


class SubsetError(UserError):
    """A published subset that was changed, is none, or is of other images than those given."""


class BadOptionError(UserError):
    """A value that an option of the data set cannot take."""


class TooFewImagesError(UserError):
    """`n_train` is below one, or leaves too few images to hold out."""
