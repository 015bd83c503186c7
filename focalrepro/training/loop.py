"""One training: the order of the images, the rates, the watch over what is finite, the history."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.training.batches import SplitData, TrainData, batches
from focalrepro.training.checkpoint import Checkpoint
from focalrepro.training.initial import initial_model
from focalrepro.training.optimizer import learning_rate
from focalrepro.training.ranks import ALONE, Ranks
from focalrepro.training.step import Step
from focalrepro.training.two_stage import TwoStageStep

CHECK_EVERY = 10  # steps between two looks at whether everything is finite

OnStep = Callable[[int, int], None]


@dataclass
class TrainResult:
    """A trained model and how it got there.

    history: loss, class_loss and box_loss per step. status: "done" or "diverged" (a loss or gradient was not
    finite). seconds: of the steps alone; resumed: those of them that an earlier process spent. positives:
    anchors assigned to an object, per image.
    """

    model: nn.Module
    status: str
    history: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    resumed: float = 0.0
    images_per_second: float = 0.0
    positives: float = 0.0


def train(
    config: RunConfig,
    data: DetectionData,
    device: torch.device,
    on_step: OnStep = lambda done, total: None,
    engines: "Engines | None" = None,
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
    step: Step | TwoStageStep,
    config: RunConfig,
    on_step: OnStep = lambda done, total: None,
    checkpoint: Checkpoint | None = None,
) -> TrainResult:
    """All steps of a training: the order of the images, the rates, the watch over what is finite."""
    device, ranks = step.device, step.ranks
    index, views = (ranks.share(t).to(device) for t in batches(len(step.source), config))
    history = torch.zeros(config.steps, 3, device=device)

    done, resumed = checkpoint.restore(step, history) if checkpoint else (0, 0.0)
    start, status = time.perf_counter() - resumed, "done"
    while done < config.steps:
        step(index[done], views[done], learning_rate(done, config))
        history[done] = step.losses
        done += 1
        if done % CHECK_EVERY == 0 or done == config.steps:
            on_step(done, config.steps)
            if not step.finite:
                status = "diverged"
                break
            if checkpoint and ranks.rank == 0:
                checkpoint.keep(step, history[:done], time.perf_counter() - start)
    # The last update may be the one that broke it.
    if not all(torch.isfinite(p).all() for p in step.model.parameters()):
        status = "diverged"
    seconds = time.perf_counter() - start
    return TrainResult(
        model=step.model,
        status=status,
        history=summarise(history[:done]),
        seconds=seconds,
        resumed=resumed,
        images_per_second=done * config.batch_size / seconds,
        positives=step.positives,
    )


def summarise(history: Tensor, points: int = 100) -> dict[str, list[float]]:
    """At most `points` values of each loss, means over equal stretches of steps, and the last raw ones."""
    values = history.double().cpu().numpy()
    stretch = max(1, -(-len(values) // points))
    parts = [values[i : i + stretch] for i in range(0, len(values), stretch)]
    result = {"step": [min((i + 1) * stretch, len(values)) for i in range(len(parts))]}
    for column, name in enumerate(("loss", "class_loss", "box_loss")):
        result[name] = [round(float(p[:, column].mean()), 5) for p in parts]
        result[f"last_{name}"] = [round(float(v), 5) for v in values[-CHECK_EVERY:, column]]
    return result


# One step that serves run after run: on a GPU, warming up and capturing one takes seconds each time. Runs
# that differ only in what SWEPT names share their shapes, so the captured graph, the data on the device and
# the memory can stay; weights, optimizer state, α and γ are set anew in place.
SWEPT = (
    *("alpha", "gamma", "beta", "gamma_object", "epsilon", "prior", "seed", "lr", "steps", "warmup"),
    *("schedule", "train_fraction", "score_threshold", "topk", "nms", "max_detections"),
)


class Engines:
    """Gives each run of a process its step; the last one is kept for the next run that fits it.

    The model of an earlier run is overwritten by a later one, so this is for campaigns, which keep records
    and no models. everywhere: also on the CPU, where it saves nothing; for tests.
    """

    def __init__(self, everywhere: bool = False) -> None:
        self.everywhere = everywhere
        self.kept: tuple[tuple, Step] | None = None

    def drop(self) -> None:
        """Forgets the kept step, after an error that may have left it, or the device, in pieces."""
        self.kept = None

    def step(self, config: RunConfig, data: DetectionData, device: torch.device) -> Step | TwoStageStep:
        """A step with the initial weights of the config's seed."""
        neutral = RunConfig()
        shape = config.replace(**{field: getattr(neutral, field) for field in SWEPT})
        key = (shape, data.digest, device)
        if self.kept and self.kept[0] == key:
            step = self.kept[1]
            step.restart(config, _with_prior(initial_model(config, data), config, step.source))
            return step
        self.kept = None  # its memory first, then the new one
        step = new_step(config, data, device)
        if isinstance(step, Step) and (self.everywhere or device.type == "cuda"):
            self.kept = (key, step)
        return step


def new_step(
    config: RunConfig, data: DetectionData, device: torch.device, ranks: Ranks = ALONE
) -> Step | TwoStageStep:
    """A step of its own."""
    model = initial_model(config, data)
    if config.detector == "faster_rcnn":
        source = SplitData(config, data, device, model)
        model = model.to(device, memory_format=torch.channels_last).train()
        return TwoStageStep(model, source, config, device)
    source = TrainData(config, data, device, model)
    model = _with_prior(model, config, source)
    model = model.to(device, memory_format=torch.channels_last).train()
    return Step(model, source, config, device, ranks)


def _with_prior(model: RetinaNet, config: RunConfig, source: TrainData) -> RetinaNet:
    """Where the config leaves π to the data, it is the share of objects among pairs of anchor and class.

    Chen et al. 2019 (arXiv 1909.04868), section 4.1.
    """
    if config.prior == 0:
        pairs = source.match.shape[-1] * model.class_head.outputs
        model.class_head.set_prior(source.positives / pairs)
    return model
