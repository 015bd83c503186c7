"""One training: data on the device, static shapes, no question asked of the device inside a step."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from focalrepro.anchors import AnchorGrid, make_anchors
from focalrepro.boxes import flip as flip_boxes
from focalrepro.config import RunConfig
from focalrepro.criteria import DATA_DEPENDENT, box_loss, get_loss
from focalrepro.datasets import DetectionData
from focalrepro.features import cached_features
from focalrepro.matching import match_dataset
from focalrepro.model import RetinaNet

REFERENCE_BATCH = 16  # the batch that RunConfig.lr is for
CHECK_EVERY = 10  # steps between two looks at whether everything is finite

OnStep = Callable[[int, int], None]


@dataclass
class TrainResult:
    """A trained model and how it got there.

    history: loss, class_loss and box_loss per step. status: "done" or "diverged" (a loss or gradient was not
    finite). seconds: of the steps alone. positives: anchors assigned to an object, per image.
    """

    model: RetinaNet
    status: str
    history: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    images_per_second: float = 0.0
    positives: float = 0.0


@lru_cache(maxsize=2)
def _matches(data: DetectionData, device: torch.device, geometry: tuple, thresholds: tuple) -> Tensor:
    """The split's matches, made once for all runs of a process that share data, anchors and thresholds."""
    frame, *anchors = geometry
    names = ("pos_iou", "neg_iou", "best_iou")
    boxes = make_anchors(frame, *anchors).boxes
    limits = dict(zip(names, thresholds, strict=True))
    return match_dataset(boxes, data.boxes, data.labels, frame, device, **limits)


class TrainData:
    """A split on the device: what the model reads (images or cached features), boxes, labels and matches."""

    def __init__(self, config: RunConfig, data: DetectionData, device: torch.device, progress: bool) -> None:
        self.flips = config.flip
        self.size = float(config.image_size)
        self.cached = config.frozen == "backbone"
        if self.cached:
            self.inputs = cached_features(config, data, device, progress)
            if device.type == "cuda":
                self.inputs = [f.to(device) for f in self.inputs]
        else:
            images = torch.from_numpy(np.array(data.images))
            self.inputs = [images.to(device)]
        self.boxes = torch.from_numpy(data.boxes).to(device)
        self.labels = torch.from_numpy(data.labels).to(device)
        self.anchors = config_anchors(config)
        geometry = (data.frame, config.levels, config.anchor_size, config.anchor_scales, config.anchor_ratios)
        self.match = _matches(data, device, geometry, (config.pos_iou, config.neg_iou, config.best_iou))

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor, flip: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """inputs (NCHW, channels last), labels [B, A], target boxes [B, A, 4] and positive [B, A] of some images.

        index [B] into the split, flip [B] 0 or 1, both on the device.
        """
        mirrored = flip.bool().view(-1, 1, 1, 1)
        inputs = []
        for source in self.inputs:
            x = source[index]
            if self.cached:
                x = x.permute(0, 3, 1, 2)
            inputs.append(torch.where(mirrored, x.flip(-1), x) if self.flips else x)
        match = self.match[flip, index].long()  # [B, A]
        positive = match >= 0
        at = match.clamp(min=0)
        labels = torch.where(positive, self.labels[index].gather(1, at), match)
        boxes = self.boxes[index]
        boxes = torch.where(mirrored[..., 0], flip_boxes(boxes, self.size), boxes)
        return inputs, labels, boxes.gather(1, at.unsqueeze(-1).expand(-1, -1, 4)), positive


def config_anchors(config: RunConfig) -> AnchorGrid:
    """The anchors that a config asks for."""
    return make_anchors(
        config.image_size, config.levels, config.anchor_size, config.anchor_scales, config.anchor_ratios
    )


def batches(count: int, config: RunConfig) -> tuple[Tensor, Tensor]:
    """The order of the training: image indices and flips, [steps, batch] each, from the seed alone.

    Every epoch is a permutation; a batch may straddle two epochs. The same on every device.
    """
    rng = np.random.default_rng([config.seed, 0x0DE7])
    needed = config.steps * config.batch_size
    images = np.arange(count)
    if config.train_fraction < 1:
        images = np.random.default_rng(0).permutation(count)[: max(1, round(config.train_fraction * count))]
    epochs = [rng.permutation(images) for _ in range(-(-needed // len(images)))]
    index = np.concatenate(epochs)[:needed].reshape(config.steps, config.batch_size)
    flips = rng.integers(0, 2, size=index.shape) * int(config.flip)
    return torch.from_numpy(index), torch.from_numpy(flips)


def learning_rate(step: int, config: RunConfig) -> float:
    """The rate of a step: linear warm-up from a third (Detectron), then steps at 2/3 and 8/9, or a cosine to 0."""
    rate = config.lr * config.batch_size / REFERENCE_BATCH
    if step < config.warmup:
        rate *= 1 / 3 + 2 / 3 * step / config.warmup
    if config.schedule == "steps":
        return rate * 0.1 ** sum(step >= config.steps * part for part in (2 / 3, 8 / 9))
    return rate * (1 + math.cos(math.pi * step / config.steps)) / 2


def make_optimizer(model: nn.Module, config: RunConfig, captured: bool = False) -> torch.optim.Optimizer:
    """SGD with momentum as in the paper, or AdamW, which keeps its decay off norms and biases.

    captured: for a CUDA graph the rate is a tensor on the device, so that a replay sees it change.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    lr = torch.tensor(config.lr, device=parameters[0].device) if captured else config.lr
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
        )
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, fused=True, capturable=captured)


def autocast(config: RunConfig, device: torch.device) -> AbstractContextManager:
    """bf16 for the convolutions; weights, losses and the optimizer stay in fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")


class Step:
    """One optimisation step on static buffers: `index` and `flip` [B] in, `losses` [3] and `finite` out.

    On a GPU nothing in it waits for the device, so after a few steps it is captured as a CUDA graph and
    replayed: launching some thousand kernels one by one takes longer than running them.
    """

    EAGER_STEPS = 3  # before the capture, which wants its libraries and buffers to be warm

    def __init__(self, model: RetinaNet, source: TrainData, config: RunConfig, device: torch.device) -> None:
        self.model, self.source, self.config, self.device = model, source, config, device
        self.on_gpu = device.type == "cuda"
        self.anchors = source.anchors.boxes.to(device)
        self.optimizer = make_optimizer(model, config, captured=self.on_gpu)
        self.loss_function = get_loss(config.loss)
        self.index = torch.zeros(config.batch_size, dtype=torch.long, device=device)
        self.flip = torch.zeros_like(self.index)
        self.losses = torch.zeros(3, device=device)
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.average = torch.full(
            (), 100.0, device=device
        )  # positives a batch; normalizer "moving" alone uses it
        self.graph: torch.cuda.CUDAGraph | None = None
        self.calls = 0

    def __call__(self, index: Tensor, flip: Tensor, rate: float) -> None:
        """Trains on some images at a learning rate."""
        self.index.copy_(index)
        self.flip.copy_(flip)
        for group in self.optimizer.param_groups:
            if self.on_gpu:
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self.calls += 1
        if not self.on_gpu:
            self._step()
        elif self.calls <= self.EAGER_STEPS or self.config.loss in DATA_DEPENDENT:
            side = torch.cuda.Stream(self.device)
            side.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(side):
                self._step()
            torch.cuda.current_stream(self.device).wait_stream(side)
        else:
            if self.graph is None:
                self.optimizer.zero_grad(set_to_none=True)
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.graph):
                    self._step()
            self.graph.replay()

    def _step(self) -> None:
        config = self.config
        inputs, labels, boxes, positive = self.source.batch(self.index, self.flip)
        with autocast(config, self.device):
            logits, offsets = self.model.predict(inputs) if self.source.cached else self.model(inputs[0])
        count = positive.sum().clamp(min=1)
        class_loss = self._class_loss(logits, labels, positive, count)
        boxes_loss = box_loss(offsets, self.anchors, boxes, positive, config.box_beta) / count
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
                self.loss_function(x, t, config)
                for x, t in zip(logits.split(1), labels.split(1), strict=True)
            ]
            return (torch.stack(each) / positive.sum(1).clamp(min=1)).mean()
        total = self.loss_function(logits, labels, config)
        if config.normalizer == "anchors":
            return total / labels.numel()
        if config.normalizer == "moving":  # as detectron2 does, whose average starts at 100
            self.average.mul_(0.9).add_(count, alpha=0.1)
            return total / self.average
        return total / count


def train(
    config: RunConfig,
    data: DetectionData,
    device: torch.device,
    on_step: OnStep = lambda done, total: None,
    progress: bool = False,
) -> TrainResult:
    """Trains one model from scratch or from ImageNet weights, as the config says.

    on_step(done, total) is called now and then. A loss or gradient that is not finite ends the training with
    status "diverged", and the history ends with that loss.
    """
    torch.manual_seed(config.seed)
    model = RetinaNet(config, len(data.categories))
    model = model.to(device, memory_format=torch.channels_last).train()
    source = TrainData(config, data, device, progress)
    step = Step(model, source, config, device)
    index, flips = (t.to(device) for t in batches(len(source), config))
    history = torch.zeros(config.steps, 3, device=device)

    start, done, status = time.perf_counter(), 0, "done"
    while done < config.steps:
        step(index[done], flips[done], learning_rate(done, config))
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
        positives=float((source.match[0] >= 0).sum()) / len(source),
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
