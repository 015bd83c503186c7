"""Backbones: images [B, 3, S, S] to the feature maps C_l of stride 2^l that the pyramid is built on.

A backbone whose norms are all frozen has its first stage apart: `stage1` makes C2, of `fixed_channels`, and
`after_stage1` the maps from it. Where that stage is frozen, an image's C2 is always the same.
"""

import itertools
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from focalrepro.detector.group_norm import TRITON
from focalrepro.hardware import kernels

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalise(nn.Module):
    """uint8 RGB [B, 3, S, S] to floats with ImageNet's mean and deviation, as all backbones here expect."""

    def __init__(self) -> None:
        super().__init__()
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


class TypedFrozenNorm(FrozenBatchNorm2d):
    """torchvision's, in the type of its input: its fp32 statistics would carry a map in bf16 into fp32."""

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.to(x.dtype).view(1, -1, 1, 1) + shift.to(x.dtype).view(1, -1, 1, 1)


class ResNet(nn.Module):
    """torchvision's ResNet with frozen batch norms: C3, C4 and C5."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.body = torchvision.models.get_model(name, weights=None, norm_layer=TypedFrozenNorm)
        last = self.body.fc.in_features
        del self.body.fc, self.body.avgpool
        self.channels = {3: last // 4, 4: last // 2, 5: last}
        self.fixed_channels = last // 8

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        return self.after_stage1(self.stage1(x))

    def stage1(self, x: Tensor) -> Tensor:
        b = self.body
        return b.layer1(b.maxpool(b.relu(b.bn1(b.conv1(x)))))

    def after_stage1(self, c2: Tensor) -> dict[int, Tensor]:
        c3 = self.body.layer2(c2)
        c4 = self.body.layer3(c3)
        return {3: c3, 4: c4, 5: self.body.layer4(c4)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes weights in torchvision's naming; the classifier's are left out."""
        state = {k: v for k, v in state.items() if not k.startswith("fc.") and "num_batches" not in k}
        self.body.load_state_dict(state)

    def stage1_modules(self) -> list[nn.Module]:
        return [self.body.conv1, self.body.layer1]


class FrozenNorm(nn.Module):
    """Batch norm with fixed statistics and fixed affine: y = x · scale + shift, both [C] buffers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("shift", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = (t.to(x.dtype).view(1, -1, 1, 1) for t in (self.scale, self.shift))
        return x * scale + shift

    def relu(self, x: Tensor) -> Tensor:
        """ReLU of the norm of x [B, C, H, W]: on a GPU one kernel, where there is Triton."""
        fast = kernels(TRITON) if x.is_cuda else None
        return fast.ScaleShiftReLU.apply(x, self.scale, self.shift) if fast else F.relu(self(x))

    def set(self, state: dict[str, Tensor], prefix: str, eps: float = 1e-5) -> None:
        """Folds gamma, beta, running mean and variance into scale and shift."""
        scale = state[prefix + "_gamma"] / (state[prefix + "_running_var"] + eps).sqrt()
        self.scale.copy_(scale)
        self.shift.copy_(state[prefix + "_beta"] - state[prefix + "_running_mean"] * scale)


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: FrozenNorm) -> Tensor:
    """A convolution without bias and the frozen norm after it as one: the norm costs no pass of its own.

    The weights stay the convolution's own, so they train as they would with the norm apart.
    """
    weight = conv.weight * norm.scale.view(-1, 1, 1, 1)
    return F.conv2d(x, weight, norm.shift, conv.stride, conv.padding)


class PreActUnit(nn.Module):
    """A bottleneck of ResNet v2: norm and ReLU come before each convolution; the shortcut reads the first."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, project: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(FrozenNorm(c) for c in (inputs, width, width))
        narrow = nn.Conv2d(inputs, width, 1, bias=False)
        middle = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.convs = nn.ModuleList([narrow, middle, nn.Conv2d(width, outputs, 1, bias=False)])
        if project:
            self.convs.append(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        first = self.norms[0].relu(x)
        shortcut = self.convs[3](first) if len(self.convs) == 4 else x
        y = F.relu(conv_norm(first, self.convs[0], self.norms[1]))
        y = F.relu(conv_norm(y, self.convs[1], self.norms[2]))
        return self.convs[2](y) + shortcut


class ResNet50V2(nn.Module):
    """Pre-activation ResNet-50 up to the end of its third stage: C3 and C4, each after norm and ReLU."""

    STAGES = ((3, 64, 256, 1), (4, 128, 512, 2), (6, 256, 1024, 2))  # units, width, outputs, stride

    def __init__(self) -> None:
        super().__init__()
        self.norm_in, self.norm_stem = FrozenNorm(3), FrozenNorm(64)
        self.stem = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.stages = nn.ModuleList()
        inputs = 64
        for units, width, outputs, stride in self.STAGES:
            stage = [PreActUnit(inputs, width, outputs, stride, True)]
            stage += [PreActUnit(outputs, width, outputs, 1, False) for _ in range(units - 1)]
            self.stages.append(nn.Sequential(*stage))
            inputs = outputs
        self.norm_out = FrozenNorm(1024)
        self.channels, self.fixed_channels = {3: 512, 4: 1024}, 256

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        return self.after_stage1(self.stage1(x))

    def stage1(self, x: Tensor) -> Tensor:
        x = F.relu(conv_norm(self.norm_in(x), self.stem, self.norm_stem))
        return self.stages[0](F.max_pool2d(x, 3, stride=2, padding=1))

    def after_stage1(self, c2: Tensor) -> dict[int, Tensor]:
        x = self.stages[1](c2)
        # C3 as its reader in the next stage sees it: that stage's first norm and ReLU.
        c3 = self.stages[2][0].norms[0].relu(x)
        return {3: c3, 4: self.norm_out.relu(self.stages[2](x))}

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes weights in the naming of the ONNX model zoo's resnet50-v2-7."""
        with torch.no_grad():
            self.norm_in.set(state, "batchnorm0")
            self.stem.weight.copy_(state["conv0_weight"])
            self.norm_stem.set(state, "batchnorm1")
            for number, stage in enumerate(self.stages, start=1):
                for i, norm in enumerate(norm for unit in stage for norm in unit.norms):
                    norm.set(state, f"stage{number}_batchnorm{i}")
                for i, conv in enumerate(conv for unit in stage for conv in unit.convs):
                    conv.weight.copy_(state[f"stage{number}_conv{i}_weight"])
            self.norm_out.set(state, "stage4_batchnorm0")

    def stage1_modules(self) -> list[nn.Module]:
        return [self.stem, self.stages[0]]


class SmallNet(nn.Module):
    """For the embedded dataset: four strided stages of 3×3 convolutions, C2 to C4, trained from scratch.

    A stage has two convolutions, the first stage one; `depth` multiplies these numbers.
    """

    WIDTHS = (16, 32, 64, 96)

    def __init__(self, depth: int = 1) -> None:
        super().__init__()
        self.stages, inputs = nn.ModuleList(), 3
        for width, convs in zip(self.WIDTHS, (1, 2, 2, 2), strict=True):
            layers = [_conv_norm(inputs, width, 2)]
            layers += [_conv_norm(width, width, 1) for _ in range(depth * convs - 1)]
            self.stages.append(nn.Sequential(*layers))
            inputs = width
        self.channels, self.fixed_channels = {2: 32, 3: 64, 4: 96}, 0  # its batch norms are never fixed

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        maps = list(itertools.accumulate(self.stages, lambda x, stage: stage(x), initial=x))
        return {level: maps[level] for level in self.channels}

    def load(self, state: dict[str, Tensor]) -> None:
        self.load_state_dict(state)

    def stage1_modules(self) -> list[nn.Module]:
        return [self.stages[0]]


def _conv_norm(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


BACKBONES: dict[str, Callable[[], nn.Module]] = {
    **{"small": SmallNet, "small_deep": partial(SmallNet, depth=2)},
    **{name: partial(ResNet, name) for name in ("resnet18", "resnet34", "resnet50", "resnet101")},
    "resnet50v2": ResNet50V2,
}


def make_backbone(name: str, weights: str = "none") -> nn.Module:
    """A backbone with its weights loaded.

    weights: "none"; "imagenet" (from torchvision's own address); or the path of a .safetensors, or of a .pth,
    which is read with weights_only.
    Errors: ValueError for an unknown name or weights of another network; FileNotFoundError names the file.
    """
    if name not in BACKBONES:
        raise ValueError(f"backbone is {name!r}; there are {', '.join(BACKBONES)}")
    backbone = BACKBONES[name]()
    if weights == "none":
        return backbone
    if weights == "imagenet":
        if name.startswith("small"):
            raise ValueError(f"backbone {name!r} has no ImageNet weights; set weights to 'digits' or 'none'")
        backbone.load(torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].get_state_dict())
        return backbone
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; it should hold the weights of {name}")
    try:
        safe = path.suffix == ".safetensors" or _has_tensors_alone(path)
        backbone.load(load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:  # whose text advises to load it unsafely
        raise ValueError(f"{path}: no file of tensors alone; save the weights as safetensors") from error
    except (KeyError, RuntimeError, AttributeError, EOFError, SafetensorError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: these are not weights of {name} in its own naming: {what}") from error
    return backbone


def _has_tensors_alone(path: Path) -> bool:
    """Whether it is a safetensors file, whatever its name: that of a cache is a digest."""
    try:
        with safe_open(path, "pt"):
            return True
    except (SafetensorError, OSError):
        return False
