"""A machine a hundredth of the size: the limits that readers derive from it, where cases of a few kB can reach them."""

from types import SimpleNamespace

from PIL import Image

from ambient_ray.data import picture
from ambient_ray.data.readers import zipped

MEMORY = 64 * 2**20  # bytes that this machine seems to have


def small_machine() -> None:
    """Pictures of 2 million pixels are bombs, archives' pictures of 16 MB, and images of 64 MB exceed the memory."""
    Image.MAX_IMAGE_PIXELS = 2**20  # Pillow refuses twice as many
    zipped.MAX_BYTES = 2**24
    picture.psutil = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(total=MEMORY))
