"""Where records lie: the local store that runs fill, and the committed results beside it."""

import re
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from focalrepro.evaluation.record import Record, read_record
from focalrepro.files import data_root, locked, results_root, write_atomic, write_json


class Store:
    """A folder with one JSON per run, named by its id. A run is done when its whole record is there.

    weights: the trained models are kept beside the records, and asked for.
    """

    def __init__(self, folder: Path, weights: bool = False) -> None:
        self.folder, self.weights = Path(folder), weights

    @classmethod
    def local(cls, profile: str, weights: bool = False) -> "Store":
        return cls(data_root() / "runs" / profile, weights)

    @classmethod
    def committed(cls, profile: str) -> "Store":
        """The runs of a profile's results folder."""
        return cls(results_root(profile) / "runs")

    def path(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.json"

    def get(self, run_id: str) -> Record | None:
        """The record of a finished (done or diverged) run, or None.

        Errors: RunFileError that names a file which is there but no valid record.
        """
        path = self.path(run_id)
        return read_record(path) if path.exists() else None

    def put(self, record: Record, **more: Any) -> None:
        """Keeps a record, with fields besides; it is there whole or not at all, also after a power cut."""
        values = {k: v for k, v in record.as_json().items() if k != "reused"}
        write_json(self.path(record.run_id), values | more)
        self.error_path(record.run_id).unlink(missing_ok=True)

    def weights_path(self, run_id: str) -> Path:
        """Where the weights of a run lie, if they are kept."""
        return self.folder / f"{run_id}.safetensors"

    def checkpoint_path(self, run_id: str) -> Path:
        """Where a run's training leaves where it stands, until its record is there."""
        return self.folder / "checkpoints" / f"{run_id}.pt"

    def lacks(self, run_id: str) -> bool:
        """Whether a run is to be trained, for its record or for its weights; a diverged one has none."""
        record = self.get(run_id)
        kept = not self.weights or self.weights_path(run_id).is_file()
        return record is None or not (kept or record.diverged)

    def error_path(self, run_id: str) -> Path:
        return self.folder / "errors" / f"{run_id}.txt"

    def put_error(self, run_id: str, text: str) -> None:
        """Keeps the traceback of a run that failed, where there is room for it; it will be tried again."""
        with suppress(OSError):  # as of a full disk: the run's own error is told, not this one
            write_atomic(self.error_path(run_id), text)

    def records(self) -> list[Record]:
        """All records, by run id; files of other names are named on stderr and left out.

        Errors: RunFileError names a file that is damaged: a table without it would say something else.
        """
        strays = self.strays()
        for path in strays:
            print(f"{path}: no run has such a name; left out", file=sys.stderr)
        return [read_record(path) for path in sorted({*self.folder.glob("*.json")}.difference(strays))]

    def strays(self) -> list[Path]:
        """Files that look like records by their ending alone, as a file manager's copies do."""
        paths = sorted(self.folder.glob("*.json"))
        return [path for path in paths if not re.fullmatch("[0-9a-f]{12}", path.stem)]

    def lock(self) -> AbstractContextManager[None]:
        """One process at a time trains into a store; a second one is told so."""
        return locked(self.folder / ".lock")
