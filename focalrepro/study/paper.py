"""The numbers of *Focal Loss for Dense Object Detection* (Lin, Goyal, Girshick, He, Dollár;
arXiv 1708.02002v2).

They are data, in `paper.csv`. AP in percent: Tables 1a to 1d and 3 on COCO minival, 1e and 2 on test-dev.
Unless a row says otherwise the model is ResNet-50-FPN on images with a shorter side of 600 px. The recipe of
the paper is `RunConfig`'s defaults.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType


@dataclass(frozen=True)
class PaperRow:
    """A row of a table; label: as a reader of the paper would name it; fields: what sets it apart, by the
    names that configs use. AP in percent, also by object size (s, m, l). ms: an image, on an Nvidia M40."""

    label: str
    fields: Mapping[str, str | int | float]
    AP: float
    AP50: float
    AP75: float
    APs: float | None = None
    APm: float | None = None
    APl: float | None = None
    ms: float | None = None


MEASURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "ms")


def _read() -> dict[str, tuple[PaperRow, ...]]:
    tables: dict[str, tuple[PaperRow, ...]] = {}
    with open(Path(__file__).with_suffix(".csv"), encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            table, label = line.pop("table"), line.pop("label")
            measured = {name: float(text) for name in MEASURES if (text := line.pop(name))}
            fields = {k: json.loads(v) if v[0].isdigit() else v for k, v in line.items() if v}
            row = PaperRow(label, MappingProxyType(fields), **measured)
            tables[table] = (*tables.get(table, ()), row)
    return tables


TABLES = _read()
