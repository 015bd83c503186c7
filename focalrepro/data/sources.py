"""Where the image files are: folders and tar files, searched by name, hashed once, read from several threads.

A run's id depends on the bytes of its images, so every file is hashed; an index in the cache remembers the
hashes by (size, modification time), so that the next start hashes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from focalrepro.data.split import DatasetError
from focalrepro.files import write_json
from focalrepro.progress import bar as progress_bar


class _Source:
    """A folder or tar file.  `stamps` says what a remembered hash is valid for: {name: [size, time]}."""

    def __init__(self, path: Path, cache: Path) -> None:
        self.path = path.resolve()
        key = hashlib.sha256(str(self.path).encode()).hexdigest()[:24]
        self._index_path = cache / "index" / f"{key}.json"
        self._index = self._read_index()

    def _read_index(self) -> dict:
        try:
            index = json.loads(self._index_path.read_text(encoding="utf-8"))
            return index if index.get("path") == str(self.path) else {}
        except (OSError, ValueError, AttributeError):
            return {}  # an index is only a shortcut: without it the hashes are computed again

    def names(self) -> Iterable[str]:
        """Paths of the files inside, with forward slashes."""
        raise NotImplementedError

    def read(self, name: str) -> bytes:
        """The bytes of one file; safe to call from several threads."""
        raise NotImplementedError

    def hashes(self, names: Sequence[str], progress: bool) -> dict[str, str]:
        """{name: sha256 of its bytes}, reading only the files whose hash is not known yet."""
        raise NotImplementedError

    def _hash(self, names: Sequence[str], progress: bool) -> dict[str, str]:
        bar = progress_bar(
            names, f"hash {self.path.name}", unit="file", disable=not progress, delay=2, leave=False
        )
        return {name: hashlib.sha256(self.read(name)).hexdigest() for name in bar}


class FolderSource(_Source):
    """A folder, with its subfolders."""

    def names(self) -> Iterable[str]:
        for folder, _, files in os.walk(self.path):
            relative = Path(folder).relative_to(self.path)
            yield from ((relative / file).as_posix() for file in files)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def hashes(self, names: Sequence[str], progress: bool) -> dict[str, str]:
        known = self._index.get("files", {})
        stamps = {}
        for name in names:
            status = os.stat(self.path / name)
            stamps[name] = [status.st_size, status.st_mtime_ns]
        found = {name: known[name][2] for name in names if name in known and known[name][:2] == stamps[name]}
        new = self._hash([name for name in names if name not in found], progress)
        if new:
            entries = {name: [*stamps[name], value] for name, value in new.items()}
            self._index = {"path": str(self.path), "files": {**known, **entries}}
            write_json(self._index_path, self._index)
        return found | new


class TarSource(_Source):
    """An uncompressed tar file, read in place: the index holds {name: [offset, size, sha256 or None]}."""

    def __init__(self, path: Path, cache: Path) -> None:
        super().__init__(path, cache)
        status = os.stat(self.path)
        stamp = [status.st_size, status.st_mtime_ns]
        if self._index.get("stamp") != stamp:
            self._index = {"path": str(self.path), "stamp": stamp, "members": self._scan()}
            write_json(self._index_path, self._index)
        self._members: dict[str, list] = self._index["members"]
        self._stream = open(self.path, "rb")  # noqa: SIM115 (open as long as the source is)
        self._lock = threading.Lock()

    def _scan(self) -> dict[str, list]:
        try:
            with tarfile.open(self.path, "r:") as archive:
                members = [m for m in archive if m.isreg()]
        except tarfile.TarError as error:
            mend = "fetch it again if it is cut short, or unpack it first if it is compressed"
            raise DatasetError(
                f"{self.path}: not a whole, uncompressed tar file ({error}); {mend}"
            ) from error
        return {m.name.removeprefix("./"): [m.offset_data, m.size, None] for m in members}

    def names(self) -> Iterable[str]:
        return self._members.keys()

    def read(self, name: str) -> bytes:
        offset, size, _ = self._members[name]
        with self._lock:
            self._stream.seek(offset)
            data = self._stream.read(size)
        if len(data) != size:
            raise DatasetError(f"{self.path}: ends in the middle of {name!r}; fetch the tar file again")
        return data

    def hashes(self, names: Sequence[str], progress: bool) -> dict[str, str]:
        new = self._hash([name for name in names if self._members[name][2] is None], progress)
        for name, value in new.items():
            self._members[name][2] = value
        if new:
            write_json(self._index_path, self._index)
        return {name: self._members[name][2] for name in names}


@dataclass(frozen=True)
class ImageFile:
    """One image file of a source, and the name by which the annotations know it."""

    file_name: str
    source: _Source
    name: str

    def read(self) -> bytes:
        """The encoded image."""
        return self.source.read(self.name)

    def __str__(self) -> str:
        return f"{self.source.path}/{self.name}"


def open_sources(paths: Sequence[Path], cache: Path) -> list[_Source]:
    """Open folders and tar files.  Raises DatasetError for a path that is neither."""
    if not paths:
        raise DatasetError("no image folder or tar file given")
    out: list[_Source] = []
    for path in map(Path, paths):
        if path.is_dir():
            out.append(FolderSource(path, cache))
        elif path.is_file():
            out.append(TarSource(path, cache))
        else:
            raise DatasetError(f"{path}: no such folder or tar file of images; check the path")
    return out


def locate(file_names: Sequence[str], sources: Sequence[_Source]) -> list[ImageFile]:
    """Find the file of each name: by its path where possible, else by its base name alone.

    Annotations often say `0001.jpg` for `train2017/0001.jpg`, or the reverse, so a file fits first if one path
    ends in the other.  Raises DatasetError for a name that no file or several files fit, and for a file that
    two names would share.
    """
    candidates: dict[str, list[tuple[_Source, str, tuple[str, ...]]]] = defaultdict(list)
    for source in sources:
        for name in source.names():
            parts = PurePosixPath(name).parts
            candidates[parts[-1]].append((source, name, parts))
    found: list[ImageFile] = []
    missing: list[str] = []
    for file_name in file_names:
        parts = PurePosixPath(file_name.replace("\\", "/")).parts
        same_base = candidates.get(parts[-1], [])
        exact = [c for c in same_base if c[2] == parts]
        fitting = exact or [c for c in same_base if _one_ends_in_other(c[2], parts)] or same_base
        if len(fitting) > 1:
            places = " and ".join(f"{source.path}/{name}" for source, name, _ in fitting[:2])
            raise DatasetError(f"image {file_name!r} could be {places}; give one of them, or the whole path")
        if not fitting:
            missing.append(file_name)
            continue
        found.append(ImageFile(file_name, fitting[0][0], fitting[0][1]))
    if missing:
        where = ", ".join(str(source.path) for source in sources)
        raise DatasetError(
            f"{len(missing)} of {len(file_names)} images are not in {where}: {', '.join(missing[:5])}"
            f"{', …' if len(missing) > 5 else ''}; add them, or remove them from the annotations"
        )
    _refuse_sharing(found)
    return found


def _one_ends_in_other(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    shorter = min(len(a), len(b))
    return a[-shorter:] == b[-shorter:]


def _refuse_sharing(files: Sequence[ImageFile]) -> None:
    first: dict[tuple[int, str], str] = {}
    for file in files:
        key = (id(file.source), file.name)
        if key in first:
            names = f"{first[key]!r} and {file.file_name!r}"
            raise DatasetError(f"two images, {names}, are both {file}; give each its own file")
        first[key] = file.file_name


def hash_files(files: Sequence[ImageFile], progress: bool) -> list[str]:
    """sha256 (hex) of each file's bytes, in order."""
    by_source: dict[int, list[ImageFile]] = defaultdict(list)
    for file in files:
        by_source[id(file.source)].append(file)
    known = {
        key: group[0].source.hashes([f.name for f in group], progress) for key, group in by_source.items()
    }
    return [known[id(file.source)][file.name] for file in files]
