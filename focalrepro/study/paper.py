"""The numbers of *Focal Loss for Dense Object Detection* (Lin, Goyal, Girshick, He, Dollár), as data.

AP in percent. Tables 1a–1d and 3 are on COCO minival, Tables 1e and 2 on test-dev. Unless a row says
otherwise the model is ResNet-50-FPN on images with a shorter side of 600 px.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ARXIV_ID = "1708.02002v2"


@dataclass(frozen=True)
class PaperRow:
    """One row of a table.

    label:  the row as a reader of the paper would name it
    fields: what sets the row apart, by the names that configurations use
    AP, AP50, AP75 and, by object size, APs, APm, APl: percent
    ms:     milliseconds per image on an Nvidia M40
    """

    label: str
    fields: Mapping[str, str | int | float | None]
    AP: float
    AP50: float
    AP75: float
    APs: float | None = None
    APm: float | None = None
    APl: float | None = None
    ms: float | None = None

    @property
    def aps(self) -> tuple[float, float, float]:
        """AP, AP50, AP75, which every table has."""
        return self.AP, self.AP50, self.AP75


def _alpha(alpha: float, *aps: float) -> PaperRow:
    return PaperRow(f"α = {alpha:g}", {"loss": "focal", "gamma": 0.0, "alpha": alpha}, *aps)


def _gamma(gamma: float, alpha: float, *aps: float) -> PaperRow:
    return PaperRow(f"γ = {gamma:g}", {"loss": "focal", "gamma": gamma, "alpha": alpha}, *aps)


def _anchors(scales: int, ratios: int, *aps: float) -> PaperRow:
    label = f"{scales} scale{'s'[: scales > 1]} × {ratios} ratio{'s'[: ratios > 1]}"
    return PaperRow(label, {"scales": scales, "ratios": ratios}, *aps)


def _ohem(batch: int, nms: float, ratio: float | None, *aps: float) -> PaperRow:
    label = f"OHEM{'' if ratio is None else f' 1:{ratio:g}'}, batch {batch}, NMS {nms:g}"
    fields = {"loss": "ohem", "ohem_batch": batch, "ohem_nms": nms, "ohem_ratio": ratio, "depth": 101}
    return PaperRow(label, fields, *aps)


def _depth_scale(depth: int, scale: int, *aps_ms: float) -> PaperRow:
    return PaperRow(f"ResNet-{depth}, {scale} px", {"depth": depth, "scale": scale}, *aps_ms)


def _detector(label: str, backbone: str, *aps: float) -> PaperRow:
    return PaperRow(label, {"backbone": backbone}, *aps)


_FOCAL = {"loss": "focal", "gamma": 2.0, "alpha": 0.25}

TABLES: dict[str, tuple[PaperRow, ...]] = {
    # α-balanced cross entropy: the focal loss at γ = 0.
    "1a": (
        _alpha(0.10, 0.0, 0.0, 0.0),
        _alpha(0.25, 10.8, 16.0, 11.7),
        _alpha(0.50, 30.2, 46.7, 32.8),
        _alpha(0.75, 31.1, 49.4, 33.0),
        _alpha(0.90, 30.8, 49.7, 32.3),
        _alpha(0.99, 28.7, 47.4, 29.9),
        _alpha(0.999, 25.1, 41.7, 26.1),
    ),
    # Focal loss; each γ with the α found best for it within ALPHA_SEARCH.
    "1b": (
        _gamma(0.0, 0.75, 31.1, 49.4, 33.0),
        _gamma(0.1, 0.75, 31.4, 49.9, 33.1),
        _gamma(0.2, 0.75, 31.9, 50.7, 33.4),
        _gamma(0.5, 0.50, 32.9, 51.7, 35.2),
        _gamma(1.0, 0.25, 33.7, 52.0, 36.2),
        _gamma(2.0, 0.25, 34.0, 52.5, 36.5),
        _gamma(5.0, 0.25, 32.2, 49.6, 34.8),
    ),
    # Anchors at each place of the pyramid: number of scales × number of aspect ratios.
    "1c": (
        _anchors(1, 1, 30.3, 49.0, 31.8),
        _anchors(2, 1, 31.9, 50.0, 34.0),
        _anchors(3, 1, 31.8, 49.4, 33.7),
        _anchors(1, 3, 32.4, 52.3, 33.9),
        _anchors(2, 3, 34.2, 53.1, 36.5),
        _anchors(3, 3, 34.0, 52.5, 36.5),
        _anchors(4, 3, 33.8, 52.1, 36.2),
    ),
    # Online hard example mining against focal loss, ResNet-101. Rows 1:3 keep three negatives a positive.
    "1d": (
        _ohem(128, 0.7, None, 31.1, 47.2, 33.2),
        _ohem(256, 0.7, None, 31.8, 48.8, 33.9),
        _ohem(512, 0.7, None, 30.6, 47.0, 32.6),
        _ohem(128, 0.5, None, 32.8, 50.3, 35.1),
        _ohem(256, 0.5, None, 31.0, 47.4, 33.0),
        _ohem(512, 0.5, None, 27.6, 42.0, 29.2),
        _ohem(128, 0.5, 3.0, 31.1, 47.2, 33.2),
        _ohem(256, 0.5, 3.0, 28.3, 42.4, 30.3),
        _ohem(512, 0.5, 3.0, 24.0, 35.5, 25.8),
        PaperRow("FL", {**_FOCAL, "depth": 101}, 36.0, 54.9, 38.7),
    ),
    # Accuracy and speed by backbone depth and length of the shorter side in pixels.
    "1e": (
        _depth_scale(50, 400, 30.5, 47.8, 32.7, 11.2, 33.8, 46.1, 64.0),
        _depth_scale(50, 500, 32.5, 50.9, 34.8, 13.9, 35.8, 46.7, 72.0),
        _depth_scale(50, 600, 34.3, 53.2, 36.9, 16.2, 37.4, 47.4, 98.0),
        _depth_scale(50, 700, 35.1, 54.2, 37.7, 18.0, 39.3, 46.4, 121.0),
        _depth_scale(50, 800, 35.7, 55.0, 38.5, 18.9, 38.9, 46.3, 153.0),
        _depth_scale(101, 400, 31.9, 49.5, 34.1, 11.6, 35.8, 48.5, 81.0),
        _depth_scale(101, 500, 34.4, 53.1, 36.8, 14.7, 38.5, 49.1, 90.0),
        _depth_scale(101, 600, 36.0, 55.2, 38.7, 17.4, 39.6, 49.7, 122.0),
        _depth_scale(101, 700, 37.1, 56.6, 39.8, 19.1, 40.6, 49.4, 154.0),
        _depth_scale(101, 800, 37.8, 57.5, 40.8, 20.2, 41.1, 49.2, 198.0),
    ),
    # Against other detectors; the RetinaNet rows are trained 1.5 times longer, with scale jitter.
    "2": (
        _detector("Faster R-CNN+++", "ResNet-101-C4", 34.9, 55.7, 37.4, 15.6, 38.7, 50.9),
        _detector("Faster R-CNN w FPN", "ResNet-101-FPN", 36.2, 59.1, 39.0, 18.2, 39.0, 48.2),
        _detector("Faster R-CNN by G-RMI", "Inception-ResNet-v2", 34.7, 55.5, 36.7, 13.5, 38.1, 52.0),
        _detector("Faster R-CNN w TDM", "Inception-ResNet-v2-TDM", 36.8, 57.7, 39.2, 16.2, 39.8, 52.1),
        _detector("YOLOv2", "DarkNet-19", 21.6, 44.0, 19.2, 5.0, 22.4, 35.5),
        _detector("SSD513", "ResNet-101-SSD", 31.2, 50.4, 33.3, 10.2, 34.5, 49.8),
        _detector("DSSD513", "ResNet-101-DSSD", 33.2, 53.3, 35.2, 13.0, 35.4, 51.1),
        _detector("RetinaNet", "ResNet-101-FPN", 39.1, 59.1, 42.3, 21.8, 42.7, 50.2),
        _detector("RetinaNet", "ResNeXt-101-FPN", 40.8, 61.1, 44.1, 24.1, 44.2, 51.2),
    ),
    # The variant FL* = −log σ(γ x_t + β) / γ of the appendix.
    "3": (
        PaperRow("CE", {"loss": "focal", "gamma": 0.0, "alpha": 0.75}, 31.1, 49.4, 33.0),
        PaperRow("FL", _FOCAL, 34.0, 52.5, 36.5),
        PaperRow("FL*, γ = 2, β = 1", {**_FOCAL, "loss": "focal_star", "beta": 1.0}, 33.8, 52.7, 36.3),
        PaperRow(
            "FL*, γ = 4, β = 0", {**_FOCAL, "loss": "focal_star", "gamma": 4.0, "beta": 0.0}, 33.9, 51.8, 36.4
        ),
    ),
}


@dataclass(frozen=True)
class Recipe:
    """How the paper trains and tests (its sections 4 and 5), and what only the authors' code says."""

    optimizer: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    batch: int = 16  # images a step, over GPUS
    gpus: int = 8
    iterations: int = 90_000
    lr_steps: tuple[int, ...] = (60_000, 80_000)
    lr_decay: float = 0.1
    horizontal_flip: bool = True  # the only augmentation
    prior: float = 0.01  # π of the class head's initial bias
    head_std: float = 0.01  # σ of the heads' initial weights
    head_convs: int = 4
    channels: int = 256
    levels: tuple[int, ...] = (3, 4, 5, 6, 7)
    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256, 512)  # px, one a level
    anchor_scales: tuple[float, ...] = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    foreground_iou: float = 0.5  # an anchor at or above is an object
    background_iou: float = 0.4  # one below is background; between the two it is ignored
    alpha: float = 0.25
    gamma: float = 2.0
    score_threshold: float = 0.05
    pre_nms_per_level: int = 1000
    nms_iou: float = 0.5
    # In the authors' code, not in the paper:
    warmup_iterations: int = 500
    warmup_factor: float = 1 / 3
    smooth_l1_beta: float = 0.11
    longest_side: int = 1333  # px
    frozen: tuple[str, ...] = ("stem", "stage1")
    low_quality_iou: float = 0.4  # an object's best anchor is positive unless its IoU is below this


RECIPE = Recipe()


@dataclass(frozen=True)
class TextClaim:
    """A statement that the paper makes outside its tables, with the numbers it gives."""

    text: str
    values: Mapping[str, float] = field(default_factory=dict)


ALPHA_SEARCH = (0.01, 0.999)  # range in which the best α was searched for each γ
FL_STAR_EFFECTIVE_AP = 33.5  # Figure 7, α = .25: a (γ, β) above this is called effective

TEXT_CLAIMS: dict[str, TextClaim] = {
    "no_prior_diverges": TextClaim("Cross entropy without the prior initialisation diverges."),
    "prior": TextClaim(
        "With π = .01 cross entropy trains; the exact π matters little.", {"pi": 0.01, "AP": 30.2}
    ),
    "gamma2_alpha_half": TextClaim("At γ = 2, α = .5 costs .4 AP against α = .25.", {"AP_loss": 0.4}),
    "hinge_unstable": TextClaim("Hinge loss on p_t was unstable."),
    "positives_cdf": TextClaim(
        "The hardest 20 % or so of the positives carry about half of the positive loss; γ changes it little.",
        {"hardest": 0.2, "loss_share": 0.5, "positives": 1e5},
    ),
    "negatives_cdf": TextClaim(
        "γ = 2 puts the vast majority of the negative loss on a small fraction of the negatives.",
        {"gamma": 2.0, "negatives": 1e7},
    ),
}
CDF_GAMMAS = (0.0, 0.5, 1.0, 2.0)  # the curves of Figure 4


def best(table: str) -> PaperRow:
    """The row of highest AP in one of TABLES. Raises KeyError for an unknown table."""
    return max(TABLES[table], key=lambda row: row.AP)
