"""The notebooks' tables for the eye, computed from the run records; "–" stands where there is nothing to show."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from focalrepro import results
from focalrepro.config import RunConfig
from focalrepro.evidence import Evidence, signed
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import get_profile

Records = Sequence[Mapping[str, Any]]
NONE = "–"


def comparison(frame: pd.DataFrame, timed: bool = False) -> pd.DataFrame:
    """`results.table` for the eye: ours with its interval, the paper's numbers beside it.

    timed: with the milliseconds that one image takes.
    """
    shown = pd.DataFrame(
        {
            "AP": frame["AP"].map(_one),
            "95 % interval": [interval_text(r.low, r.high) for r in frame.itertuples()],
            "AP50": frame["AP50"].map(_one),
            "AP75": frame["AP75"].map(_one),
            "seeds": frame["seeds"],
            "note": [_note(r.seeds, r.diverged) for r in frame.itertuples()],
        }
    )
    if timed:
        shown.insert(4, "ms per image", frame["inference_ms"].map(_one))
    if frame["paper_AP"].notna().any():
        for metric in ("AP", "AP50", "AP75"):
            shown[f"paper {metric}"] = frame[f"paper_{metric}"].map(_one)
    shown.index = pd.Index(frame["row"], name="")
    return shown


def _one(value: float) -> str:
    return NONE if pd.isna(value) else f"{value:.1f}"


def interval_text(low: float, high: float) -> str:
    return NONE if pd.isna(low) or pd.isna(high) else f"{low:.1f} … {high:.1f}"


def _note(seeds: int, diverged: int) -> str:
    if not seeds:
        return "not run"
    return f"{diverged} of {seeds} diverged" if diverged else ""


def gains(profile: str, name: str, reference: str, recipe: str = "fast") -> pd.DataFrame:
    """Each row's AP less the reference row's, paired by image and seed, beside the paper's difference.

    Rows without a run that shares a seed with the reference show "–". "clear" says whether the interval leaves
    out 0. Errors: ValueError for a reference that is no row.
    """
    records = results.records_or_committed(profile)
    found, evidence = results.select(records, profile, name, recipe), Evidence(records, profile)
    if reference not in found:
        raise ValueError(f"{name} has no row {reference!r}; it has {', '.join(found)}")
    base = get_profile(profile).config(recipe)
    theirs = {row.label: row.paper.AP for row in get_ablation(name).rows_for(base) if row.paper}
    rows = []
    for label in found:
        if label == reference:
            continue
        entry = {"row": label, f"AP less that of {reference}": NONE, "95 % interval": NONE, "clear": NONE}
        estimate = evidence.difference(found[label], found[reference])
        if estimate:
            clear = "yes" if estimate.low > 0 or estimate.high < 0 else "no"
            between = f"{signed(estimate.low, 1)} … {signed(estimate.high, 1)}"
            shown = (signed(estimate.effect, 1), between, clear)
            entry |= dict(zip(list(entry)[1:], shown, strict=True))
        if label in theirs and reference in theirs:
            entry["in the paper"] = signed(theirs[label] - theirs[reference], 1)
        rows.append(entry)
    return pd.DataFrame(rows).set_index("row").rename_axis("").fillna(NONE)


def tables(profile: str) -> dict[str, pd.DataFrame]:
    """`results.table` of each of the profile's ablations and recipes that has a run, by a name for the eye."""
    p = get_profile(profile)
    records = results.records_or_committed(profile)
    found = {}
    for recipe in ("fast", *p.recipes):
        for name in p.ablations:
            frame = results.table(records, profile, name, recipe)
            if frame["seeds"].any():
                found[name if recipe == "fast" else f"{name}, {recipe} recipe"] = frame
    return found


def agreement(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per table: how many rows are run, which row wins on each side, Spearman's correlation."""
    rows = []
    for name, frame in frames.items():
        correlation, count = results.rank_correlation(frame)
        has = {c: frame[c].notna().any() for c in ("AP", "paper_AP")}
        detects = has["AP"] and frame["AP"].max() > 0.05
        rows.append(
            {
                "table": name,
                "rows run": f"{int((frame['seeds'] > 0).sum())} of {len(frame)}",
                "best here": frame["row"][frame["AP"].idxmax()] if detects else NONE,
                "best in the paper": frame["row"][frame["paper_AP"].idxmax()] if has["paper_AP"] else NONE,
                "rank correlation": NONE if np.isnan(correlation) else f"{correlation:.2f} ({count} rows)",
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
}


MEANING = {
    "dataset": "what it is trained and judged on",
    "classes": "COCO's 80 classes, or their 12 supercategories",
    "image_size": "side in pixels; ours are square",
    "train_images": "of the training split",
    "val_images": "of the validation split",
    "backbone": "the pretrained network below the pyramid",
    "weights": "what the backbone was pretrained on; `crops`: single objects cut from other scenes",
    "frozen": "what of the backbone is not trained",
    "fpn_channels": "width of the pyramid and the heads",
    "head_convs": "3×3 convolutions in a head before its last",
    "head_norm": "normalisation in the heads",
    "first_level": "finest pyramid level, of stride 2^level pixels",
    "last_level": "coarsest pyramid level",
    "anchor_size": "side of the smallest anchor, in strides",
    "optimizer": "",
    "lr": "learning rate for 16 images a step; it follows the batch size",
    "weight_decay": "",
    "schedule": "how the rate falls",
    "batch_size": "images a step",
    "steps": "optimiser steps",
    "warmup": "steps in which the rate rises",
    "flip": "images mirrored at random",
    "precision": "of the convolutions",
}


def recipe_changes(profile: str, recipe: str = "fast", dataset: str = "") -> pd.DataFrame:
    """Where a profile's baseline leaves the paper's recipe, by field: its meaning, its value here and in the paper."""
    config = get_profile(profile).config(recipe)
    config = config.replace(dataset=dataset) if dataset else config
    here, default = config.as_dict(), RunConfig().as_dict()
    rows = []
    for field, value in here.items():
        theirs = PAPER_DATA.get(field, default[field])
        if field in ("train_images", "val_images") and value == 0:
            value = "all of the dataset's"
        if value != theirs:
            meaning = MEANING.get(field, "")
            rows.append({"field": field, "meaning": meaning, "here": str(value), "paper": str(theirs)})
    return pd.DataFrame(rows).set_index("field")


def provenance(records: Records) -> pd.DataFrame:
    """Runs by machine and version: how many, and the seconds that they took; empty without records."""
    rows = [
        {
            "hardware": r["hardware"].get("gpu", r["hardware"]["cpu"]),
            "threads": r["hardware"].get("threads", ""),
            "torch": r["hardware"].get("torch", ""),
            "focalrepro": r["hardware"].get("focalrepro", ""),
            "commit": r["hardware"].get("commit", ""),
            "seconds": r["seconds"]["total"],
            "images_per_second": r.get("images_per_second") or np.nan,
            "diverged": r["status"] == "diverged",
        }
        for r in records
    ]
    if not rows:
        return pd.DataFrame()
    keys = ["hardware", "threads", "torch", "focalrepro", "commit"]
    grouped = pd.DataFrame(rows).groupby(keys, dropna=False)
    frame = grouped.agg(
        runs=("seconds", "size"),
        total_seconds=("seconds", "sum"),
        images_per_second=("images_per_second", "median"),
        diverged=("diverged", "sum"),
    ).round(1)
    return frame.rename(
        columns={
            "total_seconds": "seconds in all",
            "images_per_second": "training images per second (median)",
        }
    ).reset_index()


def calibration_table(rows: Mapping[str, Records]) -> pd.DataFrame:
    """Expected calibration error of each row, mean over its seeds, with AP beside it."""
    table = []
    for label, records in rows.items():
        errors = [
            r["calibration"]["error"] for r in records if r.get("calibration") and r["calibration"]["error"]
        ]
        ap = [r["metrics"]["AP"] for r in records]
        table.append(
            {
                "row": label,
                "AP": f"{np.mean(ap):.1f}" if ap else NONE,
                "calibration error": f"{np.mean(errors):.4f}" if errors else NONE,
                "seeds": len(records),
            }
        )
    return pd.DataFrame(table).set_index("row")
