"""The fast loss and norms against plain definitions in fp64, on any device: what `focalrepro doctor` proves
first.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F

from focalrepro.detector.backbones import FrozenNorm
from focalrepro.detector.group_norm import GroupNormReLU
from focalrepro.losses import focal_terms
from focalrepro.training.focal_sum import detection_focal_loss

CLASSES = (1, 12, 80, 90)
DIGITS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}  # a gradient is rounded to the logits' type
NORM_DIGITS, KINK = {torch.float32: 1e-4, torch.bfloat16: 5e-2}, 0.1
BEYOND_32_BITS = 2**31 + 2**20  # logits
NORMS = ((64, 16), (256, 32))  # channels and groups of coco-cpu's and coco256's heads


def loss_is_fp64s(device: torch.device) -> str:
    """Value and gradient of the fast sum against the plain definition in fp64, by number of classes."""
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for classes, (dtype, digits) in product(CLASSES, DIGITS.items()):
        logits = (torch.randn(2, 400, classes, generator=generator) * 4 - 3).to(dtype)
        labels = torch.randint(-2, classes, (2, 400), generator=generator)
        fast, plain = (x.clone().requires_grad_() for x in (logits.to(device), logits.double()))
        total = detection_focal_loss(fast, labels.to(device), 0.25, 2.0)
        wanted = focal_terms(plain, labels, 0.25, 2.0).sum()
        total.backward()
        wanted.backward()
        torch.testing.assert_close(total.double().cpu(), wanted.detach(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(fast.grad.double().cpu(), plain.grad, rtol=digits, atol=1e-6)
        worst = max(worst, abs(float(total.detach()) / float(wanted.detach()) - 1))
    said = f"{len(CLASSES)} numbers of classes in fp32 and bf16, worst relative error of the sum {worst:.0e}"
    return said + (large_loss(device) if device.type == "cuda" else "; the large one needs a GPU")


def large_loss(device: torch.device) -> str:
    """More logits than 32 bits can count: all are background at 0, so the sum and every slope are known."""
    logits = torch.zeros(BEYOND_32_BITS // 64, 64, dtype=torch.bfloat16, device=device, requires_grad=True)
    labels = torch.full((len(logits),), -1, device=device)
    total = detection_focal_loss(logits, labels, 0.25, 0.0)
    total.backward()
    wanted = 0.75 * logits.numel() * torch.log(torch.tensor(2.0, dtype=torch.float64))
    torch.testing.assert_close(total.double().cpu(), wanted, rtol=1e-4, atol=0)
    ends = torch.stack([logits.grad[0, 0], logits.grad[-1, -1]]).cpu()
    torch.testing.assert_close(ends.float(), torch.full((2,), 0.375), rtol=1e-2, atol=0)
    return f"; {logits.numel():,} logits at once"


def norms_are_torchs(device: torch.device) -> str:
    """Norm and ReLU as one, values and gradients, against torch's own in fp64."""
    generator = torch.Generator().manual_seed(0)
    for (channels, groups), (dtype, digits) in product(NORMS, NORM_DIGITS.items()):
        group, frozen = GroupNormReLU(groups, channels), FrozenNorm(channels)
        for tensor in (group.weight.data, group.bias.data, frozen.scale, frozen.shift):
            tensor.copy_(torch.randn(channels, generator=generator))
        x, upstream = (torch.randn(2, channels, 9, 7, generator=generator).to(dtype) for _ in "xy")
        weight, bias = (p.detach().double().requires_grad_() for p in (group.weight, group.bias))
        scale, shift = (t.double().view(1, -1, 1, 1) for t in (frozen.scale, frozen.shift))
        of_groups = partial(F.group_norm, num_groups=groups, weight=weight, bias=bias)
        fixed = lambda x, a=scale, b=shift: x * a + b  # noqa: E731
        ours = list(group.to(device).parameters())
        kinds = (group, of_groups, ours, [weight, bias]), (frozen.to(device).relu, fixed, [], [])
        for fast, slow, parameters, theirs in kinds:
            # Beside its kink the ReLU of a rounded map may be on the other side.
            clear = torch.where(slow(x.double()).abs() > KINK, upstream, 0)
            plain = lambda x, of=slow: F.relu(of(x))  # noqa: E731
            mine = _value_and_slopes(fast, x.to(device), clear.to(device), parameters)
            wanted = _value_and_slopes(plain, x.double(), clear.double(), theirs)
            for a, b in zip(mine, wanted, strict=True):
                torch.testing.assert_close(a.double().cpu(), b, rtol=digits, atol=digits)
    return f"{len(NORMS)} widths in fp32 and bf16, of groups and frozen"


def _value_and_slopes(
    of: Callable[..., torch.Tensor], x: torch.Tensor, upstream: torch.Tensor, parameters: list[torch.Tensor]
) -> list[torch.Tensor]:
    """What a norm makes of x, and its gradients by x and by its parameters."""
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    y = of(x)
    upstream = upstream.contiguous(memory_format=torch.channels_last)
    return [y.detach(), *torch.autograd.grad(y, [x, *parameters], upstream)]
