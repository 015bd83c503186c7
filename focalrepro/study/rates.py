"""A learning rate for each loss: whose rate a config takes, of those that are searched (`ablations.toml`).

One rate for all would favour the loss that it was chosen on. A config takes the rate of the searched loss
that it is nearest to, as results/PROTOCOL.md has it; but where that goes by α alone, a π of .001 or less
comes first (results/README.md, "Departures from the protocol").
"""

from collections.abc import Mapping, Sequence

import numpy as np

from focalrepro.config import RunConfig
from focalrepro.evaluation.record import Record
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


def best_rate(trials: Mapping[float, Sequence[Record]]) -> tuple[float, float]:
    """Of a loss's trials by their rate, the rate of the highest mean tune AP, of equals the lowest; and that
    AP in percent, 0 where no tune image has an object."""
    means = {rate: float(np.nan_to_num([r.tune_AP for r in rs]).mean()) for rate, rs in trials.items()}
    rate = min(means, key=lambda rate: (-means[rate], rate))
    return rate, means[rate]
