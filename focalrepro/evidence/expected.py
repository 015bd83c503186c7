"""Expected results: for each row of a profile the range in which AP of another training of it should fall.

`results/<profile>/expected.json` is made from committed results by `focalrepro report --freeze`; never by a
reproduction, which is compared with it.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from focalrepro.data.annotations import describe_fault
from focalrepro.evaluation.record import Number
from focalrepro.evidence.difference import student
from focalrepro.evidence.seed_spread import pooled, repeated
from focalrepro.files import write_json
from focalrepro.study.study import Study

# Without repeated seeds nothing is known of their spread; one AP is about what COCO detectors show.
LEAST_HALF_WIDTH = 1.0


class Range(BaseModel):
    """AP in percent: the mean of so many seeds, and the range of one more run."""

    model_config = ConfigDict(frozen=True)
    low: Number
    high: Number
    AP: Number = float("nan")
    seeds: int = 1


class _File(BaseModel):
    rows: dict[str, Range] = Field(min_length=1)


def ranges(study: Study) -> dict[str, Range]:
    """AP per "ablation / row": a 99 % prediction interval for one more run, around the mean of the row's n.

    Half-width: t · sd · sqrt(1 + 1/n), for the new run's own spread and that of the mean; never below
    LEAST_HALF_WIDTH. The standard deviation over seeds is pooled over all rows with two seeds or more.
    """
    rows = {
        f"{name} / {label}": [r.AP for r in records]
        for name in study.profile.ablations
        for label, records in study.rows(name).items()
        if records and not np.isnan([r.AP for r in records]).any()  # where no image that judges has an object
    }
    variance, freedom = pooled(repeated(dict.fromkeys(map(tuple, rows.values()))))
    expected = {}
    for key, aps in rows.items():
        ap, half = float(np.mean(aps)), LEAST_HALF_WIDTH
        if freedom:
            half = max(half, student(0.0, np.sqrt(variance * (1 + 1 / len(aps))), freedom, 0.99)[1])
        low, high = round(max(ap - half, 0.0), 2), round(ap + half, 2)
        expected[key] = Range(AP=round(ap, 2), low=low, high=high, seeds=len(aps))
    return expected


def compare(study: Study) -> tuple[list[str], int] | None:
    """Lines for a study's rows outside their expected range, and the number of rows compared; None where no
    results are expected. Errors: ValueError names the file, the row, the field and the mend."""
    path, name = study.folder / "expected.json", study.profile.name
    mend = f"take it from git again, or make it anew with focalrepro report --profile {name} --freeze"
    if not path.exists():
        return None
    try:
        expected = _File.model_validate_json(path.read_bytes()).rows
    except ValidationError as error:
        raise ValueError(f"{path}: {describe_fault(error)}; {mend}") from None
    mine = {key: row.AP for key, row in ranges(study).items() if key in expected}
    off = [
        f"{key}: AP {ap:.2f}, expected {expected[key].low} … {expected[key].high}"
        for key, ap in mine.items()
        if not expected[key].low <= ap <= expected[key].high
    ]
    return off, len(mine)


def freeze(study: Study) -> Path:
    """Makes a study the expected one; the file. Errors: ValueError where it has no runs."""
    if not study.records:
        raise ValueError(f"{study.folder / 'runs'}: no runs to expect anything from")
    rows: dict[str, Any] = {key: row.model_dump() for key, row in ranges(study).items()}
    hardware = study.records[0].hardware.model_dump(exclude_none=True)
    path = study.folder / "expected.json"
    write_json(path, {"made": time.strftime("%Y-%m-%d"), "hardware": hardware, "rows": rows})
    return path
