"""What the comparison on rare events says: means with intervals, paired differences, and sentences about them.

Intervals are Student's t at 95 % over seeds. A seed is another split and another initialisation of the *same* data
set, so they cover the luck of these two and not that of having collected other data.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from focalrepro.rare import CE
from focalrepro.rare_data import rate_name

KEYS = ["dataset", "rate", "method"]
METRICS = {  # name, and whether more is better
    "ap": ("average precision", True),
    "recall_at_1fpr": ("recall at 1 % false positives", True),
    "ece": ("calibration error", False),
    "log_loss": ("log loss", False),
    "f1": ("F1 of the decisions", True),
    "precision": ("precision of the decisions", True),
    "recall": ("recall of the decisions", True),
}
SHORT = ("AP (95 % interval)", "recall at 1 % FPR", "ECE", "log loss", "F1", "precision", "recall")
GAIN, LOSS, NO_DIFFERENCE, ONE_SEED = (
    "clear gain",
    "clear loss",
    "no clear difference",
    "one seed, no interval",
)


def t_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and t interval of independent values, [n]; NaN are left out, and below two values there is no interval."""
    from scipy.stats import t

    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return (float(values.mean()) if len(values) else float("nan")), float("nan"), float("nan")
    mean = values.mean()
    half = t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(mean), float(mean - half), float(mean + half)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, rate and method: of each metric the mean, and its interval as *_low and *_high."""
    rows = []
    for key, group in frame.groupby(KEYS, sort=False):
        row = dict(zip(KEYS, key, strict=True)) | {
            "seeds": len(group),
            "train_positives": int(group["train_positives"].iloc[0]),
            "train_negatives": int(group["train_negatives"].iloc[0]),
            "test_positives": int(group["test_positives"].iloc[0]),
        }
        for metric in METRICS:
            row[metric], row[f"{metric}_low"], row[f"{metric}_high"] = t_interval(group[metric].to_numpy())
        rows.append(row)
    return pd.DataFrame(rows)


def table(summary: pd.DataFrame, metrics: Sequence[str] = tuple(METRICS)) -> pd.DataFrame:
    """A summary for the eye: "mean (low … high)" of average precision, means of the rest."""
    shown = pd.DataFrame(
        {
            "data": summary["dataset"],
            "rate": summary["rate"].map(rate_name),
            "positives trained on": summary["train_positives"],
            "loss": summary["method"],
        }
    )
    for metric in metrics:
        low, high = summary[f"{metric}_low"], summary[f"{metric}_high"]
        text = summary[metric].map(_plain)
        if metric == "ap":
            spans = [f" ({_plain(a)} … {_plain(b)})" for a, b in zip(low, high, strict=True)]
            text = text + pd.Series(spans, index=text.index).where(low.notna(), "")
        shown[METRICS[metric][0]] = text
    return shown


def printed(summary: pd.DataFrame) -> str:
    """The table for a terminal: a block per data set and rate, with short names."""
    short = dict(zip((name for name, _ in METRICS.values()), SHORT, strict=True))
    blocks = []
    for (data, rate, positives), rows in table(summary).groupby(
        ["data", "rate", "positives trained on"], sort=False
    ):
        body = rows.iloc[:, 3:].rename(columns=short).to_string(index=False)
        blocks.append(f"\n{data} at {rate}, {positives} positives to train on\n{body}")
    return "\n".join(blocks) + "\n"


def _plain(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.3f}"


def differences(
    frame: pd.DataFrame, metrics: Sequence[str] = ("ap",), reference: str = CE.name
) -> pd.DataFrame:
    """Paired differences to the reference, seed by seed: one row per data set, rate, method and metric.

    The verdict is a gain or a loss where the interval leaves out 0; which of them, the metric's direction says.
    """
    rows = []
    for (dataset, rate), group in frame.groupby(["dataset", "rate"], sort=False):
        by_seed = group.set_index("seed")
        base = by_seed[by_seed["method"] == reference]
        if base.empty:
            raise ValueError(f"{dataset} at {rate_name(rate)} has no rows of {reference!r} to compare with")
        for method in dict.fromkeys(group["method"]):
            if method == reference:
                continue
            ours = by_seed[by_seed["method"] == method]
            for metric in metrics:
                paired = (ours[metric] - base[metric]).to_numpy()
                mean, low, high = t_interval(paired)
                rows.append(
                    {
                        "dataset": dataset,
                        "rate": rate,
                        "method": method,
                        "metric": metric,
                        "difference": mean,
                        "low": low,
                        "high": high,
                        "verdict": _verdict(low, high, METRICS[metric][1]),
                        # The threshold alone does not change scores: nothing to compare.
                        "same": bool(np.nanmax(np.abs(paired), initial=0) == 0),
                    }
                )
    return pd.DataFrame(rows)


def _verdict(low: float, high: float, more_is_better: bool) -> str:
    if np.isnan(low):
        return ONE_SEED
    if low <= 0 <= high:
        return NO_DIFFERENCE
    return GAIN if (low > 0) == more_is_better else LOSS


def sentence(row: pd.Series, reference: str = CE.name) -> str:
    """One row of `differences` in words."""
    interval = "" if np.isnan(row["low"]) else f" ({row['low']:+.3f} … {row['high']:+.3f})"
    return (
        f"{row['method']} against {reference} at {rate_name(row['rate'])} on {row['dataset']}: "
        f"{METRICS[row['metric']][0]} {row['difference']:+.3f}{interval}: {row['verdict']}"
    )


def verdicts(
    frame: pd.DataFrame, metrics: Sequence[str] = ("ap",), reference: str = CE.name, only: str = ""
) -> list[str]:
    """A sentence per data set, rate, method and metric; `only` keeps those with one verdict.

    A method with the reference's very scores, which a moved threshold has, is left out.
    """
    found = differences(frame, metrics, reference)
    found = found[~found["same"] & ((found["verdict"] == only) | (only == ""))] if len(found) else found
    return [sentence(row, reference).replace("+nan", "undefined") for _, row in found.iterrows()]


def counts(
    frame: pd.DataFrame, metrics: Sequence[str] = ("ap", "recall_at_1fpr", "ece", "f1")
) -> pd.DataFrame:
    """How often each method is clearly better than cross entropy, clearly worse, or neither, by metric."""
    found = differences(frame, metrics)
    found = found[~found["same"]]
    rows = [
        {"metric": METRICS[metric][0], "method": method}
        | {verdict: int((group["verdict"] == verdict).sum()) for verdict in (GAIN, LOSS, NO_DIFFERENCE)}
        for metric in metrics
        for method, group in found[found["metric"] == metric].groupby("method", sort=False)
    ]
    return pd.DataFrame(rows).set_index(["metric", "method"])


def caution(frame: pd.DataFrame) -> str:
    """How to read the verdicts: what the intervals cover, and how many come out clear by luck alone."""
    seeds = frame["seed"].nunique()
    return (
        f"Intervals are t intervals at 95 % over {seeds} paired seed{'s'[: seeds != 1]}, each another split and "
        "another start on the same data. Of comparisons without any difference, one in twenty comes out clear by "
        "luck."
    )


def when_not(frame: pd.DataFrame, method: str, metrics: Sequence[str] = ("ap", "f1")) -> str:
    """Where a method does not help, as a list: clear losses, and how often there is no clear difference."""
    found = differences(frame, metrics)
    lines = []
    for metric in metrics:
        mine = found[(found["method"] == method) & (found["metric"] == metric)]
        by = {verdict: mine[mine["verdict"] == verdict] for verdict in (GAIN, LOSS, NO_DIFFERENCE, ONE_SEED)}
        said = ", ".join(
            f"{verdict} in {len(rows)}" for verdict, rows in by.items() if len(rows) or verdict != ONE_SEED
        )
        lines.append(f"- **{METRICS[metric][0]}**, {method} in {len(mine)} comparisons: {said}.")
        lines += [f"    - {sentence(row)}" for _, row in by[LOSS].iterrows()]
    return "\n".join(lines)
