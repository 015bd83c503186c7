"""Does focal loss help the rare classes? AP of each class against how often it occurs in training."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from focalrepro.config import RunConfig
from focalrepro.data import DatasetError, DetectionData
from focalrepro.evidence.difference import Records
from focalrepro.runs import load_splits

RESAMPLES = 2000
LEAST_CLASSES = 5  # with fewer, resampled classes say nothing about a trend


@dataclass(frozen=True)
class Trend:
    """Spearman's correlation of the gain with the number of training objects, with its 95 % interval.

    The interval is a bootstrap over classes: it says how the correlation would move with other classes. NaN
    with fewer than LEAST_CLASSES, or where all gains are equal. spread: most frequent class ÷ least frequent.
    """

    correlation: float
    low: float
    high: float
    classes: int
    spread: float


def objects_by_class(data: DetectionData) -> dict[str, int]:
    """How many objects of each class a split holds; crowd boxes, which no anchor learns, are not counted."""
    count = np.bincount(data.labels[data.labels >= 0], minlength=len(data.categories))
    return dict(zip(data.categories, count.tolist(), strict=True))


def training_objects(config: RunConfig) -> dict[str, int]:
    """`objects_by_class` of the config's training split; empty where its dataset is not prepared here.

    Records can be read without the data that they were made from; only this count needs it.
    """
    try:
        return objects_by_class(load_splits(config)[0])
    except DatasetError:
        return {}


def compare(one: Records, other: Records, objects: Mapping[str, int]) -> pd.DataFrame:
    """One row per class, rarest first: objects, AP of both in percent (means over seeds), and other - one.

    Over the seeds that both have; least and most are the smallest and the largest gain of one seed. Classes
    without an object in validation have no AP and are left out.
    """
    seeds = {r.seed: r.per_class for r in one}
    pairs = [(seeds[r.seed], r.per_class) for r in other if r.seed in seeds]
    rows = []
    for name, count in objects.items():
        both = [(a[name], b[name]) for a, b in pairs if a.get(name) is not None and b.get(name) is not None]
        if both:
            gains = [b - a for a, b in both]
            means = np.mean(both, axis=0)
            rows.append((name, count, *means, np.mean(gains), min(gains), max(gains), len(both)))
    columns = ["class", "objects", "one", "other", "gain", "least", "most", "seeds"]
    return pd.DataFrame(rows, columns=columns).sort_values("objects", kind="stable").set_index("class")


def trend(frame: pd.DataFrame, resamples: int = RESAMPLES) -> Trend:
    """The rank correlation of `compare`'s gain with the number of objects; the resampling is the same every
    time."""
    objects, gain = (frame[c].to_numpy(dtype=float) for c in ("objects", "gain"))
    spread = float(objects.max() / max(objects.min(), 1)) if len(frame) else float("nan")
    if len(frame) < LEAST_CLASSES or np.ptp(gain) == 0 or np.ptp(objects) == 0:
        return Trend(float("nan"), float("nan"), float("nan"), len(frame), spread)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(frame), (resamples, len(frame)))
    # Spearman's is Pearson's correlation of the ranks, here of all resamples at once: [R, classes].
    a, b = (stats.rankdata(v[drawn], axis=1) for v in (objects, gain))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    norm = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    values = (a * b).sum(1)[norm > 0] / norm[norm > 0]  # without those that drew one class only
    low, high = np.quantile(values, [0.025, 0.975])
    return Trend(float(stats.spearmanr(objects, gain).statistic), float(low), float(high), len(frame), spread)
