"""How a detector's loss is spread over objects and background while it is trained (section 3)."""

from typing import NamedTuple

import torch
from torch import Tensor

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.hardware import autocast
from focalrepro.losses import focal_terms
from focalrepro.training.batches import TrainData
from focalrepro.training.loop import first_steps

LOOKS = (0, 5, 20, 60)  # steps of a training before which a look is taken, and at its end
EARLIEST = 10  # a look is within a tenth of the training: its steps are made once more


def on_objects(
    model: RetinaNet, config: RunConfig, data: DetectionData, device: torch.device, images: int = 64
) -> dict[str, list[float | None]] | None:
    """Does the background drown the objects, as section 3 says of cross entropy? `share_on_objects` of the
    first training images before the steps LOOKS, which are made once more, and of the trained model.

    "step" of each look, and of it "loss" and "gradient", of the sum over these images, and "divided_loss" and
    "divided_gradient", of what a step minimises. None of a loss that is no focal loss or cross entropy of
    each anchor by itself, and on a GPU, where these steps would take as long as many of a captured training.
    """
    plain = config.loss == "focal" and config.gamma_object < 0
    if not plain or config.detector != "retinanet" or device.type != "cpu":
        return None
    looks, found = [at for at in LOOKS if at * EARLIEST <= config.steps], []
    for _, step in first_steps(config, data, device, looks):
        source = step.source
        found.append(share_on_objects(step.model, config, source, images))
    found.append(share_on_objects(model, config, source, images))
    shares = {
        name: [None if s != s else round(s, 5) for s in of]
        for name, of in zip(Shares._fields, zip(*found, strict=True), strict=True)
    }
    return {"step": [*looks, config.steps], **shares}


class Shares(NamedTuple):
    """What lies on the anchors that are assigned to an object, in parts of the whole; NaN where that is 0.

    Of the classification loss and of the sizes of its derivatives by the logits: as they add up over images,
    and divided as a training divides each batch. By the paper's divisor an image counts the more, the fewer
    objects it and those beside it hold; so the background does.
    """

    loss: float
    gradient: float
    divided_loss: float
    divided_gradient: float


def share_on_objects(model: RetinaNet, config: RunConfig, source: TrainData, images: int) -> Shares:
    """`Shares` of a split's first images, as many as there are."""
    sums, assigned = [], []  # of each image: of all anchors and of objects', of the loss and of its slopes
    was_training = model.training
    model.eval()
    for index in torch.arange(min(images, len(source))).split(16):
        inputs, labels, _, positive = source.batch(index, torch.zeros_like(index))
        with torch.no_grad(), autocast(torch.device("cpu"), config.precision == "bf16"):
            logits, _ = model(inputs)
        x = logits.float().requires_grad_()
        terms = focal_terms(x, labels, config.alpha, config.gamma)
        (slopes,) = torch.autograd.grad(terms.sum(), x)
        per_anchor = torch.stack([terms.detach().sum(-1), slopes.abs().sum(-1)], -1).double()  # [B, A, 2]
        on = (labels >= 0).unsqueeze(-1)
        sums.append(torch.stack([per_anchor.sum(1), (per_anchor * on).sum(1)]))
        assigned.append(positive.sum(1))
    model.train(was_training)
    each = torch.cat(sums, 1)  # [2, N, 2]
    weight = divided_by(torch.cat(assigned), config)
    shares = [objects / every for every, objects in (each.sum(1), (each * weight[:, None]).sum(1))]
    return Shares(*torch.cat(shares).tolist())


def divided_by(assigned: Tensor, config: RunConfig, epochs: int = 200) -> Tensor:
    """What an image's loss is multiplied by on average when batches are divided, float64 [N], up to a factor.

    assigned [N]: the anchors of each image that are assigned to an object. Its batch is drawn at random from
    these images, in epochs, always the same ones. All alike where the divisor hardly varies.
    """
    count = len(assigned)
    if config.normalizer == "image":
        return 1 / assigned.clamp(min=1).double()
    if config.normalizer not in ("positives", "plus_images"):
        return torch.ones(count, dtype=torch.float64)
    random = torch.Generator().manual_seed(0)
    weight = torch.zeros(count, dtype=torch.float64)
    for _ in range(epochs):
        for batch in torch.randperm(count, generator=random).split(config.batch_size):
            total = int(assigned[batch].sum())
            plus_images = config.normalizer == "plus_images"
            weight[batch] += 1 / (total + len(batch) if plus_images else max(total, 1))
    return weight
