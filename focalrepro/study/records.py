"""Where runs are kept: the local store that a reproduction fills, and the committed results beside it."""

import fcntl
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from focalrepro.config import from_dict
from focalrepro.files import data_root, results_root, write_atomic, write_json


def is_number(value: object) -> bool:
    """Whether a value of a JSON file is a finite number; Python's reader also lets true, NaN and Infinity in."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(v is None or is_number(v) for v in value)


# What a field must be, in words and as a test of its value.
Kind = tuple[str, Callable[[Any], bool]]
TEXT: Kind = ("a text", lambda v: isinstance(v, str) and bool(v))
OBJECT: Kind = ("an object", lambda v: isinstance(v, dict))
NUMBER: Kind = ("a number", is_number)
NUMBER_OR_NULL: Kind = ("a number or null", lambda v: v is None or is_number(v))
NUMBERS: Kind = ("a list, not empty, of numbers or null", _numbers)

# What tables and pages read of every record; an object comes before what is in it.
REQUIRED: dict[str, Kind] = {
    "run_id": TEXT,
    "status": ("'done' or 'diverged'", lambda v: v in ("done", "diverged")),
    "config": OBJECT,
    "metrics": OBJECT,
    "metrics.AP": NUMBER_OR_NULL,
    "bootstrap": OBJECT,
    "bootstrap.AP": NUMBERS,
    "seconds": OBJECT,
    "seconds.total": NUMBER,
    "hardware": OBJECT,
    "hardware.device": TEXT,
    "hardware.cpu": TEXT,  # also beside a GPU: `hardware.describe` always writes it, and tables read it first
}
# What a record may lack, as those from before the field existed do, but not have wrong.
OPTIONAL: dict[str, Kind] = {
    **{f"metrics.{name}": NUMBER_OR_NULL for name in ("AP50", "AP75", "APs", "APm", "APl")},
    "seconds.train": NUMBER,
    "images_per_second": NUMBER,
    "inference_ms": NUMBER_OR_NULL,
    "training_version": NUMBER,
    "hardware.gpu": TEXT,
}


class RunFileError(ValueError):
    """A file that should hold a run's record does not."""


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
    fault = field_fault(record, REQUIRED) or field_fault(record, OPTIONAL, may_lack=True)
    if fault:
        raise RunFileError(f"{path}: {fault}; {mend}")
    if record["run_id"] != path.stem:
        raise RunFileError(
            f"{path}: run_id is {record['run_id']!r}, the file name says {path.stem!r}; {mend}"
        )
    try:
        from_dict(record["config"])
    except (TypeError, ValueError) as error:
        raise RunFileError(f"{path}: config: {error}; {mend}") from error
    return record


def field_fault(record: Any, kinds: dict[str, Kind], may_lack: bool = False) -> str:
    """What is wrong with the first field that is missing or of the wrong kind; "" where all are right.

    A field is named by its keys from the outside in, with dots between them. may_lack: it may be missing.
    """
    for name, (wanted, is_right) in kinds.items():
        value = record
        for key in name.split("."):
            if not isinstance(value, dict) or key not in value:
                if may_lack:
                    break
                return f"the field {name!r} is missing"
            value = value[key]
        else:
            if not is_right(value):
                return f"{name} is {_short(value)}, not {wanted}"
    return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
