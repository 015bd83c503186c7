"""How a trained model's loss is spread over its anchors (Figure 4)."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.hardware import autocast
from focalrepro.losses import BACKGROUND, signed_logits
from focalrepro.training.batches import TrainData

GAMMAS = (0.0, 0.5, 1.0, 2.0)  # Figure 4's
SHARES = tuple(np.linspace(0, 1, 101).round(2).tolist())


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
    source = TrainData(config.replace(flip=False, views=1), first(data, count), device, model)
    kinds: dict[str, list[torch.Tensor]] = {"foreground": [], "background": []}
    for start in range(0, count, 16):
        index = torch.arange(start, min(start + 16, count), device=device)
        inputs, labels, _, _ = source.batch(index, torch.zeros_like(index))
        with autocast(device, config.precision == "bf16"):
            logits, _ = model(inputs)
        x_t, weight = signed_logits(logits, labels, 1.0)  # 1 on the labelled class, 0 elsewhere
        kinds["foreground"].append(x_t[weight == 1])
        kept = (labels >= BACKGROUND).unsqueeze(-1) & (weight == 0)
        kinds["background"].append(x_t[kept])
    result: dict[str, Any] = {"images": count, "shares": SHARES}
    for kind, parts in kinds.items():
        # Every FL falls in x_t, so one order serves all γ: the easiest first.
        x_t = torch.cat(parts).float().sort(descending=True).values.double()
        cross_entropy = torch.nn.functional.softplus(-x_t)
        result[kind] = {"windows": len(x_t)}
        for gamma in GAMMAS:
            loss = (-gamma * torch.nn.functional.softplus(x_t)).exp() * cross_entropy
            total = torch.cat([loss.new_zeros(1), loss.cumsum(0)])
            at = torch.tensor(SHARES, device=total.device).mul(len(x_t)).round().long()
            share = total[at] / total[-1].clamp(min=1e-300)
            result[kind][f"{gamma:g}"] = [round(float(v), 5) for v in share]
    return result


def first(data: DetectionData, count: int) -> DetectionData:
    """The split's first images alone; features that are cached for all of it have theirs in the same rows."""
    parts = {
        name: value[:count]
        for name in ("images", "boxes", "labels", "sizes", "image_ids", "pictures")
        if (value := getattr(data, name)) is not None
    }
    return replace(data, **parts)
