"""Does a loss slow training? Steps with the run's own loss and with cross entropy, timed in turn.

A machine is never quite idle, and a run's images a second tell of that as much as of its loss. So every run
with focal loss also times some steps of its own beside as many of cross entropy, in turn: what disturbs one
disturbs the other.
"""

import statistics
import time

import torch

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.training.batches import batches
from focalrepro.training.loop import new_step


def step_seconds(
    config: RunConfig, data: DetectionData, device: torch.device, pairs: int = 12
) -> dict[str, float] | None:
    """Median seconds of a training step with the config's loss ("own") and with "cross_entropy".

    None where there is nothing to compare: the loss is not focal, γ is 0, or the device is a GPU, where one
    captured step serves every γ.
    """
    if config.loss != "focal" or config.gamma == 0 or config.detector != "retinanet" or device.type != "cpu":
        return None
    short = config.replace(steps=pairs + 2, warmup=0)  # two to warm up
    plain = short.replace(gamma=0.0)
    steps = {"own": new_step(short, data, device), "cross_entropy": new_step(plain, data, device)}
    index, flips = batches(len(steps["own"].source), short)
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(pairs + 2):
        for name in sorted(steps, reverse=bool(i % 2)):
            start = time.perf_counter()
            steps[name](index[i], flips[i], 0.0)  # whatever the rate, the work is the same
            taken[name].append(time.perf_counter() - start)
    return {name: round(statistics.median(values[2:]), 6) for name, values in taken.items()}
