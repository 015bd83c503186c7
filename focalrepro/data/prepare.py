"""`focalrepro data`: makes a dataset ready; a reproduction calls `ensure` for the one that it needs."""

import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from focalrepro.data import coco
from focalrepro.data.coco import SUBSET, WHOLE
from focalrepro.data.own import register_own
from focalrepro.data.registry import describe, prepared, weights_path
from focalrepro.data.split import DatasetError
from focalrepro.data.synthetic import JUDGE, RARE, RARE_SIZES, generate
from focalrepro.data.synthetic import NAME as EMBEDDED
from focalrepro.data.weights import BACKBONE, ONNX_BYTES, WEIGHTS, fetch_weights, given_weights
from focalrepro.files import data_root, is_set, locked

DRAWN = (EMBEDDED, *RARE)
MEGABYTES = {"images": 1400, "annotations": 253, "weights": ONNX_BYTES // 10**6}
MEGABYTES |= {archive.name: archive.size // 10**6 for archive in coco.ARCHIVES}


def ensure(dataset: str) -> None:
    """Makes an embedded dataset, coco256 or coco ready; DatasetError says how to get any other."""
    if dataset in (*DRAWN, SUBSET, WHOLE):
        _get(dataset)
    describe(dataset)


def _get(dataset: str, source: Path | None = None, weights: Path | None = None) -> Path:
    """Draws it, registers a copy of it, or fetches what is missing after asking; weights: a file to take."""
    root = data_root()
    if source and dataset in DRAWN:
        raise DatasetError(f"{dataset!r} is drawn on this machine; leave out --from {source}")
    if source:
        return coco.import_copy(dataset, source, root, weights)
    files = {} if weights is None else given_weights(weights)  # looked at before the long part
    fetched = {WHOLE: [archive.name for archive in coco.ARCHIVES], SUBSET: ["images", "annotations"]}
    parts = [] if dataset in prepared(root) else fetched.get(dataset, [])
    if lacks_weights := dataset == SUBSET and not files and not _has_weights(SUBSET):
        parts.append("weights")
    what = f"{dataset}: its archives" if dataset == WHOLE else f"{dataset}: its"
    agree(what, parts, f"give a copy: focalrepro data {dataset} --from PATH")
    if lacks_weights:
        _weights(root)  # first, since it fails sooner
        files = {BACKBONE: f"../weights/{WEIGHTS}"}
    makes = {WHOLE: coco.download_coco, SUBSET: coco.download_coco256}
    absent = dataset not in prepared(root)
    with _alone(dataset, root) if absent else nullcontext():
        folder = makes[dataset](root) if dataset in makes else generate(root, dataset)
    if files:
        describe(dataset, root).model_copy(update={"weights": files}).write(folder)
    return folder


def _alone(dataset: str, root: Path) -> AbstractContextManager[None]:
    """While it is held no other process makes the dataset ready; those that are drawn share scenes."""
    name, does = (EMBEDDED, "draws") if dataset in DRAWN else (dataset, "fetches")
    return locked(root / f".{name}.lock", f"another process {does} {dataset}: waiting for it")


def draw_if_absent(dataset: str, root: Path) -> None:
    """Makes an embedded dataset that is not there yet: seconds, and no network. One of other sizes stays, and
    a dataset that shares its scenes has its sizes."""
    if dataset in DRAWN and dataset not in prepared(root):
        with _alone(dataset, root):
            if dataset not in (there := prepared(root)):
                judge = describe(JUDGE, root).parameters if dataset in RARE and JUDGE in there else {}
                generate(root, dataset, **{key: judge[key] for key in (*RARE_SIZES, "seed") if key in judge})


def _has_weights(dataset: str) -> bool:
    with suppress(DatasetError):
        return weights_path(dataset, BACKBONE).is_file()
    return False


def ensure_weights(dataset: str, backbone: str) -> None:
    """The weights that a dataset's frozen backbone begins with, fetched where nobody has given some."""
    fetched = data_root() / "weights" / WEIGHTS
    given = data_root() / dataset / describe(dataset).weights.get(BACKBONE, fetched)
    if backbone == BACKBONE and given.resolve() == fetched.resolve() and not _has_weights(dataset):
        get_weights()  # what was given and is gone is not replaced: `weights_path` says so


def get_weights() -> Path:
    """The backbone's weights for data that brings none, fetched once, after asking."""
    path = data_root() / "weights" / WEIGHTS
    if not path.is_file():
        agree(f"{BACKBONE}: its", ["weights"], "give their file with --weights FILE")
        _weights(data_root())
    return path


def _weights(root: Path) -> None:
    """Fetches the backbone's weights, unless another process does so just now: then it waits for them."""
    with locked(root / ".weights.lock", "another process fetches the backbone's weights: waiting for it"):
        if not (root / "weights" / WEIGHTS).is_file():
            fetch_weights(root / "weights")


def agree(what: str, parts: list[str], instead: str) -> None:
    """Asks before a download of more than 100 MB, unless YES=1.  DatasetError where nobody says yes."""
    megabytes = sum(MEGABYTES[part] for part in parts)
    if megabytes <= 100 or is_set("YES"):
        return
    question = f"{what} {' and '.join(parts)} are {megabytes:,} MB over the network"
    mend = f"set YES=1 to fetch them, or {instead}"
    if sys.stdin is None or not sys.stdin.isatty():
        raise DatasetError(f"{question}, and nobody is here to be asked; {mend}")
    if not answer(f"{question}. Fetch them? [y/N] ").startswith("y"):
        raise DatasetError(f"{question}: not fetched; {mend}")


def answer(question: str) -> str:
    """What somebody says, in small letters; no, where the terminal's input ends (Ctrl-D)."""
    try:
        return input(question).strip().lower()
    except EOFError:
        print()
        return "no"


def prepare_dataset(
    dataset: str, source: Path | None = None, weights: Path | None = None, name: str = "", *splits: Any
) -> int:
    """Generates, imports, downloads or registers; prints where the dataset lies. Returns the exit status.

    splits: annotations and images of both splits, to register, as `register_own` has them. weights: a file
    for the backbone, or the backbone's name, which fetches it from the model zoo.
    """
    if dataset == "list":
        print("\n".join(prepared()) or f"no dataset is prepared in {data_root()}")
        return 0
    own = dataset == "register"
    if own and not (name and splits[0]):
        raise DatasetError("register also needs --name and --train-annotations")
    if own and source:
        raise DatasetError(f"--from {source} is of coco and coco256; leave it out to register your own")
    if not own and (name or any(splits)):
        what = "--name, --train-… and --val-… belong to register"
        raise DatasetError(f"{what}, not to {dataset!r}; leave them out")
    if weights == Path(BACKBONE) and not weights.exists():
        weights = get_weights()
    print(f"ready: {register_own(name, *splits, weights) if own else _get(dataset, source, weights)}")
    return 0
