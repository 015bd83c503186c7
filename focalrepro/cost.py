"""Does focal loss make a model slower? Steps of both losses in turn, and the speeds of whole runs.

A machine is never quite idle, and a run's images a second tell of that as much as of its loss. So every run with focal
loss also times some steps of its own beside as many of cross entropy, in turn: what disturbs one disturbs the other.
"""

import statistics
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.results import select
from focalrepro.training.batches import batches
from focalrepro.training.loop import new_step

Records = list[dict[str, Any]]
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


def step_seconds(
    config: RunConfig, data: DetectionData, device: torch.device, pairs: int = 12
) -> dict[str, float] | None:
    """Median seconds of a training step with the config's loss ("own") and with "cross_entropy", timed in turn.

    None where there is nothing to compare: the loss is not focal, γ is 0, or the device is a GPU, where one captured
    step serves every γ.
    """
    if config.loss != "focal" or config.gamma == 0 or config.detector != "retinanet" or device.type != "cpu":
        return None
    short = config.replace(steps=pairs + 2, warmup=0)  # two to warm up
    steps = {
        "own": new_step(short, data, device),
        "cross_entropy": new_step(short.replace(gamma=0.0), data, device),
    }
    index, flips = batches(len(steps["own"].source), short)
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(pairs + 2):
        for name in sorted(steps, reverse=bool(i % 2)):
            start = time.perf_counter()
            steps[name](index[i], flips[i], 0.0)  # whatever the rate, the work is the same
            taken[name].append(time.perf_counter() - start)
    return {name: round(statistics.median(values[2:]), 6) for name, values in taken.items()}


def step_ratio(records: Records, profile: str, dataset: str = "") -> Ratio | None:
    """A step with focal loss ÷ one with cross entropy, over the runs of Table 1b that timed both (Student's t).

    None with fewer than three such runs.
    """
    rows = select(records, profile, "1b", dataset=dataset).values()
    timed = [r["step_seconds"] for records in rows for r in records if r.get("step_seconds")]
    if len(timed) < 3:
        return None
    logs = np.log([t["own"] / t["cross_entropy"] for t in timed])
    low, high = stats.ttest_1samp(logs, 0.0).confidence_interval(0.95)
    return Ratio(float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high)), len(timed))


def step_text(records: Records, profile: str) -> str:
    """`step_ratio` as a sentence in Markdown."""
    found = step_ratio(records, profile)
    if found is None:
        return "None of these runs timed steps of both losses in turn (a GPU's one captured step serves every γ)."
    return (
        f"Timed in turn within {found.runs} runs, a training step with focal loss takes **{found.ratio:.3f} ×** "
        f"({found.low:.3f} … {found.high:.3f}) as long as one with cross entropy."
    )


def speeds(records: Records, profile: str, dataset: str = "") -> pd.DataFrame:
    """One row per run of Tables 1a and 1b that did not diverge: run_id, seed, loss (CE or FL), AP, TRAINING, INFERENCE.

    The rows of these tables differ in the loss alone. Only runs of one machine and number of threads are
    comparable, so the most frequent such group is taken. INFERENCE is NaN for records from before it was measured.
    """
    found = {
        r["run_id"]: r
        for name in ("1a", "1b")
        for rows in select(records, profile, name, dataset=dataset).values()
        for r in rows
    }
    done = [r for r in found.values() if r["status"] == "done"]
    if not done:
        return pd.DataFrame(columns=["run_id", "seed", "loss", "AP", *QUANTITIES])
    usual = Counter(map(_machine, done)).most_common(1)[0][0]
    return pd.DataFrame(
        {
            "run_id": r["run_id"],
            "seed": r["config"]["seed"],
            "loss": FL if r["config"]["gamma"] > 0 else CE,
            "AP": r["metrics"]["AP"],
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
    """Focal loss over cross entropy in one of QUANTITIES, seed by seed (Student's t); None with fewer than two seeds.

    The runs of a seed follow each other, so what the machine did besides is much the same for both losses. INFERENCE
    is compared over runs with at least half of the best AP: a detector that finds nothing, or calls everything an
    object, takes another time for its suppression whatever its loss.
    """
    known = frame.dropna(subset=[quantity])
    if quantity == INFERENCE:
        known = known[known["AP"] >= frame["AP"].max() / 2]
    logs = np.log(known[quantity]).groupby([known["seed"], known["loss"]]).mean().unstack()
    if not {FL, CE} <= set(logs.columns):
        return None
    gaps = (logs[FL] - logs[CE]).dropna()
    if len(gaps) < 2:
        return None
    effect, half = gaps.mean(), stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps))
    return Ratio(*(float(np.exp(x)) for x in (effect, effect - half, effect + half)), len(known))


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
