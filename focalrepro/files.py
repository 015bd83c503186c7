"""Where files lie, and writing them so that a crash leaves the old one or the new one, never half of one."""

import errno
import fcntl
import glob
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

UNFINISHED, ASIDE = ".unfinished-", ".set-aside-"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
YES, NO = {"1", "yes", "y", "true", "on"}, {"", "0", "no", "n", "false", "off"}
DISK_FULL = "free some disk, or put the data on another one with FOCALREPRO_DATA"


def repo_root() -> Path | None:
    """The checkout that this package lies in, or None if it is installed elsewhere."""
    parent = Path(__file__).resolve().parents[1]
    return parent if (parent / "pyproject.toml").is_file() else None


def data_root() -> Path:
    """Where datasets lie: $FOCALREPRO_DATA, else `data/` of the checkout or of the current folder."""
    given = os.environ.get("FOCALREPRO_DATA")
    return (_home() / Path(given or "data").expanduser()).resolve()


def results_root(profile: str = "") -> Path:
    """The committed results, or a profile's: below $FOCALREPRO_RESULTS, else `results/` of the checkout."""
    given = os.environ.get("FOCALREPRO_RESULTS")
    return (_home() / Path(given or "results").expanduser()).resolve() / profile


def _home() -> Path:
    """Below which a relative path lies: the same in notebooks, which run in a folder of theirs."""
    return repo_root() or Path.cwd()


def is_set(name: str) -> bool:
    """Whether a variable of the environment says yes; ValueError for what is neither yes nor no."""
    value = os.environ.get(name, "").lower()
    if value not in YES | NO:
        raise ValueError(f"{name} is {value!r} in the environment; it must be 1 or 0")
    return value in YES


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes to a file beside it, flushes it to the disk and renames it into place; what a link leads to is
    written, and a device or a pipe itself.

    What processes of this machine left that were killed while they wrote this file is removed first.
    Errors: OSError that names the file; ValueError for text with a file's name in it that is not UTF-8.
    """
    try:
        data = content.encode() if isinstance(content, str) else content
    except UnicodeEncodeError as error:
        near = error.object[max(0, error.start - 40) : error.end + 40]
        raise ValueError(f"{path} cannot hold {near!r}, which is not UTF-8; rename that file") from None
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe's link resolves to nothing
        path.write_bytes(data)
        return
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = f".{path.name}.{platform.node()}-"
    for left in path.parent.glob(glob.escape(mine) + "*.partial"):
        if not _is_running(left.name.removeprefix(mine).removesuffix(".partial")):
            left.unlink(missing_ok=True)
    partial = path.with_name(f"{mine}{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # as of a full disk
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def _is_running(process: str) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    return True


def refusal(error: OSError | MemoryError) -> str:
    """What the system refuses (permission, disk, memory) in one line, with the path and the mend."""
    if isinstance(error, MemoryError):
        what = f"{data_root()}: too large for this machine's memory ({str(error) or 'no room for an object'})"
        return f"{what}; take less of it, or end other programs"
    if error.errno is None:  # one of our own, with its mend
        return str(error)
    mend = DISK_FULL if error.errno in FULL else "check the path and its permissions"
    what = f"{error.filename or data_root()}: {error.strerror or error}"
    return what if DISK_FULL in what else f"{what}; {mend}"


def write_json(path: Path, value: dict[str, Any]) -> None:
    """A JSON object with one line per key, atomically; NaN is refused, since JSON has none."""
    entries = ((json.dumps(k), json.dumps(v, allow_nan=False, ensure_ascii=False)) for k, v in value.items())
    write_atomic(path, "{\n" + ",\n".join(f"{k}: {v}" for k, v in entries) + "\n}\n")


@contextmanager
def locked(file: Path, waiting: str = "") -> Iterator[None]:
    """Holds a lock file while the block runs; it is free when this process ends, however that ends.

    waiting: what is said before it waits for another process that holds it. Errors: RuntimeError where one
    does and nothing is to be said.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waiting:
                busy = f"another process writes into {file.parent}; wait for it, or stop it"
                raise RuntimeError(busy) from None
            print(waiting, file=sys.stderr)
            fcntl.flock(held, fcntl.LOCK_EX)
        except OSError as error:  # as some network file systems answer
            what = f"{file.parent}: no file can be locked here ({error.strerror})"
            print(f"{what}, so see to it that no two processes write into it", file=sys.stderr)
        yield


@contextmanager
def new_folder(final: Path, *, replace: bool = True) -> Iterator[Path]:
    """Give a temporary folder beside `final`; it takes that name if the block ends well, and goes if not.

    With `replace`, a folder that already has the name gives way.  Without, the first writer wins: whoever
    loses the race has made the same content and throws it away.  What killed processes left is removed first.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(final.parent)
    temporary, lock = _locked_folder(final.parent)
    try:
        yield temporary
        move_folder(temporary, final, replace=replace)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def move_folder(folder: Path, final: Path, *, replace: bool = True) -> None:
    """Give `folder` the name `final`; a folder cannot be renamed over another, so an old one steps aside."""
    aside = _locked_folder(final.parent, ASIDE) if replace and final.exists() else None
    try:
        if aside:
            os.replace(final, aside[0] / final.name)
        os.rename(folder, final)
    except OSError:
        if replace or not final.exists():
            raise
    finally:
        if aside:
            _clear(aside[0])
            os.close(aside[1])


def _locked_folder(parent: Path, prefix: str = UNFINISHED) -> tuple[Path, int]:
    """A new temporary folder and the open file whose lock ends with this process, however that ends."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            lock = os.open(folder, os.O_RDONLY)
            with suppress(OSError):  # some network file systems lock no folders: then none is taken for dead
                fcntl.flock(lock, fcntl.LOCK_EX)
        except FileNotFoundError:
            continue  # another process took it for abandoned before it was locked
        if folder.exists():
            folder.chmod(0o755)
            return folder, lock
        os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    """Remove the temporary folders that nobody holds any more (a decoded dataset can be many gigabytes)."""
    for folder in [*parent.glob(UNFINISHED + "*"), *parent.glob(ASIDE + "*")]:
        with suppress(OSError):  # held by its owner, or gone already
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _clear(folder)
            finally:
                os.close(lock)


def _clear(folder: Path) -> None:
    """Remove a temporary folder; what was set aside in it goes back where nothing has taken its place."""
    for old in folder.iterdir() if folder.name.startswith(ASIDE) else ():
        if not (final := folder.parent / old.name).exists():
            os.rename(old, final)
    shutil.rmtree(folder, ignore_errors=True)


def new_array(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    """A new .npy file mapped for writing, its room on the disk taken before a byte of it is written.

    A mapped file that runs out of disk ends the process with a bus error instead of an exception.
    Errors: OSError that names the file, its size and the mend.
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    size = path.stat().st_size
    try:
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        elif shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        if error.errno not in FULL:
            raise
        what = f"no room for {size / 1e6:,.0f} MB ({error.strerror}); {DISK_FULL}"
        raise OSError(error.errno, what, str(path)) from error
    return array
