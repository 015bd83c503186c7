"""`results/bench/README.md`: every machine's record as a table, with its cost curves.

Records are raw and stay as they were measured, so what an older one says too briefly is put in words here.
"""

import json
import re
from pathlib import Path
from typing import Any

from focalrepro.bench.training import cpu_training_note
from focalrepro.files import write_atomic
from focalrepro.study.profiles import PROFILES

INTRODUCTION = """# Speed

Written by `focalrepro bench`: both sides of a row are measured in turn in one run. A number is the median of some
measurements, with the least and the greatest in brackets; "once" is a single measurement. The ratio says how many
times better this package is.

The share of the limit is what the fastest program that this machine allows would take of our time. Its limits are
measured in the same run: how fast it copies memory, and how fast it multiplies large matrices. The loss has to read
the logits once and write their gradient once, so at 100 % of the copy bandwidth it could not be faster."""

CPU_TRAINING = re.compile(r"training at profile (\S+), (\d+) CPU cores")


def write_page(folder: Path) -> Path:
    """Writes the page from all records in a folder; returns its path."""
    parts = [INTRODUCTION]
    for path in sorted(folder.glob("*.json")):
        parts.append(_section(path, json.loads(path.read_text(encoding="utf-8"))))
    page = folder / "README.md"
    write_atomic(page, "\n\n".join(parts) + "\n")
    return page


def _section(path: Path, record: dict[str, Any]) -> str:
    hardware, limits = record["hardware"], record["limits"]
    machine = hardware.get("gpu", f"{hardware['cpu']}, {hardware['cores']} cores")
    lines = [
        f"## {machine}",
        "",
        f"Limits measured in the same run: {limits['teraflops']:.2f} TFLOP/s in bf16, copies at "
        f"{limits['gigabytes']:.0f} GB/s. torch {hardware['torch']}, torchvision {hardware['torchvision']}, commit "
        f"{hardware['commit']}, {record['finished']}. Record: [{path.name}]({path.name}).",
        "",
        "| what | unit | here | against | it | ratio | share of the limit | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        share = f"{row['share']:.0%} of the {row['limit']}" if row["share"] is not None else ""
        cells = [row["what"], row["unit"], _spread(row["ours"]), row["against"], _spread(row["theirs"])]
        cells += [_ratio(row), share, _note(row, record["rows"])]
        lines.append("| " + " | ".join(cells) + " |")
    figure = path.with_suffix(".png")
    if figure.exists():
        lines += ["", f"![Seconds against the work]({figure.name})"]
    return "\n".join(lines)


def _spread(s: dict[str, float]) -> str:
    median, low, high = (_number(s[k]) for k in ("median", "low", "high"))
    return f"{median} ({low} … {high})" if s["low"] < s["high"] else f"{median} (once)"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _ratio(row: dict[str, Any]) -> str:
    """The ratio in bold; one whose other side is a multiple of a single measurement has two digits at most."""
    if "× one measured" in row["against"]:
        two_digits = float(f"{row['ratio']:.2g}")
        return f"**about {two_digits:,.0f}** (extrapolated from one)"
    return f"**{row['ratio']:.1f}**"


def _note(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The row's note in words; for CPU training in full, with the ratio like for like where both were measured."""
    if training := CPU_TRAINING.fullmatch(row["what"]):
        profile, cores = training[1], int(training[2])
        said = cpu_training_note(PROFILES[profile].base, cores) if profile in PROFILES else row["note"]
        alone = [r for r in rows if r["what"] == f"{cores} runs at once, profile {profile}"]
        if not alone:
            return f"{said}; like for like is not measured"
        a, b = alone[0]["theirs"]["median"], row["theirs"]["median"]
        return (
            f"{said}; like for like, one run of ours with all cores against it: {_number(a)} / {_number(b)} = "
            f"**{a / b:.1f}**"
        )
    return re.sub(r"AP apart by 0e\+00", "same AP", row["note"])
