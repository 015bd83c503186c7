"""How far AP moves with the seed: a variance for each row from its few seeds and those of all other rows.

Three seeds say little about one row's spread, and rows do not spread alike, so neither a row's own variance
nor the pooled one will do. As in Smyth (2004, "Linear models and empirical Bayes methods", section 6) the
variances are taken as drawn from a scaled inverse χ² distribution, and each is drawn towards it as far as
its seeds leave open.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

LEAST_AP = 1.0  # a row that finds nothing has the same AP whatever its seed


@dataclass(frozen=True)
class SeedSpread:
    """The fitted distribution: a typical variance in AP² and the degrees of freedom that it is worth.

    pooled, freedom: the plain variance within rows, of all seeds together; freedom is 0 where no row has two.
    weight is at most that: infinite in theory where the rows spread no less alike than by chance.
    """

    variance: float
    weight: float
    pooled: float
    freedom: int

    @property
    def between_equals(self) -> float:
        """What 95 of 100 differences of runs that differ in the seed alone stay below (pooled variance)."""
        return float(stats.t.ppf(0.975, self.freedom)) * (2 * self.pooled) ** 0.5

    def of(self, seeds: Sequence[float]) -> tuple[float, float]:
        """Variance of one run of a row and its degrees of freedom, from the AP of the row's seeds."""
        own = float(np.var(seeds, ddof=1)) if len(seeds) > 1 else 0.0
        degrees = len(seeds) - 1
        return (self.weight * self.variance + degrees * own) / (self.weight + degrees), self.weight + degrees


def repeated(rows: Iterable[Sequence[float]], least: float = LEAST_AP) -> list[Sequence[float]]:
    """Each row with two seeds or more that finds something; rows: a number for each seed."""
    return [row for row in rows if len(row) > 1 and abs(np.mean(row)) >= least]


def pooled(rows: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Variance over seeds, pooled over repeated rows, with its degrees of freedom; NaN and 0 without rows."""
    freedom = sum(len(row) - 1 for row in rows)
    total = sum((len(row) - 1) * np.var(row, ddof=1) for row in rows)
    return float(total / freedom) if rows else float("nan"), freedom


def fit(rows: Sequence[Sequence[float]], least: float = LEAST_AP) -> SeedSpread:
    """The spread of rows, a number for each seed; those of a mean below `least` are left out."""
    rows = [row for row in repeated(rows, least) if np.ptp(row)]  # equal to the last digit: no logarithm
    variance, freedom = pooled(rows)
    half = np.array([len(row) - 1.0 for row in rows]) / 2
    centred = np.log([np.var(row, ddof=1) for row in rows]) - digamma(half) + np.log(half)
    excess = float(centred.var(ddof=1) - polygamma(1, half).mean()) if len(rows) > 2 else 0.0
    if excess <= 0:  # no more apart than rows of one variance would be
        return SeedSpread(variance, float(freedom), variance, freedom)
    weight = min(2 * brentq(lambda x: polygamma(1, x) - excess, 1e-6, 1e9), float(freedom))
    typical = float(np.exp(centred.mean() + digamma(weight / 2) - np.log(weight / 2)))
    return SeedSpread(typical, weight, variance, freedom)
