"""One training: the order of the images, the rate of each step, the watch over what is finite, the history."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.training.batches import TrainData, batches, config_anchors
from focalrepro.training.step import Step, autocast, make_optimizer

if TYPE_CHECKING:
    from focalrepro.training.engines import Engines

__all__ = [
    "Step",
    "TrainData",
    "TrainResult",
    "autocast",
    "batches",
    "config_anchors",
    "make_optimizer",
    "train",
]

REFERENCE_BATCH = 16  # the batch that RunConfig.lr is for
CHECK_EVERY = 10  # steps between two looks at whether everything is finite

OnStep = Callable[[int, int], None]


@dataclass
class TrainResult:
    """A trained model and how it got there.

    history: loss, class_loss and box_loss per step. status: "done" or "diverged" (a loss or gradient was not
    finite). seconds: of the steps alone. positives: anchors assigned to an object, per image.
    """

    model: nn.Module
    status: str
    history: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    images_per_second: float = 0.0
    positives: float = 0.0


def learning_rate(step: int, config: RunConfig) -> float:
    """The rate of a step: linear warm-up from a third (Detectron), then steps at 2/3 and 8/9, or a cosine to 0."""
    rate = config.lr * config.batch_size / REFERENCE_BATCH
    if step < config.warmup:
        rate *= 1 / 3 + 2 / 3 * step / config.warmup
    if config.schedule == "steps":
        return rate * 0.1 ** sum(step >= config.steps * part for part in (2 / 3, 8 / 9))
    return rate * (1 + math.cos(math.pi * step / config.steps)) / 2


def train(
    config: RunConfig,
    data: DetectionData,
    device: torch.device,
    on_step: OnStep = lambda done, total: None,
    progress: bool = False,
    engines: "Engines | None" = None,
) -> TrainResult:
    """Trains one model from scratch or from ImageNet weights, as the config says.

    on_step(done, total) is called now and then. A loss or gradient that is not finite ends the training with
    status "diverged", and the history ends with that loss. engines: keeps what the next run can use again.
    """
    from focalrepro.training.engines import new_step

    step = engines.step(config, data, device) if engines else new_step(config, data, device, progress)
    return run_steps(step.model, step, len(step.source), step.source.positives, config, on_step)


def run_steps(
    model: nn.Module,
    step: "Step",
    images: int,
    positives: float,
    config: RunConfig,
    on_step: OnStep = lambda done, total: None,
) -> TrainResult:
    """All steps of a training, whatever its detector: the order of the images, the rates, the watch over finiteness.

    step: called with indices, views and a rate; leaves `losses` [3] and `finite`.
    """
    device = step.device
    index, views = (t.to(device) for t in batches(images, config))
    history = torch.zeros(config.steps, 3, device=device)

    start, done, status = time.perf_counter(), 0, "done"
    while done < config.steps:
        step(index[done], views[done], learning_rate(done, config))
        history[done] = step.losses
        done += 1
        if done % CHECK_EVERY == 0 or done == config.steps:
            on_step(done, config.steps)
            if not step.finite:
                status = "diverged"
                break
    if not all(
        torch.isfinite(p).all() for p in model.parameters()
    ):  # the last update may be the one that broke it
        status = "diverged"
    seconds = time.perf_counter() - start
    return TrainResult(
        model=model,
        status=status,
        history=summarise(history[:done]),
        seconds=seconds,
        images_per_second=done * config.batch_size / seconds,
        positives=positives,
    )


def summarise(history: Tensor, points: int = 100) -> dict[str, list[float]]:
    """At most `points` values of each loss, means over equal stretches of steps, and the last raw ones."""
    values = history.double().cpu().numpy()
    stretch = max(1, -(-len(values) // points))
    result: dict[str, list[float]] = {"step": []}
    parts = [values[i : i + stretch] for i in range(0, len(values), stretch)]
    result["step"] = [min((i + 1) * stretch, len(values)) for i in range(len(parts))]
    for column, name in enumerate(("loss", "class_loss", "box_loss")):
        result[name] = [round(float(p[:, column].mean()), 5) for p in parts]
        result[f"last_{name}"] = [round(float(v), 5) for v in values[-CHECK_EVERY:, column]]
    return result
