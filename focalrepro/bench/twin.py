"""torchvision's own RetinaNet with the layers of one of ours: the other side of the training comparison."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

from focalrepro.config import RunConfig
from focalrepro.datasets import DetectionData
from focalrepro.detector.anchors import RATIOS
from focalrepro.detector.backbones import IMAGENET_MEAN, IMAGENET_STD
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.training.loop import make_optimizer


class Pyramid(nn.Module):
    """Our backbone and pyramid behind torchvision's interface: normalised images to named maps."""

    def __init__(self, model: RetinaNet, channels: int) -> None:
        super().__init__()
        self.backbone, self.fpn, self.used = model.backbone, model.fpn, model.used
        self.out_channels = channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.backbone(images)
        return self.fpn(OrderedDict((str(level), maps[level]) for level in self.used))


def torchvision_twin(config: RunConfig, classes: int) -> TorchvisionRetinaNet:
    """The same layers; anchors, matching, targets, losses and post-processing are torchvision's."""
    model = RetinaNet(config, classes)
    sizes = tuple(
        tuple(
            config.anchor_size * 2**level * 2 ** (k / config.anchor_scales)
            for k in range(config.anchor_scales)
        )
        for level in config.levels
    )
    ratios = (RATIOS[config.anchor_ratios],) * len(config.levels)
    twin = TorchvisionRetinaNet(
        Pyramid(model, config.fpn_channels),
        num_classes=classes,
        anchor_generator=AnchorGenerator(sizes, ratios),
        min_size=config.image_size,
        max_size=config.image_size,
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
        detections_per_img=config.max_detections,
    )
    for head, name, last in (
        (model.class_head, "classification_head", "cls_logits"),
        (model.box_head, "regression_head", "bbox_reg"),
    ):
        theirs = getattr(twin.head, name)
        theirs.conv = head.layers[:-1]
        setattr(theirs, last, head.layers[-1])
    return twin


class TorchvisionLoop:
    """torchvision's reference loop on data in memory: a list of images and targets a step, losses summed."""

    def __init__(self, config: RunConfig, data: DetectionData, device: torch.device) -> None:
        self.config, self.device = config, device
        self.model = torchvision_twin(config, len(data.categories)).to(device).train()
        self.optimizer = make_optimizer(self.model, config)
        self.images = torch.from_numpy(data.images[: 8 * config.batch_size].copy()).to(device)
        self.targets = [
            {
                "boxes": torch.from_numpy(boxes[labels >= 0].copy()).to(device),
                "labels": torch.from_numpy(labels[labels >= 0].copy()).to(device),
            }
            for boxes, labels in zip(data.boxes, data.labels, strict=True)
        ][: len(self.images)]
        self.step_number = 0

    def step(self) -> None:
        """One step on the next batch; mixed precision on a GPU as in the reference script, fp32 on a CPU."""
        size, width = self.config.batch_size, self.config.image_size
        rows = [(self.step_number * size + i) % len(self.images) for i in range(size)]
        images, targets = [], []
        for i in rows:
            image, target = self.images[i] / 255, self.targets[i]
            if (i + self.step_number) % 2:
                boxes = target["boxes"].clone()
                boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
                image, target = image.flip(-1), {"boxes": boxes, "labels": target["labels"]}
            images.append(image)
            targets.append(target)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = sum(self.model(images, targets).values())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step_number += 1
