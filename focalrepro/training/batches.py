"""What a training reads: a split on the device, its matches to the anchors, and the order of the images.

Every image has a number of views. Where the backbone is frozen each is encoded and cached
(`detector/views.py`); else view 1 is view 0 mirrored on the fly, as in the paper. Where the first stage alone
is frozen, a GPU that has room keeps what it makes of both views.
"""

import hashlib
import io
import sys
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData, data_root
from focalrepro.detector.anchors import AnchorGrid, make_anchors
from focalrepro.detector.backbones import make_backbone
from focalrepro.detector.frozen_features import as_tensor, cached_features, stage1_maps
from focalrepro.detector.matching import match_dataset
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.detector.views import picture_in, view_of
from focalrepro.files import write_atomic
from focalrepro.hardware import memory

MATCHES_VERSION = 1
RESIDENT = 0.5  # share of a device's free memory that images may take
STAGE1_RESIDENT = 0.35  # the same, of a frozen first stage's maps, which only save time
KEPT_FROM = 2000  # images times views whose matches are kept on disk
# What a split on the device depends on, apart from the split: runs that agree in these may share it.
READ = (
    *("image_size", "detector", "precision", "backbone", "weights", "frozen", "views", "kept_channels"),
    *("flip", "first_level", "last_level", "anchor_size", "anchor_scales", "anchor_ratios"),
    *("pos_iou", "neg_iou", "best_iou"),
)


@lru_cache(maxsize=2)
def _targets(data: DetectionData, views: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Boxes [V, N, M, 4] and labels [V, N, M] of the split's views."""
    boxes, labels = [data.boxes], [data.labels]
    for view in range(1, views):
        parts = [view_of(data, row, view, pixels=False)[1:] for row in range(len(data))]
        boxes.append(np.stack([box for box, _ in parts]))
        labels.append(np.stack([label for _, label in parts]))
    return tuple(torch.from_numpy(np.stack(parts)).to(device) for parts in (boxes, labels))


@lru_cache(maxsize=2)
def matches(
    data: DetectionData, views: int, device: torch.device, geometry: tuple, thresholds: tuple
) -> Tensor:
    """The matches of all views to the anchors, [V, N, A], made once for all runs that share what they are of.

    Those of thousands of images take minutes, so on a CPU they are kept on disk, where workers share them.
    geometry: the arguments of `make_anchors`. thresholds: pos_iou, neg_iou and best_iou.
    """
    key = repr((MATCHES_VERSION, data.digest, views, geometry, thresholds))
    path = data_root() / "cache" / f"matches-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    kept = device.type == "cpu" and views * len(data) >= KEPT_FROM
    if not (kept and path.exists()):
        grid = make_anchors(*geometry).boxes
        boxes, labels = (t.cpu().numpy() for t in _targets(data, views, device))
        # All of COCO has 12 GB of them in one byte each, so none is there twice.
        dtype = torch.int8 if data.labels.shape[1] <= 127 else torch.int16
        match = torch.empty((views, len(data), len(grid)), dtype=dtype, device=device)
        for view in range(views):
            shown = None
            if data.pictures is not None:
                each = zip(data.image_ids, data.pictures, strict=True)
                shown = np.stack([picture_in(view, int(number), p, data.frame) for number, p in each])
            match_dataset(grid, boxes[view], labels[view], device, shown, *thresholds, out=match[view])
        if not kept:
            return match
        buffer = io.BytesIO()
        np.save(buffer, match.numpy())
        write_atomic(path, buffer.getvalue())
    return as_tensor(np.load(path, mmap_mode="r"))


class SplitData:
    """A split on the device: what a model reads (images or cached features), boxes and labels, each by view.

    model: whose backbone encodes the features, where the config freezes it.
    """

    def __init__(
        self, config: RunConfig, data: DetectionData, device: torch.device, model: RetinaNet | None = None
    ) -> None:
        self.cached, self.from_c2 = config.frozen == "backbone", False
        self.views = 1 + config.flip if not self.cached else config.views
        self.boxes, self.labels = _targets(data, self.views, device)
        if self.cached:
            views = [cached_features(model, data, device, view) for view in range(self.views)]
            self.inputs = [list(maps) for maps in zip(*views, strict=True)]  # by level, then by view
            if device.type != "cpu" and _room(sum(f.nbytes for maps in views for f in maps), device):
                self.inputs = [[f.to(device) for f in maps] for maps in self.inputs]
        elif model is not None and keeps_stage1(config, len(data), device):
            self.from_c2, how = True, (device, config.precision)
            self.inputs = [[stage1_maps(model, data.images, v == 1, *how) for v in range(self.views)]]
        elif device.type != "cpu" and _room(data.images.nbytes, device):
            self.inputs = [[torch.from_numpy(np.array(data.images)).to(device)]]
        else:
            self.inputs = [[as_tensor(data.images)]]  # left in their file, which all runs of a machine share
        self.streams = self.inputs[0][0].device.type != device.type
        if self.streams:
            print(f"{data.name}: no room on {device}, so each step reads from files: slow", file=sys.stderr)

    def __len__(self) -> int:
        return self.labels.shape[1]

    def read(self, index: Tensor, view: Tensor) -> tuple[Tensor | list[Tensor], Tensor, Tensor]:
        """Images [B, 3, S, S], their C2 or their cached maps (channels last), boxes [B, M, 4], labels [B, M].

        index [B] into the split, view [B], both on the device.
        """
        if self.cached or self.from_c2:
            maps = [_rows(of_level, view, index).permute(0, 3, 1, 2) for of_level in self.inputs]
            inputs = maps if self.cached else maps[0]
        else:
            source = self.inputs[0][0]  # whole rows of it; source[index] goes element by element
            inputs = source.index_select(0, index.to(source.device)).to(index.device)
            if self.views == 2:
                inputs = torch.where(view.bool().view(-1, 1, 1, 1), inputs.flip(-1), inputs)
        return inputs, self.boxes[view, index], self.labels[view, index]


def keeps_stage1(config: RunConfig, images: int, device: torch.device) -> bool:
    """Whether a GPU keeps the C2 of so many images and their mirror images, so that no step computes it."""
    if device.type != "cuda" or config.frozen != "stage1":
        return False
    channels = make_backbone(config.backbone).fixed_channels
    cells = (1 + config.flip) * images * (config.image_size // 4) ** 2
    nbytes = cells * channels * (2 if config.precision == "bf16" else 4)
    return channels > 0 and _room(nbytes, device, STAGE1_RESIDENT)


def _room(nbytes: int, device: torch.device, share: float | None = None) -> bool:
    """Whether a device keeps so many bytes, beside what a step needs."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory()
    return nbytes <= (RESIDENT if share is None else share) * free


def _rows(maps: list[Tensor], view: Tensor, index: Tensor) -> Tensor:
    """[B, H, W, C]: each image from the map of its view; where a GPU has them, without waiting for it."""
    if maps[0].is_cuda:
        rows = [m.index_select(0, index) for m in maps]
        return torch.stack(rows)[view, torch.arange(len(index), device=index.device)]
    each = zip(view.tolist(), index.tolist(), strict=True)
    return torch.stack([maps[v][i] for v, i in each]).to(index.device)


class TrainData(SplitData):
    """A split on the device with the matches of its boxes to the config's anchors."""

    def __init__(
        self, config: RunConfig, data: DetectionData, device: torch.device, model: RetinaNet | None = None
    ) -> None:
        super().__init__(config, data, device, model)
        self.anchors = config_anchors(config)
        geometry = (data.frame, config.levels, config.anchor_size, config.anchor_scales, config.anchor_ratios)
        thresholds = (config.pos_iou, config.neg_iou, config.best_iou)
        self.match = matches(data, self.views, device, geometry, thresholds)
        assigned = torch.count_nonzero(self.match >= 0)  # a sum of booleans takes seconds on a CPU
        self.positives = float(assigned) / (len(self.match) * len(self))  # per image

    def batch(self, index: Tensor, view: Tensor) -> tuple[Tensor | list[Tensor], Tensor, Tensor, Tensor]:
        """As `read`: inputs, labels [B, A], target boxes [B, A, 4] and positive [B, A] of some images."""
        inputs, boxes, labels = self.read(index, view)
        match = self.match[view, index].long()  # [B, A]
        positive = match >= 0
        at = match.clamp(min=0)
        labels = torch.where(positive, labels.gather(1, at), match)
        return inputs, labels, boxes.gather(1, at.unsqueeze(-1).expand(-1, -1, 4)), positive


def config_anchors(config: RunConfig) -> AnchorGrid:
    return make_anchors(
        config.image_size, config.levels, config.anchor_size, config.anchor_scales, config.anchor_ratios
    )


def batches(count: int, config: RunConfig) -> tuple[Tensor, Tensor]:
    """The order of the training: image indices and views, [steps, batch] each, from the seed alone.

    Every epoch is a permutation; a batch may straddle two epochs. The same on every device.
    """
    rng = np.random.default_rng([config.seed, 0x0DE7])
    needed = config.steps * config.batch_size
    images = np.arange(count)
    if config.train_fraction < 1:
        images = np.random.default_rng(0).permutation(count)[: max(1, round(config.train_fraction * count))]
    epochs = [rng.permutation(images) for _ in range(-(-needed // len(images)))]
    index = np.concatenate(epochs)[:needed].reshape(config.steps, config.batch_size)
    views = rng.integers(0, 2 if config.flip else config.views, size=index.shape)
    return torch.from_numpy(index), torch.from_numpy(views)
