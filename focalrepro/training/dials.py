"""What a loss reads besides logits and labels: its numbers, and the config for everything else."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from focalrepro.config import RunConfig

Number = float | Tensor


@dataclass
class Dials:
    """The numbers of a loss: floats on a CPU, on a GPU scalar tensors, so that one graph serves a sweep."""

    config: RunConfig  # shapes and choices, which a captured step keeps
    alpha: Number
    gamma: Number
    beta: Number
    gamma_object: Number
    epsilon: Number
    # IoU [B, A] of the predicted boxes with their objects, made by a step for the losses that ask for it.
    quality: Tensor | None = None
    average: Tensor | None = None  # what normalizer "moving" keeps of the steps before; a step's own

    @classmethod
    def of(cls, config: RunConfig) -> "Dials":
        """A config's numbers as floats; gamma_object is gamma's where it has none of its own."""
        own = config.gamma if config.gamma_object < 0 else config.gamma_object
        return cls(config, config.alpha, config.gamma, config.beta, own, config.epsilon)

    def on(self, device: torch.device) -> "Dials":
        """The same as scalar tensors on a device."""
        numbers = {name: torch.tensor(float(getattr(self, name)), device=device) for name in NUMBERS}
        return Dials(self.config, **numbers)

    def set(self, config: RunConfig) -> None:
        """Takes another config's numbers; tensors are filled in place, since a captured graph reads them."""
        self.config, new = config, Dials.of(config)
        for name in NUMBERS:
            if isinstance(old := getattr(self, name), Tensor):
                old.fill_(getattr(new, name))
            else:
                setattr(self, name, getattr(new, name))


NUMBERS = tuple(f.name for f in fields(Dials) if f.name not in ("config", "quality", "average"))
