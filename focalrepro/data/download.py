"""coco256 from COCO's own address: the official annotations, and only the images of the manifest, one by one.

8,644 images of COCO are about 1.4 GB over the network and 130 MB once squashed.  Such a download will be
interrupted, so it is made of steps that are each done wholly or not at all: an image appears under its name
only when it was received whole and decoded, and running the same command again does what is missing.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pooch
import requests
from PIL import Image

from focalrepro.data import coco256
from focalrepro.data.annotations import Annotations, read_annotations
from focalrepro.data.pixels import squash
from focalrepro.data.registry import DESCRIPTOR
from focalrepro.data.split import DatasetError
from focalrepro.files import move_folder, write_json
from focalrepro.progress import bar as progress_bar

BASE_IMAGES = "http://images.cocodataset.org"
ANNOTATIONS_URL = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"
QUALITY = 95
TIMEOUT = (10, 60)  # seconds to connect, and between two packets
# So many images failing one after the other mean that the network or the server is gone, not the images.
GIVE_UP_AFTER = 25
_BUSY = {408, 425, 429, 500, 502, 503, 504}
log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Retry:
    """How often a request is tried and how long is waited before the second try; each wait is twice the last."""

    tries: int = 4
    wait: float = 1.0


class _Failed(Exception):
    """A request failed; `again` says whether another try could help."""

    def __init__(self, message: str, again: bool) -> None:
        super().__init__(message)
        self.again = again


def download_coco256(
    root: Path,
    *,
    base_images: str = BASE_IMAGES,
    annotations_url: str = ANNOTATIONS_URL,
    workers: int = 8,
    weights: Path | None = None,
    manifest: Path | None = None,
    retry: Retry | None = None,
    progress: bool = True,
) -> Path:
    """Fetch the manifest's images and annotations into `root/coco256/`; returns that folder.

    What is there already is not fetched again, neither after an interruption nor after a whole download.
    `weights` is a backbone file to take in; COCO does not serve one.

    Raises DatasetError listing what failed; the same command then goes on where this one stopped.
    """
    root, retry = Path(root), retry or Retry()
    expected = coco256.load_manifest(manifest)
    if weights is not None:
        coco256.check_weights(Path(weights))  # before the long part
    final, work = root / coco256.NAME, root / "downloads" / coco256.NAME
    if (final / DESCRIPTOR).is_file():
        log.info("%s is there; remove the folder to fetch it again", final)
        if weights is not None:
            coco256.add_weights(final, weights)
        return final
    work.mkdir(parents=True, exist_ok=True)
    archive = fetch_archive(annotations_url, expected["annotations_md5"], work, retry, progress)
    wanted: list[tuple[str, Path]] = []
    for official in coco256.SPLITS.values():
        found = write_subset(archive, official, expected[official], work)
        wanted += [
            (
                f"{base_images.rstrip('/')}/{official}/{image['file_name']}",
                work / official / image["file_name"],
            )
            for image in found.images
        ]
    fetch_images(wanted, workers, retry, progress)
    images = {split: [official] for split, official in coco256.SPLITS.items()}
    coco256.finish(work, images, weights, f"focalrepro data {coco256.NAME}")
    move_folder(work, final)
    # 253 MB, of which the subset's annotations are now in their own files.  Removed last: a run killed before
    # this line goes on without fetching it again.
    (final / archive.name).unlink()
    return final


# ------------------------------------------------------------------------------------------- annotations


def fetch_archive(url: str, md5: str, folder: Path, retry: Retry, progress: bool) -> Path:
    """The official annotation archive, checked against its checksum; pooch keeps a file that has it."""
    name = "annotations_trainval2017.zip"
    downloader = pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT)

    def fetch() -> Path:
        try:
            return Path(pooch.retrieve(url, f"md5:{md5}", name, folder, downloader=downloader))
        except (
            ValueError
        ) as error:  # pooch's word for a wrong checksum; a cut transfer ends in the next branch
            raise _Failed(f"does not have the checksum md5:{md5}", again=False) from error
        except requests.RequestException as error:
            raise _Failed(_reason(error), again=_worth_another_try(error)) from error

    try:
        return _with_retries(fetch, retry)
    except _Failed as error:
        raise DatasetError(f"{url}: {error}; check the connection and run the same command again") from error


def write_subset(archive: Path, official: str, ids: Sequence[int], folder: Path) -> Annotations:
    """Write the annotations of the manifest's images, once: without crowd boxes, and area = width·height.

    The subset leaves crowd boxes out and has no outlines, so the official `area` (of the outline) would not
    belong to its boxes.
    """
    target = folder / coco256.annotations_file(official)
    if target.is_file():
        return read_annotations(target)
    scratch = folder / f"{official}.json"
    try:
        with zipfile.ZipFile(archive) as content:
            scratch.write_bytes(content.read(coco256.annotations_file(official)))
        whole = read_annotations(scratch)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DatasetError(f"{archive}: has no {coco256.annotations_file(official)} ({error})") from error
    finally:
        scratch.unlink(missing_ok=True)
    kept = set(ids)
    images = [image for image in whole.images if image["id"] in kept]
    coco256.check_ids(replace(whole, images=images), ids)
    annotations = [a for a in whole.annotations if a["image_id"] in kept and not a["iscrowd"]]
    annotations.sort(key=lambda a: a["image_id"])  # stable: within an image the official order stays
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
        annotation["area"] = round(annotation["bbox"][2] * annotation["bbox"][3], 2)
    about = "the images of the manifest, squashed to 256x256; boxes, width and height in the original frame"
    info = {**whole.info, "description": f"COCO {official}: {about}; no crowd boxes, area = w*h"}
    value = {"info": info, "images": images, "annotations": annotations, "categories": whole.categories}
    write_json(target, value)
    return read_annotations(target)


# ------------------------------------------------------------------------------------------------ images


def fetch_images(wanted: Sequence[tuple[str, Path]], workers: int, retry: Retry, progress: bool) -> None:
    """Fetch and squash each (address, file to make) that is not there yet, `workers` at a time.

    Raises DatasetError with the failures after trying all, or at once if one after the other fails.
    """
    missing = [(url, path) for url, path in wanted if not path.is_file()]
    for folder in {path.parent for _, path in missing}:
        folder.mkdir(parents=True, exist_ok=True)
        for rest in folder.glob("*.part"):
            rest.unlink()
    sessions = threading.local()

    def one(url: str, path: Path) -> None:
        if not hasattr(sessions, "own"):
            sessions.own = requests.Session()  # keeps its connection; sessions are not for several threads
        fetch_image(sessions.own, url, path, retry)

    failures: list[str] = []
    in_a_row = 0
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        futures = {pool.submit(one, url, path): url for url, path in missing}
        bar = progress_bar(
            total=len(wanted), initial=len(wanted) - len(missing), desc="fetch images", unit="image"
        )
        bar.disable = not progress
        with bar:
            for future in as_completed(futures):
                try:
                    future.result()
                except _Failed as error:
                    failures.append(f"{futures[future]}: {error}")
                    in_a_row += 1
                else:
                    in_a_row = 0
                    bar.update()
                if in_a_row == GIVE_UP_AFTER:
                    break
    finally:
        pool.shutdown(cancel_futures=True)
    if failures:
        listed = "\n  ".join(sorted(failures)[:20] + (["…"] if len(failures) > 20 else []))
        stopped = " in a row, so the download stopped" if in_a_row >= GIVE_UP_AFTER else ""
        left = sum(not path.is_file() for _, path in wanted)
        raise DatasetError(
            f"{len(failures)} images failed{stopped}; {left} of {len(wanted)} are still missing. What is there is "
            f"kept: run the same command again to fetch the rest.\n  {listed}"
        )


def fetch_image(session: requests.Session, url: str, path: Path, retry: Retry) -> None:
    """Fetch one image, squash it to 256×256 and give it its name once it is whole.  Raises _Failed."""

    def fetch() -> Image.Image:
        try:
            response = session.get(url, timeout=TIMEOUT)
            response.raise_for_status()
        except requests.RequestException as error:
            raise _Failed(_reason(error), again=_worth_another_try(error)) from error
        try:
            with Image.open(io.BytesIO(response.content)) as image:
                image.load()
                return squash(image, coco256.SIDE)
        except Exception as error:  # decoders raise many kinds
            raise _Failed(f"not a whole image ({error})", again=True) from error

    image = _with_retries(fetch, retry)
    partial = path.with_name(path.name + ".part")
    image.save(partial, "JPEG", quality=QUALITY)
    os.replace(partial, path)


def _with_retries(action: Callable[[], _T], retry: Retry) -> _T:
    """Call `action` until it works; raises the last _Failed, or at once one that another try cannot mend."""
    for attempt in range(1, retry.tries + 1):
        try:
            return action()
        except _Failed as error:
            if not error.again or attempt == retry.tries:
                raise
        time.sleep(retry.wait * 2 ** (attempt - 1))
    raise AssertionError("tries is at least 1")


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    return f"{type(error).__name__}: {error}"


def _worth_another_try(error: requests.RequestException) -> bool:
    """No connection, a cut one or a busy server may pass; "not found" or "forbidden" will not."""
    return error.response is None or error.response.status_code in _BUSY
