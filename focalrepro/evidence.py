"""The statistics of claims: differences between rows with an interval that covers images and, where known, seeds."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from focalrepro import seed_spread
from focalrepro.results import load_records, replicates, select, table
from focalrepro.study.ablations import ABLATIONS, get_ablation
from focalrepro.study.profiles import get_profile

Records = list[dict[str, Any]]

# Where no row has a second seed, the seeds' share of a difference is unknown. Practice with COCO detectors is that
# gaps of one seed below half a point mean nothing, so the interval is widened by that much on both sides.
UNKNOWN_SEED_MARGIN = 0.5


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, the minus as long as the plus."""
    return f"{value:+.{digits}f}".replace("-", "−")


@dataclass(frozen=True)
class Estimate:
    """An effect in AP with its 95 % interval, the p value of "no effect" and how it was come by.

    larger: the higher AP of the two sides, against which a difference is small or not. seeds: that both sides
    share. remark: what a reader of the effect must know besides.
    """

    effect: float
    low: float
    high: float
    p: float
    how: str
    larger: float
    seeds: int
    remark: str = ""

    def __str__(self) -> str:
        text = f"{signed(self.effect)} AP ({signed(self.low)} … {signed(self.high)})"
        return f"{text}; {self.remark}" if self.remark else text

    def remarked(self, remark: str) -> "Estimate":
        """The same with a remark."""
        return replace(self, remark=remark)


class Evidence:
    """The runs of a profile, by ablation and row; dataset: in place of the profile's own.

    seeds: how far AP moves with the seed, from all rows; where none has a second seed, from the committed results of
    the profile (`borrowed`), since the same training moves as far wherever it is run.
    """

    def __init__(self, records: Records, profile: str, dataset: str = "") -> None:
        self.records, self.profile, self.dataset = records, profile, dataset
        self.base = get_profile(profile).base
        self.rows: dict[str, dict[str, Records]] = {
            name: select(records, profile, name, dataset=dataset) for name in ABLATIONS
        }
        self.seeds = _spread_of(records, profile, dataset)
        self.borrowed = not self.seeds.freedom and not dataset
        if self.borrowed:
            whole = get_profile(profile).whole or profile
            self.seeds = _spread_of(load_records(whole, committed=True), whole)

    def whole(self, ablation: str) -> dict[str, Records] | None:
        """The rows of an ablation, None unless each has a run: the best of some rows is not the best of all."""
        rows = self.rows[ablation]
        return rows if rows and all(rows.values()) else None

    def row(self, ablation: str, **changes: Any) -> Records:
        """The records of the ablation's row that has these changes; KeyError where there is no such row."""
        for row in get_ablation(ablation).rows_for(self.base):
            if all(row.changes.get(k) == v for k, v in changes.items()):
                return self.rows[ablation][row.label]
        raise KeyError(f"ablation {ablation} has no row with {changes}")

    def difference(self, a: Records, b: Records) -> Estimate | None:
        """Mean AP of a less that of b over the seeds that both have; None where they share none.

        The images' share of its error comes from replicates paired by image, the seeds' share of each side from
        `seed_spread`. They are added; the interval is Student's with Satterthwaite's degrees of freedom.
        """
        seeds = {r["config"]["seed"]: r for r in a}
        pairs = [(seeds[r["config"]["seed"]], r) for r in b if r["config"]["seed"] in seeds]
        if not pairs:
            return None
        sides = [[pair[i]["metrics"]["AP"] for pair in pairs] for i in (0, 1)]
        ours, theirs = (float(np.mean(side)) for side in sides)
        effect, larger, n = ours - theirs, max(ours, theirs), len(pairs)
        resampled = np.mean([replicates(x) - replicates(y) for x, y in pairs], axis=0)
        images = float(np.nanvar(resampled, ddof=1))
        if self.seeds.freedom:
            parts = [self.seeds.of(side) for side in sides]
            total = images + sum(variance for variance, _ in parts) / n
            spent = sum((variance / n) ** 2 / freedom for variance, freedom in parts)
            freedom = total**2 / spent if spent else np.inf
            error = np.sqrt(total)
            half = float(stats.t.ppf(0.975, freedom)) * error
            p = 2 * stats.t.sf(abs(effect) / error, freedom) if error else float(effect == 0)
            whose = ", theirs as in the committed results" if self.borrowed else ""
            how = f"{n} seed{'s'[: n > 1]}; error of images and of seeds{whose}"
        else:
            error = np.sqrt(images)
            half = 1.96 * error + UNKNOWN_SEED_MARGIN
            beyond = max(abs(effect) - UNKNOWN_SEED_MARGIN, 0.0)
            p = 2 * stats.norm.sf(beyond / error) if error else float(beyond == 0)
            how = f"1 seed: images, and ±{UNKNOWN_SEED_MARGIN} for the seed"
        return Estimate(effect, effect - half, effect + half, float(p), how, larger, n)


def _spread_of(records: Records, profile: str, dataset: str = "") -> seed_spread.SeedSpread:
    return seed_spread.fit([table(records, profile, name, dataset=dataset) for name in ABLATIONS])


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction for several tests: adjusted p values in the order given."""
    order = np.argsort(p_values)
    adjusted, highest = np.empty(len(p_values)), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted.tolist()
