"""The detector against torchvision's own RetinaNet, the backbones, the prior, and what frozen means."""

from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from focalrepro.config import RunConfig
from focalrepro.detector.backbones import BACKBONES, Normalise
from focalrepro.detector.matching import match
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.evaluation.detect import select
from focalrepro.training.batches import config_anchors
from focalrepro.training.criteria import box_loss
from focalrepro.training.focal_sum import detection_focal_loss
from focalrepro.training.initial import initial_model
from focalrepro.training.loop import train

CLASSES = 5
CONFIG = RunConfig(backbone="resnet18", weights="none", frozen="stage1", best_iou=0.0, precision="fp32")
SMALL = RunConfig(
    **{
        "dataset": "synthetic",
        "image_size": 128,
        "backbone": "small",
        "weights": "none",
        "frozen": "nothing",
    },
    **{"fpn_channels": 16, "head_convs": 1, "first_level": 2, "last_level": 4, "anchor_size": 2.5},
    **{"precision": "fp32", "batch_size": 4, "steps": 2, "warmup": 0, "optimizer": "adamw", "lr": 1e-3},
)


# ---- torchvision's RetinaNet with our weights


class OurAnchors(nn.Module):
    """In place of torchvision's generator, which rounds to whole pixels and leaves the cells' centres."""

    def num_anchors_per_location(self):
        return [9] * 5

    def forward(self, images, features):
        return [config_anchors(CONFIG).boxes] * len(images.tensors)


class NoTransform(nn.Module):
    """In place of torchvision's resizing: uint8 images are normalised, boxes stay in the frame."""

    def __init__(self):
        super().__init__()
        self.normalise = Normalise()

    def forward(self, images, targets):
        tensors = self.normalise(torch.stack(images))
        return ImageList(tensors, [tuple(tensors.shape[-2:])] * len(images)), targets

    def postprocess(self, detections, sizes, originals):
        return detections


def torchvision_twin(ours):
    """torchvision's RetinaNet holding the weights of ours."""
    body = nn.Sequential(OrderedDict(ours.backbone.body.named_children()))
    layers = {f"layer{i}": str(i - 2) for i in (2, 3, 4)}
    backbone = BackboneWithFPN(body, layers, [128, 256, 512], 256, LastLevelP6P7(512, 256))
    rename = {"extra_blocks.convs.0.": "extra_blocks.p6.", "extra_blocks.convs.1.": "extra_blocks.p7."}
    fpn = ours.fpn.state_dict()
    for old, new in rename.items():
        fpn = {k.replace(old, new): v for k, v in fpn.items()}
    backbone.fpn.load_state_dict(fpn)
    twin = TorchvisionRetinaNet(
        backbone,
        num_classes=CLASSES,
        anchor_generator=AnchorGenerator(((32, 40, 51),) * 5, ((0.5, 1.0, 2.0),) * 5),
        detections_per_img=100,
    )
    twin.anchor_generator, twin.transform = OurAnchors(), NoTransform()
    for head, name, last in (
        (ours.class_head, "classification_head", "cls_logits"),
        (ours.box_head, "regression_head", "bbox_reg"),
    ):
        convs = [layer for layer in head.layers if isinstance(layer, nn.Conv2d)]
        targets = [block[0] for block in getattr(twin.head, name).conv] + [
            getattr(getattr(twin.head, name), last)
        ]
        for source, target in zip(convs, targets, strict=True):
            target.load_state_dict(source.state_dict())
    return twin


@pytest.fixture(scope="module")
def models():
    """Ours, its twin, two images; batch norms and heads are random enough for scores all over (0, 1)."""
    torch.manual_seed(0)
    ours = RetinaNet(CONFIG, CLASSES).eval()
    for module in ours.backbone.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.uniform_(0.4, 0.6)
            module.bias.uniform_(-0.2, 0.2)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    blocks = torch.rand(2, 3, 16, 16).repeat_interleave(16, 2).repeat_interleave(16, 3)
    images = (200 * blocks + 55 * torch.rand(2, 3, 256, 256)).to(torch.uint8)
    with torch.no_grad():
        pyramid = list(ours.fpn(OrderedDict(enumerate(ours.features(images)))).values())
        for head, spread in ((ours.class_head, 1.5), (ours.box_head, 0.4)):
            last = head.layers[-1]
            maps = torch.cat([head.layers(level).flatten(2) for level in pyramid], dim=2) - last.bias.view(
                -1, 1
            )
            scale = spread / maps.std(dim=(0, 2))
            last.weight.mul_(scale.view(-1, 1, 1, 1))
            last.bias.sub_(scale * maps.mean(dim=(0, 2)))
    return ours, torchvision_twin(ours).eval(), images


def test_outputs_equal_torchvisions(models):
    ours, twin, images = models
    with torch.no_grad():
        logits, offsets = ours(images)
        theirs = twin.head(list(twin.backbone(NoTransform()(list(images), None)[0].tensors).values()))
    assert logits.shape == (2, 12_276, CLASSES) and offsets.shape == (2, 12_276, 4)
    assert logits.std() > 0.5 and offsets.std() > 0.1
    torch.testing.assert_close(logits, theirs["cls_logits"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(offsets, theirs["bbox_regression"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("nms", [0.5, 0.9])
def test_detections_equal_torchvisions(models, nms):
    _, twin, images = models
    twin.nms_thresh = nms
    with torch.no_grad():
        theirs = twin(list(images))
        # Ours from their outputs: a last-bit difference of two scores may turn an NMS decision.
        heads = twin.head(list(twin.backbone(NoTransform()(list(images), None)[0].tensors).values()))
    grid = config_anchors(CONFIG)
    assert (heads["cls_logits"][0, : grid.per_level[0]] > -2.94).sum() > 1000, (
        "top-k must have something to cut"
    )
    for i, expected in enumerate(theirs):
        boxes, scores, labels = select(
            heads["cls_logits"][i], heads["bbox_regression"][i], grid, CONFIG.replace(nms=nms)
        )
        assert len(scores) == 100 and len(labels.unique()) > 1
        torch.testing.assert_close(scores, expected["scores"], rtol=1e-5, atol=0)
        torch.testing.assert_close(boxes, expected["boxes"], rtol=1e-5, atol=1e-3)
        assert torch.equal(labels, expected["labels"])
    assert all((e["boxes"] == 0).any() or (e["boxes"] == 256).any() for e in theirs), "some are clipped"


def test_losses_equal_torchvisions(models):
    """Image by image, because torchvision averages over images;
    the paper divides by the batch's positives.
    """
    ours, twin, images = models
    twin.train()
    twin.head.regression_head._loss_type = "smooth_l1"  # with its beta of 1
    boxes = torch.tensor([[20.0, 30.0, 60.0, 70.0], [100.0, 90.0, 230.0, 200.0], [150.0, 20.0, 180.0, 60.0]])
    labels = torch.tensor([1, 4, 0])
    losses = twin(list(images[:1]), [{"boxes": boxes, "labels": labels}])
    anchors = config_anchors(CONFIG).boxes
    matched = match(anchors, boxes[None], torch.ones(1, 3, dtype=torch.bool), best_iou=0.0).long()
    positive = matched >= 0
    own = torch.where(positive, labels[matched.clamp(min=0)], matched)
    assert 5 < positive.sum() < 200 and (own == -2).any()
    logits, offsets = ours(images[:1])
    class_loss = detection_focal_loss(logits, own, alpha=0.25, gamma=2.0) / positive.sum()
    boxes_loss = (
        box_loss(offsets, anchors, boxes[matched.clamp(min=0)], positive, CONFIG.replace(box_beta=1.0))
        / positive.sum()
    )
    torch.testing.assert_close(class_loss, losses["classification"], rtol=1e-4, atol=0)
    torch.testing.assert_close(boxes_loss, losses["bbox_regression"], rtol=1e-4, atol=0)
    twin.eval()


# ---- the prior, section 3.3


@pytest.mark.parametrize("prior", [0.01, 0.1, 0.5])
def test_every_anchor_starts_at_the_prior(prior):
    torch.manual_seed(0)
    config = SMALL.replace(prior=prior, fpn_channels=64, head_convs=4)
    model = RetinaNet(config, 10).eval()
    images = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    with torch.no_grad():
        p = model(images)[0].sigmoid()
    assert p.mean().item() == pytest.approx(prior, rel=0.05)
    assert p.min() > 0.8 * prior and p.max() < 1.2 * prior


def test_group_norm_keeps_the_prior_near():
    """With normalised features the last layer's random weights spread the scores, around the same logit."""
    torch.manual_seed(0)
    model = RetinaNet(SMALL.replace(head_norm="group", fpn_channels=64), 10).eval()
    with torch.no_grad():
        p = model(torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8))[0].sigmoid()
    assert p.mean().item() == pytest.approx(0.01, rel=0.2)


# ---- frozen


def changed(config, data):
    """Names of parameters, and of buffers, that a few training steps change; and the trained model."""
    torch.manual_seed(config.seed)
    before = {k: v.clone() for k, v in initial_model(config, data).state_dict().items()}
    model = train(config, data, torch.device("cpu")).model
    after = model.state_dict()
    return {k for k in before if not torch.equal(before[k], after[k])}, model


def test_nothing_frozen_changes_every_parameter(tiny):
    names, model = changed(SMALL, tiny[0])
    assert {k for k, _ in model.named_parameters()} <= names


def test_frozen_stage1_stays(tiny):
    names, model = changed(
        CONFIG.replace(image_size=128, batch_size=2, steps=1, warmup=0, fpn_channels=32), tiny[0]
    )
    stem = ("backbone.body.conv1", "backbone.body.bn1", "backbone.body.layer1")
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith(stem), name
        assert (name in names) != name.startswith(stem), name
    assert not any(k.startswith("backbone") and "running" in k for k in names)


def test_frozen_backbone_stays_and_is_in_eval(tiny, tmp_path):
    torch.manual_seed(7)
    weights = BACKBONES["small"]().state_dict()
    save_file(weights, tmp_path / "small.safetensors")
    config = SMALL.replace(frozen="backbone", flip=False, weights=str(tmp_path / "small.safetensors"))
    names, model = changed(config, tiny[0])
    assert names and not any(k.startswith("backbone") for k in names)
    assert all(torch.equal(v, weights[k]) for k, v in model.backbone.state_dict().items())
    model.train()
    assert not any(m.training for m in model.backbone.modules()) and model.fpn.training
    assert not any(p.requires_grad for p in model.backbone.parameters())


def test_a_level_that_the_backbone_lacks():
    with pytest.raises(ValueError, match=r"first_level is 2; resnet18 has the levels \[3, 4, 5\]"):
        RetinaNet(CONFIG.replace(first_level=2), 3)
    with pytest.raises(ValueError, match=r"first_level is 5; small has the levels \[2, 3, 4\]"):
        RetinaNet(SMALL.replace(first_level=5, last_level=6), 3)
