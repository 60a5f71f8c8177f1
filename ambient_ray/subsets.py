"""Training subsets to publish: seeded, nested, hashed lists of images, of several sizes at once.

    python -m ambient_ray.subsets dataset=cifar10 sizes=[300,1000,3000] seed=0 to=subsets

Every key of the search holds, so that a study's images are named in the same way. A study trains on a list with
dataset.subset=subsets/cifar10/subset-n300-seed0.json.
"""

from pathlib import Path
from typing import Any

from ambient_ray.console.command import ConfigurationError, run_command


def run(content: dict[str, Any]) -> int:
    """Validate, read the images and write the lists; returns the exit code."""
    from ambient_ray.console.configuration import validate
    from ambient_ray.console.images import read_images
    from ambient_ray.data.subsets import published_lists, write_list

    sizes, to = content.pop("sizes"), content.pop("to")
    if not isinstance(sizes, list) or not sizes or not all(type(n) is int and n > 0 for n in sizes):
        raise ConfigurationError(f"sizes={sizes}: expected a list of whole numbers above 0, e.g. sizes=[300,1000,3000]")
    config = validate(content)
    images = read_images(config)
    print(images.describe())
    folder = Path(str(to)).expanduser() / (images.name.replace("/", "-") or "images")
    for listed in published_lists(images, sizes, seed=config.seed):
        print(f"{write_list(listed, folder)}: {listed.n:,} images, sha256 {listed.sha256}")
    return 0


def main() -> None:
    """Console script `ambient-subsets`."""
    run_command("subsets", run)


if __name__ == "__main__":
    main()
