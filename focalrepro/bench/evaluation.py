"""Evaluation: decoding and NMS against torchvision, COCO's metrics against pycocotools, the bootstrap."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from focalrepro.bench.measure import Finding, Sizes, curve, row, scaled, seconds, spread, timed
from focalrepro.bench.training import torchvision_twin
from focalrepro.config import RunConfig
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.evaluation.coco_ap import evaluate_coco, replicates_of
from focalrepro.evaluation.detect import select
from focalrepro.evaluation.detections import Detections
from focalrepro.evaluation.match_table import match_table
from focalrepro.training.batches import config_anchors

CLASSES, OBJECTS = 80, 9  # objects: of an image, on average as the subset of COCO has
CONFIG = RunConfig(backbone="resnet18", weights="none", frozen="nothing")
CPU = torch.device("cpu")
Case = tuple[dict, np.ndarray, Detections]  # as `evaluate_coco` takes them


def made_up_case(images: int, per_image: int = 100) -> Case:
    """COCO-format truth, and detections of every object, not quite in place, among random boxes."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(images), rng.poisson(OBJECTS, images))
    size = rng.uniform(10, 200, (len(owner), 2))
    corner = rng.uniform(0, [640, 480] - size)
    label = rng.integers(CLASSES, size=len(owner))
    objects = zip(owner.tolist(), label.tolist(), corner.tolist(), size.tolist(), strict=True)
    truth = {
        "info": {},
        "images": [{"id": i, "width": 640, "height": 480} for i in range(images)],
        "annotations": [
            {"id": i, "image_id": n, "category_id": k + 1, "bbox": c + s, "area": s[0] * s[1], "iscrowd": 0}
            for i, (n, k, c, s) in enumerate(objects, start=1)
        ],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(CLASSES)],
    }
    other = np.repeat(np.arange(images), per_image - np.bincount(owner, minlength=images))
    corner = np.concatenate([corner + rng.normal(0, 6, corner.shape), rng.uniform(0, 400, (len(other), 2))])
    size = np.concatenate([size + rng.normal(0, 6, size.shape), rng.uniform(10, 200, (len(other), 2))])
    detections = Detections(
        np.concatenate([owner, other]),
        np.concatenate([corner, corner + size.clip(1)], axis=1).astype(np.float32),
        np.concatenate([rng.beta(2, 3, len(owner)), rng.beta(1, 5, len(other))]).astype(np.float32),
        np.concatenate([label, rng.integers(CLASSES, size=len(other))]),
    )
    return truth, np.arange(images), detections


def bench_evaluation(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """The outputs of a batch on the device, AP and its bootstrap on the CPU, and an evaluation as a whole."""
    (found,) = bench_selection(device, sizes)
    yield found
    ap, replicates = coco_metrics(sizes)
    yield from (ap, whole_evaluation(found, ap, sizes), replicates)


def bench_selection(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Top-k per level, decoding and NMS of a batch of outputs; no score threshold, as AP is computed."""
    count, grid = sizes.decoded, config_anchors(CONFIG)
    grid = replace(grid, boxes=grid.boxes.to(device))
    torch.manual_seed(0)
    logits = torch.randn(count, len(grid.boxes), CLASSES, device=device) * 0.9 - 6.5
    offsets = torch.randn(count, len(grid.boxes), 4, device=device) * 0.2
    twin = torchvision_twin(RetinaNet(CONFIG, CLASSES), CONFIG, CLASSES)

    def ours() -> list[Tensor]:
        return [select(logits[i], offsets[i], grid, CONFIG)[1] for i in range(count)]

    def theirs() -> list[Tensor]:
        by_level = [list(x.split(grid.per_level, 1)) for x in (logits, offsets)]
        outputs = dict(zip(("cls_logits", "bbox_regression"), by_level, strict=True))
        anchors = [list(grid.boxes.split(grid.per_level))] * count
        found = twin.postprocess_detections(outputs, anchors, [(CONFIG.image_size,) * 2] * count)
        return [each["scores"] for each in found]

    pairs = zip(ours(), theirs(), strict=True)
    equal = sum(len(a) == len(b) and torch.allclose(a, b, 1e-5, 1e-6) for a, b in pairs)
    sides = timed((ours, theirs), device, sizes)
    what = f"decoding and NMS of {count} images"
    note = f"no score threshold; equal scores in {equal} of {count} images"
    yield row(what, "torchvision's post-processing", "s", *sides, note=note)


def pycocotools_ap(truth: dict, ids: np.ndarray, detections: Detections) -> float:
    """AP in percent as pycocotools gives it, from the same detections."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        judged = COCOeval(coco, coco.loadRes(detections.to_coco(ids)), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return 100 * float(judged.stats[0])


def bootstrap(case: Case, replicates: int) -> np.ndarray:
    """AP of so many resamples of a case's images, from one match table."""
    return replicates_of(match_table(*case), replicates)


def coco_metrics(sizes: Sizes) -> tuple[Finding, Finding]:
    """COCO's metrics, and replicates of AP against an evaluation for each; RuntimeError where AP differs.

    pycocotools is timed once, after one call to warm up: it takes most of a minute.
    """
    case, results = made_up_case(sizes.images), []
    theirs = spread([seconds(lambda: results.append(pycocotools_ap(*case)), CPU)])
    calls = partial(evaluate_coco, *case), partial(bootstrap, case, sizes.replicates)
    if not abs((ap := calls[0]().metrics["AP"]) - results[0]) < 1e-9:
        raise RuntimeError(f"AP {ap} is not pycocotools' {results[0]}")
    ours, boot = timed(calls, CPU, sizes)
    what = f"COCO's metrics of {sizes.images:,} images, {len(case[2]):,} detections"
    replicates = f"{sizes.replicates:,} bootstrap replicates of AP"
    against = f"a pycocotools evaluation for each ({sizes.replicates:,} × one measured)"
    return (
        row(what, "pycocotools", "s", ours, theirs, note="same AP"),
        row(replicates, against, "s", boot, scaled(sizes.replicates, theirs), extrapolated=True),
    )


def whole_evaluation(found: Finding, ap: Finding, sizes: Sizes) -> Finding:
    """Decoding, NMS and COCO's metrics of all images, from the two rows that measured the parts."""
    count = sizes.images / sizes.decoded
    sides = [scaled(count, found[1][side], ap[1][side]) for side in ("ours", "theirs")]
    what = f"evaluating {sizes.images:,} images: decoding, NMS and COCO's metrics"
    note = f"the two rows before, added: {count:.0f} batches of {sizes.decoded} images"
    return row(what, "torchvision's post-processing and pycocotools", "s", *sides, note=note)


def evaluation_curves(sizes: Sizes) -> Iterator[Finding]:
    """COCO's metrics, and bootstrap replicates of AP, against the number of validation images."""
    cases, label = {n: made_up_case(n) for n in sizes.counts}, "validation images, 100 detections each"
    metrics = {n: partial(partial, evaluate_coco, *case) for n, case in cases.items()}
    replicates = {n: partial(partial, bootstrap, case, sizes.replicates) for n, case in cases.items()}
    yield curve("COCO's metrics", label, metrics, CPU, sizes)
    yield curve(f"{sizes.replicates:,} replicates of AP", label, replicates, CPU, sizes)
