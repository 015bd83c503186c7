"""How a detector's loss is spread over the hard and the easy of its anchors (Figure 4)."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.hardware import autocast
from focalrepro.losses import BACKGROUND, signed_logits
from focalrepro.training.batches import TrainData

MOST = 2**26  # windows that are sorted at once, some 33 bytes each
GAMMAS = (0.0, 0.5, 1.0, 2.0)  # Figure 4's
SHARES = tuple(np.linspace(0, 1, 101).round(2).tolist())


def positions(windows: int) -> torch.Tensor:
    """Where SHARES of so many windows end, int64; in float64, since float32 counts to 2²⁴ only."""
    return torch.tensor(SHARES, dtype=torch.float64).mul(windows).round().long()


@lru_cache(maxsize=2)
def first_images(data: DetectionData, count: int) -> DetectionData:
    """A split's first images alone: maps that are cached of all of it have theirs in the same rows.

    One and the same for all runs of a process: what training keeps of a split, it keeps by the object, and
    one cut anew by each run would push out what the next run trains on.
    """
    arrays = {name: value for name, value in vars(data).items() if isinstance(value, np.ndarray)}
    return replace(data, **{name: value[:count] for name, value in arrays.items()})


@torch.inference_mode()
def loss_distribution(
    model: RetinaNet, config: RunConfig, data: DetectionData, device: torch.device, images: int = 64
) -> dict[str, Any]:
    """Figure 4: what share of the loss the easiest share of the windows carries, for several γ.

    Windows are pairs of an anchor and a class, as in the paper; those of ignored anchors are left out. For
    foreground and background each: cumulative normalised loss at the quantiles SHARES of the windows sorted
    by their loss. The model is one, trained with its own γ; only the loss that is read off it changes.
    """
    model = model.to(device).eval()
    count = min(images, len(data))
    source = TrainData(config.replace(flip=False, views=1), first_images(data, count), device, model)
    kinds: dict[str, list[torch.Tensor]] = {"foreground": [], "background": []}
    seen = windows = 0
    for index in torch.arange(count, device=device).split(16):
        if windows * (seen + len(index)) > MOST:  # of hundreds of classes few images do
            break
        inputs, labels, _, _ = source.batch(index, torch.zeros_like(index))
        with autocast(device, config.precision == "bf16"):
            logits, _ = model(inputs)
        seen, windows = seen + len(index), logits[0].numel()
        x_t, weight = signed_logits(logits, labels, 1.0)  # 1 on the labelled class, 0 elsewhere
        kinds["foreground"].append(x_t[weight == 1])
        kinds["background"].append(x_t[(labels >= BACKGROUND).unsqueeze(-1) & (weight == 0)])
    result: dict[str, Any] = {"images": seen, "shares": SHARES}
    for kind, parts in kinds.items():
        # Every FL falls in x_t, so one order serves all γ: the easiest first.
        x_t = torch.cat(parts).float().sort(descending=True).values.double()
        result[kind] = {"windows": len(x_t)}
        at = positions(len(x_t)).to(device)
        for gamma in GAMMAS:
            loss = (-gamma * F.softplus(x_t)).exp() * F.softplus(-x_t)
            total = torch.cat([loss.new_zeros(1), loss.cumsum(0)])
            share = total[at] / total[-1].clamp(min=1e-300)
            result[kind][f"{gamma:g}"] = [round(float(v), 5) for v in share]
    return result
