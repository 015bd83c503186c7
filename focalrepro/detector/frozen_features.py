"""Cached features: where the backbone is frozen, its maps are computed once and kept on disk.

There is no horizontal flip then: a strided convolution samples one side of each cell, so a mirrored map is off the
map of the mirrored image by a part of a cell, and boxes learned from it would be too.
"""

import hashlib
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from focalrepro.config import RunConfig
from focalrepro.datasets import DetectionData, data_root
from focalrepro.datasets.files import new_folder
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.progress import bar as progress_bar

FEATURES_VERSION = 2


def cached_features(
    config: RunConfig, data: DetectionData, device: torch.device, progress: bool = True
) -> list[torch.Tensor]:
    """The frozen backbone's maps of every image, memory-mapped bf16 [N, H, W, C] (channels last), fine to coarse.

    They are keyed by the images, the backbone and its weights, so every run that shares these shares them.
    """
    model = RetinaNet(config, len(data.categories))
    state = hashlib.sha256()
    for name, tensor in model.backbone.state_dict().items():
        state.update(name.encode() + tensor.numpy().tobytes())
    state.update(repr((FEATURES_VERSION, data.pixels_digest, config.backbone, model.used)).encode())
    folder = data_root() / "cache" / f"features-{state.hexdigest()[:16]}"
    if not (folder / "done").exists():
        _compute(model, data, folder, device, progress)
    arrays = [np.load(folder / f"C{level}.npy", mmap_mode="r") for level in model.used]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch has no read-only tensors; nothing here writes
        return [torch.from_numpy(a.view(np.ndarray)).view(torch.bfloat16) for a in arrays]


def _compute(
    model: RetinaNet, data: DetectionData, folder: Path, device: torch.device, progress: bool, batch: int = 32
) -> None:
    """Writes the maps to a temporary folder and renames it, so that half of them never look like all.

    A folder that is there though nothing is "done" was damaged by hand, and gives way; else of two processes the
    first wins.
    """
    damaged = folder.exists() and not (folder / "done").exists()
    model = model.to(device, memory_format=torch.channels_last).eval()
    maps: list[np.ndarray] = []
    total = len(data.images)
    with (
        new_folder(folder, replace=damaged) as partial,
        torch.inference_mode(),
        torch.autocast(device.type, torch.bfloat16),
        progress_bar(
            total=total, desc=f"features of {data.name} {data.split}", unit="image", disable=not progress
        ) as bar,
    ):
        for start in range(0, total, batch):
            images = torch.from_numpy(np.array(data.images[start : start + batch])).to(device)
            features = [f.bfloat16().permute(0, 2, 3, 1).contiguous().cpu() for f in model.features(images)]
            if not maps:
                maps = [
                    np.lib.format.open_memmap(
                        partial / f"C{level}.npy", "w+", np.int16, (total, *f.shape[1:])
                    )
                    for level, f in zip(model.used, features, strict=True)
                ]
            for array, f in zip(maps, features, strict=True):
                array[start : start + batch] = f.view(torch.int16).numpy()
            bar.update(len(images))
        for array in maps:
            array.flush()
        (partial / "done").write_text(time.strftime("%Y-%m-%dT%H:%M:%S"))
