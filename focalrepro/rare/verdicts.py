"""What the comparison on rare events says: means with intervals, paired differences, sentences about them.

Intervals are Student's t at 95 % over seeds. A seed is another split and another initialisation of the *same*
data set, so they cover the luck of these two and not that of having collected other data. Splits share rows,
so the variance of a difference's mean over n seeds is s² (1/n + rows tested on / rows trained on). Source:
Nadeau & Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from focalrepro.evidence.difference import mean_interval
from focalrepro.rare.data import count_of, rate_name
from focalrepro.rare.models import CE, METHODS, TREES
from focalrepro.show.tables import number, signed

METRICS = {  # name, whether more is better, and the name in a terminal
    "ap": ("average precision", True, "AP (95 % interval)"),
    "recall_at_1fpr": ("recall at 1 % false positives", True, "recall at 1 % FPR"),
    "ece": ("calibration error", False, "ECE"),
    "log_loss": ("log loss", False, "log loss"),
    "f1": ("F1 of the decisions", True, "F1"),
    "precision": ("precision of the decisions", True, "precision"),
    "recall": ("recall of the decisions", True, "recall"),
}
BETTER, WORSE, NO_DIFFERENCE = "clearly better", "clearly worse", "no clear difference"
ONE_SEED = "one seed, no interval"
MARKS = {BETTER: "\u00a0▲", WORSE: "\u00a0▼"}  # in `compact`, kept beside their number
KEYS = ["dataset", "rate", "method"]
DIFFERENCE = [*KEYS, "reference", "metric", "difference", "low", "high", "verdict", "same", "paired"]
SHOWN = ["data", "rate", "loss", "against", "measure", "difference (95 %)", "verdict"]
WORTH = ["data", "rate", "focal loss is", "of so many", "the best", "changes average precision by"]
WORTH += ["against", "the highest of all"]
FOCAL = [m.name for m in (*METHODS, *TREES) if m.gamma > 0]


def shared_rows(rows: pd.DataFrame) -> float:
    """Rows tested on for each that was trained on, of one data set at one rate."""
    trained, tested = (rows.filter(regex=f"^{part}_.*tives").iloc[0].sum() for part in ("train", "test"))
    return float(tested / trained)


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """All metrics: "mean (low … high)" of average precision, and means of the rest."""
    rows = []
    for (data, rate, method), group in frame.groupby(KEYS, sort=False):
        row = {"data": data, "rate": rate_name(rate)}
        row |= {"positives trained on": group["train_positives"].iloc[0], "loss": method}
        row |= {name: number(group[metric].mean(), 3) for metric, (name, *_) in METRICS.items()}
        _, low, high = mean_interval(group["ap"], shared=shared_rows(group))
        row["average precision"] += "" if np.isnan(low) else f" ({low:.3f} … {high:.3f})"
        rows.append(row)
    return pd.DataFrame(rows)


def printed(frame: pd.DataFrame) -> str:
    """The table for a terminal: a block per data set and rate, with short names."""
    shown = table(frame).rename(columns={name: short for name, _, short in METRICS.values()})
    return "\n".join(
        f"\n{data} at {rate}, {positives} positives to train on\n{rows.iloc[:, 3:].to_string(index=False)}"
        for (data, rate, positives), rows in shown.groupby(list(shown.columns[:3]), sort=False)
    )


def compact(frame: pd.DataFrame, metrics: Sequence[str] = ("ap", "f1")) -> pd.DataFrame:
    """Means by data set and rate, a column for each metric and loss; MARKS where clearly unlike.

    A method with cross entropy's very scores has no column of its own under a metric of these scores.
    """
    found = differences(frame, metrics)
    marks = found.set_index([*KEYS, "metric"])["verdict"].map(MARKS).fillna("")
    columns = {}
    for metric in metrics:
        means = frame.groupby(KEYS, sort=False)[metric].mean().unstack(sort=False)
        same = found[found["metric"] == metric].groupby("method")["same"].all()
        for method in means.columns.drop(same.index[same]):
            cells, name = means[method].dropna(), method.replace(" = ", "\u00a0=\u00a0")
            texts = [number(mean, 3) + marks.get((*at, method, metric), "") for at, mean in cells.items()]
            columns[METRICS[metric][0], name] = pd.Series(texts, cells.index)
    shown = pd.DataFrame(columns).rename(index=rate_name, level=1)
    return shown.rename_axis(index=["data", "rate"], columns=["", "loss"])


def differences(frame: pd.DataFrame, metrics: Sequence[str] = ("ap",), reference: str = "") -> pd.DataFrame:
    """Paired differences to the reference, seed by seed: one row per data set, rate, method and metric.

    reference: a method; by default each network's is cross entropy and that of trees their log loss. The
    verdict is clearly better or clearly worse where the interval leaves out 0; which of them, the metric's
    direction says. `paired` holds the seeds' differences. Errors: ValueError where the reference has no rows.
    """
    rows = []
    for at, group in frame.groupby(["dataset", "rate"], sort=False):
        shared = shared_rows(group)
        by_method = dict(list(group.set_index("seed").groupby("method", sort=False)))
        for method, ours in by_method.items():
            base = reference or (TREES[0] if method.startswith("trees") else CE).name
            if base not in by_method:
                where = f"{at[0]} at {rate_name(at[1])}"
                raise ValueError(f"{where} has no rows of {base!r} to compare with")
            scores = [ours[m].equals(by_method[base][m]) for m in ("ap", "log_loss")]
            for metric in metrics if method != base else ():
                paired = ours[metric] - by_method[base][metric]
                mean, low, high = mean_interval(paired, shared=shared)
                verdict = WORSE if (low > 0) != METRICS[metric][1] else BETTER
                verdict = ONE_SEED if np.isnan(low) else NO_DIFFERENCE if low <= 0 <= high else verdict
                # As of a moved threshold, which changes no score.
                same = all(scores) and bool((paired.dropna() == 0).all())
                about = (method, base, metric, mean, low, high, verdict, same, paired.tolist())
                rows.append((*at, *about))
    return pd.DataFrame(rows, columns=DIFFERENCE)


def _effect(mean: float, low: float, high: float) -> str:
    if np.isnan(low):
        return "undefined" if np.isnan(mean) else signed(mean, 3)
    return f"{signed(mean, 3)} ({signed(low, 3)} … {signed(high, 3)})"


def shown(
    frame: pd.DataFrame,
    metrics: Sequence[str] = ("ap",),
    reference: str = "",
    only: str = "",
    methods: Sequence[str] = (),
) -> pd.DataFrame:
    """`differences` for the eye; `only` keeps one verdict, `methods` their rows. A method with the
    reference's very scores is left out."""
    rows = [
        (r.dataset, rate_name(r.rate), r.method, r.reference, METRICS[r.metric][0])
        + (_effect(r.difference, r.low, r.high), r.verdict)
        for r in differences(frame, metrics, reference).itertuples()
        if not r.same and only in ("", r.verdict) and (not methods or r.method in methods)
    ]
    return pd.DataFrame(rows, columns=SHOWN)


def verdicts(frame: pd.DataFrame, *which: Any, **more: Any) -> list[str]:
    """A sentence for each row of `shown`, which has the same arguments."""
    rows = shown(frame, *which, **more).itertuples(index=False, name=None)
    return [
        f"{loss} against {against} at {rate} on {data}: {measure} {difference}: {verdict}"
        for data, rate, loss, against, measure, difference, verdict in rows
    ]


def counts(frame: pd.DataFrame, metrics: Sequence[str] = ("ap", "recall_at_1fpr", "f1")) -> pd.DataFrame:
    """How often each method is clearly better than its reference, clearly worse, or neither, by metric."""
    found = differences(frame, metrics).query("not same").rename(columns={"method": "loss"})
    found = found.sort_values("metric", key=lambda names: names.map(metrics.index), kind="stable")
    found = found.assign(metric=found["metric"].map(lambda metric: METRICS[metric][0]))
    each = {verdict: found["verdict"] == verdict for verdict in (BETTER, WORSE, NO_DIFFERENCE)}
    return found.assign(**each).groupby(["metric", "loss"], sort=False)[list(each)].sum()


def caution(frame: pd.DataFrame) -> str:
    """How to read the verdicts: what the intervals cover, and how many come out clear by luck alone."""
    seeds = count_of(frame["seed"].nunique(), "paired seed")
    return (
        f"Intervals are t intervals at 95 % over {seeds}, each another split and another start on the same "
        "data; they count the rows that splits share (Nadeau & Bengio 2003). Of comparisons without any "
        "difference, one in twenty comes out clear by luck."
    )


def worth_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per data set and rate: is focal loss worth it there? Decided by average precision.

    Of the model, network or trees, whose plain loss is the better one here: the best setting of focal loss
    against that loss. Its interval is at 95 % for as many settings as were tried (Bonferroni).
    """
    lines, every = [], differences(frame)
    for (data, rate), found in every[every["method"].isin(FOCAL)].groupby(["dataset", "rate"], sort=False):
        rows = frame[(frame["dataset"] == data) & (frame["rate"] == rate)]
        means = rows.groupby("method", sort=False)["ap"].mean()
        base = means[found["reference"].unique()].idxmax()
        found = found[found["reference"] == base]
        spans = [mean_interval(d, 1 - 0.05 / len(found), shared_rows(rows)) for d in found["paired"]]
        mean, low, high = np.transpose(spans)
        best = int(np.argmax(low if (low > 0).any() else mean))
        said = "worth it" if low[best] > 0 else "not shown to be worth it"
        said = "not worth it" if (high < 0).all() else said
        about = (data, rate_name(rate), said, count_of(len(found), "setting"), found["method"].iloc[best])
        tops = (f"{name} with {means[name]:.3f}" for name in (base, means.idxmax()))
        lines.append((*about, _effect(*spans[best]), *tops))
    return pd.DataFrame(lines, columns=WORTH)


def worth(frame: pd.DataFrame) -> list[str]:
    """A sentence for each row of `worth_table`."""
    rows = worth_table(frame).itertuples(index=False, name=None)
    return [
        f"{data} at {rate}: focal loss is {said}: the best of {of}, {best}, changes average precision by "
        f"{effect} against {base}; the highest of all is {top}"
        + f" ({ONE_SEED}: take --seeds 2 or more)"
        * ("(" not in effect)
        for data, rate, said, of, best, effect, base, top in rows
    ]
