"""From records to tables of numbers: a row per run (`runs_frame`), a row per row of an ablation (`table`)."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy import stats

from focalrepro.evaluation.record import Record
from focalrepro.evidence.difference import AP, MEASURES, Evidence, Measure, Records
from focalrepro.evidence.seed_spread import LEAST_AP
from focalrepro.study.study import Study

Key = TypeVar("Key", bound=Hashable)  # of rows: a label, or a cell's settings
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def table(e: Evidence, name: str) -> pd.DataFrame:
    """One row per row of the ablation: ours with interval and seeds, the paper's numbers beside them.

    AP, AP50, …, AP_at_05 and agnostic_AP are means over the seeds that all rows share, in percent; low and
    high: the 95 % interval of AP over images and seeds. A diverged run counts as AP 0. rate: the learning
    rate, for 16 images a step. images: those that the row is trained on. inference_ms: mean over the seeds
    that measured it. rank and paper_rank: places by AP at .05, which is what the paper's AP is, among the
    rows that both sides have. Rows without runs have NaN.
    """
    rows = []
    for row in e.study.ablation(name).rows_for(e.study.base):
        records, paper = e.rows(name)[row.label], row.paper
        entry: dict[str, Any] = {"row": row.label, **row.changes, "seeds": len(records)}
        entry |= {metric: mean(getattr(r.metrics, metric) for r in records) for metric in METRICS}
        entry["AP_at_05"] = mean(r.AP_at_05 for r in records)
        entry["agnostic_AP"] = mean(r.agnostic_AP for r in records)
        entry["low"], entry["high"] = e.interval(records)
        entry["diverged"] = sum(r.diverged for r in records)
        entry["inference_ms"] = mean(r.inference_ms for r in records if not r.diverged)
        entry["rate"] = records[0].config.lr if records else np.nan
        entry["images"] = mean(round(r.config.train_fraction * r.data.train.images) or 1 for r in records)
        entry |= {f"paper_{m}": getattr(paper, m) if paper else np.nan for m in ("AP", "AP50", "AP75")}
        entry["files"] = tuple(e.study.file(r) for r in records)
        entry["seed_list"] = tuple(r.seed for r in records)
        rows.append(entry)
    frame = pd.DataFrame(rows)
    both = frame["AP_at_05"].notna() & frame["paper_AP"].notna()
    return frame.assign(
        rank=frame["AP_at_05"].where(both).rank(ascending=False),
        paper_rank=frame["paper_AP"].where(both).rank(ascending=False),
    )


def mean(values: Iterable[float | None]) -> float:
    """The mean of what is there; NaN where nothing is."""
    known = [v for v in values if v is not None and v == v]
    return float(np.mean(known)) if known else float("nan")


def rank_correlation(frame: pd.DataFrame) -> tuple[float, int]:
    """Spearman's correlation of our AP at .05 with the paper's over the rows that have both, and how many
    these are; NaN where they are too few, or none finds anything to speak of."""
    both = frame.dropna(subset=["AP_at_05", "paper_AP"])
    ours = both["AP_at_05"]
    if len(both) < 5 or ours.nunique() < 2 or ours.max() < LEAST_AP:
        return float("nan"), len(both)
    return float(stats.spearmanr(ours, both["paper_AP"]).statistic), len(both)


def best_of(e: Evidence, rows: Mapping[Key, Records], by: Measure = AP) -> dict[Key, bool]:
    """Whether a row is the best or, paired by image, not clearly worse.

    No row is where fewer than two have runs, or where nothing is detected.
    """
    known, marks = {at: records for at, records in rows.items() if records}, dict.fromkeys(rows, False)
    if len(known) > 1 and max(r.AP for records in known.values() for r in records) > 0:
        top = max(known.values(), key=lambda records: mean(map(by.of, records)))
        for at, records in known.items():
            gap = e.difference(top, records, by)
            marks[at] = records is top or (gap is not None and not gap.clear)
    return marks


def best_rows(e: Evidence, name: str) -> list[bool]:
    """`best_of` an ablation's rows, each among those of its own dataset: on others AP is another number."""
    rows, marks = e.rows(name), {}
    data = {r.label: r.changes.get("dataset") for r in e.study.ablation(name).rows_for(e.study.base)}
    for dataset in dict.fromkeys(data.values()):
        marks |= best_of(e, {label: rows[label] for label, of in data.items() if of == dataset})
    return [marks[label] for label in data]


def ties(e: Evidence, name: str, x: str, y: str, measure: str = "AP") -> pd.DataFrame:
    """`best_of` the cells of each of a plane's columns; bool, index y, columns x. measure: of MEASURES."""
    rows = e.study.ablation(name).rows_for(e.study.base)
    cells = {(row.changes[y], row.changes[x]): e.rows(name)[row.label] for row in rows}
    marks: dict[tuple, bool] = {}
    for column in {at[1] for at in cells}:
        marks |= best_of(e, {at: of for at, of in cells.items() if at[1] == column}, MEASURES[measure])
    return pd.Series(marks).unstack()


# ---- a row per run

RUN_COLUMNS = (
    *("ablation", "row", "gamma", "alpha", "loss", "seed", *METRICS, "status", "run_id", "seconds"),
    *("images_per_second", "device", "AP_low", "AP_high", "steps", "batch_size", "hardware", "commit"),
    *("inference_ms", "AP_at_05", "agnostic_AP", "tune_AP", "lr", "training_version", "protocol"),
)


def runs_frame(study: Study) -> pd.DataFrame:
    """results.csv: one row per run and ablation row that wants it; runs that no ablation wants come last.

    AP_low, AP_high: the 95 % bootstrap interval over the images alone, since a run has one seed.
    """
    rows = [
        _run_row(r, name, label)
        for name in study.shown()
        for label, records in study.rows(name).items()
        for r in records
    ]
    named = {row["run_id"] for row in rows}
    rows += [_run_row(r, "", "") for r in study.records if r.run_id not in named]
    return pd.DataFrame(rows, columns=list(RUN_COLUMNS))


def _run_row(r: Record, name: str, label: str) -> dict[str, Any]:
    values = {"ablation": name, "row": label, "seconds": r.seconds.total, "hardware": r.hardware.name}
    values |= dict(zip(("AP_low", "AP_high"), (round(end, 4) for end in r.AP_interval), strict=True))
    values |= {metric: getattr(r.metrics, metric) for metric in METRICS}
    parts = [r, r.config, r.hardware]  # what has a column's name first, has its value
    for column in [column for column in RUN_COLUMNS if column not in values]:
        values[column] = getattr(next(part for part in parts if hasattr(part, column)), column)
    return values
