"""One training: each step of it, the order of the images, the watch over what is finite, the history."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.hardware import autocast
from focalrepro.training.batches import TrainData, batches
from focalrepro.training.checkpoint import Checkpoint
from focalrepro.training.criteria import DATA_DEPENDENT, MEANS, QUALITY, box_loss, box_quality, get_loss
from focalrepro.training.dials import Dials
from focalrepro.training.initial import initial_model
from focalrepro.training.optimizer import learning_rate, make_optimizer
from focalrepro.training.own_loss import OwnLoss

FIRST_AVERAGE = 100.0  # positives a batch, as detectron2 begins; normalizer "moving" alone uses it
EAGER = "FOCALREPRO_EAGER"  # set in the environment: no step is captured as a CUDA graph
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
    progress: bool = False,
    engines: "Engines | None" = None,
    checkpoint: Checkpoint | None = None,
) -> TrainResult:
    """Trains one model from scratch or from ImageNet weights, as the config says.

    on_step(done, total) is called now and then. A loss or gradient that is not finite ends the training with
    status "diverged", and the history ends with that loss. engines: keeps what the next run can use again.
    checkpoint: from which it goes on, and where it leaves where it stands.
    """
    step = engines.step(config, data, device) if engines else new_step(config, data, device, progress)
    return run_steps(step.model, step, len(step.source), step.source.positives, config, on_step, checkpoint)


def run_steps(
    model: nn.Module,
    step: "Step",
    images: int,
    positives: float,
    config: RunConfig,
    on_step: OnStep = lambda done, total: None,
    checkpoint: Checkpoint | None = None,
) -> TrainResult:
    """All steps of a training, whatever its detector:
    the order of the images, the rates, the watch over finiteness.

    step: called with indices, views and a rate; leaves `losses` [3] and `finite`.
    """
    device = step.device
    index, views = (t.to(device) for t in batches(images, config))
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
            if checkpoint:
                checkpoint.keep(step, history[:done], time.perf_counter() - start)
    # The last update may be the one that broke it.
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        status = "diverged"
    seconds = time.perf_counter() - start
    return TrainResult(
        model=model,
        status=status,
        history=summarise(history[:done]),
        seconds=seconds,
        resumed=resumed,
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


class Step:
    """One optimisation step on static buffers: `index` and `view` [B] in, `losses` [3] and `finite` out.

    On a GPU nothing in it waits for the device, so after a few steps it is captured as a CUDA graph and
    replayed: launching some thousand kernels one by one takes longer than running them.
    """

    EAGER_STEPS = 3  # before the capture, which wants its libraries and buffers to be warm

    def __init__(self, model: RetinaNet, source: TrainData, config: RunConfig, device: torch.device) -> None:
        self.model, self.source, self.device = model, source, device
        self.on_gpu = device.type == "cuda"
        self.anchors = source.anchors.boxes.to(device)
        self.optimizer = make_optimizer(model, config, captured=self.on_gpu)
        self.loss_function = get_loss(config.loss)
        self.index = torch.zeros(config.batch_size, dtype=torch.long, device=device)
        self.view = torch.zeros_like(self.index)
        self.losses = torch.zeros(3, device=device)
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.average = torch.full((), FIRST_AVERAGE, device=device)
        self.config = config
        self.dials = Dials.of(config).on(device) if self.on_gpu else Dials.of(config)
        self.graph: torch.cuda.CUDAGraph | None = None
        varies = config.loss in DATA_DEPENDENT or isinstance(self.loss_function, OwnLoss)
        self.captures = self.on_gpu and not varies and not os.environ.get(EAGER)
        # One side stream for all steps and the capture: the allocator keeps what each stream has used.
        self.side = torch.cuda.Stream(device) if self.on_gpu else None
        self.calls = 0

    def restart(self, config: RunConfig, initial: RetinaNet) -> None:
        """Begins another run in place: its weights, its α and γ, an optimizer that has seen nothing.

        config may differ from the one before in `loop.SWEPT` only.
        """
        self.model.load_state_dict(initial.state_dict())  # copies into the tensors that a graph reads
        self.model.train()
        for state in self.optimizer.state.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    value.zero_()
        self.average.fill_(FIRST_AVERAGE)
        self.finite.fill_(True)
        self.config = config
        self.dials.set(config)

    def __call__(self, index: Tensor, view: Tensor, rate: float) -> None:
        """Trains on the images index [B] of the split, each in its view [B], at a learning rate.

        Leaves `losses` [3] (all, of classes, of boxes) and `finite` behind. Errors: what torch raises.
        """
        self.index.copy_(index)
        self.view.copy_(view)
        for group in self.optimizer.param_groups:
            if self.on_gpu:
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self.calls += 1
        if not self.on_gpu:
            self._step()
        elif self.calls <= self.EAGER_STEPS or not self.captures:
            self.side.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self.side):
                self._step()
            torch.cuda.current_stream(self.device).wait_stream(self.side)
        else:
            if self.graph is None:
                self.optimizer.zero_grad(set_to_none=True)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.device(self.device), torch.cuda.graph(graph, stream=self.side):
                    self._step()
                self.graph = graph  # only now: half a capture must not serve the next run
            self.graph.replay()

    def _step(self) -> None:
        config = self.config
        inputs, labels, boxes, positive = self.source.batch(self.index, self.view)
        with autocast(self.device, config.precision == "bf16"):
            logits, offsets = self.model.predict(inputs) if self.source.cached else self.model(inputs[0])
        count = positive.sum().clamp(min=1)
        if config.loss in QUALITY:
            self.dials.quality = box_quality(offsets, self.anchors, boxes, positive)
        class_loss = self._class_loss(logits, labels, positive, count)
        boxes_loss = box_loss(offsets, self.anchors, boxes, positive, config) / count
        if config.guided:  # Chen et al. 2019 (arXiv 1909.04868), equation 8
            class_loss = class_loss * (boxes_loss / class_loss.clamp(min=1e-9)).detach()
        loss = class_loss + config.box_weight * boxes_loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.finite &= torch.isfinite(torch.stack(torch._foreach_norm(gradients)).sum()) & torch.isfinite(
            loss
        )
        self.losses.copy_(torch.stack([loss, class_loss, boxes_loss]).detach())
        self.optimizer.step()

    def _class_loss(self, logits: Tensor, labels: Tensor, positive: Tensor, count: Tensor) -> Tensor:
        """The classification loss, divided as the config says.

        Section 4: by the number of anchors assigned to an object, "not total anchors, since the vast majority
        of anchors are easy negatives and receive negligible loss". The other ways are what people ask about.
        """
        config = self.config
        if config.normalizer == "image":
            each = [
                self.loss_function(x, t, self.dials)
                for x, t in zip(logits.split(1), labels.split(1), strict=True)
            ]
            return (torch.stack(each) / positive.sum(1).clamp(min=1)).mean()
        total = self.loss_function(logits, labels, self.dials)
        if config.loss in MEANS:
            return total
        if config.normalizer == "anchors":
            return total / labels.numel()
        if config.normalizer == "moving":  # as detectron2 does, whose average starts at 100
            self.average.mul_(0.9).add_(count, alpha=0.1)
            return total / self.average
        return total / count


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

    def step(self, config: RunConfig, data: DetectionData, device: torch.device) -> Step:
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
        if self.everywhere or device.type == "cuda":
            self.kept = (key, step)
        return step


def new_step(config: RunConfig, data: DetectionData, device: torch.device, progress: bool = False) -> Step:
    """A step of its own."""
    model = initial_model(config, data, progress=progress)
    source = TrainData(config, data, device, model, progress)
    model = _with_prior(model, config, source)
    model = model.to(device, memory_format=torch.channels_last).train()
    return Step(model, source, config, device)


def _with_prior(model: RetinaNet, config: RunConfig, source: TrainData) -> RetinaNet:
    """Where the config leaves π to the data, it is the share of
    object among all pairs of an anchor and a class.

    Chen et al. 2019 (arXiv 1909.04868), section 4.1.
    """
    if config.prior == 0:
        pairs = source.match.shape[-1] * model.class_head.outputs
        model.class_head.set_prior(source.positives / pairs)
    return model
