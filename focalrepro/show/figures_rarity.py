"""AP against how rare objects are, and what focal loss leads by."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from focalrepro.evidence.difference import Evidence
from focalrepro.show.figures_lines import against
from focalrepro.show.style import GREY, panels, styled


@styled
def rarity(frame: pd.DataFrame, leads: pd.DataFrame, title: str = "") -> Figure:
    """AP against how rare objects are, and beside it each loss's lead over plain cross entropy.

    Both have rarity, by (the line's name), AP with low and high, and diverged.
    """
    look = {"xlabel": "anchors for each one that is assigned to an object"}
    settings = {"ylabel": "AP, %"}, {"ylabel": "AP less plain cross entropy's"}
    figure, (ours, ahead) = panels(*({**look, **of} for of in settings), size=(10.4, 4.6))
    names = list(frame["by"].unique())
    for axes, of in ((ours, frame), (ahead, leads)):
        against(axes, of, "rarity", apart=0.02, ticks=frame["rarity"].unique(), names=names)
        axes.get_legend().remove()
    ours.set_ylim(bottom=0)
    ahead.axhline(0, color=GREY, linewidth=1)
    figure.legend(*ours.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(title, fontsize=12)
    return figure


def by_rarity(e: Evidence, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`rarity`'s two frames, of the ablation `imbalance`."""
    parts = frame["row"].str.extract(r"(?P<loss>.*), 1 in (?P<rarity>[\d,]*\d)(?P<less>.*)")
    by, at = parts["loss"] + parts["less"], parts["rarity"].str.replace(",", "").astype(int)
    rows, plain = e.study.rows("imbalance"), parts["loss"].iloc[0]
    pairs = zip(frame["row"], parts["loss"], strict=True)
    gaps = [e.difference(rows[row], rows[row.replace(loss, plain)]) for row, loss in pairs]
    found = [(g.effect, g.low, g.high) if g else (np.nan,) * 3 for g in gaps]
    leads = pd.DataFrame(found, columns=["AP", "low", "high"]).assign(by=by, rarity=at, diverged=0)
    return frame.assign(by=by, rarity=at), leads[(parts["loss"] != plain).to_numpy()]
