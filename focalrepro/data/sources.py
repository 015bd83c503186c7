"""Where the image files are: folders and tar files, searched by name, hashed once, read from several threads.

A run's id depends on the bytes of its images, so every file is hashed; the cache remembers the hashes by what
the system says of the files (size, time), so that the next start hashes nothing.
"""

import hashlib
import json
import os
import stat
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from focalrepro.data.annotations import Annotations
from focalrepro.data.split import DatasetError
from focalrepro.files import write_json
from focalrepro.progress import bar as progress_bar

LARGEST = 2**30  # bytes of one image file; more is a mistake or an attack


@dataclass(frozen=True)
class ImageFile:
    """A file in a folder, or in an uncompressed tar file, where it is `size` bytes at `offset`."""

    source: Path
    name: str
    size: int = 0
    offset: int | None = None

    def mark(self) -> list[int]:
        """[size, time, offset] as far as they exist: while they stay, the bytes are taken to be the same."""
        status = os.stat(self.source if self.offset is not None else self.source / self.name)
        size = status.st_size if self.offset is None else self.size
        if not stat.S_ISREG(status.st_mode):
            raise DatasetError(f"{self}: is a pipe, socket or device and no image; remove it")
        if self.offset == -1:
            raise DatasetError(f"{self}: is stored with holes; make the tar file without --sparse")
        if size > LARGEST:
            raise DatasetError(f"{self}: {size} bytes are no image; check the file")
        return [size, status.st_mtime_ns, *([] if self.offset is None else [self.offset])]

    def read(self) -> bytes:
        """The encoded image; safe to call from several threads."""
        if self.offset is None:
            return (self.source / self.name).read_bytes()
        with open(self.source, "rb") as stream:
            stream.seek(self.offset)
            data = stream.read(self.size)
        if len(data) != self.size:
            raise DatasetError(f"{self}: the tar file ends in the middle of it; fetch the tar file again")
        return data

    def __str__(self) -> str:
        return f"{self.source}/{self.name}"


def list_files(paths: Sequence[Path | str]) -> list[ImageFile]:
    """All files in the folders (with subfolders) and tar files, but for names that UTF-8 cannot write.

    Raises DatasetError for a path that is neither a folder nor a whole, uncompressed tar file.
    """
    if not paths:
        raise DatasetError("no image folder or tar file given")
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            source = path.resolve()
            inside = (file.relative_to(source).as_posix() for file in walk(source))
            found += [ImageFile(source, name) for name in inside if _is_text(name)]
        elif path.is_file():
            found += _scan(path.resolve())
        else:
            raise DatasetError(f"{path}: no such folder or tar file of images; check the path")
    return found


def walk(folder: Path) -> Iterator[Path]:
    """The files in a folder and its subfolders, behind links too; each folder once, as links may go round."""
    seen: set[str] = set()
    for place, subfolders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            subfolders.clear()
            continue
        seen.add(real)
        yield from (Path(place, file) for file in files)


def _scan(path: Path) -> list[ImageFile]:
    """Every plain file of a tar file; offset -1 for one with holes, whose bytes lie elsewhere."""
    try:
        with tarfile.open(path, "r:") as archive:
            plain = {m.name.removeprefix("./"): m for m in archive if m.isreg() and _is_text(m.name)}
    except Exception as error:  # of many kinds: TarError, ValueError, OverflowError, MemoryError
        mend = "fetch it again if it is cut short, or unpack it first if it is compressed"
        raise DatasetError(f"{path}: not a whole, uncompressed tar file ({error}); {mend}") from error
    return [ImageFile(path, n, m.size, -1 if m.issparse() else m.offset_data) for n, m in plain.items()]


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def locate(annotations: Annotations, files: Sequence[ImageFile]) -> list[ImageFile]:
    """The file of each image of the annotations: by its path where possible, else by its base name alone.

    Annotations often say `0001.jpg` for `train2017/0001.jpg`, or the reverse, so a file fits first if one
    path ends in the other.  Raises DatasetError for a name that no file or several files fit, and for a file
    that two names would share.
    """
    candidates: dict[str, list[tuple[ImageFile, tuple[str, ...]]]] = defaultdict(list)
    for file in files:
        parts = PurePosixPath(normalize("NFC", file.name)).parts
        candidates["".join(parts[-1:])].append((file, parts))
    names, missing = [image["file_name"] for image in annotations.images], []
    owner: dict[ImageFile, str] = {}
    for name in names:
        parts = PurePosixPath(normalize("NFC", name.replace("\\", "/"))).parts
        same_base = candidates.get(parts[-1], [])
        exact = [c for c in same_base if c[1] == parts]
        ending = [c for c in same_base if all(a == b for a, b in zip(c[1][::-1], parts[::-1], strict=False))]
        fitting = [file for file, _ in exact or ending or same_base]
        if len(fitting) > 1:
            places = f"{fitting[0]} and {fitting[1]}"
            raise DatasetError(f"image {name!r} could be {places}; give one of them, or the whole path")
        if not fitting:
            missing.append(name)
            continue
        if (file := fitting[0]) in owner:
            both = f"{owner[file]!r} and {name!r}"
            raise DatasetError(f"two images, {both}, are both {file}; give each its own file")
        owner[file] = name
    if missing:
        where = ", ".join(dict.fromkeys(str(file.source) for file in files)) or "the empty folders given"
        listed = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        mend = "add them, or remove them from the annotations"
        raise DatasetError(f"{len(missing)} of {len(names)} images are not in {where}: {listed}; {mend}")
    return list(owner)


def hash_files(files: Sequence[ImageFile], cache: Path) -> list[str]:
    """sha256 (hex) of each file's bytes, in order; nothing is read where none of them has changed."""
    marks = []
    for file in files:
        try:
            marks.append([str(file.source), file.name, *file.mark()])
        except OSError as error:  # among others a link that leads to itself
            raise DatasetError(f"{file}: {error.strerror}; mend or remove it") from error
    key = hashlib.sha256(json.dumps(["hashes", marks]).encode()).hexdigest()
    path = cache / "index" / f"{key[:24]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        return json.loads(path.read_text(encoding="utf-8"))["value"]
    shown = {"desc": "hash images", "unit": "file", "delay": 2, "leave": False}
    value = [hashlib.sha256(file.read()).hexdigest() for file in progress_bar(files, **shown)]
    write_json(path, {"value": value})
    return value
