"""Intervals and differences that hold the errors of the images and of the seeds (results/PROTOCOL.md)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from scipy import stats

from focalrepro.evaluation.record import Record
from focalrepro.evidence import seed_spread
from focalrepro.study.study import Rows, Study

Records = Sequence[Record]
Key = TypeVar("Key", str, float)  # of rows: a label, or a rate
LEVEL = 0.05
MARGIN = 0.25  # AP within which two rows are called equal

# Where no row has a second seed, the seeds' share of an error is unknown. Practice with COCO detectors is
# that gaps of one seed below half a point mean nothing: the interval is wider by that much on both sides.
UNKNOWN_SEED_MARGIN = 0.5


def student(effect: float, error: float, freedom: float, level: float = 1 - LEVEL) -> tuple[float, float]:
    """Student's interval around an effect whose error, a standard deviation, has so much freedom."""
    half = float(stats.t.ppf(0.5 + level / 2, freedom)) * error
    return effect - half, effect + half


def mean_interval(
    values: Sequence[float], level: float = 1 - LEVEL, shared: float = 0.0
) -> tuple[float, float, float]:
    """The mean of values [n] with Student's interval; NaN are left out, and below two values there is none.

    shared: what the mean's variance has beyond s²/n, in units of s²; 0 for independent values.
    """
    kept = np.asarray(values, np.float64)
    kept = kept[~np.isnan(kept)]
    mean, n = float(kept.mean()) if len(kept) else np.nan, len(kept)
    if n < 2:
        return mean, np.nan, np.nan
    return mean, *student(mean, float(kept.std(ddof=1)) * (1 / n + shared) ** 0.5, n - 1, level)


@dataclass(frozen=True)
class Measure:
    """A number of a record, None or NaN where it has none (`value`), and replicates of it over the images,
    float64 [R].

    borrowed: whose replicates stand in where the measure has none of its own; "" where it has.
    least: rows of a lower mean say nothing of how far seeds spread.
    """

    name: str
    of: Callable[[Record], float | None]
    replicates: Callable[[Record], np.ndarray]
    borrowed: str = ""
    least: float = seed_spread.LEAST_AP

    def value(self, record: Record) -> float | None:
        """The record's number; None where it has none, as where no image that judges has an object."""
        found = self.of(record)
        return None if found is None or np.isnan(found) else found


Percent = TypeVar("Percent", float, np.ndarray)


def stricter(ap: Percent, ap50: Percent) -> Percent:
    """AP at IoU .55, .60 … .95 in percent of AP50, which says how closely boxes fit; NaN where AP50 is 0.

    ap: over these and .5.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * (10 * ap - ap50) / 9 / ap50


AP = Measure("AP", lambda r: r.AP, lambda r: r.bootstrap.AP)
MEASURES = {
    "AP": AP,
    "at .05": Measure("AP at .05", lambda r: r.AP_at_05, lambda r: r.bootstrap.AP_at_05),
    # The worse row less the better one: the gap at .05 less twice the gap without a threshold, above 0 where
    # most of the gap is the threshold's.
    "threshold": Measure(
        "AP",
        lambda r: 2 * r.AP - r.AP_at_05,
        lambda r: 2 * r.bootstrap.AP - r.bootstrap.AP_at_05,
        least=-np.inf,
    ),
    "found": Measure("AP50", lambda r: r.metrics.AP50, lambda r: r.bootstrap.AP50),
    # A ratio: one more object that is found, with a box like the others', leaves it as it is.
    "fit": Measure(
        "points of AP at IoU .55 … .95 in % of AP50",
        lambda r: stricter(r.AP, r.metrics.AP50) if r.metrics.AP50 else None,
        lambda r: stricter(r.bootstrap.AP, r.bootstrap.AP50),
    ),
    "agnostic": Measure("class-agnostic AP", lambda r: r.agnostic_AP, lambda r: r.bootstrap.AP, "AP"),
    "background": Measure(
        "AP50 by TIDE's Bkg", lambda r: (r.tide or {}).get("Bkg"), lambda r: r.bootstrap.AP50, "AP50", -np.inf
    ),
}


@dataclass(frozen=True)
class Estimate:
    """An effect with its error (a standard deviation), Student's degrees of freedom, and what it rests on.

    margin: by which the interval is wider on both sides, for the unknown luck of a single seed. seeds: that
    both sides share. borrowed: the seeds' spread is that of the committed results. levels: the mean of either
    side. of: what was compared, by which claims that ask the same of the same runs are told. machine: of its
    runs, where these are not what other tables count.
    """

    effect: float
    error: float
    freedom: float
    seeds: int
    margin: float = 0.0
    borrowed: bool = False
    measure: str = "AP"
    images_as: str = ""
    remark: str = ""
    levels: tuple[float, ...] = (float("nan"), float("nan"))
    of: tuple[Any, ...] = ()
    machine: str = ""

    def interval(self, level: float = 1 - LEVEL) -> tuple[float, float]:
        """The interval of that level, in the effect's unit."""
        low, high = student(self.effect, self.error, self.freedom, level)
        return low - self.margin, high + self.margin

    @property
    def low(self) -> float:
        return self.interval()[0]

    @property
    def high(self) -> float:
        return self.interval()[1]

    @property
    def p(self) -> float:
        """The two-sided p value of "no effect"."""
        beyond = max(abs(self.effect) - self.margin, 0.0)
        if not self.error:
            return float(beyond == 0)
        return float(2 * stats.t.sf(beyond / self.error, self.freedom))

    @property
    def clear(self) -> bool:
        """Whether the 95 % interval leaves out 0."""
        return self.low > 0 or self.high < 0


def shared(rows: Mapping[Key, Records]) -> dict[Key, Records]:
    """Of rows the records that make pairs (`Record.pair`) in all rows with runs, so that rows compare; none
    where no pair is common."""
    sets = [{r.pair for r in records} for records in rows.values() if records]
    common = set.intersection(*sets) if sets else set()
    return {k: [r for r in records if r.pair in common] for k, records in rows.items()}


class Evidence:
    """What a study's records say; cheap to make, and what is computed is kept."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._spreads: dict[Measure, seed_spread.SeedSpread] = {}
        self._rows: dict[str, Rows] = {}
        self._every: dict[str, Rows] = {}

    def every(self, ablation: str) -> Rows:
        """The records of an ablation's rows, of every seed (`Study.rows`).

        Where unlike machines made the rows: those of the one machine that made more seeds of all rows than
        make pairs among these, whichever the other tables count (`Study.again`).
        """
        if ablation not in self._every:
            self._every[ablation] = self._of_like_machines(self.study.rows(ablation))
        return self._every[ablation]

    def _of_like_machines(self, rows: Rows) -> Rows:
        kinds = {r.kind for records in rows.values() for r in records}
        if len(kinds) < 2:
            return rows
        every = [r for records in [*self.study.again.values(), *rows.values()] for r in records]
        candidates = [rows]
        for kind in sorted(kinds):
            made = {r.run_id: r for r in every if r.kind == kind}  # of two that which the tables count
            alike = {k: [made[r.run_id] for r in records if r.run_id in made] for k, records in rows.items()}
            candidates += [alike] * all(alike[k] for k, records in rows.items() if records)
        return max(candidates, key=lambda of: max(map(len, shared(of).values())))

    def rows(self, ablation: str) -> Rows:
        """The records of an ablation's rows over the seeds that all rows with runs share (`shared`).

        All of them where there is no such seed, to be looked at: nothing is picked among such rows.
        """
        if ablation not in self._rows:
            found = self.comparable(ablation)
            self._rows[ablation] = found if any(found.values()) else self.every(ablation)
        return self._rows[ablation]

    def comparable(self, ablation: str) -> Rows:
        """The same, empty where no seed of like machines is common to all rows with runs."""
        return shared(self.every(ablation))

    def row(self, ablation: str, **changes: object) -> Records:
        """Those of the first row with these changes; KeyError where there is no such row."""
        return self.rows(ablation)[self.study.label(ablation, **changes)]

    def whole(self, ablation: str) -> Rows | None:
        """The rows of an ablation, which compare; None unless each has a run: the best of some is not the
        best of all."""
        rows = self.comparable(ablation)
        return rows if rows and all(rows.values()) else None

    def spread(self, measure: Measure = AP) -> seed_spread.SeedSpread:
        """How far a measure moves with the seed: from all rows; where none has a second seed, `borrowed`."""
        if measure not in self._spreads:
            self._spreads[measure] = (self.borrowed or self)._own(measure)
        return self._spreads[measure]

    @cached_property
    def own(self) -> "Evidence":
        """That of the profile's own records, without what a study takes from its `whole`."""
        alone = self.study.alone()
        return self if alone is self.study else Evidence(alone)

    @cached_property
    def of_whole(self) -> "Evidence":
        """The committed results' of the profile that runs the whole paper, where one's own leaves it that."""
        whole = self.study.profile.whole
        return Evidence(type(self.study).committed(whole)) if whole else self

    def _own(self, measure: Measure) -> seed_spread.SeedSpread:
        study = self.own.study
        rows = [records for name in study.ablations for records in study.rows(name).values()]
        each = {tuple(r.run_id for r in records): records for records in rows}.values()  # rows are shared
        values = [[v for r in records if (v := measure.value(r)) is not None] for records in each]
        return seed_spread.fit(values, measure.least)

    @cached_property
    def borrowed(self) -> "Evidence | None":
        """The committed results whose spread over seeds is taken: a training moves as far wherever it is run.

        None where own rows have a second seed, and on another dataset.
        """
        if self._own(AP).freedom or self.study.profile.own:
            return None
        return Evidence(Study.committed(self.study.profile.whole or self.study.name))

    def interval(self, records: Records) -> tuple[float, float]:
        """The 95 % interval of a row's mean AP, over images and seeds; NaN without records, or an object."""
        found = self.contrast([records], [1.0])
        # No AP is below 0, as a t interval does not know.
        return (max(found.low, 0.0), found.high) if found else (float("nan"), float("nan"))

    def difference(self, a: Records, b: Records, measure: Measure = AP) -> Estimate | None:
        """The mean of a less that of b (`contrast`)."""
        return self.contrast((a, b), (1.0, -1.0), measure)

    def contrast(
        self, sides: Sequence[Records], weights: Sequence[float], measure: Measure = AP, by_seed: bool = False
    ) -> Estimate | None:
        """The weighted sum of rows' means, over the seeds that all have from like machines (`Record.pair`).

        The images' share of its error comes from replicates paired by image. The seeds' share is each row's
        own from `seed_spread`, added up, as the protocol has it; by_seed: that of the sums seed by seed, less
        where rows of one seed, with their common start and order of images, move together. Freedom is as
        Satterthwaite has it.
        None where they share no seed (by_seed: fewer than three), and where a record lacks the measure.
        """
        of = [{r.pair: r for r in records} for records in sides]
        runs = [[side[pair] for side in of] for pair in of[-1] if all(pair in side for side in of)]
        if (n := len(runs)) < (3 if by_seed else 1):
            return None
        values = [[measure.value(r) for r in row] for row in zip(*runs, strict=True)]
        if any(v is None for row in values for v in row):
            return None
        drawn = [np.mean([measure.replicates(r) for r in row], axis=0) for row in zip(*runs, strict=True)]
        resampled = np.dot(weights, drawn)
        if np.isfinite(resampled).sum() < 2:  # hardly a resample has an object
            return None
        levels = tuple(float(np.mean(row)) for row in values)
        ids = sorted(tuple(r.run_id for r in seed) for seed in runs)
        about = {"measure": measure.name, "images_as": measure.borrowed, "levels": levels}
        about["of"] = (measure, *weights, *ids)
        effect, images = float(np.dot(weights, levels)), float(np.nanvar(resampled, ddof=1))
        spread = self.spread(measure)
        if by_seed:
            parts = [(float(np.var(np.dot(weights, values), ddof=1)) / n, n - 1)]
        elif not spread.freedom:
            return Estimate(effect, images**0.5, np.inf, n, UNKNOWN_SEED_MARGIN, **about)
        else:
            about["borrowed"] = self.borrowed is not None
            each = zip(weights, map(spread.of, values), strict=True)
            parts = [(weight**2 * variance / n, freedom) for weight, (variance, freedom) in each]
        total = images + sum(variance for variance, _ in parts)
        spent = sum(variance**2 / freedom for variance, freedom in parts)
        return Estimate(effect, total**0.5, total**2 / spent if spent else np.inf, n, **about)


def holm(p_values: Sequence[float], family: int = 0) -> list[float]:
    """Holm's correction for several tests: adjusted p values in the order given.

    family: how many tests there are, if more than are given; the others count as if nothing spoke for them.
    """
    order = np.argsort(p_values)
    factors = max(family, len(p_values)) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.minimum(1, factors * np.array(p_values)[order]))
    return adjusted.tolist()
