"""The images of a study: read as configured, divided into training subset and held-out images; the subset as a list."""

from pathlib import Path

import psutil

from ambient_ray.data import ImageSet, Split, SubsetError, TooLargeError, load_images, split
from ambient_ray.data.subsets import IndexList, index_list, read_list, split_by, write_list

from .command import ConfigurationError
from .configuration import Configuration

# How many bytes a byte of an image becomes where a whole set is used at once, the set itself and its copies together.
_CLASSIFIER, _COPIES = 5, 2


def read_images(config: Configuration) -> ImageSet:
    """All images, as `dataset` says. Raises one of the errors of ambient_ray.data."""
    dataset = config.dataset
    return load_images(
        dataset.source,
        resolution=dataset.resolution,
        skip_broken=dataset.skip_broken,
        channels=dataset.channels,
        labels=dataset.labels,
        memory_map=dataset.memory_map,
    )


def divide_images(config: Configuration, images: ImageSet) -> Split:
    """The training subset, drawn by seed or as `dataset.subset` lists it, and the held-out images.

    Raises:
        SubsetError: the list was changed, is of other images, or has another n than dataset.n_train.
        TooFewImagesError: nothing would be left to hold out.
        TooLargeError: images that lie in a mapped file would all be copied into memory, which does not hold them.
    """
    check_memory(config, images, psutil.virtual_memory().total)
    heldout = config.evaluation.heldout
    if config.dataset.subset is None:
        return split(images, config.dataset.n_train, seed=config.seed, heldout=heldout)
    listed = read_list(config.dataset.subset)
    if listed.n != config.dataset.n_train:
        raise SubsetError(
            f"dataset.subset={config.dataset.subset} lists {listed.n:,} images and dataset.n_train is "
            f"{config.dataset.n_train:,}: set dataset.n_train={listed.n}"
        )
    return split_by(listed, images, where=str(config.dataset.subset), heldout=heldout)


def other_reference(config: Configuration, images: ImageSet) -> ImageSet | None:
    """The images at evaluation.reference, where that is a path, brought to the study's resolution and channels."""
    given = config.evaluation.reference
    if config.reference != "other":
        return None
    if not Path(given).expanduser().exists():
        raise ConfigurationError(
            f"evaluation.reference={given} is neither heldout, full or train nor a path that exists"
        )
    channels, height, _ = images.shape
    return load_images(given, resolution=height, channels=1 if channels == 1 else 3)


def check_memory(config: Configuration, images: ImageSet, memory: int) -> None:
    """Refuse what would load a whole mapped set into memory of so many bytes. Raises TooLargeError."""
    if not images.memory_mapped:
        return
    evaluation, size = config.evaluation, images.images.nbytes
    for used, factor, advice in (
        (evaluation.heldout is None, _COPIES, "set evaluation.heldout=10000"),
        (evaluation.reference == "full", _COPIES, "set evaluation.reference=heldout"),
        (evaluation.features == "classifier", _CLASSIFIER, "set evaluation.features=efficientnet_lite0"),
    ):
        if used and factor * size > memory:
            raise TooLargeError(
                f"{len(images):,} images are {size / 1e9:,.1f} GB, which would be loaded {factor} times over into "
                f"{memory / 1e9:,.1f} GB of memory: {advice}"
            )


def subset_list(config: Configuration, images: ImageSet, subsets: Split) -> IndexList:
    """The training subset as it can be published: the list that was given, or the one that was drawn."""
    if config.dataset.subset is not None:
        return read_list(config.dataset.subset)
    return index_list(images, subsets, seed=config.seed)


def publish_subset(config: Configuration, images: ImageSet, subsets: Split) -> Path:
    """Write the training subset's list into the study's folder: subset-n300-seed0.json."""
    return write_list(subset_list(config, images, subsets), config.folder)
