"""Does focal loss help the rare classes? AP of each class against how often it occurs in training."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from focalrepro.config import RunConfig
from focalrepro.data import DatasetError
from focalrepro.evidence.difference import Records
from focalrepro.evidence.verdict import Verdict
from focalrepro.runs import load_splits

LEAST_CLASSES = 5  # with fewer, resampled classes say nothing about a trend
EVEN = 1.5  # classes that differ in number by less are called equally frequent


def training_objects(config: RunConfig) -> dict[str, int]:
    """Training objects by class, without crowd boxes, which no anchor learns; empty without the dataset."""
    try:
        data = load_splits(config)[0]
    except DatasetError:
        return {}
    count = np.bincount(data.labels[data.labels >= 0], minlength=len(data.categories))
    return dict(zip(data.categories, count.tolist(), strict=True))


def by_class(one: Records, other: Records, objects: Mapping[str, int]) -> pd.DataFrame:
    """One row per class, rarest first: objects, AP of both in percent (means over seeds), and other - one.

    Over the seeds that both have from like machines (`Record.pair`); least and most are the smallest and the
    largest gain of one seed. Classes without an object in validation have no AP and are left out.
    """
    a, b = (
        pd.DataFrame({str(r.pair): r.per_class for r in side}, dtype=float).reindex(list(objects))
        for side in (one, other)
    )
    seeds = a.columns.intersection(b.columns)
    gain = b[seeds] - a[seeds]
    before, after = (side[seeds].where(gain.notna()).mean(axis=1) for side in (a, b))
    columns = {"objects": pd.Series(dict(objects), dtype=int), "one": before, "other": after}
    columns |= {"gain": gain.mean(axis=1), "least": gain.min(axis=1), "most": gain.max(axis=1)}
    frame = pd.DataFrame(columns | {"seeds": gain.count(axis=1)}).rename_axis("class")
    return frame[frame["seeds"] > 0].sort_values("objects", kind="stable")


def trend(frame: pd.DataFrame) -> Verdict | None:
    """Whether rare classes gain more: Spearman's correlation of `by_class`'s gain with the number of objects.

    The interval is a bootstrap over classes: it says how the correlation would move with other classes. None
    with fewer than LEAST_CLASSES, or where all gains are equal; "undecided" where classes are as frequent as
    each other. Resampling is the same every time.
    """
    objects, gain = (frame[column].to_numpy(float) for column in ("objects", "gain"))
    if len(frame) < LEAST_CLASSES or np.ptp(gain) == 0 or np.ptp(objects) == 0:
        return None
    drawn = np.random.default_rng(0).integers(0, len(frame), (2000, len(frame)))
    a, b = (stats.zscore(stats.rankdata(v[drawn], axis=1), axis=1) for v in (objects, gain))
    low, high = np.nanquantile((a * b).mean(1), [0.025, 0.975])  # a resample of one class has none
    value, spread = float(stats.spearmanr(objects, gain).statistic), objects.max() / max(objects.min(), 1)
    word = "undecided" if spread < EVEN or low <= 0 <= high else "confirmed" if high < 0 else "refuted"
    remark = f"the most frequent class has {spread:.1f} times the objects of the least frequent one"
    how = f"bootstrap over {len(frame)} classes"
    return Verdict(word, value, float(low), float(high), "Spearman's correlation", remark=remark, how=how)
