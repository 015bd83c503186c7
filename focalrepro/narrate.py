"""What the notebooks say about results: tables for the eye and sentences, all computed from the run records."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from focalrepro import results
from focalrepro.ablations import get_ablation
from focalrepro.config import RunConfig
from focalrepro.evidence import Evidence
from focalrepro.profiles import get_profile
from focalrepro.store import Store

Records = Sequence[Mapping[str, Any]]
NONE = "–"


def where_from(profile: str, *names: str) -> str:
    """Opening of a results notebook: the profile, its hardware, whose runs are shown and what they took.

    names: of the ablations that the notebook shows.
    """
    p = get_profile(profile)
    lines = [f"**Profile `{profile}`**: {p.what}. Meant for: {p.hardware}.", ""]
    records = results.records_or_committed(profile)
    rows = {
        f"{label} ({name})" if len(names) > 1 else label: found
        for name in names
        for label, found in results.select(records, profile, name).items()
    }
    shown = {r["run_id"]: r for found in rows.values() for r in found}
    missing = [label for label, found in rows.items() if not found]
    command = f"`focalrepro run {' '.join(names)} --profile {profile}`"
    if not shown:
        lines.append(
            f"**There are no runs to show yet.** To make them: {command}; then execute this notebook again."
        )
        return "\n".join(lines)
    own = (
        "your own runs (local store)"
        if Store.local(profile).records()
        else f"the committed results of `{profile}`"
    )
    seconds = sum(r["seconds"]["total"] for r in shown.values())
    machines = sorted({r["hardware"].get("gpu", r["hardware"]["cpu"]) for r in shown.values()})
    seeds = len({r["config"]["seed"] for r in shown.values()})
    lines.append(
        f"Shown are {len(shown)} runs ({own}) with {seeds} seed{'s'[: seeds > 1]}. They took {seconds / 60:.1f} minutes "
        f"in all, added up over the workers, on {', '.join(machines)}."
    )
    if missing:
        named = ", ".join(missing) if len(missing) <= 8 else f"{len(missing)} of {len(rows)} rows"
        lines.append(f"Not run yet: {named}. To add them: {command}.")
    if max(r["config"]["steps"] for r in shown.values()) < 20:
        lines.append(
            "\n*These runs are a few steps long: they show that the path works, their AP means nothing.*"
        )
    return "\n".join(lines)


def comparison(frame: pd.DataFrame) -> pd.DataFrame:
    """`results.table` for the eye: ours with its interval, the paper's numbers beside it."""
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


def summary(frame: pd.DataFrame) -> str:
    """The best row here and in the paper, collapsed and diverged rows, agreement of the rankings, in words."""
    lines = []
    run = frame[frame["AP"].notna()]
    if run.empty:
        return "No row has a run yet, so there is nothing to compare."
    if run["AP"].max() <= 0.05:
        lines.append(
            "- Best row here: none; no row detects anything, which is what a few steps of training give."
        )
    else:
        best = run.loc[run["AP"].idxmax()]
        lines.append(
            f"- Best row here: **{best.row}** with AP {best.AP:.1f} ({interval_text(best.low, best.high)})."
        )
    if frame["paper_AP"].notna().any():
        theirs = frame.loc[frame["paper_AP"].idxmax()]
        lines.append(f"- Best row in the paper: **{theirs.row}** with AP {theirs.paper_AP:.1f}.")
    if len(run) < len(frame):
        missing = f"{len(frame) - len(run)} of {len(frame)}"
        lines.append(f"- Rows without a run: {missing}; what is said here is about the others.")
    for what, rows in (
        ("diverged", run[run["diverged"] > 0]),
        ("AP below 1", run[(run["AP"] < 1) & (run["diverged"] == 0)]),
    ):
        if len(rows) and run["AP"].max() > 0.05:
            lines.append(f"- {what[0].upper() + what[1:]}: {', '.join(rows['row'])}.")
    correlation, count = results.rank_correlation(frame)
    if not np.isnan(correlation):
        lines.append(
            f"- Rank correlation with the paper (Spearman, {count} rows): **{correlation:.2f}**; 1 is the same order."
        )
    kinds = sorted({k for k in run["interval_of"] if k})
    if kinds:
        lines.append(f"- Intervals are at 95 %: {' and '.join(kinds)}.")
    return "\n".join(lines)


def gains(profile: str, name: str, reference: str, recipe: str = "fast") -> pd.DataFrame:
    """Each row's AP less the reference row's, paired by image and seed, beside the paper's difference.

    Rows without a run that shares a seed with the reference show "–". "clear" says whether the interval leaves
    out 0. Errors: ValueError for a reference that is no row.
    """
    records = results.records_or_committed(profile)
    found, evidence = results.select(records, profile, name, recipe), Evidence(records, profile)
    if reference not in found:
        raise ValueError(f"{name} has no row {reference!r}; it has {', '.join(found)}")
    theirs = {row.label: row.paper.AP for row in get_ablation(name).rows if row.paper}
    rows = []
    for label in found:
        if label == reference:
            continue
        entry = {"row": label, f"AP less that of {reference}": NONE, "95 % interval": NONE, "clear": NONE}
        estimate = evidence.difference(found[label], found[reference])
        if estimate:
            clear = "yes" if estimate.low > 0 or estimate.high < 0 else "no"
            shown = (f"{estimate.effect:+.1f}", _signed(estimate.low, estimate.high), clear)
            entry |= dict(zip(list(entry)[1:], shown, strict=True))
        if label in theirs and reference in theirs:
            entry["in the paper"] = f"{theirs[label] - theirs[reference]:+.1f}"
        rows.append(entry)
    return pd.DataFrame(rows).set_index("row").rename_axis("")


def _signed(low: float, high: float) -> str:
    return f"{low:+.1f} … {high:+.1f}"


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


def recipe_changes(profile: str, recipe: str = "fast") -> pd.DataFrame:
    """Where a profile's baseline leaves the paper's recipe: each field, its value here and in the paper."""
    here, default = get_profile(profile).config(recipe).as_dict(), RunConfig().as_dict()
    rows = []
    for field, value in here.items():
        theirs = PAPER_DATA.get(field, default[field])
        if field in ("train_images", "val_images") and value == 0:
            value = "all of the dataset's"
        if value != theirs:
            rows.append({"field": field, "here": str(value), "in the paper": str(theirs)})
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


NO_DISTRIBUTION = (
    "The runs of this profile have no record of their loss distribution; train them again to see it."
)


def with_distribution(records: Records) -> Mapping[str, Any] | None:
    """The first record that kept its loss distribution."""
    return next((r for r in records if r.get("loss_distribution")), None)


def hardest(record: Mapping[str, Any], share: float = 0.2) -> str:
    """What the hardest windows carry of the loss, for γ = 0 and γ = 2, foreground and background."""
    kept = record["loss_distribution"]
    at = kept["shares"].index(round(1 - share, 2))
    parts = []
    for kind in ("foreground", "background"):
        plain, focal = (1 - kept[kind][gamma][at] for gamma in ("0", "2"))
        parts.append(
            f"of the {kind}'s loss the hardest {share:.0%} of the windows carry {plain:.0%} at γ = 0 and {focal:.0%} at γ = 2"
        )
    return f"Here, {'; '.join(parts)}."


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
