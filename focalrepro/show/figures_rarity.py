"""AP against how rare objects are, and what focal loss leads by."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from focalrepro.evidence.difference import Evidence
from focalrepro.show.figures_lines import against
from focalrepro.show.style import COLOURS, DARK, GREY, panels, styled
from focalrepro.study.study import Rows

TENTH = ", a tenth of the images"
AS_FEW = "\n(its lead: over CE, α = .5, of a tenth as well)"
# Focal loss's lead by what the loss is divided by and whose rates it has: the ablation, and how its rows end.
BY_DIVISOR = {
    "paper's divisor, rates of 1 in 1,000": ("imbalance", ""),
    "one more for each image, rates of 1 in 1,000": ("divisor-images", ", one more for each image"),
    "moving average, rates of 1 in 1,000": ("imbalance-steady", ", moving average"),
    "paper's divisor, rates of its own": ("rarity-rate", ""),
    "moving average, rates of its own": ("rarity-rate", ", moving average"),
}
APART = 0.03  # of a factor of e, between lines beside each other


@styled
def rarity(frame: pd.DataFrame, leads: pd.DataFrame, by_divisor: pd.DataFrame, title: str = "") -> Figure:
    """AP against how rare objects are, beside it each loss's lead over plain cross entropy; below them, where
    there is more than one line of it, focal loss's by divisor and rates.

    All have rarity, by (the line's name), AP with low and high, and diverged.
    """
    settings = [{"ylabel": "AP, %"}, {"ylabel": "AP less plain cross entropy's"}]
    if below := by_divisor["by"].nunique() > 1:
        settings += [{"ylabel": "focal loss's AP less plain cross entropy's"}, {}]
    look, rows = {"xlabel": "anchors for each one that is assigned to an object"}, 1 + below
    figure, axes = panels(*({**look, **of} for of in settings), size=(10.4, 4.5 * rows), rows=rows)
    names, ticks = list(frame["by"].unique()), frame["rarity"].unique()
    colours = dict(zip(names, COLOURS, strict=False))
    for i, of in enumerate((frame, leads)):
        against(axes[i], of, "rarity", APART, ticks, colours)
        axes[i].get_legend().remove()
    axes[0].set_ylim(bottom=0)
    words = {"handles": axes[0].get_legend_handles_labels()[0]}
    words["labels"] = [name.replace(TENTH, TENTH + AS_FEW * (name != f"{names[0]}{TENTH}")) for name in names]
    if below:
        focal = colours[next(name for name in names if name.startswith("FL"))]
        by_way = {"paper's": focal, "one": GREY, "moving": DARK}
        theirs = {name: by_way[name.split()[0]] for name in BY_DIVISOR}
        against(axes[2], by_divisor, "rarity", APART, ticks, theirs)
        axes[2].get_legend().remove()
        handles, labels = axes[2].get_legend_handles_labels()
        axes[3].set_axis_off()
        axes[3].add_artist(axes[3].legend(**words, loc="upper left", title="Above"))
        axes[3].legend(
            handles, labels, loc="lower left", title="On the left (rates: where they were searched)"
        )
    else:
        figure.legend(**words, loc="outside lower center", ncols=3)
    for drawn in axes[1:3]:
        drawn.axhline(0, color=GREY, linewidth=1)
    figure.suptitle(title, fontsize=12)
    return figure


def by_rarity(e: Evidence, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """`rarity`'s three frames; frame: of `tables.table` for the ablation `imbalance`."""
    parts = _parts(frame["row"])
    plain = parts["loss"].iloc[0]
    leads = _leads(e, e.study.rows("imbalance"), plain)
    focal, below = parts["loss"][parts["loss"].str.startswith("FL")].iloc[0], []
    for name, (ablation, end) in BY_DIVISOR.items():
        lead = _leads(e, e.study.rows(ablation), plain).dropna(subset=["AP"])
        below.append(lead[lead["by"] == focal + end].assign(by=name))
    rare = frame.assign(by=parts["loss"] + parts["end"], rarity=parts["rarity"])
    return rare, leads, pd.concat(below)


def _parts(labels: pd.Series) -> pd.DataFrame:
    """What rows' labels have before and after how rare objects are, and that."""
    parts = labels.str.extract(r"(?P<loss>.*), 1 in (?P<rarity>[\d,]*\d)(?P<end>.*)")
    return parts.assign(rarity=parts["rarity"].str.replace(",", "").astype(int))


def _leads(e: Evidence, rows: Rows, plain: str) -> pd.DataFrame:
    """What each row leads the one of the loss `plain` by, which are left out; without runs NaN."""
    parts = _parts(pd.Series(list(rows)))
    pairs = zip(rows, parts["loss"], strict=True)
    gaps = [e.difference(rows[row], rows[row.replace(loss, plain)]) for row, loss in pairs]
    found = [(g.effect, g.low, g.high) if g else (np.nan,) * 3 for g in gaps]
    leads = pd.DataFrame(found, columns=["AP", "low", "high"]).assign(rarity=parts["rarity"], diverged=0)
    return leads.assign(by=parts["loss"] + parts["end"])[parts["loss"] != plain]
