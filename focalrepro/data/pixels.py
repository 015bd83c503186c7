"""Decode every image once into one uint8 array on disk; afterwards an image is a slice of a mapped file.

The array is named by the hash of the encoded files and the frame, not by the labels: another class mapping
finds the same pixels.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from focalrepro.data.sources import ImageFile, hash_files
from focalrepro.data.split import DatasetError
from focalrepro.files import new_folder
from focalrepro.progress import bar as progress_bar

# Raise it when `to_rgb` or `squash` would give other pixels for the same file.
PIXELS_VERSION = 1
DECODE_THREADS = 2
log = logging.getLogger(__name__)


def squash(image: Image.Image, size: int) -> Image.Image:
    """RGB at size×size, the aspect ratio given up (bilinear over the whole footprint, so no aliasing).

    An image that has the size already keeps its pixels.  EXIF rotation is not applied, as with pycocotools.
    """
    rgb = to_rgb(image)
    return rgb if rgb.size == (size, size) else rgb.resize((size, size), Image.Resampling.BILINEAR)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB.  16-bit grey is scaled to 8 bits, where Pillow alone would clip it to white."""
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.int64)
        image = Image.fromarray(np.clip(grey >> 8, 0, 255).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def decode(data: bytes, size: int, where: str) -> np.ndarray:
    """Encoded image -> uint8 [3,size,size].  Raises DatasetError naming `where` if it is cut short or corrupt."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            pixels = np.asarray(squash(image, size))
    except Exception as error:  # decoders raise many kinds: OSError, SyntaxError, ValueError, struct.error
        raise DatasetError(
            f"{where}: not a whole image ({error}); fetch or export this file again"
        ) from error
    return pixels.transpose(2, 0, 1)


def load_pixels(files: Sequence[ImageFile], size: int, cache: Path, progress: bool) -> tuple[np.ndarray, str]:
    """(uint8 [N,3,size,size] mapped read-only from `cache`, sha256 of what it was made from).

    Decodes only if no whole array of these files and this size is in the cache.
    """
    key = hashlib.sha256(f"pixels {PIXELS_VERSION} {size}\n".encode())
    for value in hash_files(files, progress):
        key.update(bytes.fromhex(value))
    digest = key.hexdigest()
    shape = (len(files), 3, size, size)
    final = cache / digest
    images = _open(final / "images.npy", shape)
    if images is None:
        broken = final.exists()
        if broken:
            log.warning("%s: not a whole array; decoding again", final / "images.npy")
        with new_folder(final, replace=broken) as folder:
            _decode_all(files, folder / "images.npy", shape, progress)
        images = _open(final / "images.npy", shape)
        if images is None:
            raise DatasetError(f"{final}: could not be read back; is the disk full? Remove it and run again")
    return images, digest


def _open(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The mapped array, or None if there is none of this shape (numpy refuses to map a file cut short)."""
    try:
        images = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _decode_all(files: Sequence[ImageFile], path: Path, shape: tuple[int, ...], progress: bool) -> None:
    """Write the array file by file; what is in memory at a time is a few images, whatever the dataset's size."""
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)

    def one(row: int) -> None:
        images[row] = decode(files[row].read(), shape[-1], str(files[row]))

    pool = ThreadPoolExecutor(DECODE_THREADS)
    try:
        done = pool.map(one, range(len(files)))
        for _ in progress_bar(done, "decode images", len(files), unit="image", disable=not progress):
            pass
    finally:
        pool.shutdown(cancel_futures=True)  # after an error, the images still waiting need no decoding
    images.flush()
