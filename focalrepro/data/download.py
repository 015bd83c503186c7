"""coco256 from COCO's own address: the official annotations, and only the images of the manifest, one by one.

They are about 1.4 GB over the network and 130 MB once squashed.  Such a download will be interrupted, so each
step is done wholly or not at all, and running the same command again does what is missing.
"""

import io
import logging
import os
import threading
import zipfile
from collections import namedtuple
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import requests
from PIL import Image

from focalrepro.data import coco256
from focalrepro.data.annotations import Annotations, read_annotations
from focalrepro.data.fetch import FetchError, Retry, fetch_checked, receive, with_retries
from focalrepro.data.pixels import squash
from focalrepro.data.registry import DESCRIPTOR
from focalrepro.data.split import DatasetError
from focalrepro.files import move_folder, write_json
from focalrepro.progress import bar as progress_bar

# COCO's bucket.  Under its own name, images.cocodataset.org, it has no certificate.
BASE = "https://s3.amazonaws.com/images.cocodataset.org"
ANNOTATIONS_URL = f"{BASE}/annotations/annotations_trainval2017.zip"
ARCHIVE_LIMIT, UNFOLDED_LIMIT, IMAGE_LIMIT = 300_000_000, 1_000_000_000, 20_000_000  # bytes
QUALITY = 95
# So many images failing one after the other mean that the network or the server is gone, not the images.
GIVE_UP_AFTER = 25
log = logging.getLogger(__name__)


# One image: its address, the file to make, and its (width, height) by the annotations.
Wanted = namedtuple("Wanted", "url path size")


def download_coco256(
    root: Path,
    *,
    base_images: str = BASE,
    annotations_url: str = ANNOTATIONS_URL,
    workers: int = 8,
    manifest: Path | None = None,
    retry: Retry | None = None,
    progress: bool = True,
) -> Path:
    """Fetch the manifest's images and annotations into `root/coco256/`; returns that folder.

    What is there already is not fetched again, neither after an interruption nor after a whole download.
    Weights that lie in the unfinished folder are taken along.

    Raises DatasetError listing what failed; the same command then goes on where this one stopped.
    """
    retry, expected = retry or Retry(), coco256.load_manifest(manifest)
    final, work = Path(root) / coco256.NAME, unfinished(root)
    if (final / DESCRIPTOR).is_file():
        log.info("%s is there; remove the folder to fetch it again", final)
        return final
    archive = work / "annotations_trainval2017.zip"
    md5 = f"md5:{expected['annotations_md5']}"
    fetch_checked([annotations_url], archive, md5, ARCHIVE_LIMIT, retry, progress)
    wanted = []
    for official in coco256.SPLITS.values():
        for image in write_subset(archive, official, expected[official], work).images:
            name, size = f"{official}/{image['file_name']}", (image["width"], image["height"])
            wanted.append(Wanted(f"{base_images}/{name}", work / name, size))
    fetch_images(wanted, workers, retry, progress)
    images = {split: [official] for split, official in coco256.SPLITS.items()}
    coco256.finish(work, images, f"focalrepro data {coco256.NAME}")
    move_folder(work, final)
    (final / archive.name).unlink()  # last: a run killed before goes on without fetching its 253 MB again
    return final


def unfinished(root: Path) -> Path:
    """Where a download grows until it is whole."""
    return Path(root) / "downloads" / coco256.NAME


def write_subset(archive: Path, official: str, ids: Sequence[int], folder: Path) -> Annotations:
    """Write the annotations of the manifest's images, once: without crowd boxes, and area = width·height.

    The subset leaves crowd boxes out and has no outlines, so the official `area` (of the outline) would not
    belong to its boxes.
    """
    name = coco256.annotations_file(official)
    target, scratch = folder / name, folder / f"{official}.json"
    if target.is_file():
        return read_annotations(target)
    try:
        with zipfile.ZipFile(archive) as content:
            if content.getinfo(name).file_size > UNFOLDED_LIMIT:
                raise KeyError(f"it unfolds to more than {UNFOLDED_LIMIT:,} bytes")
            scratch.write_bytes(content.read(name))
        whole = read_annotations(scratch)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DatasetError(f"{archive}: has no {name} ({error}); remove it and fetch it again") from error
    finally:
        scratch.unlink(missing_ok=True)
    kept = set(ids)
    images = [image for image in whole.images if image["id"] in kept]
    coco256.check_ids(replace(whole, images=images), ids)
    annotations = [a for a in whole.annotations if a["image_id"] in kept and not a["iscrowd"]]
    annotations.sort(key=lambda a: a["image_id"])  # stable: within an image the official order stays
    for number, a in enumerate(annotations, start=1):
        a |= {"id": number, "area": round(a["bbox"][2] * a["bbox"][3], 2)}
    about = "the images of the manifest, squashed to 256x256; boxes, width and height in the original frame"
    info = {**whole.info, "description": f"COCO {official}: {about}; no crowd boxes, area = w*h"}
    value = {"info": info, "images": images, "annotations": annotations, "categories": whole.categories}
    write_json(target, value)
    return read_annotations(target)


def fetch_images(wanted: Sequence[Wanted], workers: int, retry: Retry, progress: bool) -> None:
    """Fetch and squash each image that is not there yet, `workers` at a time.

    Raises DatasetError with the failures after trying all, or at once if one after the other fails.
    """
    missing = [image for image in wanted if not image.path.is_file()]
    for folder in {image.path.parent for image in missing}:
        folder.mkdir(parents=True, exist_ok=True)
        for rest in folder.glob("*.part"):
            rest.unlink()
    sessions = threading.local()

    def one(image: Wanted) -> str:
        if not hasattr(sessions, "own"):
            sessions.own = requests.Session()  # keeps its connection; sessions are not for several threads
        try:
            fetch_image(sessions.own, image, retry)
        except FetchError as error:
            return f"{image.url}: {error}"
        return ""

    failures, in_a_row = [], 0
    pool = ThreadPoolExecutor(max(1, workers))
    shown = {"desc": "fetch images", "unit": "image", "disable": not progress}
    try:
        with progress_bar(total=len(wanted), initial=len(wanted) - len(missing), **shown) as bar:
            for future in as_completed([pool.submit(one, image) for image in missing]):
                failure = future.result()
                failures += [failure] if failure else []
                bar.update(not failure)
                in_a_row = in_a_row + 1 if failure else 0
                if in_a_row == GIVE_UP_AFTER:
                    break
    finally:
        pool.shutdown(cancel_futures=True)
    if failures:
        listed = "\n  ".join(sorted(failures)[:20] + ["…"] * (len(failures) > 20))
        stopped = " in a row, so the download stopped" * (in_a_row == GIVE_UP_AFTER)
        left = f"{sum(not image.path.is_file() for image in wanted)} of {len(wanted)} are still missing"
        mend = "What is there is kept: run the same command again to fetch the rest."
        raise DatasetError(f"{len(failures)} images failed{stopped}; {left}. {mend}\n  {listed}")


def fetch_image(session: requests.Session, wanted: Wanted, retry: Retry) -> None:
    """Fetch one image, squash it to 256×256 and give it its name once it is whole.  Raises FetchError.

    COCO gives no checksums of images, so its size in pixels must be that of the annotations.
    """

    def fetch() -> Image.Image:
        data = io.BytesIO()
        receive(session, wanted.url, data, IMAGE_LIMIT)
        try:
            with Image.open(data) as image:
                if image.size != wanted.size:  # before it is decoded, which could take any memory
                    raise ValueError(f"{image.size} pixels, the annotations say {wanted.size}")
                image.load()
                return squash(image, coco256.SIDE)
        except Exception as error:  # decoders raise many kinds
            raise FetchError(f"not a whole image ({error})", again=True) from error

    image = with_retries(fetch, retry)
    partial = wanted.path.with_name(wanted.path.name + ".part")
    image.save(partial, "JPEG", quality=QUALITY)
    os.replace(partial, wanted.path)
