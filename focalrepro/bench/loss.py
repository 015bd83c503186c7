"""The focal loss, forward and backward, against torchvision's on a batch of COCO's size in bf16."""

from collections.abc import Iterator
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor
from torch.profiler import profile
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from focalrepro.bench.measure import PROFILED, Finding, Limits, Row, Sizes, timed
from focalrepro.losses import BACKGROUND, IGNORED
from focalrepro.training.focal_sum import detection_focal_loss

POSITIVE, LEFT_OUT = 1e-3, 2e-3  # shares of the anchors


def make_batch(device: torch.device, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Logits as they are early in training, around the prior's -4.6, and integer labels."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(shape[:2], generator=generator)
    labels = torch.full(shape[:2], BACKGROUND)
    labels[draw < POSITIVE + LEFT_OUT] = IGNORED
    labels[draw < POSITIVE] = torch.randint(shape[2], (int((draw < POSITIVE).sum()),), generator=generator)
    logits = torch.randn(shape, generator=generator, dtype=torch.bfloat16) - 4.6
    return logits.to(device).requires_grad_(), labels.to(device)


def ours(logits: Tensor, labels: Tensor) -> None:
    """Integer labels in, gradient out."""
    logits.grad = None
    detection_focal_loss(logits, labels, 0.25, 2.0).backward()


def theirs(logits: Tensor, labels: Tensor) -> None:
    """As torchvision's RetinaNet does it: dense targets, 1 for each object; ignored anchors left out."""
    logits.grad = None
    kept, (image, anchor) = labels != IGNORED, (labels >= 0).nonzero(as_tuple=True)
    target = torch.zeros_like(logits, requires_grad=False)
    target[image, anchor, labels[image, anchor]] = 1
    torchvision_focal_loss(logits[kept], target[kept], alpha=0.25, gamma=2.0, reduction="sum").backward()


def extra_memory(logits: Tensor, labels: Tensor) -> float:
    """Peak memory that `ours` allocates, in units of the logits; the gradient counts."""
    logits.grad = None
    activities, kind, _ = PROFILED[logits.device.type]
    with profile(activities=activities, profile_memory=True) as record:
        ours(logits, labels)
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    events = sorted((e for e in events if e.device_type() == kind), key=lambda e: e.start_ns())
    return max(accumulate(e.nbytes() for e in events)) / logits.nbytes


def bench_loss(device: torch.device, limits: Limits, sizes: Sizes) -> Iterator[Finding]:
    """Seconds of one forward and backward, and the memory that ours needs on top, in units of the logits."""
    logits, labels = make_batch(device, sizes.loss)
    calls = partial(ours, logits, labels), partial(theirs, logits, labels)
    a, b = timed(calls, device, sizes)
    # At the least the logits are read once and their gradient is written once.
    least = 2 * logits.nbytes / (limits.gigabytes * 1e9)
    what = f"focal loss forward + backward, {' × '.join(map(str, sizes.loss))} in bf16"
    note, share = f"extra memory {extra_memory(logits, labels):.2f} × the logits", least / a.median
    against, limit = "torchvision.ops.sigmoid_focal_loss", "copy bandwidth"
    yield Row(what, against, "s", a, b, note=note, share=share, limit=limit).kept()
