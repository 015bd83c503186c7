"""COCO 2017, whole or a subset of it: its official archives and images, fetched on from a cut, or a copy.

coco: 118,287 images to train on and 5,000 to judge by, 20 GB packed and as much again unpacked.
coco256: 5,705 and 2,939 of them, squashed to 256×256. The manifest `coco256.json` fixes which, so an imported
copy and a download hold the same images with the same boxes. A download is about 1.4 GB over the network and
130 MB once squashed; it will be interrupted, so each step is done wholly or not at all, and the same command
again does what is missing.
"""

import io
import json
import os
import zipfile
from collections import namedtuple
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import requests
from PIL import Image

from focalrepro.data.annotations import Annotations, read_annotations
from focalrepro.data.fetch import FetchError, PassingError, fetch_checked, patiently, receive
from focalrepro.data.pixels import squash
from focalrepro.data.registry import DESCRIPTOR, Descriptor, Part, check_replaced, describe
from focalrepro.data.sources import list_files, locate
from focalrepro.data.split import DatasetError
from focalrepro.data.weights import WEIGHTS, given_weights
from focalrepro.files import move_folder, write_json
from focalrepro.progress import bar as progress_bar

WHOLE, SUBSET = "coco", "coco256"
# COCO's bucket.  Under its own name, images.cocodataset.org, it has no certificate.
ADDRESS = "https://s3.amazonaws.com/images.cocodataset.org"
OFFICIAL = {"train": "train2017", "val": "val2017"}
MANIFEST = Path(__file__).with_name(f"{SUBSET}.json")
SIDE, QUALITY = 256, 95
ARCHIVE_LIMIT, IMAGE_LIMIT = 300_000_000, 20_000_000  # bytes
# So many images failing one after the other mean that the network or the server is gone, not the images.
GIVE_UP_AFTER = 25
WORKERS = 8  # images fetched at a time


class Archive(NamedTuple):
    """One of COCO's zip files: its path on the server, its bytes, its md5."""

    path: str
    size: int
    md5: str

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[1]


ANNOTATIONS = "annotations/annotations_trainval2017.zip"
ARCHIVES = (
    Archive(ANNOTATIONS, 252_907_541, "f4bbac642086de4f52a3fdda2de5fa2c"),
    Archive("zips/val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80"),
    Archive("zips/train2017.zip", 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2"),
)
# One image: its address, the file to make, and its (width, height) by the annotations.
Wanted = namedtuple("Wanted", "url path size")


def annotations_file(official: str) -> str:
    """Path of a split's annotations within the dataset's folder."""
    return f"annotations/instances_{official}.json"


def finish(folder: Path, name: str, **more: Any) -> Path:
    """Makes `folder`, which holds COCO's layout, a prepared dataset; returns it.

    more: fields of its `Descriptor` that are otherwise: `train` and `val` of a copy elsewhere, `weights`.
    """
    parts = {s: Part(annotations=annotations_file(o), images=[o]) for s, o in OFFICIAL.items()}
    Descriptor(**{"name": name, "made_by": f"focalrepro data {name}", **parts, **more}).write(folder)
    return folder


def import_copy(name: str, source: Path, root: Path, weights: Path | None = None) -> Path:
    """Registers a copy of WHOLE or SUBSET, which stays where it is and is never changed; returns its folder.

    It has `annotations/`, and the images of each split in a folder (`val2017/`) or in tar files
    (`val2017*.tar`). The subset's image ids are compared with the manifest and all its images are looked for;
    the weights are `weights`, or those that lie beside, or as before. Raises DatasetError with all that is
    missing, before anything is written.
    """
    source, parts, missing = source.resolve(), {}, []
    for split, official in OFFICIAL.items():
        file = source / annotations_file(official)
        images = sorted(source.glob(f"{official}*.tar")) or [p for p in [source / official] if p.is_dir()]
        parts[split] = Part(annotations=str(file), images=list(map(str, images)))
        missing += [] if file.is_file() else [annotations_file(official)]
        missing += [] if images else [f"{official}/ or {official}*.tar"]
    if missing:
        what = f"not a whole copy of {name}" if source.is_dir() else "no such folder"
        raise DatasetError(f"{source}: {what}; missing: {', '.join(missing)}; add it, or give another folder")
    if name == SUBSET:
        expected = load_manifest()
        for split, official in OFFICIAL.items():
            found = read_annotations(Path(parts[split].annotations))
            check_ids(found, expected[official])
            locate(found, list_files(parts[split].images))
    if weights is None and (source / WEIGHTS).is_file():
        weights = source / WEIGHTS
    files = {} if weights is None else given_weights(weights)
    with suppress(DatasetError):  # where it was not there before
        kept = describe(name, root).weights
        files = files or {of: path for of, path in kept.items() if (root / name / path).is_file()}
    return finish(root / name, name, made_by=f"focalrepro data {name} --from PATH", weights=files, **parts)


# ---- the whole


def download_coco(root: Path) -> Path:
    """Fetches and unpacks the archives into `root/coco/`, what is not there already; returns that folder.

    An archive that has been unpacked is removed. After a DatasetError the same call goes on where it stopped.
    """
    folder = root / WHOLE
    if (folder / DESCRIPTOR).is_file():
        return folder
    for archive in ARCHIVES:
        done, packed = folder / f".{archive.name}.unpacked", folder / archive.name
        if not done.exists():
            fetch_checked(f"{ADDRESS}/{archive.path}", packed, f"md5:{archive.md5}", archive.size)
            with zipfile.ZipFile(packed) as content:
                for name in progress_bar(content.namelist(), desc=f"unpack {archive.name}", unit="file"):
                    content.extract(name, folder)  # zipfile keeps within the folder whatever a name says
            done.touch()
        packed.unlink(missing_ok=True)  # a run killed before may have left it
    return finish(folder, WHOLE)


# ---- the subset


def load_manifest() -> dict:
    """The image ids of both splits and the checksum of the official annotation archive."""
    return json.loads(MANIFEST.read_text(encoding="utf-8"))


def check_ids(found: Annotations, expected: list[int]) -> None:
    """The annotations must list exactly the manifest's images: another subset would be another benchmark."""
    ids = {image["id"] for image in found.images}
    absent, extra = sorted(set(expected) - ids), sorted(ids - set(expected))
    if absent or extra:
        what = f"{len(absent)} missing {absent[:5]}, {len(extra)} too many {extra[:5]}"
        mend = "for another subset use `focalrepro data register`"
        raise DatasetError(f"{found.path}: not the images of the manifest: {what}; {mend}")


def download_coco256(root: Path) -> Path:
    """Fetch the manifest's images and annotations into `root/coco256/`; returns that folder.

    What is there already is not fetched again. After a DatasetError the same call goes on where it stopped.
    """
    expected, final, work = load_manifest(), root / SUBSET, root / "downloads" / SUBSET
    if (final / DESCRIPTOR).is_file():
        return final
    check_replaced(final, f"register it with focalrepro data {SUBSET} --from {final}, or move it")
    archive, md5 = work / Path(ANNOTATIONS).name, f"md5:{expected['annotations_md5']}"
    if not (work / DESCRIPTOR).is_file():  # else a run was killed below, and all is there
        fetch_checked(f"{ADDRESS}/{ANNOTATIONS}", archive, md5, ARCHIVE_LIMIT)
        wanted = []
        for official in OFFICIAL.values():
            for image in write_subset(archive, official, expected[official], work).images:
                name, size = f"{official}/{image['file_name']}", (image["width"], image["height"])
                wanted.append(Wanted(f"{ADDRESS}/{name}", work / name, size))
        fetch_images(wanted)
        finish(work, SUBSET)
    archive.unlink(missing_ok=True)  # of 253 MB, so not before
    move_folder(work, final)
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
    with zipfile.ZipFile(archive) as content:  # whose checksum was right
        scratch.write_bytes(content.read(name))
    whole = read_annotations(scratch)
    scratch.unlink()
    subset = whole.only(set(ids))
    check_ids(subset, ids)
    annotations = [a for a in subset.annotations if not a["iscrowd"]]
    annotations.sort(key=lambda a: a["image_id"])  # stable: within an image the official order stays
    for number, a in enumerate(annotations, start=1):
        a |= {"id": number, "area": round(a["bbox"][2] * a["bbox"][3], 2)}
    about = "the images of the manifest, squashed to 256x256; boxes, width and height in the original frame"
    info = {**whole.info, "description": f"COCO {official}: {about}; no crowd boxes, area = w*h"}
    value = {"info": info, "images": subset.images, "annotations": annotations}
    write_json(target, value | {"categories": whole.categories})
    return read_annotations(target)


def fetch_images(wanted: Sequence[Wanted]) -> None:
    """Fetch and squash each image that is not there yet, WORKERS at a time. Raises DatasetError with the
    failures after trying all, or at once if one after the other fails."""
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

    Of images COCO gives no checksums: the size in pixels must be that of the annotations.
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
