"""`results/bench/README.md`: every machine's record as a table, with its cost curves."""

import json
from pathlib import Path
from typing import Any

from focalrepro.files import write_atomic


def write_page(folder: Path) -> Path:
    """Writes the page from all records in a folder; returns its path."""
    parts = [
        "# Speed\n\nWritten by `focalrepro bench`: both sides of a row are measured in turn in one run. Medians, with "
        "the least and the greatest in brackets; the ratio says how many times better this package is."
    ]
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
        "| what | unit | here | against | it | ratio | goal | share of the limit | note |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        share = f"{row['share']:.0%} of the {row['limit']}" if row["share"] is not None else ""
        cells = [row["what"], row["unit"], _spread(row["ours"]), row["against"], _spread(row["theirs"])]
        cells += [f"**{row['ratio']:.1f}**", f"{row['goal']:g}", share, row["note"]]
        lines.append("| " + " | ".join(cells) + " |")
    figure = path.with_suffix(".png")
    if figure.exists():
        lines += ["", f"![Seconds against the work]({figure.name})"]
    return "\n".join(lines)


def _spread(s: dict[str, float]) -> str:
    median, low, high = (f"{s[k]:,.0f}" if s[k] >= 1000 else f"{s[k]:.4g}" for k in ("median", "low", "high"))
    return f"{median} ({low} … {high})"
