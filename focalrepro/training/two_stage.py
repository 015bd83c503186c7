"""The other side of the paper's comparison (Table 2): Faster R-CNN on RetinaNet's backbone and pyramid.

First a region proposal network says where something is, then each proposal is pooled and classified: the
imbalance is met by proposing few regions and by sampling, not by the loss. Both stages are torchvision's,
with its thresholds; data, flips, optimizer, schedule, steps and batch are those of RetinaNet's run.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign

from focalrepro.config import RunConfig
from focalrepro.detector.anchors import AnchorGrid, make_anchors
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.hardware import autocast
from focalrepro.training.batches import SplitData
from focalrepro.training.step import Step

POOLED = 7  # cells a side that a region is pooled to
# Regions an image that the second stage learns from, a quarter of them on objects at most. Faster R-CNN's
# number: FPN's 512 are for 800 px; of an image of 128 px with three digits they are nearly all background.
REGIONS = 128
FPN_ANCHOR = 8  # strides: FPN's 32² on P2 (stride 4) to 512² on P6


def middle_size(config: RunConfig) -> float:
    """The side of the one anchor a level, in strides: the middle of RetinaNet's scales on that level.

    FPN has 8 strides, for COCO's objects at 800 px; both detectors here are to look for the same things.
    """
    return config.anchor_size * 2 ** ((config.anchor_scales - 1) / (2 * config.anchor_scales))


def rpn_anchors(config: RunConfig) -> AnchorGrid:
    """One size a level and three aspect ratios, as in FPN."""
    return make_anchors(config.image_size, config.levels, middle_size(config), scales=1, ratios=3)


class Anchors(nn.Module):
    """In place of torchvision's generator, which rounds to whole pixels and leaves the cells' centres."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.register_buffer("boxes", rpn_anchors(config).boxes, persistent=False)

    def forward(self, images: ImageList, features: list[Tensor]) -> list[Tensor]:
        return [self.boxes] * len(images.image_sizes)


class ObjectnessHead(RPNHead):
    """torchvision's, with outputs in fp32: boxes made from bf16 would lie on a grid of half pixels."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, offsets = super().forward(x)
        return [t.float() for t in logits], [t.float() for t in offsets]


class Predictor(FastRCNNPredictor):
    """torchvision's, computed in fp32, as RetinaNet's last convolutions are in evaluation."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class TwoStage(RetinaNet):
    """RetinaNet's backbone and pyramid; in place of its heads a proposal network and a head for regions."""

    def __init__(self, config: RunConfig, classes: int) -> None:
        super().__init__(config, classes)
        del self.class_head, self.box_head
        self.config = config
        channels = config.fpn_channels
        self.rpn = RegionProposalNetwork(
            Anchors(config),
            ObjectnessHead(channels, num_anchors=3),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2000, "testing": 1000},
            post_nms_top_n={"training": 2000, "testing": 1000},
            nms_thresh=0.7,
        )
        # FPN pools a region of 224 px from P4; for smaller anchors the same rule shrinks with them.
        scale = 224 * middle_size(config) / FPN_ANCHOR
        names = [str(level) for level in config.levels]
        pool = MultiScaleRoIAlign(names, POOLED, sampling_ratio=2, canonical_scale=scale, canonical_level=4)
        width = 4 * channels  # FPN: 1024 for 256 channels
        self.roi_heads = RoIHeads(
            pool,
            TwoMLPHead(channels * POOLED**2, width),
            Predictor(width, classes + 1),  # class 0 is the background
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=REGIONS,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=config.score_threshold,
            nms_thresh=config.nms,
            detections_per_img=config.max_detections,
        )

    def stages(
        self, features: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections (in eval mode) and losses (in training) of both stages, from the backbone's maps."""
        pyramid = self.pyramid(features)
        maps = OrderedDict((str(level), m) for level, m in zip(self.config.levels, pyramid, strict=True))
        sizes = [(self.config.image_size,) * 2] * len(features[0])
        proposals, first = self.rpn(ImageList(features[0], sizes), maps, targets)
        found, second = self.roi_heads(maps, proposals, sizes, targets)
        return found, first | second

    def forward(self, features: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """torchvision's four losses. targets: of `as_targets`."""
        return self.stages(features, targets)[1]

    def find(self, features: list[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes [D, 4] in the frame's pixels, scores [D] and labels [D] of each image, best first."""
        with autocast(features[0].device, self.config.precision == "bf16"):
            found = self.stages(features, None)[0]
        return [(f["boxes"], f["scores"], f["labels"] - 1) for f in found]


def as_targets(boxes: Tensor, labels: Tensor) -> list[dict[str, Tensor]]:
    """boxes [B, M, 4] and labels [B, M], -1 for padding, as torchvision has them: ragged, classes from 1."""
    each = zip(boxes, labels, labels >= 0, strict=True)
    return [{"boxes": b[valid], "labels": k[valid] + 1} for b, k, valid in each]


class TwoStageStep(Step):
    """A step of it; positives: anchors of the proposal network that are assigned to an object, per image."""

    def __init__(self, model: TwoStage, source: SplitData, config: RunConfig, device: torch.device) -> None:
        super().__init__(model, source, config, device)
        self.captures, self.positives = False, positives(model, source)

    def __call__(self, index: Tensor, view: Tensor, rate: float) -> None:
        """As `Step`; nothing once something was not finite."""
        if self.finite:
            super().__call__(index, view, rate)

    def _losses(self) -> tuple[Tensor, Tensor]:
        inputs, boxes, labels = self.source.read(self.index, self.view)
        with autocast(self.device, self.config.precision == "bf16"):
            features = inputs if self.source.cached else self.model.features(inputs)
            losses = self.model(features, as_targets(boxes, labels))
        of_classes = losses["loss_objectness"] + losses["loss_classifier"]
        return of_classes, losses["loss_rpn_box_reg"] + losses["loss_box_reg"]


def positives(model: TwoStage, source: SplitData) -> float:
    """Anchors of the proposal network that are assigned to an object, per image."""
    anchors, count = model.rpn.anchor_generator.boxes, 0
    for target in as_targets(source.boxes[0], source.labels[0]):
        count += int((model.rpn.assign_targets_to_anchors([anchors], [target])[0][0] == 1).sum())
    return count / len(source)
