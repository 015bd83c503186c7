"""Does focal loss make a model slower? Speeds of the runs with γ > 0 beside those of cross entropy."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from focalrepro.results import select

Records = list[dict[str, Any]]
CE, FL = "cross entropy (γ = 0)", "focal loss (γ > 0)"
TRAINING, INFERENCE = "training, images/s", "one image alone, ms"
QUANTITIES = (TRAINING, INFERENCE)


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of focal loss ÷ that of cross entropy with its 95 % interval (Welch), over `runs` runs."""

    ratio: float
    low: float
    high: float
    runs: int


def speeds(records: Records, profile: str) -> pd.DataFrame:
    """One row per run of Tables 1a and 1b that did not diverge: run_id, loss (CE or FL), TRAINING, INFERENCE.

    The rows of these tables differ in the loss alone. Only runs of one machine and number of threads are
    comparable, so the most frequent such group is taken. INFERENCE is NaN for records from before it was measured.
    """
    found = {
        r["run_id"]: r
        for name in ("1a", "1b")
        for rows in select(records, profile, name).values()
        for r in rows
    }
    done = [r for r in found.values() if r["status"] == "done"]
    if not done:
        return pd.DataFrame(columns=["run_id", "loss", *QUANTITIES])
    usual = Counter(map(_machine, done)).most_common(1)[0][0]
    return pd.DataFrame(
        {
            "run_id": r["run_id"],
            "loss": FL if r["config"]["gamma"] > 0 else CE,
            TRAINING: r.get("images_per_second") or np.nan,
            INFERENCE: r.get("inference_ms") or np.nan,
        }
        for r in done
        if _machine(r) == usual
    )


def _machine(record: dict[str, Any]) -> tuple[str, int | None]:
    hardware = record["hardware"]
    return hardware.get("gpu", hardware.get("cpu")), hardware.get("threads")


def ratio(frame: pd.DataFrame, quantity: str) -> Ratio | None:
    """Focal loss over cross entropy in one of QUANTITIES; None with fewer than two runs on a side."""
    logs = [np.log(frame.loc[frame["loss"] == loss, quantity].dropna().to_numpy(float)) for loss in (FL, CE)]
    if min(map(len, logs)) < 2:
        return None
    test = stats.ttest_ind(*logs, equal_var=False)
    low, high = test.confidence_interval(0.95)
    effect = logs[0].mean() - logs[1].mean()
    return Ratio(float(np.exp(effect)), float(np.exp(low)), float(np.exp(high)), sum(map(len, logs)))


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Median and range of each quantity for both losses, and their ratio with its interval, as text."""
    rows = []
    for quantity in QUANTITIES:
        row = {"": quantity}
        for loss in (CE, FL):
            values = frame.loc[frame["loss"] == loss, quantity].dropna()
            row[loss] = (
                f"{values.median():.1f} ({values.min():.1f} … {values.max():.1f}), {len(values)} runs"
                if len(values)
                else "no record"
            )
        found = ratio(frame, quantity)
        row["focal loss ÷ cross entropy"] = (
            f"{found.ratio:.2f} ({found.low:.2f} … {found.high:.2f})" if found else "–"
        )
        rows.append(row)
    return pd.DataFrame(rows).set_index("")
