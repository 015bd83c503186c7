"""From records to tables of numbers: a row per run (`runs_frame`), a row per row of an ablation (`table`)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from focalrepro.evaluation.record import Record
from focalrepro.evidence.difference import Evidence, Records
from focalrepro.study.ablations import get_ablation
from focalrepro.study.study import Study

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def table(e: Evidence, name: str) -> pd.DataFrame:
    """One row per row of the ablation: ours with interval and seeds, the paper's numbers beside them.

    AP, AP50, …, AP_at_05, agnostic_AP and Bkg are means over the seeds that all rows share, in percent; low,
    high: the 95 % interval of AP over images and seeds; sd: over seeds. A diverged run counts as AP 0.
    images: of the training split that the row is trained on; seconds: of training, mean. inference_ms: mean
    over the seeds that measured it. rank and paper_rank: places among the rows that both sides have. Rows
    without runs have NaN.
    """
    rows = []
    for row in get_ablation(name).rows_for(e.study.base):
        found, paper = e.rows(name)[row.label], row.paper
        entry: dict[str, Any] = {"row": row.label, **row.changes, "seeds": len(found)}
        entry |= {metric: mean(getattr(r.metrics, metric) for r in found) for metric in METRICS}
        entry["AP_at_05"] = mean(r.AP_at_05 for r in found)
        entry["agnostic_AP"] = mean(r.agnostic and r.agnostic.AP for r in found)
        entry["Bkg"] = mean((r.tide or {}).get("Bkg") for r in found)
        entry["low"], entry["high"] = e.interval(found)
        entry["sd"] = float(np.std([r.AP for r in found], ddof=1)) if len(found) > 1 else np.nan
        entry["diverged"] = sum(r.diverged for r in found)
        entry["inference_ms"] = mean(r.inference_ms or None for r in found if not r.diverged)
        entry["images"] = _training_images(found)
        entry["seconds"] = mean(r.seconds.train for r in found)
        for metric in ("AP", "AP50", "AP75"):
            entry[f"paper_{metric}"] = getattr(paper, metric) if paper else np.nan
        entry["run_ids"] = tuple(r.run_id for r in found)
        entry["seed_list"] = tuple(r.seed for r in found)
        rows.append(entry)
    frame = pd.DataFrame(rows)
    both = frame["AP"].notna() & frame["paper_AP"].notna()
    return frame.assign(
        rank=frame["AP"].where(both).rank(ascending=False),
        paper_rank=frame["paper_AP"].where(both).rank(ascending=False),
    )


def mean(values: Iterable[float | None]) -> float:
    """The mean of what is there; NaN where nothing is."""
    known = [v for v in values if v is not None and v == v]
    return float(np.mean(known)) if known else float("nan")


def at_paper_threshold(e: Evidence, name: str) -> bool:
    """Whether an ablation's AP is that of detections of a score of .05 or more, as records up to version 2
    have it."""
    return any(r.at_paper_threshold for found in e.rows(name).values() for r in found)


def _training_images(found: Records) -> float:
    """How many images a row is trained on, its fraction of the split; NaN without runs."""
    for r in found:
        return max(1, round(r.config.train_fraction * r.data.train.images))
    return float("nan")


def rank_correlation(frame: pd.DataFrame) -> tuple[float, int]:
    """Spearman's correlation of our AP with the paper's over the rows that have both, and their number."""
    both = frame.dropna(subset=["AP", "paper_AP"])
    if len(both) < 3 or both["AP"].nunique() < 2:
        return float("nan"), len(both)
    return float(stats.spearmanr(both["AP"], both["paper_AP"]).statistic), len(both)


def equal_rows(frame: pd.DataFrame) -> list[list[str]]:
    """Labels of rows with the same AP, AP50 and AP75 to the last digit, unless they find next to nothing."""
    groups = frame[frame["AP"] > 1].groupby(["AP", "AP50", "AP75"])["row"].agg(list)
    return [labels for labels in groups if len(labels) > 1]


def best_shares(e: Evidence, name: str, x: str = "gamma", y: str = "alpha") -> pd.DataFrame:
    """Share of the bootstrap resamples in which each cell of a plane is its column's best; index y, columns
    x.

    A resample takes the same images for every cell, and seeds are averaged first; cells that tie share the
    win, and a resample without any AP has no winner. NaN for a cell without runs, and for a column with fewer
    than two.
    """
    changes = {row.label: row.changes for row in get_ablation(name).rows}
    cells = {
        (changes[label][y], changes[label][x]): np.mean([r.bootstrap.AP for r in found], axis=0)
        for label, found in e.rows(name).items()
        if found
    }
    ys, xs = ({c[key] for c in changes.values()} for key in (y, x))
    shares = pd.DataFrame(np.nan, index=sorted(ys), columns=sorted(xs))
    for column in shares.columns:
        rows = [row for row in shares.index if (row, column) in cells]
        if len(rows) < 2:
            continue
        ap = np.nan_to_num(np.array([cells[row, column] for row in rows]))  # [rows, R]
        wins = (ap == ap.max(axis=0)) & (ap > 0)
        shares.loc[rows, column] = (wins / np.maximum(wins.sum(axis=0), 1)).mean(axis=1)
    return shares


def gains(e: Evidence, name: str, reference: str) -> pd.DataFrame:
    """Each row's AP less the reference row's: row, effect, low, high, clear, paper; NaN where they share no
    seed.

    Errors: ValueError for a reference that is no row.
    """
    found = e.rows(name)
    if reference not in found:
        raise ValueError(f"{name} has no row {reference!r}; it has {', '.join(found)}")
    theirs = {r.label: r.paper.AP for r in get_ablation(name).rows_for(e.study.base) if r.paper}
    rows = []
    for label in found:
        if label != reference:
            est = e.difference(found[label], found[reference])
            values = (est.effect, est.low, est.high, est.clear) if est else (np.nan, np.nan, np.nan, None)
            paper = theirs.get(label, np.nan) - theirs.get(reference, np.nan)
            rows.append((label, *values, paper))
    return pd.DataFrame(rows, columns=["row", "effect", "low", "high", "clear", "paper"])


# ---- two recipes of a profile side by side

LEAST_ROWS = 6  # below this a rank correlation says nothing


@dataclass(frozen=True)
class Agreement:
    """Spearman's correlation of two recipes' AP over `rows` rows, with its 95 % interval over images."""

    recipe: str
    rows: int
    correlation: float
    low: float
    high: float


def agreement(study: Study, recipe: str) -> Agreement | None:
    """How `fast` and another recipe rank the rows of Tables 1a and 1b; None with fewer than LEAST_ROWS in
    common."""
    sides: list[dict[tuple, Records]] = []
    for one in (study.with_recipe("fast"), study.with_recipe(recipe)):
        found = {}
        for name in ("1a", "1b"):
            found |= {(r[0].config.gamma, r[0].config.alpha): r for r in one.rows(name).values() if r}
        sides.append(found)
    common = [key for key in sides[0] if key in sides[1]]
    if len(common) < LEAST_ROWS:
        return None
    ap = [[np.mean([r.AP for r in side[key]]) for key in common] for side in sides]
    drawn = [[np.mean([r.bootstrap.AP for r in side[key]], axis=0) for key in common] for side in sides]
    resampled = zip(np.transpose(drawn[0]), np.transpose(drawn[1]), strict=True)
    low, high = np.nanquantile([stats.spearmanr(a, b).statistic for a, b in resampled], [0.025, 0.975])
    return Agreement(recipe, len(common), float(stats.spearmanr(*ap).statistic), float(low), float(high))


def time_to_ap(study: Study) -> pd.DataFrame:
    """The rows of ablation `budget` of every recipe that has some, labelled "recipe loss, steps"."""
    frames = []
    for recipe in study.recipes:
        frame = table(Evidence(study.with_recipe(recipe)), "budget").dropna(subset=["AP"])
        frames.append(frame.assign(row=recipe + " " + frame["row"]))
    return pd.concat(frames, ignore_index=True)


# ---- a row per run

_CONFIG = ("gamma", "alpha", "loss", "seed")
RUN_COLUMNS = (
    *("ablation", "row", *_CONFIG, *METRICS, "status", "run_id", "seconds", "images_per_second", "device"),
    *("AP_low", "AP_high", "recipe", "steps", "batch_size", "hardware", "commit", "inference_ms"),
    *("AP_at_05", "agnostic_AP", "tune_AP", "lr", "training_version", "protocol"),
)


def runs_frame(study: Study) -> pd.DataFrame:
    """results.csv: one row per run and ablation row that wants it; runs that no ablation wants come last.

    AP_low, AP_high: the 95 % bootstrap interval over the images alone, since a run has one seed.
    """
    rows, named = [], set()
    for recipe in study.recipes:
        one = study.with_recipe(recipe)
        for name in one.shown():
            for label, found in one.rows(name).items():
                rows += [_run_row(record, name, label, recipe) for record in found]
                named |= {record.run_id for record in found}
    rows += [_run_row(r, "", "", "") for r in study.records if r.run_id not in named]
    return pd.DataFrame(rows, columns=list(RUN_COLUMNS))


def _run_row(r: Record, name: str, label: str, recipe: str) -> dict[str, Any]:
    half = float(stats.norm.ppf(0.975)) * float(np.nanstd(r.bootstrap.AP))
    values = {
        **{"ablation": name, "row": label, "recipe": recipe, "status": r.status, "run_id": r.run_id},
        **{k: getattr(r.config, k) for k in (*_CONFIG, "steps", "batch_size", "lr")},
        **{metric: getattr(r.metrics, metric) for metric in METRICS},
        **{
            "seconds": r.seconds.total,
            "images_per_second": r.images_per_second,
            "inference_ms": r.inference_ms,
        },
        **{"device": r.hardware.device, "hardware": r.hardware.name, "commit": r.hardware.commit},
        **{"AP_low": round(max(r.AP - half, 0.0), 4), "AP_high": round(r.AP + half, 4)},
        **{"AP_at_05": r.AP_at_05, "agnostic_AP": r.agnostic and r.agnostic.AP, "tune_AP": r.tune_AP},
        **{"training_version": r.training_version, "protocol": r.protocol},
    }
    return {column: values[column] for column in RUN_COLUMNS}


def of_ablations(study: Study) -> list[Record]:
    """The records that the profile's own ablations use, of all recipes."""
    wanted = {
        r.run_id
        for recipe in study.recipes
        for name in study.profile.ablations
        for found in study.with_recipe(recipe).rows(name).values()
        for r in found
    }
    return [r for r in study.records if r.run_id in wanted]
