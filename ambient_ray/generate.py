"""Images from a registered model: `python -m ambient_ray.generate models:/faces@champion --to images/`.

argparse, not Hydra: the `@` of a model's alias does not pass Hydra's grammar.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ambient_ray.console.exits import guarded
from ambient_ray.console.folders import check_writable
from ambient_ray.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class GenerateError(UserError):
    """An argument of the generate command cannot be met."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 after one sentence about bad input."""
    args = parser().parse_args(argv)
    return guarded(lambda: generate(args))


def generate(args: argparse.Namespace) -> int:
    """Draw the images that the parsed arguments ask for and write them; 0. Raises UserError."""
    _check(args)
    for folder in {args.to, args.grid and args.grid.parent} - {None}:
        check_writable(folder)
    from ambient_ray.tracking import catch_up, load_model  # seconds: torch, and MLflow for a registered model

    for line in catch_up(args.tracking_uri) if str(args.model).startswith(("models:", "runs:")) else ():
        print(line, file=sys.stderr)
    model = load_model(args.model, tracking_uri=args.tracking_uri, device=args.device)
    try:
        images = model.sample(args.n, seed=args.seed, labels=args.label)
    except ValueError as error:
        raise GenerateError(f"{args.model}: {error}") from error
    if args.to is not None:
        write_images(images, args.to)
        print(f"{len(images)} images in {args.to}")
    if args.grid is not None:
        from ambient_ray.tracking.drawing.galleries import sample_grid

        print(f"a grid of {len(images)} images in {sample_grid(images, args.grid, limit=len(images))}")
    return 0


def write_images(images: NDArray[np.uint8], folder: Path) -> None:
    """Write uint8 [n,H,W,C] as 000000.png, ... into `folder`. GenerateError unless C is 1, 3 or 4."""
    from PIL import Image

    if images.shape[3] not in (1, 3, 4):
        raise GenerateError(f"images of {images.shape[3]} channels cannot be written as PNG: only 1, 3 or 4 can")
    for number, image in enumerate(images):
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(folder / f"{number:06d}.png")


def _check(args: argparse.Namespace) -> None:
    if args.to is None and args.grid is None:
        raise GenerateError("nothing to write: give --to FOLDER, --grid FILE.png, or both")
    if args.n < 1:
        raise GenerateError(f"--n must be at least 1, got {args.n}")
    if args.grid is not None and args.grid.suffix.lower() != ".png":
        raise GenerateError(f"--grid must name a .png file, got {args.grid}")


def parser() -> argparse.ArgumentParser:
    """The command line: MODEL --n --to --grid --seed --label --tracking-uri."""
    arguments = argparse.ArgumentParser(
        prog="ambient-generate",
        description="Write images from a registered model. Image j depends on the seed and j only.",
        epilog="example: ambient-generate models:/digits@champion --n 64 --to images --grid grid.png",
    )
    arguments.add_argument(
        "model",
        help="models:/NAME@champion, models:/NAME/3, runs:/RUN_ID/NAME, or a model's or checkpoint's folder",
    )
    arguments.add_argument("--n", type=int, default=64, help="how many images (default: 64)")
    arguments.add_argument("--to", type=Path, metavar="FOLDER", help="write PNG files here, named by index")
    arguments.add_argument("--grid", type=Path, metavar="FILE.png", help="write all images as one picture")
    arguments.add_argument("--seed", type=int, default=0, help="seed of the latents (default: 0)")
    arguments.add_argument("--label", type=int, help="class of all images, for a model with classes")
    arguments.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    arguments.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="where the registry is (default: MLFLOW_TRACKING_URI, else ./outputs/mlflow.db)",
    )
    return arguments


if __name__ == "__main__":
    sys.exit(main())
