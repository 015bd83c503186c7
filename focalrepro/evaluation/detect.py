"""From a trained model to detections (section 4, "Inference"): threshold, top-k per level, decode, NMS."""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from focalrepro.config import RunConfig
from focalrepro.datasets import DetectionData
from focalrepro.detector import boxes as box_ops
from focalrepro.detector.anchors import AnchorGrid
from focalrepro.detector.frozen_features import cached_features
from focalrepro.evaluation.detections import Detections
from focalrepro.training.loop import OnStep, autocast, config_anchors
from focalrepro.training.two_stage import TwoStage

# boxes [D, 4] in the frame's pixels, scores [D], labels [D], best first
Found = tuple[Tensor, Tensor, Tensor]


def select(
    logits: Tensor, offsets: Tensor, anchors: AnchorGrid, config: RunConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Detections of one image: boxes [D, 4] in the frame's pixels, scores [D], labels [D], best first.

    logits [A, K] and offsets [A, 4]. Scores above the threshold, at most topk of each level, NMS per class, at
    most max_detections in all.
    """
    classes = logits.shape[1]
    threshold = math.log(config.score_threshold / (1 - config.score_threshold))
    kept, start = [], 0
    for count in anchors.per_level:
        flat = logits[start : start + count].reshape(-1)
        index = (flat > threshold).nonzero().squeeze(1)
        if len(index) > config.topk:
            index = index[flat[index].topk(config.topk).indices]
        kept.append(index + start * classes)
        start += count
    index = torch.cat(kept)
    anchor, label = index // classes, index % classes
    scores = logits.reshape(-1)[index].float().sigmoid()
    boxes = box_ops.decode(offsets[anchor].float(), anchors.boxes[anchor]).clamp(0, config.image_size)
    kept = batched_nms(boxes, scores, label, config.nms)[: config.max_detections]
    return boxes[kept], scores[kept], label[kept]


def select_batch(
    logits: Tensor, offsets: Tensor, anchors: AnchorGrid, config: RunConfig
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """`select` for a batch [B, A, K], [B, A, 4] without a shape that waits for the device until the very end.

    Per level the topk of all scores are taken before the threshold, and one NMS serves all images and classes.
    Logits meet the threshold in their own type, as in `select`: bf16 has values so far apart that in fp32 one
    at the threshold would count as above it.
    """
    batch, _, classes = logits.shape
    threshold = math.log(config.score_threshold / (1 - config.score_threshold))
    values, indices, start = [], [], 0
    for count in anchors.per_level:
        flat = logits[:, start : start + count].reshape(batch, -1)
        value, index = flat.topk(min(config.topk, flat.shape[1]), dim=1)
        values.append(value)
        indices.append(index + start * classes)
        start += count
    value, index = torch.cat(values, 1), torch.cat(indices, 1)  # [B, levels · topk]
    image, place = (value > threshold).nonzero(as_tuple=True)
    value, index = value[image, place].float(), index[image, place]
    anchor, label = index // classes, index % classes
    boxes = box_ops.decode(offsets[image, anchor].float(), anchors.boxes[anchor]).clamp(0, config.image_size)
    kept = batched_nms(boxes, value, image * classes + label, config.nms)  # best first over all images
    image, boxes, scores, label = image[kept].cpu(), boxes[kept], value[kept].sigmoid(), label[kept]
    found = []
    for i in range(batch):
        mine = (image == i).nonzero().squeeze(1)[: config.max_detections].to(boxes.device)
        found.append((boxes[mine], scores[mine], label[mine]))
    return found


def finder(
    model: nn.Module, config: RunConfig, device: torch.device
) -> Callable[[list[Tensor]], list[Found]]:
    """What turns the backbone's maps into the detections of each image, for either detector."""
    if isinstance(model, TwoStage):
        return model.find
    grid = config_anchors(config)
    grid = AnchorGrid(grid.boxes.to(device), grid.per_level, grid.levels, grid.shapes)

    def find(maps: list[Tensor]) -> list[Found]:
        with autocast(config, device):
            logits, offsets = model.predict(maps)
        if device.type == "cuda":
            return select_batch(logits, offsets, grid, config)
        return [select(logits[i], offsets[i], grid, config) for i in range(len(logits))]

    return find


@torch.inference_mode()
def milliseconds_per_image(
    model: nn.Module, config: RunConfig, data: DetectionData, device: torch.device, images: int = 24
) -> float:
    """Median wall time of one image alone, from its pixels to its detections, as Table 1e counts it.

    The backbone is part of it, also where training reads cached features. The first images warm up and do not
    count.
    """
    model = model.to(device, memory_format=torch.channels_last).eval()
    find = finder(model, config, device)
    count = min(images, len(data.images))
    times = []
    for i in range(count):
        image = torch.from_numpy(np.array(data.images[i : i + 1])).to(device)
        start = time.perf_counter()
        with autocast(config, device):
            maps = model.features(image)
        find(maps)[0][1].cpu()  # to the host: waits for the device
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[count // 6 :]))


@torch.inference_mode()
def detect(
    model: nn.Module,
    config: RunConfig,
    data: DetectionData,
    device: torch.device,
    on_step: OnStep = lambda done, total: None,
    batch: int = 32,
    progress: bool = False,
) -> Detections:
    """Detections on a whole split, boxes in the original images' pixels."""
    model = model.to(device, memory_format=torch.channels_last).eval()
    find = finder(model, config, device)
    cached = cached_features(config, data, device, progress) if config.frozen == "backbone" else None
    found: list[Detections] = []
    for start in range(0, len(data.images), batch):
        rows = slice(start, start + batch)
        if cached:
            maps = [f[rows].to(device).permute(0, 3, 1, 2) for f in cached]
        else:
            with autocast(config, device):
                maps = model.features(torch.from_numpy(np.array(data.images[rows])).to(device))
        for i, (boxes, scores, labels) in enumerate(find(maps)):
            height, width = data.sizes[start + i] / config.image_size
            scale = np.array([width, height, width, height], dtype=np.float32)
            found.append(
                Detections(
                    image_index=np.full(len(scores), start + i, dtype=np.int64),
                    boxes=boxes.cpu().numpy() * scale,
                    scores=scores.cpu().numpy(),
                    labels=labels.cpu().numpy().astype(np.int64),
                )
            )
        on_step(min(start + batch, len(data.images)), len(data.images))
    return Detections.concat(found)
