"""From a trained model to detections (section 4, "Inference"): threshold, top-k per level, decode, NMS."""

import math

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
        for i in range(len(logits)):
            boxes, scores, labels = select(logits[i], offsets[i], grid, config)
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
