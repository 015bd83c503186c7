"""Evaluation: decoding and NMS against torchvision's post-processing, AP against pycocotools, the bootstrap."""

import contextlib
import io

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from focalrepro.bench.measure import Row, Spread, in_turn, seconds
from focalrepro.bench.twin import torchvision_twin
from focalrepro.config import RunConfig
from focalrepro.detector.anchors import AnchorGrid
from focalrepro.evaluation.bootstrap import bootstrap_weights, weighted_ap
from focalrepro.evaluation.coco_ap import evaluate_coco
from focalrepro.evaluation.detect import select
from focalrepro.evaluation.detections import Detections
from focalrepro.evaluation.match_table import match_table
from focalrepro.training.loop import config_anchors

IMAGES, BATCH, CLASSES, OBJECTS = 2_939, 16, 80, 9
CONFIG = RunConfig(backbone="resnet18", weights="none", frozen="nothing")


def made_up_truth(images: int, seed: int = 0) -> dict:
    """COCO-format ground truth with as many images, objects and classes as the subset of COCO has."""
    rng = np.random.default_rng(seed)
    annotations = []
    for image in range(images):
        for _ in range(rng.poisson(OBJECTS)):
            width, height = rng.uniform(10, 200, 2)
            x, y = rng.uniform(0, 640 - width), rng.uniform(0, 480 - height)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(rng.integers(1, CLASSES + 1)),
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    return {
        "info": {},
        "images": [{"id": i, "width": 640, "height": 480} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": str(k)} for k in range(CLASSES)],
    }


def made_up_detections(truth: dict, per_image: int = 100, seed: int = 1) -> Detections:
    """Every object found, not quite in place, among random boxes: 100 an image in all."""
    rng = np.random.default_rng(seed)
    rows: list[tuple] = []
    for a in truth["annotations"]:
        x, y, w, h = np.array(a["bbox"]) + rng.normal(0, 6, 4)
        rows.append((a["image_id"], x, y, x + max(w, 1), y + max(h, 1), rng.beta(2, 3), a["category_id"] - 1))
    counts = np.bincount([r[0] for r in rows], minlength=len(truth["images"]))
    for image, count in enumerate(counts):
        for _ in range(max(0, per_image - count)):
            x, y, w, h = *rng.uniform(0, 400, 2), *rng.uniform(10, 200, 2)
            rows.append((image, x, y, x + w, y + h, rng.beta(1, 5), rng.integers(CLASSES)))
    table = np.array(rows)
    return Detections(
        table[:, 0].astype(np.int64),
        table[:, 1:5].astype(np.float32),
        table[:, 5].astype(np.float32),
        table[:, 6].astype(np.int64),
    )


def made_up_outputs(device: torch.device) -> tuple[Tensor, Tensor, AnchorGrid]:
    """Logits and offsets of a batch, with some hundreds of scores above the threshold in each image."""
    grid = config_anchors(CONFIG)
    grid = AnchorGrid(grid.boxes.to(device), grid.per_level, grid.levels, grid.shapes)
    torch.manual_seed(0)
    logits = torch.randn(BATCH, len(grid.boxes), CLASSES, device=device) * 0.9 - 6.5
    return logits, torch.randn(BATCH, len(grid.boxes), 4, device=device) * 0.2, grid


def bench_postprocessing(device: torch.device, repeats: int = 3) -> Row:
    """Threshold, top-k per level, decoding and NMS of one batch of outputs."""
    logits, offsets, grid = made_up_outputs(device)
    twin = torchvision_twin(CONFIG, CLASSES)
    sizes = [(CONFIG.image_size, CONFIG.image_size)] * BATCH

    def ours() -> list[Tensor]:
        return [select(logits[i], offsets[i], grid, CONFIG)[1] for i in range(BATCH)]

    def theirs() -> list[Tensor]:
        outputs = {
            "cls_logits": list(logits.split(grid.per_level, 1)),
            "bbox_regression": list(offsets.split(grid.per_level, 1)),
        }
        anchors = [list(grid.boxes.split(grid.per_level))] * BATCH
        return [d["scores"] for d in twin.postprocess_detections(outputs, anchors, sizes)]

    for mine, other in zip(ours(), theirs(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
    a, b = in_turn(ours, theirs, device, repeats)
    return _row(
        f"decoding and NMS of {BATCH} images", "torchvision's post-processing", a, b, 3.0, "equal scores"
    )


def pycocotools_ap(truth: dict, detections: Detections, ids: np.ndarray) -> float:
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


def bench_ap(repeats: int = 3) -> tuple[Row, Row]:
    """COCO's AP of 2,939 images, and 1,000 bootstrap replicates of it against one evaluation for each.

    pycocotools is timed once, between our repeats: it takes most of a minute.
    """
    cpu = torch.device("cpu")
    truth = made_up_truth(IMAGES)
    detections, ids = made_up_detections(truth), np.arange(IMAGES)
    result = {}

    def ours() -> None:
        result["ours"] = evaluate_coco(truth, ids, detections).metrics["AP"]

    def theirs() -> None:
        result["theirs"] = pycocotools_ap(truth, detections, ids)

    times = [seconds(ours, cpu) for _ in range(repeats - 1)]
    b = Spread.of([seconds(theirs, cpu)])
    a = Spread.of([*times, seconds(ours, cpu)])
    apart = abs(result["ours"] - result["theirs"])
    if apart > 1e-9:
        raise RuntimeError(f"AP {result['ours']} is not pycocotools' {result['theirs']}")
    ap = _row(
        f"COCO's metrics of {IMAGES:,} images, {len(detections):,} detections",
        "pycocotools",
        a,
        b,
        10.0,
        f"AP apart by {apart:.0e}",
    )
    weights = bootstrap_weights(IMAGES, 1000)
    times = [
        seconds(lambda: weighted_ap(match_table(truth, ids, detections), weights), cpu)
        for _ in range(repeats)
    ]
    each = Spread(b.median * 1000, b.low * 1000, b.high * 1000, b.n)
    boot = _row(
        "1,000 bootstrap replicates of AP",
        "a pycocotools evaluation for each (1,000 × one measured)",
        Spread.of(times),
        each,
        1000.0,
        "",
    )
    return ap, boot


def whole_evaluation(postprocessing: Row, ap: Row) -> Row:
    """Decoding, NMS and COCO's metrics of all images, from the two rows that measured the parts."""
    batches = IMAGES / BATCH
    sides = []
    for one, other in ((postprocessing.ours, ap.ours), (postprocessing.theirs, ap.theirs)):
        values = [batches * x + y for x, y in zip(*(vars(s).values() for s in (one, other)), strict=True)]
        sides.append(Spread(*values[:3], min(one.n, other.n)))
    what = f"evaluating {IMAGES:,} images: decoding, NMS and COCO's metrics"
    note = f"the two rows before, added: {batches:.0f} batches of {BATCH} images"
    return _row(what, "torchvision's post-processing and pycocotools", *sides, 10.0, note)


def _row(what: str, against: str, a: Spread, b: Spread, goal: float, note: str) -> Row:
    return Row(what, against, "s", a, b, False, goal, note)
