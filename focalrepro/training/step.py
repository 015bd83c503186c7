"""One optimisation step: forward, the losses and what divides them, backward, the update; and its rate."""

import math

import torch
from torch import Tensor, nn

from focalrepro.config import RunConfig
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.files import is_set
from focalrepro.hardware import autocast
from focalrepro.training.batches import SplitData, TrainData
from focalrepro.training.criteria import (
    DATA_DEPENDENT,
    GHM_BINS,
    MEANS,
    QUALITY,
    box_loss,
    box_quality,
    get_loss,
)
from focalrepro.training.dials import Dials
from focalrepro.training.own_loss import OwnLoss
from focalrepro.training.ranks import ALONE, Ranks

REFERENCE_BATCH = 16  # the batch that RunConfig.lr is for
FIRST_AVERAGE = 100.0  # positives a batch, as detectron2 begins; normalizer "moving" alone uses it
EAGER = "FOCALREPRO_EAGER"  # "1" in the environment: no step is captured as a CUDA graph


def make_optimizer(model: nn.Module, config: RunConfig, captured: bool = False) -> torch.optim.Optimizer:
    """SGD with momentum as in the paper, or AdamW, which keeps its decay off norms and biases.

    captured: for a CUDA graph the rate is a tensor on the device, so that a replay sees it change.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    lr = torch.tensor(config.lr, device=parameters[0].device) if captured else config.lr
    decay = {"lr": lr, "weight_decay": config.weight_decay, "fused": True}
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=config.momentum, **decay)
    decayed = {"params": [p for p in parameters if p.ndim > 1]}
    others = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
    return torch.optim.AdamW([decayed, others], capturable=captured, **decay)


def learning_rate(step: int, config: RunConfig) -> float:
    """The rate of a step: linear warm-up from a third (Detectron); steps at 2/3 and 8/9, or a cosine to 0."""
    rate = config.lr * config.batch_size / REFERENCE_BATCH
    if step < config.warmup:
        rate *= 1 / 3 + 2 / 3 * step / config.warmup
    if config.schedule == "steps":
        return rate * 0.1 ** sum(step >= config.steps * part for part in (2 / 3, 8 / 9))
    return rate * (1 + math.cos(math.pi * step / config.steps)) / 2


def first_average(config: RunConfig) -> Tensor:
    """What normalizer "moving" begins with: the positives of a batch, or GHM-C's counts [30]."""
    return torch.zeros(GHM_BINS) if config.loss == "ghm" else torch.tensor(FIRST_AVERAGE)


class Step:
    """One optimisation step on static buffers: `index` and `view` [B] in, `losses` [3] and `finite` out.

    On a GPU nothing in it waits for the device, so after a few steps it is captured as a CUDA graph and
    replayed: launching some thousand kernels one by one takes longer than running them.
    positives: anchors that are assigned to an object, per image.
    """

    EAGER_STEPS = 3  # before the capture, which wants its libraries and buffers to be warm

    def __init__(
        self,
        model: RetinaNet,
        source: SplitData,
        config: RunConfig,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.source, self.config, self.device, self.ranks = model, source, config, device, ranks
        self.network = ranks.wrap(model)
        self.on_gpu = device.type == "cuda"
        self.optimizer = make_optimizer(model, config, captured=self.on_gpu)
        self.loss_function = get_loss(config.loss)
        self.index = torch.zeros(config.batch_size // ranks.count, dtype=torch.long, device=device)
        self.view = torch.zeros_like(self.index)
        self.losses = torch.zeros(3, device=device)
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.average = first_average(config).to(device)
        self.dials = Dials.of(config).on(device) if self.on_gpu else Dials.of(config)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.captures = self.may_capture(self.on_gpu)
        # One side stream for all steps and the capture: the allocator keeps what each stream has used.
        self.side = torch.cuda.Stream(device) if self.on_gpu else None
        self.calls = 0
        if isinstance(source, TrainData):
            self.anchors, self.positives = source.anchors.boxes.to(device), source.positives

    def may_capture(self, on_gpu: bool) -> bool:
        """Whether its steps are all alike, so that one captured step may stand for them."""
        eager = is_set(EAGER)
        varies = self.config.loss in DATA_DEPENDENT or isinstance(self.loss_function, OwnLoss)
        return on_gpu and not (varies or eager or self.source.streams) and self.ranks.count == 1

    def restart(self, config: RunConfig, initial: RetinaNet) -> None:
        """Begins another run in place: its weights, its α and γ, an optimizer that has seen nothing.

        config may differ from the one before in `engines.SWEPT` only.
        """
        self.model.load_state_dict(initial.state_dict())  # copies into the tensors that a graph reads
        self.model.train()
        for state in self.optimizer.state.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    value.zero_()
        self.average.copy_(first_average(config))
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
        ranks = self.ranks
        class_loss, boxes_loss = self._losses()
        loss = class_loss + self.config.box_weight * boxes_loss
        self.optimizer.zero_grad(set_to_none=True)
        (loss if ranks.count == 1 else loss * ranks.count).backward()  # DDP takes the mean over the ranks
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        losses = ranks.total(torch.stack([loss, class_loss, boxes_loss]).detach())
        norms = torch.stack(torch._foreach_norm(gradients))
        self.finite &= torch.isfinite(norms.sum()) & torch.isfinite(losses[0])
        self.losses.copy_(losses)
        self.optimizer.step()

    def _losses(self) -> tuple[Tensor, Tensor]:
        """The losses of classes and of boxes."""
        config, ranks = self.config, self.ranks
        inputs, labels, boxes, positive = self.source.batch(self.index, self.view)
        with autocast(self.device, config.precision == "bf16"):
            logits, offsets = self.network(inputs)
        assigned = ranks.total(positive.sum())
        count = assigned.clamp(min=1)
        if config.loss in QUALITY:
            self.dials.quality = box_quality(offsets, self.anchors, boxes, positive)
        class_loss = self._class_loss(logits, labels, positive, assigned)
        boxes_loss = box_loss(offsets, self.anchors, boxes, positive, config) / count
        if config.guided:  # Chen et al. 2019 (arXiv 1909.04868), equation 8
            scale = ranks.total(boxes_loss) / ranks.total(class_loss).clamp(min=1e-9)
            class_loss = class_loss * scale.detach()
        return class_loss, boxes_loss

    def _class_loss(self, logits: Tensor, labels: Tensor, positive: Tensor, assigned: Tensor) -> Tensor:
        """The classification loss, divided as the config says.

        Section 4: by the number of anchors assigned to an object, "not total anchors, since the vast majority
        of anchors are easy negatives and receive negligible loss". The other ways are what people ask about.
        """
        config, count = self.config, assigned.clamp(min=1)
        if config.normalizer == "image":
            images = zip(logits.split(1), labels.split(1), strict=True)
            each = [self.loss_function(x, t, self.dials) for x, t in images]
            return (torch.stack(each) / positive.sum(1).clamp(min=1)).mean() / self.ranks.count
        self.dials.average = self.average
        total = self.loss_function(logits, labels, self.dials)
        if config.loss in MEANS:
            return total
        if config.normalizer == "anchors":
            return total / (labels.numel() * self.ranks.count)
        if config.normalizer == "plus_images":  # as the authors' Detectron, which adds 1 for each image
            return total / (assigned + len(labels) * self.ranks.count)
        if config.normalizer == "moving":  # as detectron2, which also divides the box loss by it; from 100 on
            self.average.mul_(0.9).add_(count, alpha=0.1)
            return total / self.average
        return total / count
