"""Where runs are kept: the local store that a reproduction fills, and the committed results beside it."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from focalrepro.config import from_dict
from focalrepro.datasets import data_root
from focalrepro.datasets.registry import repo_root
from focalrepro.files import write_atomic, write_json

REQUIRED = ("run_id", "status", "config", "metrics", "seconds", "hardware")


class RunFileError(ValueError):
    """A file that should hold a run's record does not."""


def results_root(profile: str) -> Path:
    """The committed results of a profile: $FOCALREPRO_RESULTS/<profile>, else results/<profile>/ in the checkout."""
    given = os.environ.get("FOCALREPRO_RESULTS")
    return (Path(given).resolve() if given else (repo_root() or Path.cwd()) / "results") / profile


class Store:
    """A folder with one JSON per run, named by its id. A run is done when its whole record is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    @classmethod
    def local(cls, profile: str, dataset: str = "") -> "Store":
        """The local store of a profile (and of a dataset other than the profile's own)."""
        return cls(data_root() / "runs" / (f"{profile}@{dataset}" if dataset else profile))

    @classmethod
    def committed(cls, profile: str) -> "Store":
        return cls(results_root(profile) / "runs")

    def path(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.json"

    def get(self, run_id: str) -> dict[str, Any] | None:
        """The record of a finished (done or diverged) run, or None.

        Errors: RunFileError that names a file which is there but no valid record.
        """
        path = self.path(run_id)
        return read_record(path) if path.exists() else None

    def put(self, record: dict[str, Any]) -> None:
        """Keeps a record; it is there whole or not at all, also after a power cut."""
        write_json(self.path(record["run_id"]), record)
        self.error_path(record["run_id"]).unlink(missing_ok=True)

    def error_path(self, run_id: str) -> Path:
        return self.folder / "errors" / f"{run_id}.txt"

    def put_error(self, run_id: str, text: str) -> None:
        """Keeps the traceback of a run that failed; it will be tried again."""
        write_atomic(self.error_path(run_id), text)

    def records(self) -> list[dict[str, Any]]:
        """All records, by run id."""
        return [read_record(path) for path in sorted(self.folder.glob("*.json"))]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One process at a time trains into a store; a second one is told so instead of doing it all twice."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(
                    f"another process is training into {self.folder}; wait for it, or stop it and start again"
                ) from None
            yield


def read_record(path: Path) -> dict[str, Any]:
    """A run's record; RunFileError names the file, the field and the mend."""
    mend = "delete the file and its run is made again"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFileError(f"{path}: not readable as JSON ({error}); {mend}") from error
    missing = [key for key in REQUIRED if not isinstance(record, dict) or key not in record]
    if missing:
        raise RunFileError(f"{path}: the field {missing[0]!r} is missing; {mend}")
    if record["run_id"] != path.stem:
        raise RunFileError(
            f"{path}: run_id is {record['run_id']!r}, the file name says {path.stem!r}; {mend}"
        )
    if record["status"] not in ("done", "diverged"):
        raise RunFileError(f"{path}: status is {record['status']!r}, not 'done' or 'diverged'; {mend}")
    try:
        from_dict(record["config"])
    except (TypeError, ValueError) as error:
        raise RunFileError(f"{path}: config: {error}; {mend}") from error
    return record
