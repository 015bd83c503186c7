"""From a trained model to detections (section 4, "Inference"): threshold, top-k per level, decode, NMS."""

import math
import time

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from focalrepro import boxes as box_ops
from focalrepro.anchors import AnchorGrid
from focalrepro.config import RunConfig
from focalrepro.datasets import DetectionData
from focalrepro.detections import Detections
from focalrepro.features import cached_features
from focalrepro.model import RetinaNet
from focalrepro.train import OnStep, autocast, config_anchors


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
    """
    batch, _, classes = logits.shape
    threshold = math.log(config.score_threshold / (1 - config.score_threshold))
    values, indices, start = [], [], 0
    for count in anchors.per_level:
        flat = logits[:, start : start + count].reshape(batch, -1).float()
        value, index = flat.topk(min(config.topk, flat.shape[1]), dim=1)
        values.append(value)
        indices.append(index + start * classes)
        start += count
    value, index = torch.cat(values, 1), torch.cat(indices, 1)  # [B, levels · topk]
    image, place = (value > threshold).nonzero(as_tuple=True)
    value, index = value[image, place], index[image, place]
    anchor, label = index // classes, index % classes
    boxes = box_ops.decode(offsets[image, anchor].float(), anchors.boxes[anchor]).clamp(0, config.image_size)
    kept = batched_nms(boxes, value, image * classes + label, config.nms)  # best first over all images
    image, boxes, scores, label = image[kept].cpu(), boxes[kept], value[kept].sigmoid(), label[kept]
    found = []
    for i in range(batch):
        mine = (image == i).nonzero().squeeze(1)[: config.max_detections].to(boxes.device)
        found.append((boxes[mine], scores[mine], label[mine]))
    return found


@torch.inference_mode()
def milliseconds_per_image(
    model: RetinaNet, config: RunConfig, data: DetectionData, device: torch.device, images: int = 24
) -> float:
    """Median wall time of one image alone, from its pixels to its detections, as Table 1e counts it.

    The backbone is part of it, also where training reads cached features. The first images warm up and do not
    count.
    """
    model = model.to(device, memory_format=torch.channels_last).eval()
    grid = config_anchors(config)
    grid = AnchorGrid(grid.boxes.to(device), grid.per_level, grid.levels, grid.shapes)
    count = min(images, len(data.images))
    times = []
    for i in range(count):
        image = torch.from_numpy(np.array(data.images[i : i + 1])).to(device)
        start = time.perf_counter()
        with autocast(config, device):
            logits, offsets = model(image)
        select(logits[0], offsets[0], grid, config)[1].cpu()  # to the host: waits for the device
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[count // 6 :]))


@torch.inference_mode()
def detect(
    model: RetinaNet,
    config: RunConfig,
    data: DetectionData,
    device: torch.device,
    on_step: OnStep = lambda done, total: None,
    batch: int = 32,
    progress: bool = False,
) -> Detections:
    """Detections on a whole split, boxes in the original images' pixels."""
    model = model.to(device, memory_format=torch.channels_last).eval()
    grid = config_anchors(config)
    grid = AnchorGrid(grid.boxes.to(device), grid.per_level, grid.levels, grid.shapes)
    cached = cached_features(config, data, device, progress) if config.frozen == "backbone" else None
    found: list[Detections] = []
    for start in range(0, len(data.images), batch):
        rows = slice(start, start + batch)
        with autocast(config, device):
            if cached:
                logits, offsets = model.predict([f[rows].to(device).permute(0, 3, 1, 2) for f in cached])
            else:
                logits, offsets = model(torch.from_numpy(np.array(data.images[rows])).to(device))
        if device.type == "cuda":
            selected = select_batch(logits, offsets, grid, config)
        else:
            selected = [select(logits[i], offsets[i], grid, config) for i in range(len(logits))]
        for i, (boxes, scores, labels) in enumerate(selected):
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
