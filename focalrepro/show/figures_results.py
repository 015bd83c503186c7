"""Figures of results: planes, reach, speed, training curves, and which figure an ablation has.

They draw what `evidence` computed, and compute nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator

from focalrepro.evidence.claims import SEEDS
from focalrepro.evidence.difference import Evidence, Records
from focalrepro.evidence.tables import best_rows, table, ties
from focalrepro.show.figures_lines import against, sweep
from focalrepro.show.figures_rarity import by_rarity, rarity
from focalrepro.show.figures_rows import ablation, dots
from focalrepro.show.style import DARK, RED, label_points, lines, panels, styled
from focalrepro.show.tables import ap_digits, number
from focalrepro.study.paper import TABLES


def reach(frame: pd.DataFrame) -> Figure:
    """The share of the objects that each row's anchors reach; frame: of `anchor_statistics.reach_of_rows`."""
    columns = {}
    for column, iou in (("reach_50", ".5"), ("reach_40", ".4")):
        side = frame.set_index("row")[column].to_frame("value").assign(low=np.nan, high=np.nan)
        most = side["value"] == side["value"].max()
        columns[f"at an IoU of {iou}"] = side.assign(text=side["value"].map("{:.1f}".format), filled=most)
    figure = dots(columns, ["training objects, %"] * 2, "Objects that an anchor reaches")
    ends = [end for axes in figure.axes for end in axes.get_xlim()]
    for axes in figure.axes:
        axes.set_xlim(min(ends), max(ends))
    return figure


GREEK = {"alpha": "α", "beta": "β", "gamma": "γ"}
Marks = Callable[[str], pd.DataFrame]  # of a plane's cells, by measure


def plane(
    axes: Axes, values: pd.DataFrame, texts: np.ndarray, label: str, theirs: Sequence[tuple] = (),
    best: pd.DataFrame | None = None, beside: Iterable[pd.DataFrame] = (),
) -> None:  # fmt: skip
    """A plane of two settings as a heat map, with a text in each cell; axes.set has its names.

    theirs: (column, row) of the paper's choice, drawn as rings. best: bool, of cells with a dot: the best of
    each column, and those that are not clearly worse. beside: planes that have the same colours.
    """
    numbers = np.concatenate([v.to_numpy().ravel() for v in (*beside, values)])
    bottom, top = float(np.nanmin(numbers, initial=1e9)), float(np.nanmax(numbers, initial=-1e9))
    names = {"xlabel": axes.get_xlabel(), "ylabel": axes.get_ylabel()}
    bar = {"cbar_kws": {"label": label}, "vmin": bottom, "vmax": max(top, bottom + 1e-3)}
    sns.heatmap(values, cmap="viridis", ax=axes, linewidths=0.5, **bar)
    axes.grid(visible=False)
    axes.set_facecolor("#ececec")
    for (row, column), value in np.ndenumerate(values.to_numpy()):
        colour = "white" if value < bottom + 0.65 * (top - bottom) else DARK  # NaN: dark
        look = {"ha": "center", "va": "center", "fontsize": 9, "color": colour}
        axes.text(column + 0.5, row + 0.62, str(texts[row, column]), **look)
    columns, rows = list(values.columns), list(values.index)
    dots_at = [(x, y) for x in columns for y in rows if best is not None and bool(best.loc[y, x])]
    dot = {"markersize": 6, "color": RED, "markeredgecolor": "white", "markeredgewidth": 0.8}
    ring = {"markersize": 10, "markerfacecolor": "none", "markeredgewidth": 1.8, "color": "white"}
    ring["path_effects"] = [withStroke(linewidth=3.6, foreground=DARK)]
    text = f"best {names['ylabel']} for each {names['xlabel']}, or not clearly worse"
    for marked, look, label in ((dots_at, dot, text), (theirs, ring, "the paper's")):
        at = [(columns.index(x), rows.index(y)) for x, y in marked if x in columns and y in rows]
        if at:  # in a cell's upper part, clear of the text
            axes.plot(*(np.array(at) + (0.5, 0.2)).T, "o", linestyle="none", label=label, **look)
    axes.set_xticklabels([f"{v:g}" for v in columns])
    axes.set_yticklabels([f"{v:g}" for v in rows], rotation=0)
    axes.set(**names)


@styled
def heatmaps(
    frame: pd.DataFrame, x: str, y: str, best: Marks, theirs: Sequence = (), title: str = ""
) -> Figure:
    """AP over the plane of two settings; where AP at .05 is another number, it stands beside AP.

    frame: of `tables.table` for one of PLANES; best: `tables.ties` by measure.
    """
    columns = {"AP": ""}
    if (frame["AP_at_05"] - frame["AP"]).abs().max() > 0:
        columns = {"AP": "without a threshold", "AP_at_05": "at the paper's threshold, .05"}
    names = {"xlabel": GREEK[x], "ylabel": GREEK[y]}
    grids = {column: frame.pivot(index=y, columns=x, values=column) for column in columns}
    (height, width), count = grids["AP"].shape, len(columns)
    size = 2.4 + 0.75 * width, (1.5 + 0.45 * height) * count  # side by side, numbers would be too small
    figure, row = panels(*({"title": text, **names} for text in columns.values()), size=size, rows=count)
    diverged = frame.pivot(index=y, columns=x, values="diverged") > 0
    digits = ap_digits(*grids["AP"].to_numpy().ravel())
    for axes, (column, values) in zip(row, grids.items(), strict=True):
        texts = values.map(lambda v: number(v, digits)).where(~diverged, "div.")
        marked = best("AP" if column == "AP" else "at .05")
        plane(axes, values, texts.to_numpy(), "AP, %", theirs, marked, grids.values())
    handles, labels = row[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    seeds = "1 seed" if (least := int(frame["seeds"].min())) == 1 else f"{least} seeds"
    figure.suptitle(f"{title}\n{seeds} a cell" if least else title, fontsize=12)
    return figure


@styled
def training_curves(runs: Mapping[str, Records], title: str = "") -> Figure:
    """Classification and box loss against the step, one line per label: its first seed.

    runs: records by label, as `Evidence.rows` gives them; labels without records are left out. The
    classification losses of two labels are different functions, so compare their courses, not their heights.
    """
    left = {"title": "Classification loss", "xlabel": "step", "ylabel": "loss per positive anchor"}
    right = {"title": "Box loss (smooth L1)", "xlabel": "step"}
    figure, row = panels(left, right, size=(9.2, 3.8), sharex=True)
    first = {name: records[0] for name, records in runs.items() if records}
    shown = {name + " (diverged)" * r.diverged: r.history for name, r in first.items()}
    for axes, name in zip(row, ("class_loss", "box_loss"), strict=True):
        short = max((len(h["step"]) for h in shown.values()), default=0) < 10
        look = {"marker": "o", "markersize": 4} if short else {}
        lines(axes, {label: (h["step"], h[name]) for label, h in shown.items()}, **look)
    row[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(shown) > 1:  # losses of different size; a single curve reads better on a linear axis
        row[0].set_yscale("log")
        figure.legend(*row[0].get_legend_handles_labels(), loc="outside right upper")
    figure.suptitle(title, fontsize=12)
    return figure


def _detectors(frame: pd.DataFrame) -> pd.Series:
    stages = frame["detector"].map({"retinanet": "RetinaNet, ", "faster_rcnn": "two stages, "})
    return stages + frame["backbone"]


def _highest(frame: pd.DataFrame, ms: float) -> float:
    """The highest AP that its lines have after so many milliseconds; -inf where none has any."""
    lines_of = [line for _, line in frame.sort_values("ms").groupby("by")]
    return max((np.interp(ms, of["ms"], of["AP"], -np.inf, -np.inf) for of in lines_of), default=-np.inf)


@styled
def speed_accuracy(frame: pd.DataFrame, title: str = "") -> Figure:
    """AP with its 95 % interval against milliseconds an image, a line per detector; beside it Table 1e.

    frame: of `tables.table` for the ablation "1e", with `inference_ms` measured anew: that of the records is
    of runs beside other runs. A point's text is the size of its images, the shorter side in the paper. Equal
    steps are equal factors; the panels share no axis: data, size and machine differ.
    """
    ours = frame.assign(by=_detectors(frame), ms=frame["inference_ms"], size=frame["image_size"])
    rows = [(f"RetinaNet, ResNet-{r.fields['depth']}", r.AP, r.ms, r.fields["scale"]) for r in TABLES["1e"]]
    paper = pd.DataFrame(rows, columns=["by", "AP", "ms", "size"])
    paper = paper.assign(low=paper["AP"], high=paper["AP"], diverged=0)
    sides = {"This reproduction": ours, "Paper (Table 1e, test-dev; Nvidia M40)": paper}
    settings = ({"title": name, "xlabel": "ms an image (log scale)", "ylabel": "AP, %"} for name in sides)
    figure, row = panels(*settings, size=(9.6, 4.4))
    for axes, side in zip(row, sides.values(), strict=True):
        known = side.dropna(subset=["AP", "ms"])
        colours = against(axes, known, "ms")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.margins(x=0.14, y=0.12)
        for at in known.itertuples():  # lines rise: beside the highest, left above and right below it is free
            aside = (-7, 9) if _highest(known[known["by"] != at.by], at.ms) < at.AP else (7, -9)
            label_points(axes, [at.ms], [at.AP], [f"{at.size:.0f}"], colours[at.by], aside)
    figure.suptitle(title, fontsize=12)
    return figure


PLANES = {"grid": ("gamma", "alpha"), "plane": ("gamma", "beta")}
SWEEPS = {
    "prior": ("prior", "π, the initial foreground probability (0.5: no prior)"),
    "data": ("images", "training images"),
    "budget": ("steps", "training steps, each schedule planned to its own end"),
}


def figure_of(e: Evidence, name: str, title: str = "") -> Figure:
    """The figure of an ablation: a plane is a heat map, a sweep lines, speed points, others intervals."""
    frame = table(e, name)
    title += ", 1 seed" if title and frame["seeds"].max() == 1 and name not in PLANES else ""
    if name in PLANES:
        theirs = [(r.fields["gamma"], r.fields["alpha"]) for r in TABLES["1b"]] if name == "grid" else []
        return heatmaps(frame, *PLANES[name], partial(ties, e, name, *PLANES[name]), theirs, title)
    if name == "1e":
        return sweep(frame.assign(by=_detectors(frame)), "image_size", "side of the images, px", title, "by")
    if name == "imbalance":
        return rarity(*by_rarity(e, frame), title)
    if name in SWEEPS:
        return sweep(frame, *SWEEPS[name], title)
    return ablation(frame, title, best_rows(e, name) if frame["seeds"].max() >= SEEDS else None)
