"""The model as a run begins with it: heads by the seed, the backbone's weights from where the config says.

Finding weights may read a dataset, download or train, so no constructor does it: they are got here, once a
process, and given to the model. And a trained one in a file: its weights and the names of its classes.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData, data_root, weights_path
from focalrepro.detector.backbones import make_backbone
from focalrepro.detector.frozen_features import principal_components, state_digest
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.files import write_atomic
from focalrepro.hardware import has_bf16
from focalrepro.training.pretrain import pretrained_weights
from focalrepro.training.two_stage import TwoStage


def new_model(config: RunConfig, classes: int) -> RetinaNet:
    """The detector that a config asks for, its weights drawn at random."""
    return (TwoStage if config.detector == "faster_rcnn" else RetinaNet)(config, classes)


def initial_model(config: RunConfig, data: DetectionData) -> RetinaNet:
    """The untrained model of a config's seed, on the CPU; data: the training split."""
    state = backbone_weights(config.backbone, config.weights, data)  # first: making it draws numbers
    torch.manual_seed(config.seed)
    model = new_model(config, len(data.categories))
    if state is not None:
        model.backbone.load_state_dict(state)
    if model.reduce is not None:
        model.reduce.load_state_dict(_components(config, model, data))
    model.train()
    return model


@lru_cache(maxsize=2)
def backbone_weights(name: str, weights: str, data: DetectionData) -> dict[str, Tensor] | None:
    """The state of a backbone as RunConfig.weights asks for it; None for "none".

    "digits" comes with the package (`pretrain`); "imagenet" is the dataset's own file for resnet50v2 and
    torchvision's for the others; anything else is a path.
    """
    if weights == "none":
        return None
    if weights == "digits":
        weights = str(pretrained_weights(name))
    elif weights == "imagenet" and name == "resnet50v2":
        weights = str(weights_path(data.name, name))
    return make_backbone(name, weights).state_dict()


def _components(config: RunConfig, model: RetinaNet, data: DetectionData) -> dict[str, Tensor]:
    """The projection of the frozen maps: computed once for a dataset and a backbone, kept with the data."""
    key = f"{state_digest(model.backbone)} {data.pixels_digest} {model.used} {config.kept_channels:g}"
    key += " fp32" * (not has_bf16())  # which rounds the maps otherwise
    name = f"components-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    path = data_root() / "cache" / name
    if not path.exists():
        write_atomic(path, save(principal_components(model.eval(), data)))
    return load_file(path)


def save_model(path: Path, model: nn.Module, categories: Sequence[str]) -> None:
    """Writes a model as safetensors, whole or not at all."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    write_atomic(path, save(tensors, {"categories": json.dumps(list(categories))}))


def load_model(path: Path, config: RunConfig) -> tuple[nn.Module, list[str]]:
    """The model of a config, in evaluation on the CPU, and the names of its classes.

    Errors: ValueError that names a file which is damaged or holds another model.
    """
    try:
        with safe_open(path, "pt") as file:
            names = json.loads(file.metadata()["categories"])
        model = new_model(config, len(names))
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        what = f"{path}: not this run's weights ({str(error).splitlines()[0]})"
        raise ValueError(f"{what}; delete the file and make it again") from error
    return model.eval(), names
