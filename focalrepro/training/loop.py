"""One training: the order of the images, the rates, the watch over what is finite, the history."""

import io
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.files import refusal, write_atomic
from focalrepro.hardware import has_bf16
from focalrepro.training.batches import batches
from focalrepro.training.engines import Engines, new_step
from focalrepro.training.ranks import ALONE, Ranks
from focalrepro.training.step import Step, learning_rate

CHECK_EVERY = 10  # steps between two looks at whether everything is finite
EVERY = 300.0  # seconds between two checkpoints; a training that is shorter writes none

OnStep = Callable[[int, int], None]


@dataclass
class Checkpoint:
    """Where a training stood, in a file that is whole or not there: one which was killed goes on from there.

    On a CPU it ends with the same numbers as if it had never stopped.
    every: seconds between two. since: when the last one was written, or the training began.
    """

    path: Path
    every: float = EVERY
    since: float = field(default_factory=time.perf_counter)

    def restore(self, step: Step, history: Tensor) -> tuple[int, float]:
        """Puts a step and its history [steps, 3] where they stood; the steps done and the seconds they took.

        0, 0.0 where nothing is kept, or what is kept is damaged or of another torch, device or precision,
        which would make other numbers: the training then begins anew.
        """
        kept: dict[str, Any] = {}
        with suppress(Exception):  # whatever a damaged file makes of torch.load
            kept = torch.load(self.path, map_location=step.device, weights_only=True)
        if not isinstance(kept, dict) or kept.get("made") != _made(step):
            return 0, 0.0
        step.model.load_state_dict(kept["model"], strict=False)  # what is frozen is as it began
        step.optimizer.load_state_dict(kept["optimizer"])
        if kept["average"] is not None:
            step.average.copy_(kept["average"])
        torch.set_rng_state(kept["random"].cpu())
        history[: kept["done"]] = kept["history"]
        return kept["done"], kept["seconds"]

    def keep(self, step: Step, history: Tensor, seconds: float) -> None:
        """Writes where a step stands, if it is time; history [done, 3], seconds: of the training so far."""
        if time.perf_counter() - self.since < self.every:
            return
        frozen = {name for name, p in step.model.named_parameters() if not p.requires_grad}
        buffer = io.BytesIO()
        values = {
            "made": _made(step),
            "done": len(history),
            "seconds": seconds,
            "history": history,
            "model": {name: v for name, v in step.model.state_dict().items() if name not in frozen},
            "optimizer": step.optimizer.state_dict(),
            "average": step.average,
            "random": torch.get_rng_state(),  # the two-stage detector draws its regions by chance
        }
        torch.save(values, buffer)
        try:
            write_atomic(self.path, buffer.getvalue())
        except OSError as error:  # as of a full disk, on which the record may well find room
            print(f"no checkpoint, the training goes on without: {refusal(error)}", file=sys.stderr)
        self.since = time.perf_counter()


def _made(step: Step) -> list[str]:
    return [str(torch.__version__), step.device.type, str(has_bf16(step.device))]


@dataclass
class TrainResult:
    """A trained model and how it got there."""

    model: nn.Module
    status: str  # "done" or "diverged": a loss or gradient was not finite
    history: dict[str, list[float]]  # loss, class_loss and box_loss per step
    seconds: float  # of the steps alone
    resumed: float  # those of them that an earlier process spent
    images_per_second: float  # without the first steps, where there are more
    positives: float  # anchors assigned to an object, per image


def train(
    config: RunConfig,
    data: DetectionData,
    device: torch.device,
    on_step: OnStep = lambda done, total: None,
    engines: Engines | None = None,
    checkpoint: Checkpoint | None = None,
    ranks: Ranks = ALONE,
) -> TrainResult:
    """Trains one detector, of one stage or two, from scratch or from weights, as the config says.

    on_step(done, total) is called now and then. A loss or gradient that is not finite ends the training with
    status "diverged", and the history ends with that loss. engines: keeps what the next run can use again.
    checkpoint: from which it goes on, and where it leaves where it stands. ranks: the processes that train
    it together. Errors: ValueError where they cannot (`Ranks.check`).
    """
    ranks.check(config)
    step = engines.step(config, data, device) if engines else new_step(config, data, device, ranks)
    return run_steps(step, config, on_step, checkpoint)


def run_steps(
    step: Step,
    config: RunConfig,
    on_step: OnStep = lambda done, total: None,
    checkpoint: Checkpoint | None = None,
) -> TrainResult:
    """All steps of a training: the order of the images, the rates, the watch over what is finite."""
    device, ranks = step.device, step.ranks
    index, views = (ranks.share(t).to(device) for t in batches(len(step.source), config))
    history = torch.zeros(config.steps, 3, device=device)

    done, resumed = checkpoint.restore(step, history) if checkpoint else (0, 0.0)
    if (first := ranks.agree([done])[0]) != done:
        what = f"rank {ranks.rank} goes on at step {done} and rank 0 at step {first}"
        raise RuntimeError(f"{what}: set FOCALREPRO_DATA to one folder that all machines share")
    start, status, warm = time.perf_counter() - resumed, "done", None
    while done < config.steps:
        step(index[done], views[done], learning_rate(done, config))
        history[done] = step.losses
        done += 1
        if done % CHECK_EVERY == 0 or done == config.steps:
            on_step(done, config.steps)
            if not step.finite:
                status = "diverged"
                break
            warm = warm or (done, time.perf_counter())  # the first steps capture a graph, compile, map files
            if checkpoint and ranks.rank == 0:
                checkpoint.keep(step, history[:done], time.perf_counter() - start)
    # The last update may be the one that broke it.
    if not all(torch.isfinite(p).all() for p in step.model.parameters()):
        status = "diverged"
    seconds = time.perf_counter() - start
    since, at = warm if warm and warm[0] < done else (0, start)
    speed = (done - since) * config.batch_size / (start + seconds - at)
    kept = summarise(history[:done])
    return TrainResult(step.model, status, kept, seconds, resumed, speed, step.positives)


def first_steps(
    config: RunConfig, data: DetectionData, device: torch.device, at: Sequence[int]
) -> Iterator[tuple[int, Step]]:
    """A training's step before each of its steps `at`, ascending, and that number; it ends with the last."""
    step = new_step(config, data, device)
    index, views = batches(len(step.source), config)
    for done in range(max(at) + 1):
        if done in at:
            yield done, step
        if done < max(at):
            step(index[done], views[done], learning_rate(done, config))


def summarise(history: Tensor, points: int = 100) -> dict[str, list[float]]:
    """At most `points` values of each loss, means over equal stretches of steps, and the last raw ones."""
    values = history.double().cpu().numpy()
    ends = np.arange(0, len(values), max(1, -(-len(values) // points)))[1:]
    parts = np.split(values, ends)
    result = {"step": [*ends.tolist(), len(values)]}
    for column, name in enumerate(("loss", "class_loss", "box_loss")):
        result[name] = [round(float(p[:, column].mean()), 5) for p in parts]
        result[f"last_{name}"] = [round(float(v), 5) for v in values[-CHECK_EVERY:, column]]
    return result


def step_seconds(
    config: RunConfig, data: DetectionData, device: torch.device, pairs: int = 12
) -> dict[str, float] | None:
    """Median seconds of a training step with the config's loss ("own") and with "cross_entropy", in turn.

    What disturbs one disturbs the other, where a run's images a second tell of its machine as much as of its
    loss. None where there is nothing to compare: the loss is not focal, γ is 0, or the device is a GPU, where
    one captured step serves every γ.
    """
    if config.loss != "focal" or config.gamma == 0 or config.detector != "retinanet" or device.type != "cpu":
        return None
    short = config.replace(steps=pairs + 2, warmup=0)  # two to warm up
    plain = short.replace(gamma=0.0)
    steps = {"own": new_step(short, data, device), "cross_entropy": new_step(plain, data, device)}
    index, views = batches(len(steps["own"].source), short)
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(pairs + 2):
        for name in sorted(steps, reverse=bool(i % 2)):
            start = time.perf_counter()
            steps[name](index[i], views[i], 0.0)  # whatever the rate, the work is the same
            taken[name].append(time.perf_counter() - start)
    return {name: round(statistics.median(values[2:]), 6) for name, values in taken.items()}
