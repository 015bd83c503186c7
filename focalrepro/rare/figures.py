"""Figures of the comparison on rare events. They draw what `verdicts` and `models` computed."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy.special import logit

from focalrepro.evidence.difference import mean_interval
from focalrepro.rare.data import Split, rate_name
from focalrepro.rare.models import METHODS, MOVED, TREES, Method
from focalrepro.rare.verdicts import BETTER, METRICS, WORSE, shared_rows
from focalrepro.show.style import BLUE, BROWN, DARK, GREEN, ORANGE, PINK, PURPLE, SKY, styled

ORDER = (METHODS[0].name, MOVED, *(m.name for m in (*METHODS[1:], *TREES)))
COLOURS = dict(zip(ORDER, (DARK, PURPLE, ORANGE, BLUE, GREEN, BROWN, PINK, SKY), strict=True))
MARKERS = dict(zip(ORDER, "oPs^vDX*", strict=True))
DASHES = dict(zip(ORDER, ("-", (0, (5, 1)), "--", "-.", ":") + ("-", "--", "-."), strict=True))
LOOKS = {n: {"color": COLOURS[n], "marker": MARKERS[n], "linestyle": DASHES[n]} for n in ORDER}
SAME_SCORES = ("ap", "recall_at_1fpr", "ece", "log_loss")  # a moved threshold does not change these


@styled
def by_rate(frame: pd.DataFrame, metrics: Sequence[str] = ("ap", "ece", "f1")) -> Figure:
    """Metrics against the rate with the table's 95 % intervals: a row per metric, a column per data set."""
    datasets, methods = frame["dataset"].unique(), set(frame["method"])
    names = [name for name in ORDER if name in methods]
    size = (1.2 + 2.9 * len(datasets), 0.9 + 2.35 * len(metrics))
    figure, panels = plt.subplots(len(metrics), len(datasets), figsize=size, sharey="row", squeeze=False)
    for row, metric in zip(panels, metrics, strict=True):
        name, more_is_better, _ = METRICS[metric]
        for axes, dataset in zip(row, datasets, strict=True):
            rows = frame[frame["dataset"] == dataset].sort_values("rate", kind="stable")
            rows = rows[(rows["method"] != MOVED) | (metric not in SAME_SCORES)].reset_index(drop=True)
            shared = {i: shared_rows(of) for _, of in rows.groupby("rate") for i in of.index}
            sns.pointplot(
                rows.assign(rate=rows["rate"].map(rate_name)), x="rate", y=metric, ax=axes, hue="method",
                hue_order=names, palette=COLOURS, markers=[MARKERS[n] for n in names], dodge=0.35,
                linestyles=[DASHES[n] for n in names], linewidth=1.3, markersize=4.5, capsize=0.05,
                errorbar=lambda v, of=shared: mean_interval(v, shared=of[v.index[0]])[1:], legend=False,
            )  # fmt: skip
            first, last = metric == metrics[0], metric == metrics[-1]
            axes.set(title=dataset if first else "", xlabel="positives : negatives" if last else "")
        row[0].set_ylabel(f"{name}\n({'more' if more_is_better else 'less'} is better)")
        row[0].set_ylim(0, None if metric in ("ece", "log_loss") else 1.02)
    handles = [plt.Line2D([], [], label=name, markersize=4.5, **LOOKS[name]) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


@styled
def paired(differences: pd.DataFrame, metric: str = "ap") -> Figure:
    """Differences to cross entropy, seed by seed, with 95 % intervals; filled where that leaves out 0.

    differences: of `verdicts.differences`.
    """
    shown = differences[(differences["metric"] == metric) & ~differences["same"]]
    groups = list(dict.fromkeys(zip(shown["dataset"], shown["rate"], strict=True)))
    methods = list(shown["method"].unique())
    figure, axes = plt.subplots(figsize=(7.6, 1.5 + 0.17 * len(groups) * (len(methods) + 1)))
    axes.axvline(0, color=DARK, linewidth=1)
    for row in shown.itertuples():
        shift = (methods.index(row.method) - (len(methods) - 1) / 2) / (len(methods) + 1)
        y, look = groups.index((row.dataset, row.rate)) + shift, LOOKS[row.method] | {"linestyle": "-"}
        look["markerfacecolor"] = look["color"] if row.verdict in (BETTER, WORSE) else "white"
        axes.plot([row.low, row.difference, row.high], [y] * 3, markevery=[1], linewidth=1.4, **look)
    for method in methods:
        axes.plot([], [], label=method, **LOOKS[method] | {"linestyle": "-"})
    axes.set_yticks(range(len(groups)), [f"{name}, {rate_name(rate)}" for name, rate in groups])
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    name = METRICS[metric][0]
    axes.set_xlabel(f"difference to cross entropy in {name} (filled: its interval leaves out 0)")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@styled
def reliability(
    splits: Sequence[Split], scores: np.ndarray, methods: Sequence[Method], title: str = "", least: int = 10
) -> Figure:
    """Share of positives against the score, both as log-odds scale, seeds taken together.

    scores: [S, M, n] on the test parts. Bins are of equal width in the log-odds of the score; one with fewer
    than `least` positives among all seeds is left out, since its share would be noise. Below the diagonal a
    loss promises too much, above it too little.
    """
    figure, axes = plt.subplots(figsize=(5.6, 5.0))
    edges = np.linspace(-9, 9, 19)
    y, weight = (np.concatenate([getattr(s.test, field) for s in splits]) for field in ("y", "weight"))
    axes.plot(edges, edges, color="#999999", linewidth=1, label="score = share of positives")
    for i, name in enumerate(m.name for m in methods):
        score = np.clip(scores[:, i].reshape(-1), 1e-9, 1 - 1e-9)
        index, sums = np.digitize(logit(score), edges), (y, weight, weight * y, weight * score)
        count, total, hits, mean = (np.bincount(index, v, minlength=len(edges) + 1) for v in sums)
        kept = (count >= least) & (hits < total)
        share, said = hits[kept] / total[kept], mean[kept] / total[kept]
        axes.plot(logit(said), logit(share), label=name, **LOOKS[name])
    ticks = np.array([0.001, 0.01, 0.1, 0.5, 0.9, 0.99])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(logit(ticks), [f"{tick:g}" for tick in ticks])
    axes.set(xlim=(-8.2, 6), ylim=(-8.2, 6), xlabel="score", ylabel="share of positives", title=title)
    axes.legend(loc="upper left")
    return figure
