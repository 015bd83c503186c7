"""Backbones: their weights, their maps, and what is refused."""

from itertools import count

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from focalrepro.config import RunConfig
from focalrepro.detector.backbones import (
    BACKBONES,
    FrozenNorm,
    Normalise,
    ResNet50V2,
    TypedFrozenNorm,
    conv_norm,
    make_backbone,
)

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


# ---- resnet50v2 in the ONNX model zoo's naming


def random_v2_state(seed=0):
    """Random weights under the names of resnet50-v2-7: per stage, convolutions and norms are numbered on."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def conv(name, outputs, inputs, side):
        weight = torch.randn(outputs, inputs, side, side, generator=generator)
        state[f"{name}_weight"] = weight / (inputs * side * side) ** 0.5

    def norm(name, channels):
        for part, low in (("gamma", 0.5), ("beta", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
            state[f"{name}_{part}"] = low + torch.rand(channels, generator=generator)

    norm("batchnorm0", 3)
    conv("conv0", 64, 3, 7)
    norm("batchnorm1", 64)
    inputs = 64
    for stage, (units, width) in enumerate(((3, 64), (4, 128), (6, 256)), start=1):
        convs, norms = count(), count()
        for unit in range(units):
            for channels in (inputs, width, width):
                norm(f"stage{stage}_batchnorm{next(norms)}", channels)
            conv(f"stage{stage}_conv{next(convs)}", width, inputs, 1)
            conv(f"stage{stage}_conv{next(convs)}", width, width, 3)
            conv(f"stage{stage}_conv{next(convs)}", 4 * width, width, 1)
            if unit == 0:
                conv(f"stage{stage}_conv{next(convs)}", 4 * width, inputs, 1)
            inputs = 4 * width
    norm("stage4_batchnorm0", 1024)
    return state


def plain_v2(state, x):
    """ResNet-50 v2 to C4 with torch's batch norm, straight from the names: He et al. 2016, figure 1b."""

    def norm(x, name):
        parts = (state[f"{name}_{p}"] for p in ("running_mean", "running_var", "gamma", "beta"))
        return F.batch_norm(x, *parts, training=False, eps=1e-5)

    x = F.conv2d(norm(x, "batchnorm0"), state["conv0_weight"], stride=2, padding=3)
    x = F.max_pool2d(F.relu(norm(x, "batchnorm1")), 3, 2, 1)
    c3 = None
    for stage, units in ((1, 3), (2, 4), (3, 6)):
        for unit in range(units):
            first = 0 if unit == 0 else 3 * unit + 1  # the first unit has a fourth convolution, its shortcut
            weights = [state[f"stage{stage}_conv{first + i}_weight"] for i in range(4 if unit == 0 else 3)]
            stride = 2 if unit == 0 and stage > 1 else 1
            a = F.relu(norm(x, f"stage{stage}_batchnorm{3 * unit}"))
            if stage == 3 and unit == 0:
                c3 = a
            shortcut = F.conv2d(a, weights[3], stride=stride) if unit == 0 else x
            y = F.conv2d(a, weights[0])
            y = F.conv2d(
                F.relu(norm(y, f"stage{stage}_batchnorm{3 * unit + 1}")), weights[1], None, stride, 1
            )
            y = F.conv2d(F.relu(norm(y, f"stage{stage}_batchnorm{3 * unit + 2}")), weights[2])
            x = y + shortcut
    return {3: c3, 4: F.relu(norm(x, "stage4_batchnorm0"))}


def test_resnet50v2_is_the_plain_network(tmp_path):
    state = random_v2_state()
    save_file(state, tmp_path / "v2.safetensors")
    backbone = make_backbone("resnet50v2", str(tmp_path / "v2.safetensors")).eval()
    x = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, plain = backbone(x), plain_v2(state, x)
    assert ours[3].shape == (1, 512, 32, 32) and ours[4].shape == (1, 1024, 16, 16)
    for level in (3, 4):
        assert plain[level].std() > 0.1
        torch.testing.assert_close(
            ours[level], plain[level], rtol=1e-3, atol=1e-4 * float(plain[level].std())
        )
    assert backbone.channels == {3: 512, 4: 1024}


def test_resnets_read_torchvisions_weights(tmp_path):
    import torchvision

    reference = torchvision.models.resnet18(num_classes=7).eval()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(reference.state_dict(), tmp_path / "resnet18.pth")
    backbone = make_backbone("resnet18", str(tmp_path / "resnet18.pth")).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        c5 = backbone(x)[5]
        logits = reference.fc(F.adaptive_avg_pool2d(c5, 1).flatten(1))
        torch.testing.assert_close(logits, reference(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_levels_have_their_stride_and_channels(name):
    backbone = BACKBONES[name]().eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 64, 64))
    assert {level: m.shape for level, m in maps.items()} == {
        level: (1, channels, 64 // 2**level, 64 // 2**level) for level, channels in backbone.channels.items()
    }


def test_normalise_is_imagenets():
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(Normalise()(images), expected, rtol=1e-5, atol=1e-5)


# ---- errors


def test_unknown_backbone():
    with pytest.raises(ValueError, match=r"'resnet51'.*resnet50"):
        make_backbone("resnet51")
    with pytest.raises(ValueError, match="'small' has no ImageNet weights"):
        make_backbone("small", "imagenet")


def test_weights_under_any_name(tmp_path):
    """As in a cache, whose files are called by their digests."""
    save_file(BACKBONES["small"]().state_dict(), tmp_path / "3f2a")
    (tmp_path / "small.safetensors").symlink_to(tmp_path / "3f2a")
    for name in ("3f2a", "small.safetensors"):
        assert make_backbone("small", str(tmp_path / name)).state_dict().keys()


def test_weights_that_are_not_there_or_another_networks(tmp_path):
    missing = tmp_path / "gone.safetensors"
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors.*resnet18"):
        make_backbone("resnet18", str(missing))
    save_file(BACKBONES["small"]().state_dict(), tmp_path / "small.safetensors")
    for name in ("resnet18", "resnet50v2"):
        with pytest.raises(ValueError, match=f"small.safetensors.*not weights of {name}"):
            make_backbone(name, str(tmp_path / "small.safetensors"))
    with pytest.raises(KeyError):
        ResNet50V2().load({})


def test_a_damaged_weights_file_is_named(tmp_path):
    for name, content in (
        ("broken.safetensors", b"not weights at all"),
        ("broken.pth", b"not weights"),
        ("empty.pth", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            make_backbone("small", str(tmp_path / name))


def test_a_folded_norm_is_the_norm_and_trains_as_it_would():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False), FrozenNorm(8)
    norm.scale.uniform_(0.5, 2.0)
    norm.shift.normal_()
    x, upstream = torch.randn(2, 6, 9, 9), torch.randn(2, 8, 5, 5)
    apart, folded = norm(conv(x)), conv_norm(x, conv, norm)
    torch.testing.assert_close(folded, apart, rtol=1e-5, atol=1e-5)
    (one,), (other,) = (torch.autograd.grad(y, [conv.weight], upstream) for y in (apart, folded))
    torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("of", [FrozenNorm, TypedFrozenNorm])
def test_a_frozen_norm_leaves_a_map_its_type(of):
    """In fp32 it would double the bytes of all that follows."""
    assert of(8)(torch.randn(1, 8, 3, 3).bfloat16()).dtype == torch.bfloat16
