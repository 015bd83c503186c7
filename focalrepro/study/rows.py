"""The rows of tables that are made rather than listed:
from the paper's numbers, or over a profile's baseline."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from focalrepro.config import RunConfig
from focalrepro.study.paper import TABLES, PaperRow
from focalrepro.study.rates import LOSSES, RATES


@dataclass(frozen=True)
class Row:
    """label as the tables print it; changes against the baseline; the paper's row where it has one."""

    label: str
    changes: dict[str, Any]
    paper: PaperRow | None = None


def alpha_gamma_rows(table: str, label: str) -> tuple[Row, ...]:
    """The rows of a table of γ and α; label: with {gamma} and {alpha} in it."""
    rows = []
    for row in TABLES[table]:
        gamma, alpha = float(row.fields["gamma"]), float(row.fields["alpha"])
        text = label.format(gamma=f"{gamma:g}", alpha=f"{alpha:g}")
        rows.append(Row(text, {"gamma": gamma, "alpha": alpha}, row))
    return tuple(rows)


def anchor_rows() -> tuple[Row, ...]:
    """The rows of Table 1c."""
    return tuple(
        Row(row.label, {"anchor_scales": row.fields["scales"], "anchor_ratios": row.fields["ratios"]}, row)
        for row in TABLES["1c"]
    )


def ohem_rows() -> tuple[Row, ...]:
    """The rows of Table 1d, one with another divisor, and SSD's hard negatives."""
    rows = []
    for row in TABLES["1d"]:
        fields = row.fields
        if fields["loss"] == "ohem":
            changes = {k: fields[k] for k in ("loss", "ohem_batch", "ohem_nms")}
            rows.append(Row(row.label, changes | {"ohem_ratio": fields.get("ohem_ratio", 0.0)}, row))
        else:
            rows.append(Row(row.label, {}, row))
    return (
        *rows,
        Row("OHEM 128, NMS .7, divided by what it picks", {"loss": "ohem", "normalizer": "picked"}),
        Row("hard negatives 1:3, as SSD", {"loss": "hard_negatives", "ohem_ratio": 3.0}),
    )


def searched(losses: Mapping[str, dict[str, Any]]) -> tuple[Row, ...]:
    """Every loss at every rate."""
    return tuple(
        Row(f"{name}, rate {rate:g}", {**changes, "lr": rate})
        for name, changes in losses.items()
        for rate in RATES
    )


def star_rows() -> tuple[Row, ...]:
    """The rows of Table 3, and the hinge loss over its α."""
    rows = []
    for row in TABLES["3"]:
        fields = row.fields
        changes = {k: fields[k] for k in ("loss", "gamma", "alpha", "beta") if k in fields}
        rows.append(Row(row.label, changes, row))
    hinge = [Row(f"hinge loss on p_t, α = {a:g}", {"loss": "hinge", "alpha": a}) for a in (0.25, 0.5, 0.75)]
    return (*rows, *hinge)


# The deeper network of the same kind; of the others only one depth is at hand.
DEEPER = {"small": "small_deep", "resnet18": "resnet34", "resnet50": "resnet101"}
# Image sides for Table 1e. The embedded scenes are drawn at 96 px, COCO's images are kept at 256 px.
SIDES = {"small": (64, 96, 128)}


def depth_scale_rows(base: RunConfig) -> tuple[Row, ...]:
    """Each backbone at three image sizes, then the two-stage detector on the baseline's own.

    The paper's depths and sizes are not ours, so no row has one of the paper's beside it.
    """
    whole = base.image_size
    sides = SIDES.get(base.backbone, (whole // 2, whole * 3 // 4, whole))
    depths = [base.backbone, *([DEEPER[base.backbone]] if base.backbone in DEEPER else [])]
    rows = [
        Row(f"{depth}, {side}²", {"detector": "retinanet", "backbone": depth, "image_size": side})
        for depth in depths
        for side in sides
    ]
    two_stage = {"detector": "faster_rcnn", "backbone": base.backbone, "image_size": whole}
    return (*rows, Row(f"Faster R-CNN FPN (two-stage), {base.backbone}, {whole}²", two_stage))


RARITIES = {f"synthetic-{n}": n for n in (100, 300, 1000, 3000, 10000)}
RARITY_LOSSES = ("CE, α = .5", "CE, α = .5, π = .001", "hard negatives 1:3", "FL, γ = 2")
AMONG = ", 1 in "  # between the loss and the rarity in a label


def imbalance_rows(base: RunConfig) -> tuple[Row, ...]:
    """Four losses where one anchor in 100 … 10,000 is assigned, all judged on the same validation scenes;
    none on data that has no such knob.

    Rarer objects are fewer, too. The last two rows have as many objects as 1 in 1000 has, at 1 in 100;
    but a tenth of the backgrounds as well, so they tell rare from few in part only.
    """
    if base.dataset not in RARITIES:
        return ()
    rows = [
        Row(f"{name}{AMONG}{n}", {**LOSSES[name], "dataset": dataset})
        for dataset, n in RARITIES.items()
        for name in RARITY_LOSSES
    ]
    fewer = {"dataset": "synthetic-100", "train_fraction": 0.1}
    few = [
        Row(f"{name}{AMONG}100, a tenth of the images", {**LOSSES[name], **fewer})
        for name in ("CE, α = .5", "FL, γ = 2")
    ]
    return (*rows, *few)


CE, FOCAL = (
    LOSSES["CE, α = .5"],
    LOSSES["FL, γ = 2"],
)  # the first is plain cross entropy up to a factor of two
NAMED = (("CE", CE), ("FL", FOCAL))
BUDGETS = (0.125, 0.25, 0.5, 1.0, 2.0)  # of the baseline's steps


def budget_rows(base: RunConfig) -> tuple[Row, ...]:
    """Trainings planned for fewer and more steps: each decays its rate to its own end."""
    # At least 1, 2, 3, …, so that the rows of a baseline of a few steps still differ.
    steps = [max(i, round(part * base.steps)) for i, part in enumerate(BUDGETS, start=1)]
    return tuple(Row(f"{name}, {n} steps", {**loss, "steps": n}) for name, loss in NAMED for n in steps)


SGD_RATE = 0.02  # with momentum .9 and GroupNorm in the heads


def sgd_rows(base: RunConfig) -> tuple[Row, ...]:
    """Four losses under SGD, at one rate and three times the baseline's steps."""
    sgd = {"optimizer": "sgd", "lr": SGD_RATE, "weight_decay": 1e-4, "steps": 3 * base.steps}
    return tuple(
        Row(f"{name}, SGD", {**LOSSES[name], **sgd})
        for name in ("CE, α = .5", "CE, α = .75", "FL, γ = 2", "FL, γ = 1")
    )
