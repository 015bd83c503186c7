"""What this machine can do at most: a large matrix product in bf16, and a large copy."""

from dataclasses import dataclass

import torch

from focalrepro.bench.measure import seconds


@dataclass(frozen=True)
class Limits:
    """teraflops of a square bf16 product on random data; gigabytes a second of a copy, read and written."""

    teraflops: float
    gigabytes: float


def measure_limits(device: torch.device, repeats: int = 5) -> Limits:
    """The best of some repeats, since these are limits."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = min(seconds(lambda: a @ b, device) for _ in range(repeats))
    source = torch.empty((1 << 32) if device.type == "cuda" else (1 << 28), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = min(seconds(lambda: target.copy_(source), device) for _ in range(repeats))
    return Limits(2 * side**3 / product / 1e12, 2 * source.numel() / copy / 1e9)
