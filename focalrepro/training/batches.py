"""What a training reads: a split on the device, its matches to the anchors, and the order of the images."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from focalrepro.config import RunConfig
from focalrepro.datasets import DetectionData
from focalrepro.detector.anchors import AnchorGrid, make_anchors
from focalrepro.detector.boxes import flip as flip_boxes
from focalrepro.detector.frozen_features import cached_features
from focalrepro.detector.matching import match_dataset


@lru_cache(maxsize=2)
def _matches(data: DetectionData, device: torch.device, geometry: tuple, thresholds: tuple) -> Tensor:
    """The split's matches, made once for all runs of a process that share data, anchors and thresholds."""
    frame, *anchors = geometry
    names = ("pos_iou", "neg_iou", "best_iou")
    boxes = make_anchors(frame, *anchors).boxes
    limits = dict(zip(names, thresholds, strict=True))
    return match_dataset(boxes, data.boxes, data.labels, frame, device, **limits)


class SplitData:
    """A split on the device: what a model reads (images or cached features), boxes and labels."""

    def __init__(self, config: RunConfig, data: DetectionData, device: torch.device, progress: bool) -> None:
        self.flips = config.flip
        self.size = float(config.image_size)
        self.cached = config.frozen == "backbone"
        if self.cached:
            self.inputs = cached_features(config, data, device, progress)
            if device.type == "cuda":
                self.inputs = [f.to(device) for f in self.inputs]
        else:
            images = torch.from_numpy(np.array(data.images))
            self.inputs = [images.to(device)]
        self.boxes = torch.from_numpy(data.boxes).to(device)
        self.labels = torch.from_numpy(data.labels).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: Tensor, flip: Tensor) -> tuple[list[Tensor], Tensor]:
        """inputs (NCHW, channels last) and boxes [B, M, 4] of some images.

        index [B] into the split, flip [B] 0 or 1, both on the device.
        """
        mirrored = flip.bool().view(-1, 1, 1, 1)
        inputs = []
        for source in self.inputs:
            x = source.index_select(0, index)  # whole rows; source[index] goes element by element
            if self.cached:
                x = x.permute(0, 3, 1, 2)
            inputs.append(torch.where(mirrored, x.flip(-1), x) if self.flips else x)
        boxes = self.boxes[index]
        return inputs, torch.where(mirrored[..., 0], flip_boxes(boxes, self.size), boxes)


class TrainData(SplitData):
    """A split on the device with the matches of its boxes to the config's anchors."""

    def __init__(self, config: RunConfig, data: DetectionData, device: torch.device, progress: bool) -> None:
        super().__init__(config, data, device, progress)
        self.anchors = config_anchors(config)
        geometry = (data.frame, config.levels, config.anchor_size, config.anchor_scales, config.anchor_ratios)
        self.match = _matches(data, device, geometry, (config.pos_iou, config.neg_iou, config.best_iou))

    def batch(self, index: Tensor, flip: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """As `read`: inputs, labels [B, A], target boxes [B, A, 4] and positive [B, A] of some images."""
        inputs, boxes = self.read(index, flip)
        match = self.match[flip, index].long()  # [B, A]
        positive = match >= 0
        at = match.clamp(min=0)
        labels = torch.where(positive, self.labels[index].gather(1, at), match)
        return inputs, labels, boxes.gather(1, at.unsqueeze(-1).expand(-1, -1, 4)), positive


def config_anchors(config: RunConfig) -> AnchorGrid:
    """The anchors that a config asks for."""
    return make_anchors(
        config.image_size, config.levels, config.anchor_size, config.anchor_scales, config.anchor_ratios
    )


def batches(count: int, config: RunConfig) -> tuple[Tensor, Tensor]:
    """The order of the training: image indices and flips, [steps, batch] each, from the seed alone.

    Every epoch is a permutation; a batch may straddle two epochs. The same on every device.
    """
    rng = np.random.default_rng([config.seed, 0x0DE7])
    needed = config.steps * config.batch_size
    images = np.arange(count)
    if config.train_fraction < 1:
        images = np.random.default_rng(0).permutation(count)[: max(1, round(config.train_fraction * count))]
    epochs = [rng.permutation(images) for _ in range(-(-needed // len(images)))]
    index = np.concatenate(epochs)[:needed].reshape(config.steps, config.batch_size)
    flips = rng.integers(0, 2, size=index.shape) * int(config.flip)
    return torch.from_numpy(index), torch.from_numpy(flips)
