"""RetinaNet (section 4): a backbone, a feature pyramid, and two small heads shared by all levels."""

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from focalrepro.config import RunConfig
from focalrepro.detector.backbones import Normalise, make_backbone
from focalrepro.detector.group_norm import GroupNormReLU


class TopLevels(ExtraFPNBlock):
    """The pyramid's coarse end, made from the last backbone map: P6 = conv(C5), P7 = conv(ReLU(P6)).

    A backbone that ends at C4 gets its P5 in the same way. 3×3 convolutions of stride 2.
    """

    def __init__(self, inputs: int, channels: int, count: int) -> None:
        super().__init__()
        sizes = [inputs] + [channels] * (count - 1)
        self.convs = nn.ModuleList(nn.Conv2d(c, channels, 3, stride=2, padding=1) for c in sizes[:count])
        for conv in self.convs:
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, results: list, x: list, names: list) -> tuple[list[Tensor], list[str]]:
        tops = []
        for conv in self.convs:
            tops.append(conv(F.relu(tops[-1]) if tops else x[-1]))
        return results + tops, names + [f"top{i}" for i in range(len(tops))]


class Head(nn.Module):
    """One head: `convs` 3×3 convolutions, then a 3×3 convolution to `outputs` numbers per anchor."""

    def __init__(self, channels: int, convs: int, norm: str, shapes: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(convs):
            layers.append(nn.Conv2d(channels, channels, 3, padding=1, bias=norm == "none"))
            group = norm == "group"
            layers.append(GroupNormReLU(min(32, channels // 4), channels) if group else nn.ReLU(inplace=True))
        layers.append(nn.Conv2d(channels, shapes * outputs, 3, padding=1))
        self.layers = nn.Sequential(*layers)
        self.outputs = outputs
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def set_prior(self, prior: float) -> None:
        """Sets the last layer's bias so that every output begins as the logit of π (section 3.3)."""
        nn.init.constant_(self.layers[-1].bias, -math.log((1 - prior) / prior))

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """[B, A, outputs] over all levels' anchors, in the order of `make_anchors`.

        While training under autocast they are bf16. In evaluation the last convolution is computed in fp32:
        bf16 has some 250 values between two powers of two, and scores that tie are ranked by their place in
        the image.
        """
        maps, last = [self.layers[:-1](level) for level in pyramid], self.layers[-1]
        if self.training:
            maps = [last(x) for x in maps]
        else:
            with torch.autocast(pyramid[0].device.type, enabled=False):
                maps = [last(x.float()) for x in maps]
        return torch.cat([m.permute(0, 2, 3, 1).reshape(len(m), -1, self.outputs) for m in maps], dim=1)


class RetinaNet(nn.Module):
    """Images or cached features in; logits [B, A, K] and box offsets [B, A, 4] out."""

    def __init__(self, config: RunConfig, classes: int) -> None:
        super().__init__()
        self.backbone = make_backbone(config.backbone)
        self.normalise = Normalise()
        self.used = [level for level in config.levels if level in self.backbone.channels]
        if not self.used or self.used[0] != config.first_level:
            there = f"{config.backbone} has the levels {sorted(self.backbone.channels)}"
            raise ValueError(f"first_level is {config.first_level}; {there}")
        inputs, self.reduce = [self.backbone.channels[level] for level in self.used], None
        if config.kept_channels < 1:
            kept = [max(1, round(config.kept_channels * c)) for c in inputs]
            self.reduce = nn.ModuleList(nn.Conv2d(c, k, 1) for c, k in zip(inputs, kept, strict=True))
            self.reduce.requires_grad_(False)
            inputs = kept
        coarse = len(config.levels) - len(self.used)
        top = TopLevels(inputs[-1], config.fpn_channels, coarse) if coarse else None
        self.fpn = FeaturePyramidNetwork(inputs, config.fpn_channels, extra_blocks=top)
        shapes = config.anchor_scales * config.anchor_ratios
        common = (config.fpn_channels, config.head_convs, config.head_norm, shapes)
        # Section 3.3: the bias makes every anchor's foreground probability π at the start, so that the first
        # steps are not spent (or the training not wrecked) on learning that nearly everything is background.
        self.class_head = Head(*common, classes)
        self.class_head.set_prior(config.prior or 0.01)  # 0, the data's own, is set where the data is known
        self.box_head = Head(*common, 4)
        self.backbone_frozen = config.frozen == "backbone"
        frozen = {"nothing": [], "stage1": self.backbone.stage1_modules(), "backbone": [self.backbone]}
        for module in frozen[config.frozen]:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "RetinaNet":
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.eval()
        return self

    def features(self, images: Tensor) -> list[Tensor]:
        """The backbone's maps, fine to coarse, from uint8 images [B, 3, S, S], or from their C2, in floats.

        A frozen backbone's are rounded to bf16, as they are kept, also where the device computes in fp32.
        """
        if images.is_floating_point():
            maps = self.backbone.after_stage1(images)
        else:
            maps = self.backbone(self.normalise(images).contiguous(memory_format=torch.channels_last))
        maps = [maps[level] for level in self.used]
        if self.reduce is None:
            return [m.bfloat16() for m in maps] if self.backbone_frozen else maps
        with torch.autocast(images.device.type, enabled=False):
            return [reduce(m.float()).bfloat16() for reduce, m in zip(self.reduce, maps, strict=True)]

    def pyramid(self, features: list[Tensor]) -> list[Tensor]:
        """The pyramid's maps, fine to coarse, from the backbone's."""
        if not torch.is_autocast_enabled(features[0].device.type):
            features = [f.float() for f in features]  # cached maps are bf16
        named = OrderedDict((f"c{i}", f) for i, f in enumerate(features))
        return list(self.fpn(named).values())

    def predict(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """logits [B, A, K] and offsets [B, A, 4] from the backbone's maps."""
        pyramid = self.pyramid(features)
        return self.class_head(pyramid), self.box_head(pyramid)

    def forward(self, inputs: Tensor | list[Tensor]) -> tuple[Tensor, Tensor]:
        """As `predict`, from what `features` takes or from the maps that are cached of it."""
        return self.predict(inputs if isinstance(inputs, list) else self.features(inputs))
