"""How cost grows with the work: seconds against images, image size and batch, measured one point after another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from focalrepro.bench.evaluation import made_up_detections, made_up_truth
from focalrepro.bench.measure import Spread, seconds
from focalrepro.config import RunConfig
from focalrepro.datasets import load
from focalrepro.evaluation.bootstrap import bootstrap_weights, weighted_ap
from focalrepro.evaluation.coco_ap import evaluate_coco
from focalrepro.evaluation.match_table import match_table
from focalrepro.training.loop import train

CPU_BATCHES, CPU_SIZES = (1, 2, 4, 8, 16, 32), (64, 96, 128, 192, 256)
GPU_BATCHES, GPU_SIZES = (8, 16, 32, 64, 128), (128, 256, 384, 512, 800)
IMAGES = (250, 500, 1000, 2000, 4000)
IMAGE_SIZE_BATCH = 8  # of the curve over image sizes


@dataclass(frozen=True)
class Curve:
    """seconds of `what` at each x; exponent: the slope on log-log axes, 1 where cost grows in proportion.

    For image sizes x is the number of pixels, so that 1 means the same there.
    """

    what: str
    x_label: str
    x: tuple[float, ...]
    y: tuple[Spread, ...]

    @property
    def exponent(self) -> float:
        """Of the upper half of the points, where fixed costs weigh little."""
        half = len(self.x) // 2
        log_x, log_y = np.log(self.x[half:]), np.log([s.median for s in self.y[half:]])
        return float(np.polyfit(log_x, log_y, 1)[0])

    def as_dict(self) -> dict[str, Any]:
        fields = {"what": self.what, "x_label": self.x_label, "x": self.x, "exponent": self.exponent}
        return fields | {"y": [vars(s) for s in self.y]}


def _curve(
    what: str, x_label: str, xs: Sequence[float], cost: Callable[[float], float], repeats: int
) -> Curve:
    return Curve(what, x_label, tuple(xs), tuple(Spread.of([cost(x) for _ in range(repeats)]) for x in xs))


def step_seconds(config: RunConfig, device: torch.device, steps: int) -> float:
    """Seconds of one training step at a batch and image size, after some steps to warm up."""
    data = load(config.dataset, "train", config.image_size)
    short = config.replace(schedule="cosine", warmup=1)
    train(short.replace(steps=5), data, device)
    return train(short.replace(steps=steps), data, device).seconds / steps


def training_curves(base: RunConfig, device: torch.device, repeats: int = 3, steps: int = 6) -> list[Curve]:
    """A training step against the batch at the base's image size, and against the pixels of an image."""
    batches, sizes = (GPU_BATCHES, GPU_SIZES) if device.type == "cuda" else (CPU_BATCHES, CPU_SIZES)
    return [
        _curve(
            f"training step, {base.image_size}² images",
            "images in a batch",
            batches,
            lambda b: step_seconds(base.replace(batch_size=int(b)), device, steps),
            repeats,
        ),
        _curve(
            f"training step, {IMAGE_SIZE_BATCH} images",
            "pixels of an image",
            [float(s * s) for s in sizes],
            lambda p: step_seconds(
                base.replace(image_size=round(p**0.5), batch_size=IMAGE_SIZE_BATCH), device, steps
            ),
            repeats,
        ),
    ]


def evaluation_curves(repeats: int = 3) -> list[Curve]:
    """COCO's metrics, and 1,000 bootstrap replicates of AP, against the number of validation images."""
    cases = {}
    for n in IMAGES:
        truth = made_up_truth(n)
        cases[n] = (truth, np.arange(n), made_up_detections(truth))
    cpu = torch.device("cpu")

    def bootstrap(n: int) -> None:
        weighted_ap(match_table(*cases[n]), bootstrap_weights(n, 1000))

    label = "validation images, 100 detections each"
    return [
        _curve(
            "COCO's metrics",
            label,
            IMAGES,
            lambda n: seconds(lambda: evaluate_coco(*cases[n]), cpu),
            repeats,
        ),
        _curve(
            "1,000 replicates of AP", label, IMAGES, lambda n: seconds(lambda: bootstrap(n), cpu), repeats
        ),
    ]
