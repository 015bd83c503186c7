"""coco256: 5,705 training and 2,939 validation images of COCO 2017, squashed to 256×256.

The manifest in `data/manifests/` fixes which images these are, so an imported copy and a download hold the
same images with the same boxes.  A download is about 1.4 GB over the network and 130 MB once squashed; it
will be interrupted, so each step is done wholly or not at all, and the same command again does what is
missing.
"""

import io
import json
import os
import shutil
import zipfile
from collections import namedtuple
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import requests
from PIL import Image

from focalrepro.data.annotations import Annotations, read_annotations
from focalrepro.data.coco import ADDRESS, ANNOTATIONS, OFFICIAL, annotations_file
from focalrepro.data.fetch import FetchError, PassingError, fetch_checked, patiently, receive
from focalrepro.data.pixels import squash
from focalrepro.data.registry import DESCRIPTOR, Descriptor, Part, describe
from focalrepro.data.sources import list_files, locate
from focalrepro.data.split import DatasetError
from focalrepro.data.weights import BACKBONE, WEIGHTS, check_weights
from focalrepro.files import move_folder, new_folder, repo_root, write_json
from focalrepro.progress import bar as progress_bar

NAME, SIDE, QUALITY = "coco256", 256, 95
MANIFEST = (repo_root() or Path()) / "data" / "manifests" / f"{NAME}.json"
ARCHIVE_LIMIT, UNFOLDED_LIMIT, IMAGE_LIMIT = 300_000_000, 1_000_000_000, 20_000_000  # bytes
# So many images failing one after the other mean that the network or the server is gone, not the images.
GIVE_UP_AFTER = 25
WORKERS = 8  # images fetched at a time

# One image: its address, the file to make, and its (width, height) by the annotations.
Wanted = namedtuple("Wanted", "url path size")


def load_manifest() -> dict:
    """The image ids of both splits and the checksum of the official annotation archive."""
    try:
        return json.loads(MANIFEST.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        mend = "run from a checkout (pip install -e .), restore it from git"
        raise DatasetError(f"{MANIFEST}: the manifest is not readable ({error}); {mend}") from error


def finish(folder: Path, images: dict[str, list[str]], made_by: str) -> None:
    """Write `dataset.json`, with each split's tar files or folders in `folder`, and its weights if there."""
    parts = {s: Part(annotations=annotations_file(o), images=images[s]) for s, o in OFFICIAL.items()}
    weights = {BACKBONE: WEIGHTS} if (folder / WEIGHTS).is_file() else {}
    Descriptor(name=NAME, **parts, weights=weights, made_by=made_by).write(folder)


def add_weights(root: Path, weights: Path) -> None:
    """Put the backbone's weights into the prepared folder and name them in its `dataset.json`."""
    found = describe(NAME, root)
    check_weights(weights)
    take(weights, root / NAME / WEIGHTS)
    found.model_copy(update={"weights": {BACKBONE: WEIGHTS}}).write(root / NAME)


def import_coco256(source: Path, root: Path, weights: Path | None = None) -> Path:
    """Take over a folder with `annotations/`, `train2017*.tar`, `val2017.tar` and the backbone's weights.

    All is looked for and the image ids compared with the manifest before anything is written.  Files are
    hard-linked if possible, else copied; the source is never changed.  `weights` stands in for the source's.

    Returns the dataset's folder.  Raises DatasetError with a list of all that is missing.
    """
    tars = {split: sorted(source.glob(f"{official}*.tar")) for split, official in OFFICIAL.items()}
    annotations = [annotations_file(official) for official in OFFICIAL.values()]
    missing = [name for name in annotations if not (source / name).is_file()]
    missing += [f"{official}*.tar" for split, official in OFFICIAL.items() if not tars[split]]
    if missing:
        what = f"not a whole copy of {NAME}" if source.is_dir() else "no such folder"
        raise DatasetError(f"{source}: {what}; missing: {', '.join(missing)}")
    expected = load_manifest()
    for split, official in OFFICIAL.items():
        found = read_annotations(source / annotations_file(official))
        check_ids(found, expected[official])
        locate(found, list_files(tars[split], root / "cache"))
    if weights is None and (source / WEIGHTS).is_file():
        weights = source / WEIGHTS
    if weights is not None:
        check_weights(weights)
    with new_folder(root / NAME) as folder:
        for name in (*annotations, *(tar.name for split in tars.values() for tar in split)):
            take(source / name, folder / name)
        if weights is not None:
            take(weights, folder / WEIGHTS)
        images = {split: [path.name for path in paths] for split, paths in tars.items()}
        finish(folder, images, f"focalrepro data {NAME} --from PATH")
    return root / NAME


def check_ids(found: Annotations, expected: list[int]) -> None:
    """The annotations must list exactly the manifest's images: another subset would be another benchmark."""
    ids = {image["id"] for image in found.images}
    absent, extra = sorted(set(expected) - ids), sorted(ids - set(expected))
    if absent or extra:
        what = f"{len(absent)} missing {absent[:5]}, {len(extra)} too many {extra[:5]}"
        mend = "for another subset use `focalrepro data register`"
        raise DatasetError(f"{found.path}: not the images of the manifest: {what}; {mend}")


def take(source: Path, target: Path) -> None:
    """Hard-link `source` to `target`, or copy it (times kept) where a link is not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def unfinished(root: Path) -> Path:
    """Where a download grows until it is whole."""
    return root / "downloads" / NAME


def download_coco256(root: Path) -> Path:
    """Fetch the manifest's images and annotations into `root/coco256/`; returns that folder.

    What is there already is not fetched again, neither after an interruption nor after a whole download.
    Weights that lie in the unfinished folder are taken along.

    Raises DatasetError listing what failed; the same command then goes on where this one stopped.
    """
    expected, final, work = load_manifest(), root / NAME, unfinished(root)
    if (final / DESCRIPTOR).is_file():
        return final
    archive, md5 = work / Path(ANNOTATIONS).name, f"md5:{expected['annotations_md5']}"
    fetch_checked([f"{ADDRESS}/{ANNOTATIONS}"], archive, md5, ARCHIVE_LIMIT)
    wanted = []
    for official in OFFICIAL.values():
        for image in write_subset(archive, official, expected[official], work).images:
            name, size = f"{official}/{image['file_name']}", (image["width"], image["height"])
            wanted.append(Wanted(f"{ADDRESS}/{name}", work / name, size))
    fetch_images(wanted)
    finish(work, {split: [official] for split, official in OFFICIAL.items()}, f"focalrepro data {NAME}")
    move_folder(work, final)
    (final / archive.name).unlink()  # last: a run killed before goes on without fetching its 253 MB again
    return final


def write_subset(archive: Path, official: str, ids: Sequence[int], folder: Path) -> Annotations:
    """Write the annotations of the manifest's images, once: without crowd boxes, and area = width·height.

    The subset leaves crowd boxes out and has no outlines, so the official `area` (of the outline) would not
    belong to its boxes.
    """
    name = annotations_file(official)
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
    check_ids(replace(whole, images=images), ids)
    annotations = [a for a in whole.annotations if a["image_id"] in kept and not a["iscrowd"]]
    annotations.sort(key=lambda a: a["image_id"])  # stable: within an image the official order stays
    for number, a in enumerate(annotations, start=1):
        a |= {"id": number, "area": round(a["bbox"][2] * a["bbox"][3], 2)}
    about = "the images of the manifest, squashed to 256x256; boxes, width and height in the original frame"
    info = {**whole.info, "description": f"COCO {official}: {about}; no crowd boxes, area = w*h"}
    value = {"info": info, "images": images, "annotations": annotations, "categories": whole.categories}
    write_json(target, value)
    return read_annotations(target)


def fetch_images(wanted: Sequence[Wanted]) -> None:
    """Fetch and squash each image that is not there yet, WORKERS at a time.

    Raises DatasetError with the failures after trying all, or at once if one after the other fails.
    """
    missing = [image for image in wanted if not image.path.is_file()]
    for folder in {image.path.parent for image in missing}:
        folder.mkdir(parents=True, exist_ok=True)
        for rest in folder.glob("*.part"):
            rest.unlink()
    failures, in_a_row, pool, session = [], 0, ThreadPoolExecutor(WORKERS), requests.Session()
    shown = {"desc": "fetch images", "unit": "image"}
    try:
        with progress_bar(total=len(wanted), initial=len(wanted) - len(missing), **shown) as bar:
            jobs = {pool.submit(fetch_image, session, image): image for image in missing}
            for job in as_completed(jobs):
                try:
                    job.result()
                except FetchError as error:
                    failures.append(f"{jobs[job].url}: {error}")
                    in_a_row += 1
                    if in_a_row == GIVE_UP_AFTER:
                        break
                else:
                    in_a_row = 0
                    bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
    if failures:
        listed = "\n  ".join(sorted(failures)[:20] + ["…"] * (len(failures) > 20))
        stopped = " in a row, so the download stopped" * (in_a_row == GIVE_UP_AFTER)
        left = f"{sum(not image.path.is_file() for image in wanted)} of {len(wanted)} are still missing"
        mend = "What is there is kept: run the same command again to fetch the rest."
        raise DatasetError(f"{len(failures)} images failed{stopped}; {left}. {mend}\n  {listed}")


def fetch_image(session: requests.Session, wanted: Wanted) -> None:
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
                return squash(image, SIDE)
        except Exception as error:  # decoders raise many kinds
            raise PassingError(f"not a whole image ({error})") from error

    partial = wanted.path.with_name(wanted.path.name + ".part")
    patiently(fetch).save(partial, "JPEG", quality=QUALITY)
    os.replace(partial, wanted.path)
