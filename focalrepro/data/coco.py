"""The whole of COCO 2017: its official archives, each fetched on from where a connection was cut, or a copy.

118,287 images to train on and 5,000 to judge by, 20 GB packed and as much again unpacked.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from focalrepro.data.fetch import PATIENT, FetchError, Retry, receive
from focalrepro.data.registry import DESCRIPTOR, Descriptor, Part
from focalrepro.data.split import DatasetError
from focalrepro.progress import bar as progress_bar

NAME = "coco"
ADDRESS = "https://s3.amazonaws.com/images.cocodataset.org"
OFFICIAL = {"train": "train2017", "val": "val2017"}
MADE_BY = f"focalrepro data {NAME}"


@dataclass(frozen=True)
class Archive:
    """One of COCO's zip files: its path on the server, its bytes, its md5."""

    path: str
    size: int
    md5: str

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[1]


ARCHIVES = (
    Archive(
        "annotations/annotations_trainval2017.zip",
        252_907_541,
        "f4bbac642086de4f52a3fdda2de5fa2c",
    ),
    Archive("zips/val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80"),
    Archive("zips/train2017.zip", 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2"),
)


def import_coco(source: Path, root: Path) -> Path:
    """Registers a folder with `annotations/`, `train2017/` and `val2017/`, which stays where it is."""
    source = source.resolve()
    for name in (*_annotations().values(), *OFFICIAL.values()):
        if not (source / name).exists():
            raise DatasetError(
                f"{source}: has no {name}; give the folder that COCO's archives were unpacked in"
            )
    return _describe(root, source)


def download_coco(
    root: Path,
    archives: Sequence[Archive] = ARCHIVES,
    address: str = ADDRESS,
    retry: Retry = PATIENT,
    progress: bool = True,
) -> Path:
    """Fetches and unpacks the archives into `root/coco/`, what is not there already; returns that folder.

    An archive that has been unpacked is removed. Raises DatasetError with what failed; the same command goes
    on where this one stopped.
    """
    folder = root / NAME
    if (folder / DESCRIPTOR).is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for archive in archives:
        done = folder / f".{archive.name}.unpacked"
        if not done.exists():
            packed = fetch_on(f"{address}/{archive.path}", folder / archive.name, archive, retry, progress)
            _unpack(packed, folder, progress)
            done.touch()
            packed.unlink()
    return _describe(root, folder)


def fetch_on(url: str, path: Path, archive: Archive, retry: Retry, progress: bool) -> Path:
    """The whole archive at `path`, fetched on from the bytes of it that are there already."""

    def go_on() -> None:
        have = path.stat().st_size if path.exists() else 0
        if have < archive.size:
            with open(path, "ab") as sink, requests.Session() as session:
                receive(session, url, sink, archive.size, progress, start=have)

    try:
        retry(go_on)
    except FetchError as error:
        raise DatasetError(f"{url}: {error}; check the connection and run the same command again") from error
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, "md5").hexdigest()
    if found != archive.md5:
        path.unlink()
        raise DatasetError(
            f"{url}: does not have the checksum {archive.md5}; removed, run the same command again"
        )
    return path


def _unpack(packed: Path, folder: Path, progress: bool) -> None:
    with zipfile.ZipFile(packed) as content:
        names = content.namelist()
        for name in progress_bar(
            names, f"unpack {packed.name}", len(names), unit="file", disable=not progress
        ):
            content.extract(name, folder)  # zipfile keeps within the folder whatever a name says


def _annotations() -> dict[str, str]:
    return {split: f"annotations/instances_{official}.json" for split, official in OFFICIAL.items()}


def _describe(root: Path, source: Path) -> Path:
    """Makes `root/coco` a prepared dataset whose files lie in `source`."""
    folder = root / NAME
    folder.mkdir(parents=True, exist_ok=True)
    prefix = "" if source == folder else f"{source}/"
    parts = {
        split: Part(annotations=prefix + _annotations()[split], images=[prefix + official])
        for split, official in OFFICIAL.items()
    }
    Descriptor(name=NAME, **parts, made_by=MADE_BY).write(folder)
    return folder
