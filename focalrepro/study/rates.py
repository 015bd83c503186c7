"""A learning rate for each loss: whose rate a config takes, of those that are searched (`ablations.toml`).

One rate for all would favour the loss that it was chosen on. A config takes the rate of the searched loss
that it is nearest to; results/PROTOCOL.md says the same in words.
"""

from typing import Any

from focalrepro.config import RunConfig
from focalrepro.study.rows import RIVALS


def family_of(config: RunConfig) -> str:
    """The searched loss whose rate a config takes; "" where none is like it: the baseline's rate stays."""
    if config.loss == "focal_star" or config.loss == "hinge":
        return "FL, γ = 2"
    if config.loss == "hard_negatives":
        return "hard negatives 1:3"
    if config.loss == "ohem":
        return "OHEM"
    if "@" in config.loss:  # one of the user's own, whose search is named as it is
        return config.loss
    if config.loss != "focal":
        return next((n for n, fields in RIVALS.items() if _has(config, fields)), "")
    if config.guided:
        return "Sampling-Free" if config.prior == 0 else "Sampling-Free, its scaling alone"
    if config.gamma == 0:
        if config.prior == 0:
            return "Sampling-Free, its prior alone"
        if config.prior <= 0.001:
            return "CE, α = .5, π = .001"
        return "CE, α = .75" if config.alpha > 0.5 else "CE, α = .5"
    return "FL, γ = 1" if config.gamma <= 1 else "FL, γ = 2"


def _has(config: RunConfig, fields: dict[str, Any]) -> bool:
    return all(getattr(config, name) == value for name, value in fields.items())
