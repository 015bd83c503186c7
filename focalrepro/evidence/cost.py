"""Does focal loss make a model slower? Steps of both losses in turn, and the speeds of whole runs."""

import numpy as np
import pandas as pd

from focalrepro.evidence.difference import Evidence, student
from focalrepro.evidence.verdict import Verdict
from focalrepro.study.study import Study

CE, FL = "cross entropy (γ = 0)", "focal loss (γ > 0)"
TRAINING = "training, images/s"


def speeds(study: Study) -> pd.DataFrame:
    """One row per run of Tables 1a and 1b that did not diverge: seed, loss (CE or FL), TRAINING.

    The rows of these tables differ in the loss alone. Only runs of one machine and number of threads are
    comparable, so the most frequent such group is taken. What a record did not measure is NaN, and so is the
    speed on a GPU, where several runs take turns, and one captured step serves every γ.
    """
    records = {r.run_id: r for name in ("1a", "1b") for rows in study.rows(name).values() for r in rows}
    rows = [
        (r.seed, FL if r.config.gamma > 0 else CE, (not r.hardware.gpu and r.images_per_second) or np.nan)
        + (f"{r.hardware.name}, {r.hardware.threads}",)
        for r in records.values()
        if not r.diverged
    ]
    frame = pd.DataFrame(rows, columns=["seed", "loss", TRAINING, "machine"]).astype({TRAINING: float})
    machine = frame.pop("machine")
    return frame[machine.isin(machine.mode()[:1])]


def _ratio(logs: pd.Series, runs: int, unit: str, how: str) -> Verdict:
    """The geometric mean of ratios with its 95 % interval."""
    between = student(logs.mean(), logs.std(ddof=1) / len(logs) ** 0.5, len(logs) - 1)
    value, low, high = (float(np.exp(x)) for x in (logs.mean(), *between))
    return Verdict("measured", value, low, high, unit, how=f"{how}, {runs} runs")


def training_speed(e: Evidence) -> Verdict | None:
    """Steps of both losses timed in turn within each run; where less than three runs did so, whole runs."""
    timed = [r.step_seconds for rows in e.study.rows("1b").values() for r in rows if r.step_seconds]
    if len(timed) < 3:
        return _seed_by_seed(speeds(e.study))
    logs = pd.Series(np.log([t.own / t.cross_entropy for t in timed]))
    return _ratio(logs, len(timed), "× the time of a step", "steps timed in turn within a run")


def _seed_by_seed(frame: pd.DataFrame) -> Verdict | None:
    """Focal loss over cross entropy within each seed, whose runs follow each other; None below two seeds."""
    known = frame.dropna()
    logs = np.log(known[TRAINING]).groupby([known["seed"], known["loss"]]).mean().unstack()
    if not {FL, CE} <= set(logs.columns):
        return None
    gaps = (logs[FL] - logs[CE]).dropna()
    return _ratio(gaps, len(known), "× the images a second", "whole runs") if len(gaps) > 1 else None
