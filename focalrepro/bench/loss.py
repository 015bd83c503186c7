"""The focal loss, forward and backward, against torchvision's on a COCO batch: 64 × 12,276 × 80 logits in bf16."""

import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from focalrepro.bench.limits import Limits
from focalrepro.bench.measure import Row, in_turn
from focalrepro.training.focal_sum import detection_focal_loss

SHAPE = (64, 12_276, 80)
POSITIVE, IGNORED = 1e-3, 2e-3  # shares of the anchors


def make_batch(device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits as they are early in training, around the prior's -4.6, and integer labels."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(SHAPE[:2], generator=generator)
    labels = torch.full(SHAPE[:2], -1)
    labels[draw < POSITIVE + IGNORED] = -2
    labels[draw < POSITIVE] = torch.randint(0, SHAPE[2], (int((draw < POSITIVE).sum()),), generator=generator)
    logits = torch.empty(SHAPE, dtype=torch.bfloat16)
    for part in logits:
        part.copy_(torch.randn(SHAPE[1:], generator=generator) - 4.6)
    return logits.to(device).requires_grad_(), labels.to(device)


def ours(logits: Tensor, labels: Tensor) -> None:
    """Integer labels in, gradient out."""
    logits.grad = None
    detection_focal_loss(logits, labels, 0.25, 2.0).backward()


def theirs(logits: Tensor, labels: Tensor) -> None:
    """As torchvision's RetinaNet does it: dense one-hot targets, ignored anchors left out."""
    logits.grad = None
    kept = labels != -2
    target = F.one_hot(labels.clamp(min=0), SHAPE[2]).to(logits.dtype) * (labels >= 0).unsqueeze(-1)
    torchvision_focal_loss(logits[kept], target[kept], alpha=0.25, gamma=2.0, reduction="sum").backward()


def bench_loss(device: torch.device, limits: Limits, repeats: int = 3) -> Row:
    """Seconds of one forward and backward, and the memory that ours needs on top, in units of the logits."""
    logits, labels = make_batch(device)
    a, b = in_turn(lambda: ours(logits, labels), lambda: theirs(logits, labels), device, repeats)
    # At the least the logits are read once and their gradient is written once.
    least = 2 * logits.numel() * logits.element_size() / (limits.gigabytes * 1e9)
    return Row(
        what=f"focal loss forward + backward, {' × '.join(map(str, SHAPE))} in bf16",
        against="torchvision.ops.sigmoid_focal_loss",
        unit="s",
        ours=a,
        theirs=b,
        more_is_better=False,
        goal=5.0 if device.type == "cuda" else 3.0,
        note=f"extra memory {extra_memory(device):.2f} × the logits",
        share=least / a.median,
        limit="copy bandwidth",
    )


def extra_memory(device: torch.device) -> float:
    """Peak memory of `ours` beyond the logits and labels, divided by the logits' size; the gradient counts."""
    if device.type == "cuda":
        logits, labels = make_batch(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        ours(logits, labels)
        used = torch.cuda.max_memory_allocated(device) - before
        return used / (logits.numel() * logits.element_size())
    # On the CPU the process's own peak is all there is to read, so a process of its own is asked.
    code = "from focalrepro.bench.loss import print_peak; print_peak()"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return float(done.stdout)


def print_peak() -> None:
    """For `extra_memory`: the growth of this process's peak during one call, in units of the logits."""
    logits, labels = make_batch(torch.device("cpu"))
    small = logits.detach()[:1].clone().requires_grad_()
    ours(small, labels[:1])  # what is loaded at the first call is not the loss's own
    before = peak_bytes()
    ours(logits, labels)
    print((peak_bytes() - before) / (logits.numel() * logits.element_size()))


def peak_bytes() -> int:
    """This process's greatest resident size so far (Linux); getrusage's would begin with its parent's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(x for x in status.splitlines() if x.startswith("VmHWM")).split()[1])
