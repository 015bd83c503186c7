"""Tables for the eye, of text; the one place where Markdown tables are written and texts are escaped for
them."""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from focalrepro.config import RunConfig
from focalrepro.evidence import cost, tables
from focalrepro.evidence.difference import Evidence, Records
from focalrepro.evidence.statistics import calibration_error
from focalrepro.study.study import Study

NONE = "–"  # stands where there is nothing to show


class Md(str):
    """Text that is Markdown already and is not escaped again."""

    __slots__ = ()


def escape(value: object) -> Md:
    """A text as it is, in Markdown and within a table's cell: no emphasis, no HTML, no new cell, no new
    line."""
    if isinstance(value, Md):
        return value
    text = re.sub(r"\s*[\r\n]+\s*", " ", str(value)).replace("&", "&amp;").replace("<", "&lt;")
    return Md(re.sub(r"([\\|*_`\[\]])", r"\\\1", text))


def bold(value: object) -> Md:
    return Md(f"**{escape(value)}**")


def code(value: object) -> Md:
    return Md(f"`{str(value).replace('`', ' ')}`")


def markdown(rows: Iterable[Mapping[str, object]]) -> Md:
    """A Markdown table; the keys of the first row are its head. Texts are escaped, `Md` is taken as it is."""
    rows = list(rows)
    if not rows:
        return Md("")
    lines = [list(map(escape, rows[0])), ["---"] * len(rows[0])]
    lines += [[escape(row[key]) for key in rows[0]] for row in rows]
    return Md("\n".join(f"| {' | '.join(cells)} |" for cells in lines))


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, the minus as long as the plus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def one(value: float) -> str:
    """A number with one digit, or "–"."""
    return NONE if pd.isna(value) else f"{value:.1f}"


def interval_text(low: float, high: float) -> str:
    return NONE if pd.isna(low) or pd.isna(high) else f"{low:.1f} … {high:.1f}"


def comparison(frame: pd.DataFrame, timed: bool = False) -> pd.DataFrame:
    """`tables.table` for the eye: ours with its interval, the paper's numbers beside it.

    AP at .05 is shown where it is another number than AP. timed: with the milliseconds that one image takes.
    """
    shown: dict[str, object] = {
        "AP": frame["AP"].map(one),
        "95 % interval": [interval_text(r.low, r.high) for r in frame.itertuples()],
    }
    if has_both(frame):
        shown["AP at .05"] = frame["AP_at_05"].map(one)
        shown["AP, classes merged"] = frame["agnostic_AP"].map(one)
    shown |= {"AP50": frame["AP50"].map(one), "AP75": frame["AP75"].map(one)}
    shown |= {"ms per image": frame["inference_ms"].map(one)} if timed else {}
    shown |= {"seeds": frame["seeds"], "note": [_note(r.seeds, r.diverged) for r in frame.itertuples()]}
    if frame["paper_AP"].notna().any():
        shown |= {f"paper {m}": frame[f"paper_{m}"].map(one) for m in ("AP", "AP50", "AP75")}
    return pd.DataFrame(shown).set_axis(pd.Index(frame["row"], name=""), axis=0)


def has_both(frame: pd.DataFrame) -> bool:
    """Whether the runs have AP without a threshold and AP at .05, as from version 3 on."""
    return bool(frame["agnostic_AP"].notna().any())


def _note(seeds: int, diverged: int) -> str:
    if not seeds:
        return "not run"
    return f"{diverged} of {seeds} diverged" if diverged else ""


def of_page(frame: pd.DataFrame, at_paper: bool, timed: bool = False) -> Md:
    """`tables.table` of a results page: as `comparison`, with ranks, and each row leads to its records.

    at_paper: AP is that of detections of a score of .05 or more.
    """
    best, theirs, ranked = frame["AP"].max(), frame["paper_AP"].max(), frame["paper_AP"].notna().any()
    head = "AP at .05 (95 %)" if at_paper else "AP (95 %)"
    rows = []
    for cells, row in zip(comparison(frame, timed).to_dict("records"), frame.itertuples(), strict=True):
        ap = bold(cells["AP"]) if best == row.AP else cells["AP"]
        missing = "missing" if not row.seeds else Md(f"{ap} ({row.low:.1f} … {row.high:.1f})")
        entry = {"row": row.row, head: Md(f"{missing} diverged") if row.diverged else missing}
        entry |= {k: v for k, v in cells.items() if k not in ("AP", "95 % interval", "note")}
        if ranked:
            entry["paper AP"] = bold(cells["paper AP"]) if row.paper_AP == theirs else cells["paper AP"]
            entry |= {"rank": _rank(row.rank), "paper's rank": _rank(row.paper_rank)}
        links = zip(row.seed_list, row.run_ids, strict=True)
        rows.append(
            entry | {"records by seed": Md(" ".join(f"[{seed}](runs/{i}.json)" for seed, i in links))}
        )
    return markdown(rows)


def _rank(value: float) -> str:
    return NONE if np.isnan(value) else f"{value:g}"


def search(e: Evidence, name: str) -> Md:
    """Mean tune AP of each searched loss at each rate, with links to the records.

    The best is in bold once every rate of the loss has all its seeds: half a search has chosen nothing.
    """
    wanted = e.study.profile.seeds_of(name)
    losses: dict[str, dict[str, tuple[float, Records]]] = {}
    for label, found in e.rows(name).items():
        loss, rate = label.rsplit(", rate ", 1)
        losses.setdefault(loss, {})[rate] = (tables.mean(r.tune_AP for r in found), found)
    rows = []
    for loss, rates in losses.items():
        whole = all(len(found) >= wanted for _, found in rates.values())
        best = max(ap for ap, _ in rates.values()) if whole else np.nan
        entry: dict[str, object] = {"loss": loss}
        for rate, (ap, found) in rates.items():
            text = NONE if np.isnan(ap) else f"{ap:.2f}"
            links = " ".join(f"[{r.seed}](runs/{r.run_id}.json)" for r in found)
            entry[f"rate {rate}"] = Md(f"{bold(text) if ap == best else text} {links}")
        rows.append(entry)
    return markdown(rows)


def gains(e: Evidence, name: str, reference: str) -> pd.DataFrame:
    """`tables.gains` for the eye: each row's AP less the reference row's, beside the paper's difference.

    "clear" says whether the 95 % interval leaves out 0. Errors: ValueError for a reference that is no row.
    """
    frame = tables.gains(e, name, reference)
    known = frame["effect"].notna()
    between = [f"{signed(r.low, 1)} … {signed(r.high, 1)}" for r in frame.itertuples()]
    shown = pd.DataFrame(
        {
            f"AP less that of {reference}": frame["effect"].map(lambda v: signed(v, 1)).where(known, NONE),
            "95 % interval": pd.Series(between, dtype=object).where(known, NONE),
            "clear": frame["clear"].map({True: "yes", False: "no"}).where(known, NONE),
        }
    )
    if frame["paper"].notna().any():
        shown["in the paper"] = [NONE if pd.isna(v) else signed(v, 1) for v in frame["paper"]]
    return shown.set_axis(pd.Index(frame["row"], name=""), axis=0)


def agreement(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per table: how many rows are run, which row wins on each side, Spearman's correlation."""
    rows = []
    for name, frame in frames.items():
        rho, count = tables.rank_correlation(frame)
        finds = frame["AP"].max() > 0.05
        paper = frame["paper_AP"].notna().any()
        rows.append(
            {
                "table": name,
                "rows run": f"{int((frame['seeds'] > 0).sum())} of {len(frame)}",
                "best here": frame["row"][frame["AP"].idxmax()] if finds else NONE,
                "best in the paper": frame["row"][frame["paper_AP"].idxmax()] if paper else NONE,
                "rank correlation": NONE if np.isnan(rho) else f"{rho:.2f} ({count} rows)",
                "rows with AP below 1": int((frame["AP"] < 1).sum()),
                "diverged runs": int(frame["diverged"].sum()),
            }
        )
    return pd.DataFrame(rows).set_index("table") if rows else pd.DataFrame()


# What a reader needs beside RunConfig's defaults: the paper's data, of which a config knows only ours.
PAPER_DATA = {
    "dataset": "COCO trainval35k, about 115,000 images",
    "image_size": "shorter side 600 px, aspect ratio kept",
    "train_images": "all",
    "val_images": "minival, 5,000 images",
    "backbone": "resnet50",
    "precision": "fp32",
    "score_threshold": "0.05",
}
MEANING = {
    "dataset": "what it is trained and judged on",
    "classes": "COCO's 80 classes, or their 12 supercategories",
    "image_size": "side in pixels; ours are square",
    "train_images": "of the training split",
    "val_images": "of the validation split",
    "backbone": "the pretrained network below the pyramid",
    "weights": "what the backbone was pretrained on; crops: single objects cut from other scenes",
    "frozen": "what of the backbone is not trained",
    "views": "of each training image, where features are computed once",
    "kept_channels": "share of a frozen map's channels that is kept",
    "fpn_channels": "width of the pyramid and the heads",
    "head_convs": "3×3 convolutions in a head before its last",
    "head_norm": "normalisation in the heads",
    "first_level": "finest pyramid level, of stride 2^level pixels",
    "last_level": "coarsest pyramid level",
    "anchor_size": "side of the smallest anchor, in strides",
    "lr": "learning rate for 16 images a step; it follows the batch size",
    "schedule": "how the rate falls",
    "batch_size": "images a step",
    "steps": "optimiser steps",
    "warmup": "steps in which the rate rises",
    "flip": "images mirrored at random",
    "averaging": "decay of the moving average of the weights",
    "precision": "of the convolutions",
    "score_threshold": "below which a detection is dropped",
}


def recipe_changes(study: Study) -> pd.DataFrame:
    """Where a study's baseline leaves the paper's recipe, by field: its meaning, its value here and in the
    paper."""
    default, rows = RunConfig().as_dict(), []
    for field, value in study.base.as_dict().items():
        theirs = PAPER_DATA.get(field, default[field])
        if field in ("train_images", "val_images") and value == 0:
            value = "all of the dataset's"
        if value != theirs:
            entry = {"field": field, "meaning": MEANING.get(field, "")}
            rows.append(entry | {"here": str(value), "paper": str(theirs)})
    return pd.DataFrame(rows).set_index("field")


def provenance(records: Records) -> pd.DataFrame:
    """Runs by machine and version: how many, and the seconds that they took; empty without records."""
    keys = ("hardware", "threads", "torch", "focalrepro", "commit")
    rows = [
        (r.hardware.name, *(getattr(r.hardware, k) for k in keys[1:]), r.seconds.total, r.images_per_second)
        for r in records
    ]
    grouped = pd.DataFrame(rows, columns=[*keys, "seconds", "images"]).groupby(list(keys), dropna=False)
    frame = grouped.agg(runs=("seconds", "size"), seconds=("seconds", "sum"), images=("images", "median"))
    names = {"seconds": "seconds in all", "images": "training images per second (median)"}
    return frame.round(1).rename(columns=names).reset_index()


WAYS = ("raw", "temperature", "isotonic", "closed form")


def calibration_table(rows: Mapping[str, Sequence]) -> pd.DataFrame:
    """Expected calibration error of each row, mean over its seeds, with AP beside it: raw, and after what
    maps scores.

    A temperature and isotonic regression are fitted on tune images; the closed form needs no data, and is for
    a loss with γ > 0. Compare rows of nearly the same AP only.
    """
    shown = []
    for label, found in rows.items():
        entry: dict[str, object] = {"row": label, "AP": one(tables.mean(r.AP for r in found))}
        for way in WAYS:
            of = [r for r in found if way != "closed form" or r.config.gamma > 0]
            error = tables.mean(calibration_error(r, way) for r in of)
            entry["error, raw" if way == "raw" else way] = NONE if np.isnan(error) else f"{error:.4f}"
        shown.append(entry | {"seeds": len(found)})
    return pd.DataFrame(shown).set_index("row")


def costs(study: Study) -> pd.DataFrame:
    """`cost.table` as text: median and range of each quantity for both losses, and their ratio with its
    interval."""
    frame = cost.table(cost.speeds(study))
    for loss in (cost.CE, cost.FL):
        frame[loss] = [
            f"{v[0]:.1f} ({v[1]:.1f} … {v[2]:.1f}), {v[3]} runs" if v[3] else "no record" for v in frame[loss]
        ]
    frame["ratio"] = [f"{r.ratio:.2f} ({r.low:.2f} … {r.high:.2f})" if r else NONE for r in frame["ratio"]]
    return frame.rename(columns={"ratio": "focal loss ÷ cross entropy"}).rename_axis("")


def reach(frame: pd.DataFrame) -> pd.DataFrame:
    """`anchor_statistics.reach_of_rows` for the eye."""
    columns = {
        "anchors an image": frame["anchors"].map("{:,.0f}".format),
        "objects reached at IoU ≥ .5, %": frame["reach_50"].map(one),
        "at IoU ≥ .4, %": frame["reach_40"].map(one),
        "AP": frame["AP"].map(one),
        "paper AP": frame["paper_AP"].map(one),
    }
    return pd.DataFrame(columns).set_axis(pd.Index(frame["row"], name=""), axis=0)
