"""From run records to tables: one row per run (`runs_frame`), one row per ablation row (`table`)."""

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from focalrepro.config import RunConfig, from_dict
from focalrepro.evaluation.bootstrap import interval
from focalrepro.study.ablations import ABLATIONS, get_ablation
from focalrepro.study.profiles import get_profile
from focalrepro.study.records import Store

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def load_records(profile: str, dataset: str = "", committed: bool = False) -> list[dict[str, Any]]:
    """All records of a profile: of the local store, or of the committed results."""
    store = Store.committed(profile) if committed else Store.local(profile, dataset)
    return store.records()


def records_or_committed(profile: str, dataset: str = "") -> list[dict[str, Any]]:
    """The local store's records; where it has none, the committed ones, so that a notebook opens on a clone.

    What a profile leaves to the one that runs the whole paper (`Profile.whole`) is added from that one's
    committed results: a notebook on ablations that take an hour has something to show after ten minutes.
    """
    own = load_records(profile, dataset) or load_records(profile, committed=True)
    return own if dataset else own + left_to_the_whole(profile)


def left_to_the_whole(profile: str) -> list[dict[str, Any]]:
    """Committed records of the profile's `whole` that belong to none of the profile's own ablations."""
    p = get_profile(profile)
    if not p.whole:
        return []
    records = load_records(p.whole, committed=True)
    mine = {
        record["run_id"]
        for name in p.ablations
        for found in select(records, profile, name).values()
        for record in found
    }
    return [record for record in records if record["run_id"] not in mine]


def wanted(
    profile: str, name: str, recipe: str = "fast", dataset: str = ""
) -> list[tuple[str, dict[str, Any]]]:
    """(row label, config without its seed) of an ablation's rows in a profile."""
    base = get_profile(profile).config(recipe)
    base = base.replace(dataset=dataset) if dataset else base
    rows = []
    ablation = get_ablation(name)
    for row in ablation.rows_for(base):
        config = ablation.config(base, row, 0, get_profile(profile).rates).as_dict()
        config.pop("seed")
        rows.append((row.label, config))
    return rows


@lru_cache(maxsize=8192)
def _without_seed(config: str) -> RunConfig:
    """The checked config of seed 0; kept, as each table of a page asks for every record's again."""
    return from_dict(json.loads(config)).replace(seed=0)


def select(
    records: list[dict[str, Any]], profile: str, name: str, recipe: str = "fast", dataset: str = ""
) -> dict[str, list[dict[str, Any]]]:
    """Records of each row of an ablation, ordered by seed; an empty list for a row without any."""
    found: dict[str, list[dict[str, Any]]] = {}
    # Through RunConfig, so that a record from before a field existed has that field's default.
    configs = [_without_seed(json.dumps(r["config"], sort_keys=True)) for r in records]
    for label, config in wanted(profile, name, recipe, dataset):
        row = _without_seed(json.dumps(config, sort_keys=True))
        same = [r for r, c in zip(records, configs, strict=True) if c == row]
        # Of a seed that was run under two versions of the training code the newer one counts.
        same.sort(key=lambda r: r.get("training_version", 0))
        by_seed = {r["config"].get("seed", 0): r for r in same}
        _same_data(by_seed.values(), label)
        found[label] = [by_seed[seed] for seed in sorted(by_seed)]
    return found


def _same_data(found: Iterable[dict[str, Any]], label: str) -> None:
    """ValueError where runs of a row were made on different data: they cannot be averaged or paired by image."""
    digests = {json.dumps(r["data"], sort_keys=True): r["run_id"] for r in found if "data" in r}
    if len(digests) > 1:
        raise ValueError(
            f"row {label!r}: the runs {', '.join(digests.values())} were made on different data; remove the records "
            "of the data that you no longer have from the store's folder"
        )


def table(
    records: list[dict[str, Any]], profile: str, name: str, recipe: str = "fast", dataset: str = ""
) -> pd.DataFrame:
    """One row per row of the ablation: ours with interval and seeds, the paper's numbers beside them.

    AP, AP50, … are means over seeds, in percent. low, high: 95 % interval of AP; with three seeds or more a t
    interval over seeds, else the bootstrap over images (`interval_of` says which). A diverged
    run counts as AP 0. images: of the training split that the row is trained on; seconds: of training, mean.
    inference_ms: mean over the seeds that measured it. Rows without runs have NaN.
    """
    by_label = select(records, profile, name, recipe, dataset)
    rows = []
    for row in get_ablation(name).rows_for(get_profile(profile).config(recipe)):
        found = by_label[row.label]
        paper = row.paper
        entry: dict[str, Any] = {"row": row.label, **row.changes, "seeds": len(found)}
        for metric in METRICS:
            values = [r["metrics"][metric] for r in found if r["metrics"].get(metric) is not None]
            entry[metric] = float(np.mean(values)) if values else np.nan
        entry |= spread(found)
        entry["diverged"] = sum(r["status"] == "diverged" for r in found)
        times = [r["inference_ms"] for r in found if r.get("inference_ms") and r["status"] == "done"]
        entry["inference_ms"] = float(np.mean(times)) if times else np.nan
        entry["images"] = training_images(found)
        entry["seconds"] = (
            np.mean([r.get("seconds", {}).get("train", np.nan) for r in found]) if found else np.nan
        )
        for metric in ("AP", "AP50", "AP75"):
            entry[f"paper_{metric}"] = getattr(paper, metric) if paper else np.nan
        entry["run_ids"] = tuple(r["run_id"] for r in found)
        entry["seed_list"] = tuple(r["config"].get("seed", 0) for r in found)
        rows.append(entry)
    return with_ranks(pd.DataFrame(rows))


def with_ranks(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with rank and paper_rank: places among the rows that both sides have, NaN for the others."""
    both = frame["AP"].notna() & frame["paper_AP"].notna()
    return frame.assign(
        rank=frame["AP"].where(both).rank(ascending=False),
        paper_rank=frame["paper_AP"].where(both).rank(ascending=False),
    )


def typical(records: list[dict[str, Any]], profile: str) -> dict[str, Any]:
    """The first record with the baseline's detector and anchors, else the first: some ablations change these."""
    fields = ("detector", "image_size", "first_level", "last_level")
    fields = (*fields, "anchor_size", "anchor_scales", "anchor_ratios")
    base = get_profile(profile).base
    for record in records:
        config = from_dict(record["config"])
        if all(getattr(config, f) == getattr(base, f) for f in fields):
            return record
    return records[0]


def training_images(found: list[dict[str, Any]]) -> float:
    """How many images a row is trained on, its fraction of the split; NaN without runs that say so."""
    for record in found:
        if "data" in record:
            fraction = record["config"].get("train_fraction", 1.0)
            return max(1, round(fraction * record["data"]["train"]["images"]))
    return float("nan")


def replicates(record: dict[str, Any]) -> np.ndarray:
    """AP of each resample of the validation images, [R] in percent; NaN where a resample has no object."""
    return np.array(record["bootstrap"]["AP"], dtype=float)


def spread(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The 95 % interval of a row's mean AP, its kind, and the standard deviation over seeds."""
    values = np.array([r["metrics"]["AP"] for r in found], dtype=float)
    if len(values) >= 3:
        sd = float(values.std(ddof=1))
        half = float(stats.t.ppf(0.975, len(values) - 1)) * sd / np.sqrt(len(values))
        mean = float(values.mean())
        low = max(mean - half, 0.0)  # no AP is below 0, as a t interval does not know
        return {"low": low, "high": mean + half, "sd": sd, "interval_of": "t over seeds"}
    sd = float(values.std(ddof=1)) if len(values) == 2 else np.nan
    if not len(values):
        return {"low": np.nan, "high": np.nan, "sd": np.nan, "interval_of": ""}
    resampled = np.mean([replicates(r) for r in found], axis=0)
    low, high = interval(resampled, estimate=float(values.mean()))
    return {"low": max(low, 0.0), "high": high, "sd": sd, "interval_of": "bootstrap over images"}


def rank_correlation(frame: pd.DataFrame) -> tuple[float, int]:
    """Spearman's correlation of our AP with the paper's over the rows that have both, and their number."""
    both = frame.dropna(subset=["AP", "paper_AP"])
    if len(both) < 3 or both["AP"].nunique() < 2:
        return float("nan"), len(both)
    return float(stats.spearmanr(both["AP"], both["paper_AP"]).statistic), len(both)


def shown(records: list[dict[str, Any]], profile: str, recipe: str = "fast", dataset: str = "") -> list[str]:
    """The ablations that a report shows: the profile's own that have any run, and others that are complete.

    Rows are shared, so every run of Table 1b is also a piece of ablations that nobody has asked for.
    """
    own = get_profile(profile).ablations
    names = []
    for name in (*own, *(n for n in ABLATIONS if n not in own)):
        rows = select(records, profile, name, recipe, dataset).values()
        if (any if name in own else all)(rows):
            names.append(name)
    return names


def of_ablations(records: list[dict[str, Any]], profile: str) -> list[dict[str, Any]]:
    """The records that the profile's own ablations use."""
    p = get_profile(profile)
    wanted_ids = {
        r["run_id"]
        for recipe in ("fast", *p.recipes)
        for name in p.ablations
        for rows in select(records, profile, name, recipe).values()
        for r in rows
    }
    return [r for r in records if r["run_id"] in wanted_ids]


def runs_frame(records: list[dict[str, Any]], profile: str, dataset: str = "") -> pd.DataFrame:
    """results.csv: one row per run and ablation row that wants it; runs that no ablation wants come last."""
    rows, named = [], set()
    recipes = ["fast", *get_profile(profile).recipes]
    for recipe in recipes:
        for name in shown(records, profile, recipe, dataset):
            for label, found in select(records, profile, name, recipe, dataset).items():
                for record in found:
                    rows.append(_run_row(record, name, label, recipe))
                    named.add(record["run_id"])
    rows += [_run_row(r, "", "", "") for r in records if r["run_id"] not in named]
    return pd.DataFrame(rows, columns=None if rows else list(RUN_COLUMNS))


RUN_COLUMNS = (
    *("ablation", "row", "gamma", "alpha", "loss", "seed", *METRICS, "status", "run_id", "seconds"),
    *(
        "images_per_second",
        "device",
        "AP_low",
        "AP_high",
        "recipe",
        "steps",
        "batch_size",
        "hardware",
        "commit",
        "inference_ms",
    ),
)


def _run_row(record: dict[str, Any], name: str, label: str, recipe: str) -> dict[str, Any]:
    config, hardware = from_dict(record["config"]), record["hardware"]
    low, high = interval(replicates(record), estimate=record["metrics"]["AP"])
    values = {
        "ablation": name,
        "row": label,
        **{k: getattr(config, k) for k in ("gamma", "alpha", "loss", "seed", "steps", "batch_size")},
        **{metric: record["metrics"].get(metric) for metric in METRICS},
        "status": record["status"],
        "run_id": record["run_id"],
        "seconds": record["seconds"]["total"],
        "images_per_second": record.get("images_per_second"),
        "device": hardware["device"],
        "AP_low": round(max(low, 0.0), 4),
        "AP_high": round(high, 4),
        "recipe": recipe,
        "hardware": hardware.get("gpu", hardware["cpu"]),
        "commit": hardware.get("commit", ""),
        "inference_ms": record.get("inference_ms", np.nan),
    }
    return {column: values[column] for column in RUN_COLUMNS}
