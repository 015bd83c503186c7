"""How sure the best cell of a column is, on a plane of two settings (γ × α, or FL*'s γ × β)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from focalrepro.results import replicates
from focalrepro.study.ablations import get_ablation

Records = Sequence[dict[str, Any]]


def best_shares(found: Mapping[str, Records], name: str, x: str = "gamma", y: str = "alpha") -> pd.DataFrame:
    """Share of the bootstrap resamples in which each cell is the best of its column; index y, columns x.

    found: records by row, as `results.select` gives them for the ablation `name`. A resample takes the same
    validation images for every cell, and seeds are averaged first; cells that tie share the win, and a resample
    without any AP has no winner. NaN for a cell without runs, and for a column with fewer than two that have any.
    """
    changes = {row.label: row.changes for row in get_ablation(name).rows}
    cells = {
        (changes[label][y], changes[label][x]): np.mean([replicates(r) for r in records], axis=0)
        for label, records in found.items()
        if records
    }
    ys, xs = ({c[key] for c in changes.values()} for key in (y, x))
    shares = pd.DataFrame(np.nan, index=sorted(ys), columns=sorted(xs))
    for column in shares.columns:
        rows = [row for row in shares.index if (row, column) in cells]
        if len(rows) < 2:
            continue
        ap = np.nan_to_num(np.array([cells[row, column] for row in rows]))  # [rows, R]
        wins = (ap == ap.max(axis=0)) & (ap > 0)
        shares.loc[rows, column] = (wins / np.maximum(wins.sum(axis=0), 1)).mean(axis=1)
    return shares
