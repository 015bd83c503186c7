"""The run: one training and its evaluation, and the JSON record that is all that remains of it."""

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from focalrepro import hardware
from focalrepro.config import TRAINING_VERSION, RunConfig, from_dict
from focalrepro.cost import step_seconds
from focalrepro.datasets import DetectionData, data_root, load
from focalrepro.evaluation.bootstrap import interval, replicates_of
from focalrepro.evaluation.coco_ap import category_names, summarise
from focalrepro.evaluation.detect import detect, milliseconds_per_image
from focalrepro.evaluation.detections import Detections
from focalrepro.evaluation.diagnostics import calibration, loss_distribution
from focalrepro.evaluation.match_table import match_tables
from focalrepro.training.engines import Engines
from focalrepro.training.loop import TrainResult, config_anchors, train
from focalrepro.training.two_stage import rpn_anchors, train_two_stage

__all__ = ["RunConfig", "from_dict", "run", "run_id"]

REPLICATES = 1000
Report = Callable[[str, int, int], None]


def load_splits(config: RunConfig, progress: bool = False) -> tuple[DetectionData, DetectionData]:
    """The training and the validation split that a config asks for, decoded; kept for the process's next run."""
    return _load_splits(
        data_root(),
        config.dataset,
        config.image_size,
        config.classes,
        config.train_images,
        config.val_images,
        progress,
    )


@lru_cache(maxsize=2)
def _load_splits(
    root: Path, dataset: str, size: int, classes: str, train_images: int, val_images: int, progress: bool
) -> tuple[DetectionData, DetectionData]:
    common = {"classes": classes, "progress": progress, "root": root}
    return (
        load(dataset, "train", size, limit=train_images, **common),
        load(dataset, "val", size, limit=val_images, **common),
    )


def run_id(config: RunConfig) -> str:
    """The id of the run: config, content of the data, and training version."""
    train_data, val_data = load_splits(config)
    return config.run_id(train_data.digest, val_data.digest)


def run(
    config: RunConfig,
    device: str | torch.device = "auto",
    report: Report = lambda phase, done, total: None,
    engines: Engines | None = None,
) -> dict[str, Any]:
    """Trains and evaluates one config; returns its record, ready for JSON.

    report(phase, done, total) is called now and then with phase "train" or "evaluate". Two calls with the same
    config on the same CPU and number of threads give the same numbers. engines: one for all runs of a campaign.
    """
    return run_with_model(config, device, report, engines)[0]


def run_with_model(
    config: RunConfig,
    device: str | torch.device = "auto",
    report: Report = lambda phase, done, total: None,
    engines: Engines | None = None,
) -> tuple[dict[str, Any], TrainResult, Detections]:
    """As `run`, and also returns what a record leaves out: the model and its detections on val."""
    device = hardware.pick_device(device) if isinstance(device, str) else device
    hardware.keep_memory()
    started = time.perf_counter()
    train_data, val_data = load_splits(config)

    def on_step(done: int, total: int) -> None:
        report("train", done, total)

    if config.detector == "faster_rcnn":
        result = train_two_stage(config, train_data, device, on_step)
    else:
        result = train(config, train_data, device, on_step, engines=engines)
    trained = time.perf_counter()
    detections = Detections.empty()
    if result.status == "done":
        detections = detect(
            result.model, config, val_data, device, lambda done, total: report("evaluate", done, total)
        )
    tables = match_tables(val_data.coco, val_data.image_ids, detections)
    coco = summarise(tables, category_names(val_data.coco))
    replicates = replicates_of(tables["all"], REPLICATES)
    low, high = interval(replicates[:, 0], estimate=coco.metrics["AP"])
    finished = time.perf_counter()
    record = {
        "run_id": config.run_id(train_data.digest, val_data.digest),
        "status": result.status,
        "config": config.as_dict(),
        "metrics": {k: _number(v) for k, v in coco.metrics.items()},
        "AP_interval": [_number(max(low, 0.0)), _number(high)],
        "per_class": {name: _number(v) for name, v in coco.per_class.items()},
        "bootstrap": {
            "what": "AP, AP50 in percent over resamples of the val images; seed 0 for every run, so paired",
            "AP": [_number(v, 3) for v in replicates[:, 0]],
            "AP50": [_number(v, 3) for v in replicates[:, 1]],
        },
        "history": {
            k: [v if np.isfinite(v) else None for v in values] for k, values in result.history.items()
        },
        "calibration": calibration(tables["all"]),
        "loss_distribution": loss_distribution(result.model, config, val_data, device)
        if result.status == "done" and config.detector == "retinanet"
        else None,
        "detections": len(detections),
        "anchors": {"per_image": anchors_per_image(config), "positive_per_image": result.positives},
        "seconds": {
            "train": round(result.seconds, 3),
            "evaluate": round(finished - trained, 3),
            "total": round(finished - started, 3),
        },
        "images_per_second": round(result.images_per_second, 2),
        "step_seconds": step_seconds(config, train_data, device),
        "inference_ms": round(milliseconds_per_image(result.model, config, val_data, device), 3),
        "data": {
            "train": {"images": len(train_data), "digest": train_data.digest},
            "val": {"images": len(val_data), "digest": val_data.digest},
        },
        "hardware": hardware.describe(device.type) | {"threads": torch.get_num_threads()},
        "training_version": TRAINING_VERSION,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return record, result, detections


def anchors_per_image(config: RunConfig) -> int:
    """How many anchors the detector scores in one image."""
    anchors = rpn_anchors if config.detector == "faster_rcnn" else config_anchors
    return len(anchors(config).boxes)


def _number(value: float, digits: int = 4) -> float | None:
    """JSON has no NaN: a metric without any object is null."""
    return None if np.isnan(value) else round(float(value), digits)
