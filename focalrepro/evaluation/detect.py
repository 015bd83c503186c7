"""From a model to detections (section 4, "Inference"): top-k per level, decode, NMS; no score threshold."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.detector import boxes as box_ops
from focalrepro.detector.anchors import AnchorGrid
from focalrepro.detector.frozen_features import cached_features
from focalrepro.evaluation.detections import Detections, NotFiniteError
from focalrepro.hardware import autocast
from focalrepro.training.batches import config_anchors
from focalrepro.training.loop import OnStep
from focalrepro.training.two_stage import TwoStage

# boxes [D, 4] in the frame's pixels, scores [D], labels [D], best first
Found = tuple[Tensor, Tensor, Tensor]
FIRST = 400  # candidates that suppression begins with


def candidates(
    logits: Tensor, offsets: Tensor, anchors: AnchorGrid, config: RunConfig, picture: Tensor | None = None
) -> Found:
    """What one image's suppression chooses from: topk scores of each level above the threshold, best first.

    logits [A, K] and offsets [A, 4]. The threshold is compared with the logits in their own type. picture
    [4]: what is no padding; anchors whose centre lies outside it were not trained and find nothing.
    """
    if picture is not None:
        on_padding = box_ops.outside(anchors.boxes, picture[None])[0]
        logits = logits.masked_fill(on_padding.unsqueeze(-1), -math.inf)
    classes, start, kept = logits.shape[1], 0, []
    for level in logits.reshape(-1).split([classes * count for count in anchors.per_level]):
        kept.append(level.topk(min(config.topk, len(level))).indices + start)
        start += len(level)
    index = torch.cat(kept)
    values, least = logits.reshape(-1)[index], config.score_threshold
    if least or picture is not None:
        # Not "above": a NaN stays, and is refused with the detections.
        above = ~(values <= (math.log(least / (1 - least)) if least else -math.inf))
        index, values = index[above], values[above]
    order = values.argsort(descending=True, stable=True)
    index, scores = index[order], values[order].float().sigmoid()
    anchor, label = index // classes, index % classes
    boxes = box_ops.decode(offsets[anchor].float(), anchors.boxes[anchor]).clamp(0, config.image_size)
    if picture is not None:
        boxes = torch.minimum(boxes, picture[2:].repeat(2))
    return boxes, scores, label


def suppress(found: Found, iou: float, most: int) -> Found:
    """Greedy suppression within each class, at most so many: of candidates that are sorted, best first.

    What it keeps of the best candidates does not depend on the others, so it begins with few and takes more
    only where these do not fill the image.
    """
    boxes, scores, labels = found
    count = FIRST
    while True:
        kept = batched_nms(boxes[:count], scores[:count], labels[:count], iou)[:most]
        if len(kept) == most or count >= len(boxes):
            return boxes[kept], scores[kept], labels[kept]
        count *= 3


def select(logits: Tensor, offsets: Tensor, anchors: AnchorGrid, config: RunConfig) -> Found:
    """`Found` of one image, from logits [A, K] and offsets [A, 4]: at most topk of each level, above the
    threshold if there is one, NMS per class, at most max_detections in all (section 4, "Inference")."""
    return suppress(candidates(logits, offsets, anchors, config), config.nms, config.max_detections)


def without_classes(found: Found, config: RunConfig) -> Found:
    """The same candidates with their classes merged into one: where objects are, whatever they are."""
    boxes, scores, labels = found
    return suppress((boxes, scores, torch.zeros_like(labels)), config.nms, config.max_detections)


def maps_of(model: nn.Module, config: RunConfig, images: np.ndarray, device: torch.device) -> list[Tensor]:
    """A detector's feature maps of uint8 images [B, 3, S, S]; a frozen backbone's are in bf16, as those that
    are kept for training."""
    with autocast(device, config.frozen == "backbone" or config.precision == "bf16"):
        return model.features(torch.from_numpy(np.array(images)).to(device))


def finder(
    model: nn.Module, config: RunConfig, device: torch.device
) -> Callable[..., list[tuple[Found, Found]]]:
    """What turns the backbone's maps, and where the pictures lie [B, 4] if they are padded, into each image's
    detections and what `without_classes` takes, for either detector. (To the two-stage one padding is
    background.)"""
    if isinstance(model, TwoStage):
        return lambda maps, _=None: [(found, found) for found in model.find(maps)]
    grid = config_anchors(config)
    grid = replace(grid, boxes=grid.boxes.to(device))

    def find(maps: list[Tensor], pictures: Tensor | None = None) -> list[tuple[Found, Found]]:
        with autocast(device, config.precision == "bf16"):
            logits, offsets = model.predict(maps)
        each = zip(logits, offsets, [None] * len(logits) if pictures is None else pictures, strict=True)
        images = [candidates(x, box, grid, config, picture) for x, box, picture in each]
        return [(suppress(c, config.nms, config.max_detections), c) for c in images]

    return find


@torch.inference_mode()
def milliseconds_per_image(
    models: Mapping[str, tuple[nn.Module, RunConfig, DetectionData]], device: torch.device, images: int = 24
) -> dict[str, float]:
    """Median wall time of one image alone, from its pixels to its detections, as Table 1e counts it.

    models: each with its config and the split whose images it finds. They take turns, image by image, so that
    what disturbs one disturbs the others. The backbone is part of it, also where training reads cached
    features. The first images warm up and do not count.
    """
    finders, times = {}, {name: [] for name in models}
    for name, (model, config, _) in models.items():
        model = model.to(device, memory_format=torch.channels_last).eval()
        finders[name] = finder(model, config, device)
    for row in range(min(images, *(len(data) for *_, data in models.values()))):
        for name, (model, config, data) in models.items():
            image, shown = data.images[row : row + 1], _pictures(data, slice(row, row + 1), device)
            start = time.perf_counter()
            found = finders[name](maps_of(model, config, image, device), shown)
            found[0][0][1].cpu()  # to the host: waits for the device
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: float(np.median(taken[len(taken) // 6 :])) for name, taken in times.items()}


@torch.inference_mode()
def detect(
    model: nn.Module,
    config: RunConfig,
    data: DetectionData,
    device: torch.device,
    on_step: OnStep = lambda done, total: None,
    batch: int = 16,
) -> tuple[Detections, Detections]:
    """Detections on a split with classes, and with all merged into one; boxes in the original's pixels."""
    model = model.to(device, memory_format=torch.channels_last).eval()
    find = finder(model, config, device)
    cached = cached_features(model, data, device) if config.frozen == "backbone" else None
    found: tuple[list[Detections], list[Detections]] = ([], [])
    scales = np.tile(data.scale[:, ::-1], 2)
    for start in range(0, len(data), batch):
        rows = slice(start, start + batch)
        if cached:
            maps = [f[rows].to(device).permute(0, 3, 1, 2) for f in cached]
        else:
            maps = maps_of(model, config, data.images[rows], device)
        kept, candidates_of = zip(*find(maps, _pictures(data, rows, device)), strict=True)
        both = kept, [without_classes(c, config) for c in candidates_of]
        for parts, images in zip(found, both, strict=True):
            counts = [len(scores) for _, scores, _ in images]
            # One copy for the batch: each waits for the device.
            boxes, scores, labels = (torch.cat(of).cpu().numpy() for of in zip(*images, strict=True))
            image = np.repeat(np.arange(start, start + len(images)), counts)
            edges = np.inf if data.pictures is None else np.tile(data.sizes[image, ::-1], 2)
            boxes = np.minimum(boxes * scales[image], edges)
            parts.append(Detections(image, boxes, scores, labels.astype(np.int64)))
        on_step(min(start + batch, len(data)), len(data))
    detections, merged = map(Detections.concat, found)
    silent = isinstance(model, TwoStage) and not len(detections)  # torchvision drops what is not finite
    if silent and not all(m.isfinite().all() for m in model.pyramid(maps)):
        raise NotFiniteError("the pyramid must be finite")
    return detections, merged


def _pictures(data: DetectionData, rows: slice, device: torch.device) -> Tensor | None:
    """Where the pictures lie in their frames, [B, 4]; None where they fill them."""
    return None if data.pictures is None else torch.from_numpy(data.pictures[rows]).to(device)
