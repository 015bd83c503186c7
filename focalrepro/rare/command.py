"""`focalrepro rare`: the comparison in a terminal, on the built-in data or on your own table."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from focalrepro.files import write_atomic
from focalrepro.rare import verdicts
from focalrepro.rare.data import built_in, count_of, read_csv
from focalrepro.rare.models import METHODS, RATES, SEEDS, TREES, RareSettings, run_rare


def command(
    csv: Path | None = None,
    target: str = "",
    seeds: int = SEEDS,
    rates: Sequence[float] = (),
    out: Path | None = None,
    steps: int = 0,
) -> int:
    """Prints the table, the verdicts and whether focal loss is worth it; --out keeps the rows.

    Errors: ValueError or FileNotFoundError of one line that names the option or the file and the mend;
    OSError where --out cannot be written.
    """
    folder = next((p for p in out.absolute().parents if p.exists()), None) if out else None
    same = csv is not None and out is not None and out.exists() and csv.exists() and out.samefile(csv)
    unwritable = folder and not (folder.is_dir() and os.access(folder, os.W_OK))
    for wrong, message in (
        ((csv is None) != (not target), "--csv FILE and --target COLUMN belong together: give both or none"),
        (csv and rates, "--rates is for the built-in data: a CSV is run at its own rate; leave it out"),
        (not 1 <= seeds <= 1000, f"--seeds is {seeds}; it must be 1 … 1000 (2 or more for intervals)"),
        (not 0 <= steps <= 100_000, f"--steps is {steps}; it must be 1 … 100000, or 0 for the default"),
        (out and out.is_dir(), f"--out {out} is a folder; give the path of a CSV file"),
        (same, f"--out {out} is the table of --csv, which it would overwrite; give another path"),
        (unwritable, f"--out {out}: nothing can be written into {folder}; give a path in a folder of yours"),
    ):  # before anything is trained
        if wrong:
            raise ValueError(message)
    datasets = built_in() if csv is None else [read_csv(csv, target)]
    for d in datasets:
        positives, negatives = count_of((d.y == 1).sum(), "positive"), count_of((d.y == 0).sum(), "negative")
        print(f"{d.name}: {d.about} ({positives}, {negatives})")
    settings = RareSettings(steps=steps) if steps else RareSettings()
    frame = run_rare(datasets, rates or RATES, seeds, settings, (*METHODS, *TREES), notice=print)
    if frame.empty:
        raise ValueError("no rate leaves enough positives to train on: give --rates smaller numbers")
    lines = verdicts.verdicts(frame, metrics=("ap", "f1"))
    print(verdicts.printed(frame), "", *lines, verdicts.caution(frame), "", *verdicts.worth(frame), sep="\n")
    if out is not None:
        write_atomic(out, inert(frame).to_csv(index=False))
        print(f"wrote {out}")
    return 0


def inert(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a ' before each text that a spreadsheet would execute, such as =1+1 (CSV injection)."""
    text = frame.select_dtypes(exclude="number").columns
    return frame.assign(**{c: frame[c].str.replace(r"^(?=[=+\-@\t\r])", "'", regex=True) for c in text})
