"""What the comparison on rare events says: means with intervals, paired differences, and sentences about them.

Intervals are Student's t at 95 % over seeds. A seed is another split and another initialisation of the *same* data
set, so they cover the luck of these two and not that of having collected other data.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from focalrepro.rare import CE, METHODS, MOVED
from focalrepro.rare_data import count_of, rate_name

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
BETTER, WORSE, NO_DIFFERENCE, ONE_SEED = (
    "clearly better",
    "clearly worse",
    "no clear difference",
    "one seed, no interval",
)
MARKS = {BETTER: "\u00a0▲", WORSE: "\u00a0▼"}  # in `compact`, kept beside their number


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


def sizes(summary: pd.DataFrame) -> pd.DataFrame:
    """How many rows each data set and rate trains and tests on."""
    names = {
        "train_positives": "positives trained on",
        "train_negatives": "negatives trained on",
        "test_positives": "positives tested on",
    }
    shown = summary.groupby(["dataset", "rate"], sort=False)[list(names)].first().rename(columns=names)
    return shown.rename(index=rate_name, level="rate").rename_axis(["data", "rate"])


def compact(frame: pd.DataFrame, metrics: Sequence[str] = ("ap", "f1")) -> pd.DataFrame:
    """Means by data set and rate, a column for each metric and loss; MARKS where clearly unlike cross entropy.

    A method with cross entropy's very scores has no column of its own under a metric of these scores.
    """
    summary, found = summarise(frame), differences(frame, metrics)
    cells = summary.set_index(KEYS)
    marks = found.set_index([*KEYS, "metric"])["verdict"].map(MARKS).fillna("")
    columns = {}
    for metric in metrics:
        same = found[found["metric"] == metric].groupby("method")["same"].all()
        for method in dict.fromkeys(summary["method"]):
            if not same.get(method, False):
                columns[METRICS[metric][0], method.replace(" = ", "\u00a0=\u00a0")] = {
                    (data, rate): _plain(cells.loc[(data, rate, method), metric])
                    + marks.get((data, rate, method, metric), "")
                    for data, rate in dict.fromkeys(zip(summary["dataset"], summary["rate"], strict=True))
                }
    shown = pd.DataFrame(columns).rename(index=rate_name, level=1)
    return shown.rename_axis(index=["data", "rate"], columns=["", "loss"])


def folded(shown: pd.DataFrame, title: str) -> str:
    """A long table as HTML that opens at a click on its title."""
    return f"<details><summary>{title}</summary>\n{shown.to_html(index=False)}\n</details>"


def as_list(sentences: Sequence[str], none: str = "") -> str:
    """Sentences as a list in Markdown; `none` where there are none."""
    return "\n".join(f"- {s}" for s in sentences) or none


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

    The verdict is clearly better or clearly worse where the interval leaves out 0; which of them, the metric's
    direction says.
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
    return BETTER if (low > 0) == more_is_better else WORSE


def sentence(row: pd.Series, reference: str = CE.name) -> str:
    """One row of `differences` in words."""
    return (
        f"{row['method']} against {reference} at {rate_name(row['rate'])} on {row['dataset']}: "
        f"{METRICS[row['metric']][0]} {_effect(row)}: {row['verdict']}"
    )


def _effect(row: pd.Series) -> str:
    interval = "" if np.isnan(row["low"]) else f" ({row['low']:+.3f} … {row['high']:+.3f})"
    return f"{row['difference']:+.3f}{interval}"


def place_by_place(frame: pd.DataFrame, method: str, metric: str, only: str = "") -> list[str]:
    """A method against cross entropy, a short line for each data set and rate; `only` keeps one verdict."""
    found = differences(frame, (metric,))
    found = found[(found["method"] == method) & ((found["verdict"] == only) | (only == ""))]
    return [
        f"{row['dataset']} at {rate_name(row['rate'])}: {_effect(row)}{'' if only else ', ' + row['verdict']}"
        for _, row in found.iterrows()
    ]


def verdicts(
    frame: pd.DataFrame, metrics: Sequence[str] = ("ap",), reference: str = CE.name, only: str = ""
) -> list[str]:
    """A sentence per data set, rate, method and metric; `only` keeps those with one verdict.

    A method with the reference's very scores, which a moved threshold has, is left out.
    """
    found = differences(frame, metrics, reference)
    found = found[~found["same"] & ((found["verdict"] == only) | (only == ""))] if len(found) else found
    return [sentence(row, reference).replace("+nan", "undefined") for _, row in found.iterrows()]


def counts(frame: pd.DataFrame, metrics: Sequence[str] = ("ap", "recall_at_1fpr", "f1")) -> pd.DataFrame:
    """How often each method is clearly better than cross entropy, clearly worse, or neither, by metric."""
    found = differences(frame, metrics)
    found = found[~found["same"]]
    rows = [
        {"metric": METRICS[metric][0], "loss": method}
        | {verdict: int((group["verdict"] == verdict).sum()) for verdict in (BETTER, WORSE, NO_DIFFERENCE)}
        for metric in metrics
        for method, group in found[found["metric"] == metric].groupby("method", sort=False)
    ]
    return pd.DataFrame(rows).set_index(["metric", "loss"])


def conclusion(frame: pd.DataFrame) -> str:
    """What came out, as a list in Markdown: focal loss in AP, the moved threshold in F1, and what it holds for.

    Focal loss is every method with γ > 0 that the frame holds, against cross entropy. One seed has no intervals, so
    nothing is concluded from it.
    """
    seeds, datasets = frame["seed"].nunique(), frame["dataset"].nunique()
    if seeds < 2:
        return f"- {ONE_SEED}: nothing can be concluded. Take two seeds or more."
    found = differences(frame, ("ap", "f1"))
    focal = found[found["method"].isin([m.name for m in METHODS if m.gamma > 0])]
    ranking, decided = (focal[focal["metric"] == metric] for metric in ("ap", "f1"))
    moved = found[(found["method"] == MOVED) & (found["metric"] == "f1")]
    return f"""\
- **Ranking.** In average precision focal loss is {_tally(ranking)} with cross entropy. By luck alone about \
{len(ranking) / 20:.0f} of {len(ranking)} would come out clear.
    - It helps: {_places(ranking, BETTER, frame)}.
    - It harms: {_places(ranking, WORSE, frame)}.
- **Decisions.** Moving the threshold of cross entropy makes F1 {_tally(moved)} with the threshold of 0.5; focal loss \
at 0.5 makes it {_tally(decided)}.
- **What this holds for.** The {seeds} seeds of a data set are other splits of the same rows. So an interval says what \
another split would give, and nothing about data that are not among these {datasets}. The rates of a data set share \
its rows, too: they do not count as so many independent trials."""


def _tally(found: pd.DataFrame) -> str:
    """How often a verdict was better and worse, and of how many."""
    better, worse = (int((found["verdict"] == verdict).sum()) for verdict in (BETTER, WORSE))
    return f"{BETTER} in {better} and {WORSE} in {worse} of {count_of(len(found), 'comparison')}"


def _places(found: pd.DataFrame, verdict: str, frame: pd.DataFrame) -> str:
    """Where a verdict was reached: data set, rate and positives to train on, and by how much with which setting."""
    rows = found[found["verdict"] == verdict]
    positives = frame.groupby(["dataset", "rate"])["train_positives"].first()
    places = []
    for (data, rate), group in rows.groupby(["dataset", "rate"], sort=False):
        settings = group["method"].str.removeprefix("focal loss ")
        by = "; ".join(f"{s}: {d:+.3f}" for s, d in zip(settings, group["difference"], strict=True))
        places.append(f"{data} at {rate_name(rate)}, {count_of(positives[data, rate], 'positive')} ({by})")
    return "; ".join(places) or "in none of them clearly"


def caution(frame: pd.DataFrame) -> str:
    """How to read the verdicts: what the intervals cover, and how many come out clear by luck alone."""
    seeds = frame["seed"].nunique()
    return (
        f"Intervals are t intervals at 95 % over {count_of(seeds, 'paired seed')}, each another split and "
        "another start on the same data. Of comparisons without any difference, one in twenty comes out clear by "
        "luck."
    )


def when_not(frame: pd.DataFrame, method: str, metrics: Sequence[str] = ("ap", "f1")) -> str:
    """Where a method does not help, as a list: what is clearly worse, and how often there is no clear difference."""
    found = differences(frame, metrics)
    lines = []
    for metric in metrics:
        mine = found[(found["method"] == method) & (found["metric"] == metric)]
        by = {
            verdict: mine[mine["verdict"] == verdict] for verdict in (BETTER, WORSE, NO_DIFFERENCE, ONE_SEED)
        }
        said = ", ".join(
            f"{verdict} in {len(rows)}" for verdict, rows in by.items() if len(rows) or verdict != ONE_SEED
        )
        lines.append(f"- **{METRICS[metric][0]}**, {method} in {count_of(len(mine), 'comparison')}: {said}.")
        lines += [f"    - {WORSE}: {place}" for place in place_by_place(frame, method, metric, WORSE)]
    return "\n".join(lines)
