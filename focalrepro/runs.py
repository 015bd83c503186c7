"""The run: one training and its evaluation, and the JSON record that is all that remains of it."""

import hashlib
import time
from collections.abc import Callable
from functools import lru_cache, partial
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch

from focalrepro import hardware
from focalrepro.config import TRAINING_VERSION, RunConfig, from_dict
from focalrepro.data import DetectionData, data_root, load
from focalrepro.data.prepare import draw_if_absent
from focalrepro.data.registry import SPLITS, written
from focalrepro.detector.boxes import share_on
from focalrepro.evaluation.detect import detect, milliseconds_per_image
from focalrepro.evaluation.detections import Detections, NotFiniteError
from focalrepro.evaluation.diagnostics import loss_distribution
from focalrepro.evaluation.measures import measures
from focalrepro.evaluation.on_objects import on_objects
from focalrepro.evaluation.record import Record, content_digest
from focalrepro.files import repo_root
from focalrepro.training.batches import config_anchors
from focalrepro.training.engines import Engines
from focalrepro.training.loop import Checkpoint, TrainResult, step_seconds, train
from focalrepro.training.ranks import ALONE, Ranks
from focalrepro.training.two_stage import rpn_anchors

__all__ = ["RunConfig", "from_dict", "run"]

Report = Callable[[str, int, int], None]
# The fields that say which data a run reads, and how: configs that share them share both splits.
DATA = ("dataset", "image_size", "resize", "classes", "train_images", "val_images")
data_of = attrgetter(*DATA)


def load_splits(config: RunConfig) -> tuple[DetectionData, DetectionData]:
    """The training and the validation split that a config asks for, decoded; kept for the next run, until the
    dataset is registered again or its annotations change."""
    root = data_root()
    draw_if_absent(config.dataset, root)  # so that a notebook runs on a fresh clone
    return _load_splits(root, data_of(config), written(config.dataset, root))


@lru_cache(maxsize=2)
def _load_splits(root: Path, fields: tuple, _: tuple[int, ...]) -> tuple[DetectionData, DetectionData]:
    dataset, size, resize, classes, *limits = fields
    more = {"classes": classes, "resize": resize, "root": root}
    return tuple(load(dataset, s, size, limit=n, **more) for s, n in zip(SPLITS, limits, strict=True))


def run(
    config: RunConfig, device: str | torch.device = "auto", report: Report = lambda phase, done, total: None
) -> Record:
    """Trains and evaluates one config; returns its record, whose `as_json()` is what a store keeps.

    report(phase, done, total) is called now and then, in phase "train" or "evaluate". Two calls with the
    same config on the same CPU and number of threads give the same numbers.
    """
    return run_with_model(config, device, report)[0]


def run_with_model(
    config: RunConfig,
    device: str | torch.device = "auto",
    report: Report = lambda phase, done, total: None,
    engines: Engines | None = None,
    checkpoint: Checkpoint | None = None,
    ranks: Ranks = ALONE,
) -> tuple[Record, TrainResult, Detections]:
    """As `run`, and also returns what a record leaves out: the model and its detections on val.

    engines, checkpoint, ranks: as `train` has them; of the ranks this process, their first, evaluates.
    """
    device = hardware.use_device(str(device))
    hardware.keep_memory()
    started = time.perf_counter()
    train_data, val_data = load_splits(config)
    on_step = partial(report, "train")
    result = train(config, train_data, device, on_step, engines, checkpoint, ranks)
    trained = time.perf_counter()
    detections, merged = Detections.empty(), Detections.empty()
    status = result.status
    if status == "done":
        try:
            detections, merged = detect(result.model, config, val_data, device, partial(report, "evaluate"))
        except NotFiniteError:  # of weights that are finite, and so large that nothing else is
            status = "diverged"
    done = status == "done"
    found = measures(val_data, detections, merged)
    evaluated = time.perf_counter()
    one_stage = done and config.detector == "retinanet"
    values = {
        "run_id": config.run_id(train_data.digest, val_data.digest),
        "status": status,
        "config": config.as_dict(),
        "protocol": protocol_digest(),
        **found,
        "history": {k: [v if np.isfinite(v) else None for v in of] for k, of in result.history.items()},
        "loss_distribution": loss_distribution(result.model, config, val_data, device) if one_stage else None,
        "on_objects": on_objects(result.model, config, train_data, device) if one_stage else None,
        "anchors": {
            "per_image": anchors_per_image(config, train_data),
            "positive_per_image": result.positives,
        },
        "images_per_second": round(result.images_per_second, 2),
        "step_seconds": step_seconds(config, train_data, device),
        "inference_ms": round(milliseconds_per_image({"": (result.model, config, val_data)}, device)[""], 3),
        "data": {d.split: {"images": len(d), "digest": d.digest} for d in (train_data, val_data)},
        "hardware": hardware.describe(str(device))
        | {"threads": torch.get_num_threads()}
        | ({"processes": ranks.count} if ranks.count > 1 else {}),
        "training_version": TRAINING_VERSION,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    finished = time.perf_counter()
    values["seconds"] = {
        "train": round(result.seconds, 3),
        "evaluate": round(evaluated - trained, 3),
        "diagnose": round(finished - evaluated, 3),
        "total": round(finished - started + result.resumed, 3),
    }
    values["digest"] = content_digest(values)
    return Record.model_validate(values), result, detections


def protocol_digest() -> str:
    """The first 12 hex digits of the sha256 of results/PROTOCOL.md; "" where there is none."""
    path = (repo_root() or Path.cwd()) / "results" / "PROTOCOL.md"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else ""


def anchors_per_image(config: RunConfig, data: DetectionData) -> int:
    """How many anchors the detector scores in one image; where it is letterboxed, those not on padding."""
    if config.detector == "faster_rcnn":
        return len(rpn_anchors(config).boxes)
    pictures = None if data.pictures is None else torch.from_numpy(data.pictures)
    return round(float(share_on(config_anchors(config).boxes, pictures).sum()))
