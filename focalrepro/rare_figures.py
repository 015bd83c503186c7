"""Figures of the comparison on rare events. They draw what `rare_verdicts` and `rare` computed."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from focalrepro.figures_style import BLUE, DARK, GREEN, LINES, ORANGE, PURPLE, RED, styled
from focalrepro.rare import METHODS, MOVED, Method
from focalrepro.rare_data import Split, rate_name
from focalrepro.rare_verdicts import BETTER, METRICS, WORSE

ORDER = (METHODS[0].name, MOVED, *(m.name for m in METHODS[1:]))
COLOURS = dict(zip(ORDER, (DARK, PURPLE, ORANGE, BLUE, GREEN), strict=True))
MARKERS = dict(zip(ORDER, "oPs^v", strict=True))
DASHES = dict(zip(ORDER, ("-", (0, (5, 1)), *LINES[1:]), strict=True))
SAME_SCORES = ("ap", "recall_at_1fpr", "ece", "log_loss")  # a moved threshold does not change these


@styled
def by_rate(summary: pd.DataFrame, metrics: Sequence[str] = ("ap", "ece", "f1")) -> Figure:
    """Metrics against the rate with 95 % intervals over seeds: a row per metric, a column per data set."""
    datasets = list(dict.fromkeys(summary["dataset"]))
    figure, panels = plt.subplots(
        len(metrics),
        len(datasets),
        figsize=(1.2 + 2.9 * len(datasets), 0.9 + 2.35 * len(metrics)),
        sharey="row",
        squeeze=False,
    )
    for column, dataset in enumerate(datasets):
        here = summary[summary["dataset"] == dataset]
        for axes, metric in zip(panels[:, column], metrics, strict=True):
            _lines(axes, here, metric)
        panels[0, column].set_title(dataset)
        panels[-1, column].set_xlabel("positives : negatives")
    for axes, metric in zip(panels[:, 0], metrics, strict=True):
        name, more_is_better = METRICS[metric]
        axes.set_ylabel(f"{name}\n({'more' if more_is_better else 'less'} is better)")
        axes.set_ylim(bottom=0)
        if metric not in ("ece", "log_loss"):
            axes.set_ylim(0, 1.02)
    handles = {
        text: line
        for axes in panels.flat
        for line, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    names = sorted(handles, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    figure.legend([handles[n] for n in names], names, loc="outside lower center", ncols=2)
    return figure


def _lines(axes: Axes, summary: pd.DataFrame, metric: str) -> None:
    rates = sorted(summary["rate"].unique())
    methods = [m for m in dict.fromkeys(summary["method"]) if not (m == MOVED and metric in SAME_SCORES)]
    for i, method in enumerate(methods):
        rows = summary[summary["method"] == method].sort_values("rate")
        low, high = rows[f"{metric}_low"].fillna(rows[metric]), rows[f"{metric}_high"].fillna(rows[metric])
        axes.errorbar(
            rows["rate"] * 1.05 ** (i - (len(methods) - 1) / 2),  # side by side, so that no bar hides another
            rows[metric],
            yerr=np.stack([rows[metric] - low, high - rows[metric]]),
            color=COLOURS.get(method, RED),
            marker=MARKERS.get(method, "D"),
            linestyle=DASHES.get(method, "-"),
            markersize=4.5,
            linewidth=1.3,
            elinewidth=1,
            capsize=2,
            label=method,
        )
    axes.set_xscale("log")
    axes.set_xticks(rates, [rate_name(r) for r in rates])
    axes.minorticks_off()
    axes.set_xlim(rates[0] / 1.6, rates[-1] * 1.6)


@styled
def paired(differences: pd.DataFrame, metric: str = "ap") -> Figure:
    """Differences to cross entropy, seed by seed, with 95 % intervals; filled where the interval leaves out 0.

    differences: of `rare_verdicts.differences`.
    """
    shown = differences[(differences["metric"] == metric) & ~differences["same"]]
    groups = list(dict.fromkeys(zip(shown["dataset"], shown["rate"], strict=True)))
    methods = list(dict.fromkeys(shown["method"]))
    figure, axes = plt.subplots(figsize=(7.6, 1.5 + 0.17 * len(groups) * (len(methods) + 1)))
    axes.axvline(0, color=DARK, linewidth=1)
    for i, method in enumerate(methods):
        rows = shown[shown["method"] == method]
        for row in rows.itertuples():
            y = groups.index((row.dataset, row.rate)) + (i - (len(methods) - 1) / 2) / (len(methods) + 1)
            colour, clear = COLOURS.get(method, RED), row.verdict in (BETTER, WORSE)
            if not np.isnan(row.low):
                axes.plot([row.low, row.high], [y, y], color=colour, linewidth=1.4)
            axes.plot(
                row.difference,
                y,
                MARKERS.get(method, "D"),
                color=colour,
                markerfacecolor=colour if clear else "white",
                linestyle="none",
            )
        axes.plot(
            [], [], MARKERS.get(method, "D"), color=COLOURS.get(method, RED), linestyle="-", label=method
        )
    axes.set_yticks(range(len(groups)), [f"{name}, {rate_name(rate)}" for name, rate in groups])
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(
        f"difference to cross entropy in {METRICS[metric][0]} (filled: the interval leaves out 0)"
    )
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@styled
def reliability(
    splits: Sequence[Split], scores: np.ndarray, methods: Sequence[Method], title: str = "", least: int = 10
) -> Figure:
    """Share of positives against the score, both as log-odds scale, seeds taken together.

    scores: [S, M, n] on the test parts. Bins are of equal width in the log-odds of the score; one with fewer than
    `least` positives among all seeds is left out, since its share would be noise. Below the diagonal a loss
    promises too much, above it too little.
    """
    figure, axes = plt.subplots(figsize=(5.6, 5.0))
    edges = np.linspace(-9, 9, 19)
    y = np.concatenate([s.test.y for s in splits])
    weight = np.concatenate([s.test.weight for s in splits])
    axes.plot(edges, edges, color="#999999", linewidth=1, label="score = share of positives")
    for i, method in enumerate(methods):
        score = np.clip(scores[:, i].reshape(-1), 1e-9, 1 - 1e-9)
        index = np.digitize(np.log(score / (1 - score)), edges)
        count, total, hits, mean = (
            np.bincount(index, values, minlength=len(edges) + 1)
            for values in (y, weight, weight * y, weight * score)
        )
        kept = (count >= least) & (hits < total)
        share, said = hits[kept] / total[kept], mean[kept] / total[kept]
        axes.plot(
            np.log(said / (1 - said)),
            np.log(share / (1 - share)),
            color=COLOURS.get(method.name, RED),
            marker=MARKERS.get(method.name, "D"),
            linestyle=DASHES.get(method.name, "-"),
            label=method.name,
        )
    ticks = np.array([0.001, 0.01, 0.1, 0.5, 0.9, 0.99])
    at, names = np.log(ticks / (1 - ticks)), [f"{t:g}" for t in ticks]
    axes.set_xticks(at, names)
    axes.set_yticks(at, names)
    axes.set(xlim=(-8.2, 6), ylim=(-8.2, 6), xlabel="score", ylabel="share of positives", title=title)
    axes.legend(loc="upper left")
    return figure
