"""A learning rate for each loss: whose rate a config takes, of those that are searched (`ablations.toml`).

One rate for all would favour the loss that it was chosen on. A config takes the rate of the searched loss
that it is nearest to; results/PROTOCOL.md says the same in words.
"""

from focalrepro.config import RunConfig
from focalrepro.study.rows import RIVALS

# Whatever else their config says.
NEAREST = {
    "focal_star": "FL, γ = 2",
    "hinge": "FL, γ = 2",
    "ohem": "OHEM",
    "hard_negatives": "hard negatives 1:3",
}


def family_of(config: RunConfig) -> str:
    """The searched loss whose rate a config takes; "" where none is like it: the baseline's rate stays."""
    if config.loss in NEAREST:
        return NEAREST[config.loss]
    if "@" in config.loss:  # one of the user's own, whose search is named as it is
        return config.loss
    if config.loss != "focal":
        mine = config.as_dict().items()
        return next((name for name, fields in RIVALS.items() if fields.items() <= mine), "")
    if config.guided:
        return "Sampling-Free" if config.prior == 0 else "Sampling-Free, its scaling alone"
    if config.gamma == 0:
        if config.prior == 0:
            return "Sampling-Free, its prior alone"
        if config.prior <= 0.001:
            return "CE, α = .5, π = .001"
        return "CE, α = .75" if config.alpha > 0.5 else "CE, α = .5"
    return "FL, γ = 1" if config.gamma <= 1 else "FL, γ = 2"
