"""How the weights move: the optimizer and the rate of each step."""

import math

import torch
from torch import nn

from focalrepro.config import RunConfig

REFERENCE_BATCH = 16  # the batch that RunConfig.lr is for


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


def learning_rate(step: int, config: RunConfig) -> float:
    """The rate of a step: linear warm-up from a third (Detectron); steps at 2/3 and 8/9, or a cosine to 0."""
    rate = config.lr * config.batch_size / REFERENCE_BATCH
    if step < config.warmup:
        rate *= 1 / 3 + 2 / 3 * step / config.warmup
    if config.schedule == "steps":
        return rate * 0.1 ** sum(step >= config.steps * part for part in (2 / 3, 8 / 9))
    return rate * (1 + math.cos(math.pi * step / config.steps)) / 2
