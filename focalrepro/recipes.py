"""Two recipes of a profile side by side: does the fast one rank the losses as the paper's does, and what does AP cost?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from focalrepro.figures_lines import sweep
from focalrepro.results import replicates, select, table
from focalrepro.study.profiles import get_profile

Records = list[dict[str, Any]]
LEAST_ROWS = 6  # below this a rank correlation says nothing


@dataclass(frozen=True)
class Agreement:
    """Spearman's correlation of two recipes' AP over `rows` rows, with its 95 % interval over images."""

    recipe: str
    rows: int
    correlation: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"Over {self.rows} rows of Tables 1a and 1b the recipe `fast` ranks the losses as `{self.recipe}` does with "
            f"a rank correlation of {self.correlation:.2f} ({self.low:.2f} … {self.high:.2f}, bootstrap over images)."
        )


def agreement(records: Records, profile: str, recipe: str, dataset: str = "") -> Agreement | None:
    """How `fast` and another recipe rank the rows of Tables 1a and 1b; None with fewer than LEAST_ROWS in common."""
    sides: list[dict[tuple, Records]] = []
    for name in ("fast", recipe):
        found = {}
        for ablation in ("1a", "1b"):
            for rows in select(records, profile, ablation, name, dataset).values():
                if rows:
                    found[rows[0]["config"]["gamma"], rows[0]["config"]["alpha"]] = rows
        sides.append(found)
    common = [key for key in sides[0] if key in sides[1]]
    if len(common) < LEAST_ROWS:
        return None
    ap = [[np.mean([r["metrics"]["AP"] for r in side[key]]) for key in common] for side in sides]
    resampled = [
        np.array([np.mean([replicates(r) for r in side[key]], axis=0) for key in common]) for side in sides
    ]
    drawn = [stats.spearmanr(a, b).statistic for a, b in zip(resampled[0].T, resampled[1].T, strict=True)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Agreement(recipe, len(common), float(stats.spearmanr(*ap).statistic), float(low), float(high))


def time_to_ap(records: Records, profile: str, dataset: str = "") -> pd.DataFrame:
    """The rows of ablation `budget` of every recipe that has some, labelled "recipe loss, steps"; seconds of training."""
    frames = []
    for recipe in ("fast", *get_profile(profile).recipes):
        frame = table(records, profile, "budget", recipe, dataset).dropna(subset=["AP"])
        frames.append(frame.assign(row=recipe + " " + frame["row"]))
    return pd.concat(frames, ignore_index=True)


def time_to_ap_figure(frame: pd.DataFrame) -> Figure:
    """AP against the seconds of a training that was planned for so long; a line for each recipe and loss."""
    return sweep(frame, "seconds", "seconds of training, start-up excluded", "AP against time", ticks=False)
