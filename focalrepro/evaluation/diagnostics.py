"""What a finished run keeps besides AP: how its loss is spread over anchors (Figure 4), how far to trust its scores."""

from typing import Any

import numpy as np
import torch

from focalrepro.config import RunConfig
from focalrepro.datasets import DetectionData
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.evaluation.match_table import MatchTable
from focalrepro.losses import BACKGROUND, signed_logits
from focalrepro.training.loop import TrainData, autocast

GAMMAS = (0.0, 0.5, 1.0, 2.0)  # Figure 4's
SHARES = tuple(np.linspace(0, 1, 101).round(2).tolist())
IOU_50 = 0  # row of the match table
BINS = 10


@torch.inference_mode()
def loss_distribution(
    model: RetinaNet, config: RunConfig, data: DetectionData, device: torch.device, images: int = 64
) -> dict[str, Any]:
    """Figure 4: what share of the loss the easiest share of the windows carries, for several γ.

    Windows are pairs of an anchor and a class, as in the paper; those of ignored anchors are left out. For
    foreground and background each: cumulative normalised loss at the quantiles SHARES of the windows sorted by
    their loss. The model is one, trained with its own γ; only the loss that is read off it changes.
    """
    model = model.to(device).eval()
    source = TrainData(config.replace(flip=False), data, device, progress=False)
    count = min(images, len(source))
    kinds: dict[str, list[torch.Tensor]] = {"foreground": [], "background": []}
    for start in range(0, count, 16):
        index = torch.arange(start, min(start + 16, count), device=device)
        inputs, labels, _, _ = source.batch(index, torch.zeros_like(index))
        with autocast(config, device):
            logits, _ = model.predict(inputs) if source.cached else model(inputs[0])
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


def calibration(table: MatchTable) -> dict[str, Any]:
    """Reliability of the scores: detections in ten equal bins of score, and how many of each bin are right.

    The detections are those that a run keeps: above RunConfig.score_threshold, after NMS and at most
    max_detections an image. So it says nothing of the scores below, which are nearly all; runs with different
    thresholds do not compare. Those matched to a crowd region are neither right nor wrong and left out, as in AP.

    Right means matched to an object of its class at IoU 0.5. error: the expected calibration error, the mean over
    detections of |mean score - share right| of their bin; null without detections.
    """
    parts = [(c.score[kept], c.matched[IOU_50, kept]) for c in table.classes for kept in [~c.ignored[IOU_50]]]
    # In fp32 as they are kept: ten times a score in float64 may fall into another bin.
    scores = np.concatenate([np.zeros(0, np.float32), *(score for score, _ in parts)])
    right = np.concatenate([np.zeros(0, bool), *(matched for _, matched in parts)])
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    score = np.bincount(bins, weights=scores, minlength=BINS) / np.maximum(count, 1)
    share = np.bincount(bins, weights=right, minlength=BINS) / np.maximum(count, 1)
    error = float((count * np.abs(score - share)).sum() / count.sum()) if count.sum() else None
    return {
        "count": count.tolist(),
        "score": [round(float(v), 4) for v in score],
        "right": [round(float(v), 4) for v in share],
        "error": None if error is None else round(error, 5),
    }
