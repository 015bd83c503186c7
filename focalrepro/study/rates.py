"""A learning rate for each loss: which losses are searched, over which rates, and whose rate a config takes.

One rate for all would favour the loss that it was chosen on. A config takes the rate of the searched loss
that it is nearest to; results/PROTOCOL.md says the same in words.
"""

from typing import Any

from focalrepro.config import RunConfig

RATES = (1e-3, 2e-3, 4e-3, 8e-3)

# What is searched, by its name: the fields that make it.
LOSSES: dict[str, dict[str, Any]] = {
    "CE, α = .5": {"gamma": 0.0, "alpha": 0.5},
    "CE, α = .75": {"gamma": 0.0, "alpha": 0.75},
    "CE, α = .5, π = .001": {"gamma": 0.0, "alpha": 0.5, "prior": 0.001},
    "FL, γ = 2": {"gamma": 2.0, "alpha": 0.25},
    "FL, γ = 1": {"gamma": 1.0, "alpha": 0.25},
    "hard negatives 1:3": {"loss": "hard_negatives", "ohem_ratio": 3.0},
    "Sampling-Free": {"gamma": 0.0, "alpha": 0.5, "prior": 0.0, "guided": True},
    "OHEM": {"loss": "ohem", "ohem_batch": 128, "ohem_nms": 0.7},
}
RIVALS: dict[str, dict[str, Any]] = {
    "Sampling-Free, its prior alone": {"gamma": 0.0, "alpha": 0.5, "prior": 0.0},
    "Sampling-Free, its scaling alone": {"gamma": 0.0, "alpha": 0.5, "guided": True},
    "GHM-C": {"loss": "ghm"},
    "Quality focal loss": {"loss": "quality", "gamma": 2.0},
    "asymmetric, γ₊ = 0, γ₋ = 2": {"loss": "asymmetric", "gamma_object": 0.0, "gamma": 2.0, "alpha": 0.25},
    "asymmetric, γ₊ = 1, γ₋ = 4": {"loss": "asymmetric", "gamma_object": 1.0, "gamma": 4.0, "alpha": 0.25},
    "Poly-1, ε = −1": {"loss": "poly1", "epsilon": -1.0, "gamma": 2.0, "alpha": 0.25},
}


def family_of(config: RunConfig) -> str:
    """The searched loss whose rate a config takes;
    "" where none is like it, so that the baseline's rate stays.
    """
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
