"""Does focal loss make a model slower? Steps of both losses in turn, and the speeds of whole runs, from the
records."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from focalrepro.evidence.difference import student
from focalrepro.study.study import Study

CE, FL = "cross entropy (γ = 0)", "focal loss (γ > 0)"
TRAINING, INFERENCE = "training, images/s", "one image alone, ms"
QUANTITIES = (TRAINING, INFERENCE)


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of focal loss ÷ that of cross entropy with its 95 % interval, over `runs` runs."""

    ratio: float
    low: float
    high: float
    runs: int


def _geometric(logs: np.ndarray, runs: int) -> Ratio:
    between = student(float(logs.mean()), float(logs.std(ddof=1)) / len(logs) ** 0.5, len(logs) - 1)
    return Ratio(*(float(np.exp(x)) for x in (logs.mean(), *between)), runs)


def step_ratio(study: Study) -> Ratio | None:
    """A step with focal loss ÷ one with cross entropy, over the runs of Table 1b that timed both (Student's
    t).

    None with fewer than three such runs.
    """
    timed = [r.step_seconds for rows in study.rows("1b").values() for r in rows if r.step_seconds]
    if len(timed) < 3:
        return None
    return _geometric(np.log([t.own / t.cross_entropy for t in timed]), len(timed))


def speeds(study: Study) -> pd.DataFrame:
    """One row per run of Tables 1a and 1b that did not diverge: run_id, seed, loss (CE or FL), AP, TRAINING,
    INFERENCE.

    The rows of these tables differ in the loss alone. Only runs of one machine and number of threads are
    comparable, so the most frequent such group is taken. INFERENCE is NaN for records from before it was
    measured.
    """
    found = {
        r.run_id: r
        for name in ("1a", "1b")
        for rows in study.rows(name).values()
        for r in rows
        if not r.diverged
    }
    machines = Counter((r.hardware.name, r.hardware.threads) for r in found.values())
    usual = machines.most_common(1)[0][0] if machines else None
    rows = [
        (r.run_id, r.seed, FL if r.config.gamma > 0 else CE, r.AP, r.images_per_second, r.inference_ms)
        for r in found.values()
        if (r.hardware.name, r.hardware.threads) == usual
    ]
    frame = pd.DataFrame(rows, columns=["run_id", "seed", "loss", "AP", *QUANTITIES])
    return frame.astype({q: float for q in QUANTITIES}).replace({q: {0.0: np.nan} for q in QUANTITIES})


def ratio(frame: pd.DataFrame, quantity: str) -> Ratio | None:
    """Focal loss over cross entropy in one of QUANTITIES, seed by seed (Student's t); None with fewer than
    two seeds.

    The runs of a seed follow each other, so what the machine did besides is much the same for both losses.
    INFERENCE is compared over runs with at least half of the best AP: a detector that finds nothing, or calls
    everything an object, takes another time for its suppression whatever its loss.
    """
    known = frame.dropna(subset=[quantity])
    if quantity == INFERENCE:
        known = known[known["AP"] >= frame["AP"].max() / 2]
    logs = np.log(known[quantity]).groupby([known["seed"], known["loss"]]).mean().unstack()
    if not {FL, CE} <= set(logs.columns):
        return None
    gaps = (logs[FL] - logs[CE]).dropna()
    return _geometric(gaps.to_numpy(), len(known)) if len(gaps) > 1 else None


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """For each quantity: median, least, most and number of runs of both losses, and their ratio with its
    interval."""
    rows = []
    for quantity in QUANTITIES:
        entry: dict[str, object] = {"quantity": quantity}
        for loss in (CE, FL):
            values = frame.loc[frame["loss"] == loss, quantity].dropna()
            entry[loss] = (values.median(), values.min(), values.max(), len(values))
        rows.append(entry | {"ratio": ratio(frame, quantity)})
    return pd.DataFrame(rows).set_index("quantity")
