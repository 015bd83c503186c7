"""Made-up records whose truth is known, for every test of what is read from records."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from focalrepro.config import TRAINING_VERSION, RunConfig
from focalrepro.evaluation.record import Record, content_digest
from focalrepro.runs import protocol_digest
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import get_profile
from focalrepro.study.store import Store
from focalrepro.study.study import Study

TRAIN, VAL = "a" * 64, "b" * 64
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def values_of(
    config=None, ap=30.0, replicates=(29.0, 31.0), version=TRAINING_VERSION, **more
) -> dict[str, Any]:
    """The JSON of a run; `more` replaces fields, and within objects their fields."""
    config = config or RunConfig()
    values = {
        "run_id": config.run_id(TRAIN, VAL, version),
        "status": "done",
        "config": config.as_dict(),
        "metrics": dict.fromkeys(METRICS, ap),
        "bootstrap": {"AP": list(map(float, replicates)), "AP50": list(map(float, replicates))},
        "anchors": {"per_image": 12_000, "positive_per_image": 6.0},
        "images_per_second": 100.0,
        "data": {"train": {"images": 1000, "digest": TRAIN}, "val": {"images": 9, "digest": VAL}},
        "hardware": {"device": "cpu", "cpu": "a processor", "threads": 1},
        "training_version": version,
        "finished": "2026-01-01T00:00:00Z",
        "seconds": {"total": 12.5, "train": 10.0},
        "protocol": protocol_digest(),
        "inference_ms": 1.0,
        "at_05": {"AP": ap},
        "tune": {"AP": ap, "AP_at_05": ap},
        "whole": {"AP": ap, "AP_at_05": ap},
        "agnostic": {"AP": ap},
        "thresholds": {"0.05": ap, "0.5": ap / 2},
        "tide": {"Bkg": 1.0},
        "scores": {key: {"right": [0] * 240, "wrong": [0] * 240} for key in ("tune", "test")},
        "detections": {"tune": 100, "test": 200, "test_at_05": 20},
    }
    values["bootstrap"]["AP_at_05"] = values["bootstrap"]["AP"]
    return sealed(values, more)


def sealed(values, more):
    """The values with others; within objects their fields; and with their digest."""
    values = dict(values)
    for key, value in more.items():
        values[key] = values[key] | value if isinstance(values.get(key), dict) and value else value
    return values | {"digest": content_digest(values)}


def record(config=None, ap=30.0, replicates=(29.0, 31.0), version=TRAINING_VERSION, **more) -> Record:
    """A checked record of `values_of`."""
    return Record.model_validate(values_of(config, ap, replicates, version, **more))


def changed(r: Record, **more) -> Record:
    """The record with other values; within objects their fields."""
    return Record.model_validate(sealed(r.as_json(), more))


def runs(
    aps,
    ablations=("1a", "1b"),
    seeds=3,
    seed_sd=0.3,
    image_sd=0.8,
    profile="smoke",
    replicates=200,
    version=TRAINING_VERSION,
    **more,
) -> list[Record]:
    """A record for every row and seed of some ablations:
    AP by aps(config), None leaves a row out, "x" diverges.

    The luck of the images is the same for all rows. more: fields of every record, or functions of config and
    rng.
    """
    rng = np.random.default_rng(0)
    images = rng.normal(0, image_sd, replicates)
    profile, found = get_profile(profile), {}
    for name in ablations:
        for config in get_ablation(name).configs(profile.base, range(seeds), profile.rates).values():
            level = aps(config)
            if level is None or config in found:
                continue
            if level == "x":
                found[config] = record(config, 0.0, [0.0] * replicates, version, status="diverged")
                continue
            ap = float(np.clip(level + rng.normal(0, seed_sd), 0, 100))
            fields = {k: v(config, rng) if callable(v) else v for k, v in more.items()}
            drawn = np.clip(ap + images + rng.normal(0, 0.1, replicates), 0, 100)
            found[config] = record(config, ap, drawn, version, **fields)
    return list(found.values())


def study(records, profile="smoke", **more) -> Study:
    """A study of made-up records."""
    return Study(profile, records=records, **more)


def quick_runs(**more) -> list[Record]:
    """Runs of `quick` whose rows of γ = 2 are 3 AP ahead of the others' 30."""
    return runs(lambda c: 30 + 3 * (c.gamma == 2), profile="quick", **more)


def commit(found: Iterable[Record], profile: str = "quick") -> None:
    """Puts records where a profile's committed ones lie."""
    for r in found:
        Store.committed(profile).put(r)
