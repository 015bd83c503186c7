"""torchvision's RetinaNet with weights that `focalrepro export` wrote. Needs torch, torchvision, safetensors.

    model, classes = load("model.safetensors")
    found = model([image])[0]  # boxes, scores, labels: classes[label]

image: floats [3, S, S] in 0 … 1, squashed to the S × S of the training beforehand (Pillow's bilinear; another
size is resized by torchvision, which smooths less). Computed in fp32.
"""

import json
from collections import OrderedDict
from functools import partial

import torch
import torchvision
from safetensors import safe_open
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7


def load(path: str) -> tuple[RetinaNet, list[str]]:
    """The model, in evaluation, and the names of its classes."""
    with safe_open(path, "pt") as file:
        recipe = json.loads(file.metadata()["recipe"])
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dict
    model = build(recipe)
    model.load_state_dict(state)
    return model.eval(), recipe["classes"]


def build(recipe: dict) -> RetinaNet:
    """The model without its weights; recipe: as `focalrepro export` wrote it."""
    channels, norm = recipe["channels"], None
    if recipe["groups"]:
        norm = partial(nn.GroupNorm, recipe["groups"])
    top = LastLevelP6P7(recipe["inputs"][-1], channels) if recipe["top"] else None
    fpn = FeaturePyramidNetwork(recipe["inputs"], channels, extra_blocks=top)
    backbone = nn.Sequential(OrderedDict(body=body(recipe), fpn=fpn))
    backbone.out_channels = channels
    anchors = anchor_generator(recipe)
    head = RetinaNetHead(channels, anchors.num_anchors_per_location()[0], len(recipe["classes"]), norm)
    for part in (head.classification_head, head.regression_head):
        convs = (Conv2dNormActivation(channels, channels, norm_layer=norm) for _ in range(recipe["convs"]))
        part.conv = nn.Sequential(*convs)
    size = (recipe["size"], recipe["size"])
    settings = {"anchor_generator": anchors, "head": head, "fixed_size": size, "size_divisible": 1}
    return RetinaNet(backbone, len(recipe["classes"]), **settings, **recipe["inference"])


def body(recipe: dict) -> nn.Module:
    """The backbone's maps by their level: a ResNet of torchvision's, or plain stages of convolutions."""
    if not recipe["stages"]:
        net = torchvision.models.get_model(recipe["backbone"], weights=None, norm_layer=FrozenBatchNorm2d)
        return IntermediateLayerGetter(net, {f"layer{level - 1}": str(level) for level in recipe["used"]})
    stages, inputs = [], 3
    for width, convs in recipe["stages"]:
        layers = [Conv2dNormActivation(width if i else inputs, width, 3, 1 if i else 2) for i in range(convs)]
        stages.append(nn.Sequential(*layers))
        inputs = width
    return IntermediateLayerGetter(
        nn.Sequential(*stages), {str(level - 1): str(level) for level in recipe["used"]}
    )


def anchor_generator(recipe: dict) -> AnchorGenerator:
    """Anchors at the centres of the cells, not rounded to whole pixels as torchvision's own are."""
    sides = [
        [recipe["anchor_size"] * 2 ** (level + k / recipe["scales"]) for k in range(recipe["scales"])]
        for level in recipe["levels"]
    ]
    anchors = AnchorGenerator(tuple(map(tuple, sides)), (tuple(recipe["ratios"]),) * len(sides))
    anchors.cell_anchors = []
    for level, of_level in zip(recipe["levels"], sides, strict=True):
        shapes = [(side / ratio**0.5, side * ratio**0.5) for side in of_level for ratio in recipe["ratios"]]
        half = torch.tensor(shapes) / 2
        anchors.cell_anchors.append(torch.cat([-half, half], dim=1) + 2**level / 2)
    return anchors
