"""Expected results: for each row of a profile the range in which another training of it should fall.

`results/<profile>/expected.json` is made from committed results by `focalrepro verify --freeze`. A
reproduction never writes it, so it can be compared with it.
"""

import json
import time
from typing import Any

import numpy as np
from scipy import stats

from focalrepro.files import results_root, write_json
from focalrepro.front_page import update_front_page
from focalrepro.results import load_records, table
from focalrepro.seed_spread import pooled_sd
from focalrepro.study.profiles import get_profile
from focalrepro.study.records import NUMBER, field_fault

# Without repeated seeds nothing is known of their spread; one AP is about what COCO detectors show.
LEAST_HALF_WIDTH = 1.0


def ranges(profile: str, records: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Expected AP per "ablation / row": a 99 % prediction interval for one more run, around the mean of the row's n.

    Half-width: t · sd · sqrt(1 + 1/n), for the new run's own spread and that of the mean; never below
    LEAST_HALF_WIDTH. The standard deviation over seeds is pooled over all rows with two seeds or more.
    """
    frames = {name: table(records, profile, name) for name in get_profile(profile).ablations}
    sd, freedom = pooled_sd(list(frames.values()))
    result = {}
    for name, frame in frames.items():
        for row in frame.dropna(subset=["AP"]).itertuples():
            half = LEAST_HALF_WIDTH
            if freedom:
                half = max(half, stats.t.ppf(0.995, freedom) * sd * np.sqrt(1 + 1 / row.seeds))
            result[f"{name} / {row.row}"] = {
                "AP": round(row.AP, 2),
                "low": round(max(row.AP - half, 0.0), 2),
                "high": round(row.AP + half, 2),
                "seeds": int(row.seeds),
            }
    return result


class ExpectedFileError(ValueError):
    """An expected.json does not hold expected results."""


def read_expected(profile: str) -> dict[str, dict[str, float]] | None:
    """The ranges of a profile per "ablation / row", as `ranges` makes them; None where none are kept.

    Errors: ValueError for an unknown profile; ExpectedFileError names the file, the row, the field and the mend.
    """
    get_profile(profile)
    path = results_root(profile) / "expected.json"
    if not path.exists():
        return None
    mend = f"take it from git again, or make it anew with focalrepro verify --profile {profile} --freeze"
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExpectedFileError(f"{path}: not readable as JSON ({error}); {mend}") from error
    rows = whole.get("rows") if isinstance(whole, dict) else None
    if not isinstance(rows, dict) or not rows:
        raise ExpectedFileError(f"{path}: the field 'rows' is missing, empty or no object; {mend}")
    for key, row in rows.items():
        if fault := field_fault(row, {"low": NUMBER, "high": NUMBER}):
            raise ExpectedFileError(f"{path}: row {key!r}: {fault}; {mend}")
    return rows


def compare(profile: str, records: list[dict[str, Any]]) -> tuple[list[str], int] | None:
    """Lines for rows outside their expected range and the number of rows compared; None without expectations."""
    expected = read_expected(profile)
    return None if expected is None else _outside(expected, profile, records)


def _outside(
    expected: dict[str, dict[str, float]], profile: str, records: list[dict[str, Any]]
) -> tuple[list[str], int]:
    off, compared = [], 0
    for name in get_profile(profile).ablations:
        for row in table(records, profile, name).itertuples():
            want = expected.get(f"{name} / {row.row}")
            if want is None or np.isnan(row.AP):
                continue
            compared += 1
            if not want["low"] <= row.AP <= want["high"]:
                off.append(f"{name} / {row.row}: AP {row.AP:.2f}, expected {want['low']} … {want['high']}")
    return off, compared


def freeze_expected(profile: str) -> int:
    """Makes the committed results of a profile the expected ones."""
    get_profile(profile)
    records = load_records(profile, committed=True)
    if not records:
        raise ValueError(f"{results_root(profile) / 'runs'}: no runs to expect anything from")
    rows = ranges(profile, records)
    made = {"made": time.strftime("%Y-%m-%d"), "hardware": records[0]["hardware"], "rows": rows}
    write_json(results_root(profile) / "expected.json", made)
    if profile != "smoke":
        update_front_page()
    print(f"{len(rows)} expected results in {results_root(profile) / 'expected.json'}")
    return 0


def verify_profile(profile: str) -> int:
    """Checks the committed results against the expected ranges: 1 and a list where one is outside or absent."""
    wanted = read_expected(profile)
    if wanted is None:
        path = results_root(profile) / "expected.json"
        raise FileNotFoundError(
            f"{path}: no expected results; make them with focalrepro verify --profile {profile} --freeze"
        )
    records = load_records(profile, committed=True)
    off, compared = _outside(wanted, profile, records)
    found = ranges(profile, records)
    off += [f"{key}: no run in {results_root(profile) / 'runs'}" for key in wanted if key not in found]
    for line in off:
        print(line)
    print(f"{profile}: {compared} rows compared, {len(off)} outside their expected range or absent")
    return 1 if off else 0
