"""Decode every image once into one uint8 array on disk; afterwards an image is a slice of a mapped file.

The array is named by the hash of the encoded files and the frame, not by the labels: another class mapping
finds the same pixels.  Beside it lie the files' sizes, which each load compares with the annotations, and a
checksum, so that an array changed since is noticed.
"""

import hashlib
import io
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from focalrepro.config import Resize
from focalrepro.data.sources import ImageFile, hash_files
from focalrepro.data.split import DatasetError
from focalrepro.files import new_array, new_folder, write_json
from focalrepro.progress import bar as progress_bar

# Raise it when `to_rgb`, `squash` or `letterbox` would give other pixels for the same file.
PIXELS_VERSION = 1
DECODE_THREADS = 2
SAMPLED_FROM = 2**27  # bytes: a smaller array is checked whole, of a larger one a row of each image
EXIF_ORIENTATION = 0x0112
PADDING = (124, 116, 104)  # the mean of ImageNet, which the networks read as zero
log = logging.getLogger(__name__)


def squash(image: Image.Image, size: int) -> Image.Image:
    """RGB at size×size, the aspect ratio given up (bilinear over the whole footprint, so no aliasing).

    An image that has the size already keeps its pixels.  EXIF rotation is not applied, as with pycocotools.
    """
    return to_rgb(image).resize((size, size), Image.Resampling.BILINEAR)


def letterbox(image: Image.Image, size: int) -> Image.Image:
    """RGB at size×size, the aspect ratio kept: the image at the top left, PADDING below or on its right.

    The scale is exact, so that boxes lie where the objects are: an image that ends within a pixel of the
    frame ends before it.
    """
    rgb = to_rgb(image)
    scale = max(rgb.size) / size  # the image's pixels in one of the frame's
    shown = [max(1, int(side / scale + 1e-9)) for side in rgb.size]
    part = [min(side, pixels * scale) for side, pixels in zip(rgb.size, shown, strict=True)]
    frame = Image.new("RGB", (size, size), PADDING)
    frame.paste(rgb.resize(shown, Image.Resampling.BILINEAR, box=(0, 0, *part)))
    return frame


RESIZE = {"squash": squash, "letterbox": letterbox}


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB; 16-bit grey is scaled to 8 bits, where Pillow alone would clip it to white.

    Errors: ValueError for values whose scale nobody knows (floats; 12 bits in 16): they would turn black.
    """
    if image.mode == "F":
        raise ValueError("floats have no agreed scale; save it with 8 bits a channel")
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        brightest = int(grey.max())
        if grey.min() < 0 or brightest > 65535 or 0 < brightest < 2**14:
            raise ValueError(f"its brightest value is {brightest} of 65535; save it with 8 bits a channel")
        image = Image.fromarray((grey >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def decode(data: bytes, size: int, where: str, resize: Resize) -> tuple[np.ndarray, int, int, bool]:
    """Encoded image -> (uint8 [3,size,size], its own height and width, whether EXIF asks to turn it).

    Raises DatasetError naming `where` if it is cut short, corrupt or of a kind that `to_rgb` refuses.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            pixels = np.asarray(RESIZE[resize](image, size)).transpose(2, 0, 1)
            return pixels, image.height, image.width, is_turned(image)
    except MemoryError:  # no fault of the file
        raise
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{where}: {error}; make it smaller, or cut it into tiles") from error
    except Exception as error:  # decoders raise many kinds: OSError, SyntaxError, ValueError, struct.error
        mend = "fetch or export this file again"
        raise DatasetError(f"{where}: not a whole image ({error}); {mend}") from error


def is_turned(image: Image.Image) -> bool:
    """Whether EXIF asks to turn it."""
    try:
        return image.getexif().get(EXIF_ORIENTATION, 1) in range(2, 9)
    except Exception:  # broken EXIF of a whole image
        return False


def load_pixels(
    files: Sequence[ImageFile], written: np.ndarray, size: int, cache: Path, resize: Resize
) -> tuple[np.ndarray, str]:
    """(uint8 [N,3,size,size] mapped read-only from `cache`, sha256 of what it was made from).

    `written` [N,2] are the heights and widths that the annotations give.  Decodes only if no whole array of
    these files and this size is in the cache.
    """
    key = hashlib.sha256(f"pixels {PIXELS_VERSION} {size}\n{'letterbox' * (resize == 'letterbox')}".encode())
    for value in hash_files(files, cache):
        key.update(bytes.fromhex(value))
    digest = key.hexdigest()
    final, shape = cache / digest, (len(files), 3, size, size)
    if (opened := _open(final, shape)) is None:
        if broken := final.exists():
            log.warning("%s: not a whole array, or changed since; decoding again", final / "images.npy")
        with new_folder(final, replace=broken) as folder:
            _decode_all(files, folder, shape, resize)
        if (opened := _open(final, shape)) is None:
            raise DatasetError(f"{final}: could not be read back; is the disk full? Remove it and run again")
    _compare_sizes(files, written, opened[1], size, resize)
    return opened[0], digest


def _open(folder: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """(mapped array, int64 [N,2] sizes of the files), or None unless both are whole and unchanged."""
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        found = json.loads((folder / "files.json").read_text(encoding="utf-8"))
        sizes = np.array(found["sizes"], np.int64)
        whole = images.shape == shape and images.dtype == np.uint8 and sizes.shape == (shape[0], 2)
        return (images, sizes) if whole and found["sample"] == _sample(images) else None
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return None


def _sample(images: np.ndarray) -> str:
    sample = images if images.nbytes < SAMPLED_FROM else images[:, :, images.shape[2] // 2]
    return hashlib.sha256(np.ascontiguousarray(sample)).hexdigest()


def _decode_all(files: Sequence[ImageFile], folder: Path, shape: tuple[int, ...], resize: Resize) -> None:
    """Write the array file by file: a few images at a time are in memory, whatever the dataset's size."""
    images = new_array(folder / "images.npy", shape, np.uint8)

    def one(row: int) -> list[int]:
        images[row], *found = decode(files[row].read(), shape[-1], str(files[row]), resize)
        return found

    pool = ThreadPoolExecutor(DECODE_THREADS)
    try:
        done = pool.map(one, range(len(files)))
        found = list(progress_bar(done, "decode images", len(files), unit="image", delay=2))
    finally:
        pool.shutdown(cancel_futures=True)  # after an error, the images still waiting need no decoding
    images.flush()
    if turned := [file for file, (*_, odd) in zip(files, found, strict=True) if odd]:
        what = "%d images, such as %s, ask by EXIF to be turned; as in COCO they are taken as they are stored"
        log.warning(what, len(turned), turned[0])
    write_json(folder / "files.json", {"sample": _sample(images), "sizes": [size for *size, _ in found]})


def _compare_sizes(
    files: Sequence[ImageFile], written: np.ndarray, sizes: np.ndarray, frame: int, resize: Resize
) -> None:
    """Refuses a file whose size is not what the annotations say: its boxes would lie beside the objects.

    A copy that was squashed beforehand keeps its boxes in the original frame, so a square is taken if its
    side is the frame's, or if every file is a square of that one side, as in coco256 (256×256); not to be
    letterboxed, which would ask for the shape that is gone.
    """
    square = (sizes[:, 0] == sizes[:, 1]) & ((sizes[:, 0] == frame) | (sizes == sizes[0]).all())
    wrong = np.flatnonzero((~square | (resize == "letterbox")) & (sizes != written).any(axis=1))
    if len(wrong):
        (height, width), (h, w) = sizes[wrong[0]], written[wrong[0]].astype(int)
        what = f"is {width}×{height} pixels, its `width` and `height` in the annotations say {w}×{h}"
        mend = "give its own size and boxes; EXIF turns are not applied"
        mend += "; copies squashed beforehand need resize=squash" * bool(square[wrong[0]])
        raise DatasetError(f"{files[wrong[0]]}: {what} ({len(wrong)} such images); {mend}")
