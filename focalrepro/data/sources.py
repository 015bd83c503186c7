"""Where the image files are: folders and tar files, searched by name, hashed once, read from several threads.

A run's id depends on the bytes of its images, so every file is hashed; an index in the cache remembers the
hashes by size and time, so that the next start hashes nothing.
"""

import hashlib
import json
import os
import stat
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from focalrepro.data.split import DatasetError
from focalrepro.files import write_json
from focalrepro.progress import bar as progress_bar

LARGEST = 2**30  # bytes of one image file; more is a mistake or an attack


class Source:
    """A folder with its subfolders; the index holds "hashes": {name: [size, time, sha256]}."""

    def __init__(self, path: Path, cache: Path) -> None:
        self.path = path.resolve()
        key = hashlib.sha256(f"index 2 {self.path}".encode(errors="surrogateescape")).hexdigest()[:24]
        self._index_path = cache / "index" / f"{key}.json"
        try:
            self._index = json.loads(self._index_path.read_text(encoding="utf-8"))
            if self._index["path"] != str(self.path) or not isinstance(self._index["hashes"], dict):
                raise ValueError
        except (OSError, ValueError, TypeError, KeyError):
            self._index = {"path": str(self.path), "hashes": {}}  # only a shortcut: all is computed again

    def names(self) -> Iterable[str]:
        """Paths of the files inside, with forward slashes; those that UTF-8 cannot write are passed over."""
        for folder, _, files in os.walk(self.path):
            relative = Path(folder).relative_to(self.path)
            yield from filter(_is_text, ((relative / file).as_posix() for file in files))

    def mark(self, name: str) -> list[int]:
        """[size in bytes, modification time in ns] of one file: what its remembered hash is valid for."""
        status = os.stat(self.path / name)
        if not stat.S_ISREG(status.st_mode):
            raise DatasetError(f"{self.path}/{name}: is a pipe, socket or device and no image; remove it")
        return [status.st_size, status.st_mtime_ns]

    def read(self, name: str) -> bytes:
        """The bytes of one file; safe to call from several threads."""
        return (self.path / name).read_bytes()

    def hashes(self, names: Sequence[str], progress: bool) -> dict[str, str]:
        """{name: sha256 of its bytes}, reading only the files whose hash is not known yet."""
        known, marks = self._index["hashes"], {}
        for name in names:
            try:
                marks[name] = self.mark(name)
            except OSError as error:  # among others a link that leads to itself
                raise DatasetError(f"{self.path}/{name}: {error.strerror}; mend or remove it") from error
            if marks[name][0] > LARGEST:
                raise DatasetError(f"{self.path}/{name}: {marks[name][0]} bytes are no image; check the file")
        new = [name for name in names if known.get(name, [])[:2] != marks[name]]
        shown = {"desc": f"hash {self.path.name}", "unit": "file", "delay": 2, "leave": False}
        for name in progress_bar(new, disable=not progress, **shown):
            known[name] = [*marks[name], hashlib.sha256(self.read(name)).hexdigest()]
        if new:
            write_json(self._index_path, self._index)
        return {name: known[name][2] for name in names}


class TarSource(Source):
    """An uncompressed tar file, read in place; the index also holds "members": {name: [offset, size]}."""

    def __init__(self, path: Path, cache: Path) -> None:
        super().__init__(path, cache)
        status = os.stat(self.path)
        stamp = [status.st_size, status.st_mtime_ns]
        if self._index.get("stamp") != stamp:
            self._index |= {"stamp": stamp, "members": self._scan(), "hashes": {}}
            write_json(self._index_path, self._index)
        self._stream = open(self.path, "rb")  # noqa: SIM115 (open as long as the source is)

    def _scan(self) -> dict[str, list[int]]:
        """Offset and size of every plain file; offset -1 for one with holes, whose bytes lie elsewhere."""
        try:
            with tarfile.open(self.path, "r:") as archive:
                plain = [m for m in archive if m.isreg() and _is_text(m.name)]
        except Exception as error:  # of many kinds: TarError, ValueError, OverflowError, MemoryError
            mend = "fetch it again if it is cut short, or unpack it first if it is compressed"
            raise DatasetError(
                f"{self.path}: not a whole, uncompressed tar file ({error}); {mend}"
            ) from error
        return {m.name.removeprefix("./"): [-1 if m.issparse() else m.offset_data, m.size] for m in plain}

    def names(self) -> Iterable[str]:
        return self._index["members"].keys()

    def mark(self, name: str) -> list[int]:
        offset, size = self._index["members"][name]
        if offset < 0:
            raise DatasetError(
                f"{self.path}/{name}: is stored with holes; make the tar file without --sparse"
            )
        return [size, offset]

    def read(self, name: str) -> bytes:
        offset, size = self._index["members"][name]
        data = os.pread(self._stream.fileno(), size, offset)
        if len(data) != size:
            raise DatasetError(f"{self.path}: ends in the middle of {name!r}; fetch the tar file again")
        return data


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


@dataclass(frozen=True)
class ImageFile:
    """One image file of a source, and the name by which the annotations know it."""

    file_name: str
    source: Source
    name: str

    def read(self) -> bytes:
        """The encoded image."""
        return self.source.read(self.name)

    def __str__(self) -> str:
        return f"{self.source.path}/{self.name}"


def open_sources(paths: Sequence[Path], cache: Path) -> list[Source]:
    """Open folders and tar files.  Raises DatasetError for a path that is neither."""
    if not paths:
        raise DatasetError("no image folder or tar file given")
    for path in map(Path, paths):
        if not path.is_dir() and not path.is_file():
            raise DatasetError(f"{path}: no such folder or tar file of images; check the path")
    return [(Source if Path(path).is_dir() else TarSource)(Path(path), cache) for path in paths]


def locate(file_names: Sequence[str], sources: Sequence[Source]) -> list[ImageFile]:
    """Find the file of each name: by its path where possible, else by its base name alone.

    Annotations often say `0001.jpg` for `train2017/0001.jpg`, or the reverse, so a file fits first if one
    path ends in the other.  Raises DatasetError for a name that no file or several files fit, and for a file
    that two names would share.
    """
    candidates: dict[str, list[tuple[Source, str, tuple[str, ...]]]] = defaultdict(list)
    for source in sources:
        for name in source.names():
            parts = PurePosixPath(name).parts
            candidates["".join(parts[-1:])].append((source, name, parts))
    found: list[ImageFile] = []
    missing: list[str] = []
    owner: dict[tuple[int, str], str] = {}
    for file_name in file_names:
        parts = PurePosixPath(file_name.replace("\\", "/")).parts
        same_base = candidates.get(parts[-1], [])
        exact = [c for c in same_base if c[2] == parts]
        ending = [c for c in same_base if all(a == b for a, b in zip(c[2][::-1], parts[::-1], strict=False))]
        fitting = exact or ending or same_base
        if len(fitting) > 1:
            places = " and ".join(f"{source.path}/{name}" for source, name, _ in fitting[:2])
            raise DatasetError(f"image {file_name!r} could be {places}; give one of them, or the whole path")
        if not fitting:
            missing.append(file_name)
            continue
        file = ImageFile(file_name, *fitting[0][:2])
        if (key := (id(file.source), file.name)) in owner:
            names = f"{owner[key]!r} and {file_name!r}"
            raise DatasetError(f"two images, {names}, are both {file}; give each its own file")
        owner[key] = file_name
        found.append(file)
    if missing:
        where = ", ".join(str(source.path) for source in sources)
        listed = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        mend = "add them, or remove them from the annotations"
        raise DatasetError(f"{len(missing)} of {len(file_names)} images are not in {where}: {listed}; {mend}")
    return found


def hash_files(files: Sequence[ImageFile], progress: bool) -> list[str]:
    """sha256 (hex) of each file's bytes, in order."""
    by_source: dict[int, list[ImageFile]] = defaultdict(list)
    for file in files:
        by_source[id(file.source)].append(file)
    known = {
        key: group[0].source.hashes([f.name for f in group], progress) for key, group in by_source.items()
    }
    return [known[id(file.source)][file.name] for file in files]
