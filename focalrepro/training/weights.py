"""A trained detector in one file: its weights and buffers, and the names of its classes."""

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from focalrepro.config import RunConfig
from focalrepro.files import write_atomic
from focalrepro.training.initial import new_model


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
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dict
        model = new_model(config, len(names))
        model.load_state_dict(state)
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        what = f"{path}: not this run's weights ({str(error).splitlines()[0]})"
        raise ValueError(f"{what}; delete the file and make it again") from error
    return model.eval(), names
