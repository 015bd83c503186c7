"""Writing so that nothing half-written can be taken for done: a temporary name first, then one rename."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from focalrepro.files import write_atomic

PARTIAL = ".partial-"
_STALE_SECONDS = 24 * 3600


def write_json(path: Path, value: object, indent: int | None = None) -> None:
    """Write `value` as JSON to `path` in one step: readers see the old file or the new one.

    In the layout of a dataset's files, whose bytes must stay; records have theirs from `focalrepro.files`.
    """
    write_atomic(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


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
