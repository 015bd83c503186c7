"""The rows of an ablation, as `ablations.toml` has them: listed, combined, or the paper's own."""

import tomllib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from focalrepro.config import RunConfig
from focalrepro.study.paper import TABLES, PaperRow

FILE = tomllib.loads(Path(__file__).with_name("ablations.toml").read_text("utf-8"))
RATES: list[float] = FILE["rates"]  # that are searched
LOSSES: dict[str, dict[str, Any]] = FILE["losses"]  # by name, the fields that make it
RIVALS: dict[str, dict[str, Any]] = FILE["rivals"]
NAMED = LOSSES | RIVALS | {"CE": LOSSES["CE, α = .5"], "FL": LOSSES["FL, γ = 2"]}


@dataclass(frozen=True)
class Row:
    """label as the tables print it; changes against the baseline; the paper's row where it has one; the loss
    whose rate it takes, where that is not its own."""

    label: str
    changes: dict[str, Any]
    paper: PaperRow | None = None
    rate_of: str = ""


def rows_of(block: dict[str, Any], base: RunConfig) -> list[Row]:
    """The rows of one block of `ablations.toml` over a baseline; none over another dataset than its own."""
    if not base.dataset.startswith(block.get("only_over", "")):
        return []
    if "paper" in block:  # a row for each of its table: of what sets it apart the fields that a config has
        known = RunConfig.__dataclass_fields__
        theirs = TABLES[block["paper"]]
        return [Row(r.label, {k: v for k, v in r.fields.items() if k in known}, r) for r in theirs]
    if "sizes" in block:
        return depth_scale_rows(base)
    named = ("label", "rate_of", "only_over")
    lists = {key: v if isinstance(v, list) else [v] for key, v in block.items() if key not in named}
    if parts := lists.pop("parts_of_steps", None):
        # At least 1, 2, 3, …, so that the rows of a baseline of a few steps still differ.
        lists["steps"] = [max(i, round(part * base.steps)) for i, part in enumerate(parts, start=1)]
    rows = []
    for values in product(*lists.values()):
        changes = dict(zip(lists, values, strict=True))
        loss = changes.pop("losses", "")
        rarity = changes.get("dataset", "").removeprefix("synthetic-")
        words = {"loss": loss, "rarity": f"{int(rarity):,}" if rarity.isdigit() else rarity} | changes
        label = block.get("label", "{loss}").format(**words)
        rate_of = block.get("rate_of", "").format(**words)
        rows.append(Row(label, NAMED.get(loss, {}) | changes, rate_of=rate_of))
    return rows


# The deeper network of the same kind; of the others only one depth is at hand.
DEEPER = {"small": "small_deep", "resnet18": "resnet34", "resnet50": "resnet101"}
# Image sides for Table 1e. The embedded scenes are drawn at 96 px, COCO's images are kept at 256 px.
SIDES = {"small": (64, 96, 128)}


def depth_scale_rows(base: RunConfig) -> list[Row]:
    """Each backbone at three image sizes, then the two-stage detector on the baseline's own.

    The paper's depths and sizes are not ours, so no row has one of the paper's beside it.
    """
    whole = base.image_size
    sides = SIDES.get(base.backbone, (whole // 2, whole * 3 // 4, whole))
    depths = [depth for depth in (base.backbone, DEEPER.get(base.backbone)) if depth]
    rows = [
        Row(f"{depth}, {side}²", {"detector": "retinanet", "backbone": depth, "image_size": side})
        for depth in depths
        for side in sides
    ]
    two_stage = {"detector": "faster_rcnn", "backbone": base.backbone, "image_size": whole}
    return [*rows, Row(f"Faster R-CNN FPN (two-stage), {base.backbone}, {whole}²", two_stage)]
