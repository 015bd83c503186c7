"""A run by its id, and its model, where `focalrepro run --keep-weights` has kept it beside the record."""

import re
from pathlib import Path

from torch import nn

from focalrepro.evaluation.record import Record, read_record
from focalrepro.files import data_root, results_root
from focalrepro.study.ablations import SEARCH_SEED
from focalrepro.study.store import Store
from focalrepro.study.study import Study
from focalrepro.training.initial import load_model


def find(run: str) -> tuple[Store, Record]:
    """The store and the record of a run: its id, the beginning of one, or a record's path.

    Of stores that have it, one with its weights. Errors: ValueError where no run is meant, or several are;
    FileNotFoundError or RunFileError for a path.
    """
    if run.endswith(".json"):
        path = Path(run)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such record; give a run's id, or the path of its record")
        return Store(path.parent), read_record(path)
    if not re.fullmatch("[0-9a-f]{1,12}", run):
        raise ValueError(f"RUN is {run!r}; it must be a run's id, the beginning of one, or its record's path")
    local, committed = data_root() / "runs", results_root()
    paths = [*local.glob(f"*/{run}*.json"), *committed.glob(f"*/runs/{run}*.json")]
    paths = [path for path in paths if re.fullmatch("[0-9a-f]{12}", path.stem)]  # no file manager's copies
    ids = sorted({path.stem for path in paths})
    if not ids:
        raise ValueError(f"no run's id begins with {run!r}, in {local} or {committed}")
    if len(ids) > 1:
        some = ", ".join(ids[:5]) + " …" * (len(ids) > 5)
        raise ValueError(f"{run!r} begins {len(ids)} ids: {some}; give more of it")
    best = max(paths, key=lambda path: path.with_suffix(".safetensors").is_file())
    return Store(best.parent), read_record(best)


def load(store: Store, record: Record) -> tuple[nn.Module, list[str]]:
    """The trained model of a run, in evaluation on the CPU, and the names of its classes.

    Errors: ValueError where its weights were not kept, with the command that makes them, or are damaged.
    """
    path = store.weights_path(record.run_id)
    if not path.is_file():
        why = "it diverged" if record.diverged else f"make them: {_command(store, record)}"
        raise ValueError(f"{store.path(record.run_id)}: no weights are kept of this run; {why}")
    return load_model(path, record.config)


def _command(store: Store, record: Record) -> str:
    """The command that trains a run and keeps its weights, by the smallest ablation that has it."""
    name = (store.folder.parent if store.folder.name == "runs" else store.folder).name
    try:
        study, wanted = Study(name), []
    except ValueError:  # the folder is no profile's
        return "focalrepro run ABLATION --profile PROFILE --keep-weights"
    for ablation in study.ablations.values():
        rows = ablation.row_configs(study.base, study.rates).values()
        number = record.seed - SEARCH_SEED * ablation.search
        if 0 <= number < SEARCH_SEED and record.row in rows:
            wanted.append((len(rows), f"{ablation.given or ablation.name} --seeds {number + 1}"))
    what = min(wanted)[1] if wanted else "ABLATION"
    return f"focalrepro run {what} --profile {name} --keep-weights"
