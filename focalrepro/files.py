"""Where files lie, and writing them so that a crash at any moment leaves the old one or the new one, never half."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial-"
_STALE_SECONDS = 24 * 3600


def repo_root() -> Path | None:
    """The checkout that this package lies in, or None if it is installed elsewhere."""
    parent = Path(__file__).resolve().parents[1]
    return parent if (parent / "pyproject.toml").is_file() else None


def data_root() -> Path:
    """Where datasets lie: $FOCALREPRO_DATA, else `data/` of the checkout, else `data/` of the current folder."""
    given = os.environ.get("FOCALREPRO_DATA")
    if given:
        return Path(given).expanduser().resolve()
    return (repo_root() or Path.cwd()) / "data"


def results_root(profile: str) -> Path:
    """The committed results of a profile: $FOCALREPRO_RESULTS/<profile>, else results/<profile>/ in the checkout."""
    given = os.environ.get("FOCALREPRO_RESULTS")
    return (Path(given).resolve() if given else (repo_root() or Path.cwd()) / "results") / profile


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes to a file beside it, flushes it to the disk and renames it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    data = content.encode() if isinstance(content, str) else content
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """A JSON object with one line per key, atomically; NaN is refused, since JSON has none."""
    lines = [
        f"{json.dumps(k)}: {json.dumps(v, allow_nan=False, ensure_ascii=False)}" for k, v in value.items()
    ]
    write_atomic(path, "{\n" + ",\n".join(lines) + "\n}\n")


@contextmanager
def new_folder(final: Path, *, replace: bool = True) -> Iterator[Path]:
    """Give a temporary folder beside `final`; it takes that name if the block ends well, and goes if not.

    With `replace`, a folder that already has the name gives way.  Without, the first writer wins: whoever
    loses the race has made the same content and throws it away.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(final.parent)
    temporary = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=final.parent))
    os.chmod(temporary, 0o755)
    try:
        yield temporary
        move_folder(temporary, final, replace=replace)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def move_folder(folder: Path, final: Path, *, replace: bool = True) -> None:
    """Give `folder` the name `final`.  A non-empty folder cannot be renamed over, so an old one steps aside."""
    old = None
    if final.exists() and replace:
        old = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=final.parent)) / "old"
        os.replace(final, old)
    try:
        os.rename(folder, final)
    except OSError:
        if old is not None:
            os.replace(old, final)
        if replace or not final.exists():
            raise
    finally:
        if old is not None:
            shutil.rmtree(old.parent, ignore_errors=True)


def _remove_stale(parent: Path) -> None:
    """Remove what killed processes left here more than a day ago (a decoded dataset can be many gigabytes)."""
    for path in parent.glob(PARTIAL + "*"):
        try:
            if path.is_dir() and time.time() - path.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        except FileNotFoundError:
            continue  # its owner was quicker
