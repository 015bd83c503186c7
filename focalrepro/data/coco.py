"""The whole of COCO 2017: its official archives, each fetched on from where a connection was cut, or a copy.

118,287 images to train on and 5,000 to judge by, 20 GB packed and as much again unpacked.
"""

import zipfile
from pathlib import Path
from typing import NamedTuple

from focalrepro.data.fetch import fetch_checked
from focalrepro.data.registry import DESCRIPTOR, Descriptor, Part
from focalrepro.data.split import DatasetError
from focalrepro.progress import bar as progress_bar

NAME = "coco"
# COCO's bucket.  Under its own name, images.cocodataset.org, it has no certificate.
ADDRESS = "https://s3.amazonaws.com/images.cocodataset.org"
OFFICIAL = {"train": "train2017", "val": "val2017"}


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


def annotations_file(official: str) -> str:
    """Path of a split's annotations within the dataset's folder."""
    return f"annotations/instances_{official}.json"


def import_coco(source: Path, root: Path) -> Path:
    """Registers a folder with `annotations/`, `train2017/` and `val2017/`, which stays where it is."""
    source = source.resolve()
    for official in OFFICIAL.values():
        for name in (annotations_file(official), official):
            if not (source / name).exists():
                mend = "give the folder that COCO's archives were unpacked in"
                raise DatasetError(f"{source}: has no {name}; {mend}")
    return _describe(root / NAME, f"{source}/")


def download_coco(root: Path) -> Path:
    """Fetches and unpacks the archives into `root/coco/`, what is not there already; returns that folder.

    An archive that has been unpacked is removed. Raises DatasetError with what failed; the same command goes
    on where this one stopped.
    """
    folder = root / NAME
    if (folder / DESCRIPTOR).is_file():
        return folder
    for archive in ARCHIVES:
        done, packed = folder / f".{archive.name}.unpacked", folder / archive.name
        if not done.exists():
            fetch_checked([f"{ADDRESS}/{archive.path}"], packed, f"md5:{archive.md5}", archive.size)
            with zipfile.ZipFile(packed) as content:
                for name in progress_bar(content.namelist(), desc=f"unpack {archive.name}", unit="file"):
                    content.extract(name, folder)  # zipfile keeps within the folder whatever a name says
            done.touch()
            packed.unlink()
    return _describe(folder)


def _describe(folder: Path, prefix: str = "") -> Path:
    """Makes `folder` a prepared dataset; prefix: of the paths of its files, where they lie elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        split: Part(annotations=prefix + annotations_file(official), images=[prefix + official])
        for split, official in OFFICIAL.items()
    }
    Descriptor(name=NAME, **parts, made_by=f"focalrepro data {NAME}").write(folder)
    return folder
