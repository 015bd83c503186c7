"""What ImageNet is to the paper's backbone, crops of the training objects are to the embedded dataset's.

A detector that must learn what a digit looks like and where it is from the same few hundred steps spends
nearly all of them on the first. So the small backbone learns it beforehand, once for all runs: to name the
object (or "none") in the middle of a crop. It sees training images only.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from focalrepro.data import DetectionData, data_root
from focalrepro.detector.backbones import Normalise, make_backbone
from focalrepro.files import write_atomic
from focalrepro.hardware import autocast
from focalrepro.progress import bar as progress_bar

PRETRAIN_VERSION = 1
CROP = 48  # pixels
STEPS, BATCH, RATE = 600, 64, 4e-3
BACKGROUND_SHARE = 0.25


class CropClassifier(nn.Module):
    """A linear classifier on the middle of each of the backbone's maps,
    so that every level learns the classes.
    """

    def __init__(self, backbone: nn.Module, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict({str(k): nn.Linear(c, classes) for k, c in backbone.channels.items()})

    def forward(self, crops: Tensor) -> list[Tensor]:
        """Logits [B, classes] of every level from crops [B, 3, CROP, CROP]."""
        logits = []
        for level, features in self.backbone(crops).items():
            side = features.shape[-1]
            edge = side // 3
            logits.append(
                self.heads[str(level)](features[..., edge : side - edge, edge : side - edge].amax((2, 3)))
            )
        return logits


def sample_crops(data: DetectionData, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """uint8 crops [count, 3, CROP, CROP] and their classes [count]; class K is "no object in the middle"."""
    image, box = np.nonzero(data.labels >= 0)
    crops = np.zeros((count, 3, CROP, CROP), np.uint8)
    classes = np.full(count, len(data.categories))
    pick = rng.integers(len(image), size=count)
    for i in range(count):
        n = image[pick[i]]
        if rng.random() < BACKGROUND_SHARE:
            center = rng.uniform(0, data.frame, 2)
            middles = (data.boxes[n, :, :2] + data.boxes[n, :, 2:])[data.labels[n] >= 0] / 2
            if np.abs(middles - center).max(1).min() < CROP / 4:
                continue  # too near to an object to be called background: leave it black
        else:
            x1, y1, x2, y2 = data.boxes[n, box[pick[i]]]
            center = np.array([x1 + x2, y1 + y2]) / 2 + rng.uniform(-4, 4, 2)
            classes[i] = data.labels[n, box[pick[i]]]
        left, top = (np.round(center) - CROP // 2).astype(int)
        x, y = slice(max(left, 0), left + CROP), slice(max(top, 0), top + CROP)
        part = data.images[n][:, y, x]
        at_y, at_x = max(-top, 0), max(-left, 0)
        crops[i, :, at_y : at_y + part.shape[1], at_x : at_x + part.shape[2]] = part
    return crops, classes


def pretrained_weights(name: str, data: DetectionData, progress: bool = True) -> Path:
    """The file with the backbone's weights; they are learned at the first call and kept beside the data.

    Deterministic on one machine: one thread, one seed.
    """
    key = repr((PRETRAIN_VERSION, name, data.digest, CROP, STEPS, BATCH, RATE, BACKGROUND_SHARE))
    path = data_root() / "cache" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    if path.exists():
        return path
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        state = _pretrain(name, data, progress)
    finally:
        torch.set_num_threads(threads)
    write_atomic(path, save(state))
    return path


def _pretrain(name: str, data: DetectionData, progress: bool) -> dict[str, Tensor]:
    normalise = Normalise()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CropClassifier(make_backbone(name), len(data.categories) + 1)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    rng = np.random.default_rng(0)
    for _ in progress_bar(range(STEPS), desc="backbone on crops", unit="step", disable=not progress):
        crops, classes = sample_crops(data, BATCH, rng)
        x = normalise(torch.from_numpy(crops)).contiguous(memory_format=torch.channels_last)
        with autocast(torch.device("cpu")):
            logits = model(x)
        target = torch.from_numpy(classes)
        loss = sum(F.cross_entropy(level.float(), target) for level in logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    right = [(level.argmax(1) == target).float().mean().item() for level in logits]
    print(
        f"  right on the last crops, by level: {', '.join(f'{r:.0%}' for r in right)}"
    ) if progress else None
    return {k: v.contiguous() for k, v in model.backbone.state_dict().items()}
