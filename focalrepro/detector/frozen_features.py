"""Cached features: where the backbone is frozen, its maps of each view are computed once and kept on disk."""

import hashlib
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from focalrepro.data import DetectionData, data_root
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.detector.views import view_of
from focalrepro.files import new_array, new_folder
from focalrepro.hardware import autocast, cores, has_bf16
from focalrepro.progress import bar as progress_bar

FEATURES_VERSION = 3
PCA_IMAGES = 640  # of `principal_components`


def cached_features(
    model: RetinaNet, data: DetectionData, device: torch.device, view: int = 0
) -> list[Tensor]:
    """The frozen backbone's maps of one view of every image, memory-mapped bf16 [N, H, W, C], fine to coarse.

    model: with its backbone's weights. The maps are keyed by the pixels, the view, the backbone, its
    weights and how the device rounds, so every run that shares these shares them.
    """
    weights = state_digest(model.backbone) + (state_digest(model.reduce) if model.reduce is not None else "")
    # a crop follows from its image's id
    ids = hashlib.sha256(data.image_ids.tobytes()).hexdigest() if view >= 2 else ""
    about = (FEATURES_VERSION, data.pixels_digest, model.used, weights)
    if device.type == "cuda" or not has_bf16(device):  # which round otherwise than a CPU that has bf16
        about += device.type, has_bf16(device)
    key = hashlib.sha256(repr(about).encode())
    folder = data_root() / "cache" / f"features-{key.hexdigest()[:16]}" / f"view-{view}{ids[:8]}"
    files = [folder / f"C{level}.npy" for level in model.used]
    # What was computed of a split's first images, the whole of it still lacks.
    if not (folder / "done").exists() or len(np.load(files[0], mmap_mode="r")) < len(data):
        _compute(model, data, view, folder, device)
    arrays = [np.load(file, mmap_mode="r") for file in files]
    # The first images' alone, where a split is cut: a GPU takes all that it is given.
    return [as_tensor(array[: len(data)]).view(torch.bfloat16) for array in arrays]


def stage1_maps(
    model: RetinaNet, images: np.ndarray, mirrored: bool, device: torch.device, precision: str
) -> Tensor:
    """C2 of every image uint8 [N, 3, S, S], or of its mirror image: [N, H, W, C] on the device.

    In the type in which a step at that precision would compute it.
    """
    model.to(device, memory_format=torch.channels_last)
    batch, kept = 64, torch.empty(0)
    with torch.no_grad(), autocast(device, precision == "bf16"):
        for start in range(0, len(images), batch):
            rows = torch.from_numpy(np.array(images[start : start + batch])).to(device)
            rows = model.normalise(rows.flip(-1) if mirrored else rows)
            c2 = model.backbone.stage1(rows.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1)
            kept = kept if start else c2.new_empty(len(images), *c2.shape[1:])
            kept[start : start + batch] = c2
    return kept


def as_tensor(array: np.ndarray) -> Tensor:
    """A file that is mapped read-only, as the tensor it is: read where it is used, and not to be written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch has no read-only tensors
        return torch.from_numpy(array.view(np.ndarray))


def state_digest(module: nn.Module) -> str:
    """sha256 (hex) of a module's weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def principal_components(model: RetinaNet, data: DetectionData) -> dict[str, Tensor]:
    """Weights for `model.reduce`, by their names in it: the principal components of its backbone's maps.

    Those of PCA_IMAGES training images, of each 32 of which 4,000 cells count. Deterministic.
    """
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(len(data.images))[:PCA_IMAGES])
    gram: dict[int, Tensor] = {}
    for start in range(0, len(rows), 32):
        batch = torch.from_numpy(np.array(data.images[rows[start : start + 32]]))
        with torch.inference_mode(), autocast(torch.device("cpu")):
            maps = model.backbone(model.normalise(batch).contiguous(memory_format=torch.channels_last))
        for level in model.used:
            x = maps[level].float().permute(0, 2, 3, 1).flatten(0, 2)
            x = x[torch.from_numpy(rng.permutation(len(x))[:4000])].double()
            x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)  # the last row holds sums and the count
            gram[level] = gram.get(level, 0) + x.T @ x
    state = {}
    for i, level in enumerate(model.used):
        total = gram[level]
        mean = total[-1, :-1] / total[-1, -1]
        covariance = total[:-1, :-1] / total[-1, -1] - mean[:, None] * mean
        axes = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, : model.reduce[i].out_channels]
        state[f"{i}.weight"] = axes.T.float()[:, :, None, None].contiguous()
        state[f"{i}.bias"] = -(mean @ axes).float()
    return state


def _compute(
    model: RetinaNet, data: DetectionData, view: int, folder: Path, device: torch.device, batch: int = 32
) -> None:
    """A folder that is there all the same, damaged by hand or of a split's first images, gives way; else of
    two processes the first wins. Errors: OSError where the disk has no room, before a byte is written."""
    lacking = folder.exists()
    was_training = model.training
    model = model.to(device, memory_format=torch.channels_last).eval()
    maps: list[np.ndarray] = []
    total = len(data.images)
    what = f"features of {data.name} {data.split}, view {view}"
    with (
        new_folder(folder, replace=lacking) as partial,
        torch.inference_mode(),
        autocast(device),
        progress_bar(total=total, desc=what, unit="image", delay=2) as bar,
        ThreadPoolExecutor(cores()) as pool,  # a GPU outruns one core's crops
    ):
        for rows in np.array_split(np.arange(total), range(batch, total, batch)):
            images = np.stack([image for image, *_ in pool.map(lambda row: view_of(data, row, view), rows)])
            features = model.features(torch.from_numpy(images).to(device))
            features = [f.bfloat16().permute(0, 2, 3, 1).contiguous().cpu() for f in features]
            shapes = {partial / f"C{k}.npy": f.shape[1:] for k, f in zip(model.used, features, strict=True)}
            maps = maps or [new_array(path, (total, *shape), np.int16) for path, shape in shapes.items()]
            for array, f in zip(maps, features, strict=True):
                array[rows] = f.view(torch.int16).numpy()
            bar.update(len(images))
        for array in maps:
            array.flush()
        (partial / "done").write_text(time.strftime("%Y-%m-%dT%H:%M:%S"))
    model.train(was_training)
