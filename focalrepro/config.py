"""RunConfig: everything that a run depends on, apart from the data itself and the training code's version."""

import difflib
import hashlib
import json
import re
import sys
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

Resize = Literal["squash", "letterbox"]
Backbone = Literal["small", "small_deep", "resnet18", "resnet34", "resnet50", "resnet101", "resnet50v2"]
# The datasets of scenes for one class, by how rare assigned anchors are in them.
RARITIES = tuple(f"synthetic-{n}" for n in (100, 300, 1000, 3000, 10000))
# Bump when a change makes the same RunConfig give other numbers. It is part of every run's id.
TRAINING_VERSION = 3


@dataclass(frozen=True)
class RunConfig:
    """One training and its evaluation. The defaults are the paper's (section 4 and the authors' code)."""

    # Data: a prepared dataset's name; 0 images means all of them. An image is squashed to image_size², or
    # letterboxed: its aspect ratio stays, and the rest of the square is padding.
    dataset: str = "coco256"
    classes: Literal["all", "supercategories"] = "all"
    image_size: int = 256
    resize: Resize = "squash"
    train_images: int = 0
    train_fraction: float = 1.0  # of those images, a random part that is the same for all seeds
    val_images: int = 0

    # Model
    detector: Literal["retinanet", "faster_rcnn"] = "retinanet"  # the second: two_stage.py
    backbone: Backbone = "resnet50"
    # "imagenet", "none", "digits" (pretrain.py), or a file in its naming: the run's id knows that by its path
    # alone, so other weights want another name
    weights: str = "imagenet"
    frozen: Literal["nothing", "stage1", "backbone"] = "stage1"  # "backbone": its features are computed once
    views: int = 1  # of each training image, where features are computed once (detector/views.py)
    kept_channels: float = 1.0  # share of a frozen map's channels that is kept, as its principal components
    fpn_channels: int = 256
    head_convs: int = 4
    head_norm: Literal["none", "group"] = "none"
    first_level: int = 3
    last_level: int = 7
    prior: float = 0.01  # π of section 3.3; 0.5 is no prior, 0 the share that the training split has

    # Anchors and matching
    anchor_size: float = 4.0  # in strides; the paper's 32² on P3 … 512² on P7
    anchor_scales: int = 3
    anchor_ratios: int = 3
    pos_iou: float = 0.5
    neg_iou: float = 0.4
    best_iou: float = 0.4

    # Loss
    loss: str = "focal"  # a name in focalrepro.training.criteria.LOSSES
    alpha: float = 0.25
    gamma: float = 2.0
    beta: float = 0.0  # FL*'s shift, appendix A
    gamma_object: float = -1.0  # γ of the objects' terms, where it is not the background's; -1: the same
    epsilon: float = 0.0  # Poly-1's weight of the next power of 1 - p_t
    guided: bool = False  # the classification loss is scaled to the size of the box loss (Sampling-Free)
    # What divides the classification loss (training/step.py)
    normalizer: Literal["positives", "plus_images", "anchors", "moving", "image", "picked"] = "positives"
    ohem_batch: int = 128  # anchors an image that OHEM keeps
    ohem_nms: float = 0.7
    ohem_ratio: float = 0.0  # negatives for each positive; 0: as they come
    box_beta: float = 0.11
    box_weight: float = 1.0

    # Optimisation; lr is for 16 images a step and follows the batch size linearly
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    batch_size: int = 16
    momentum: float = 0.9
    weight_decay: float = 1e-4
    steps: int = 90_000
    warmup: int = 500
    schedule: Literal["steps", "cosine"] = "steps"
    flip: bool = True
    precision: Literal["fp32", "bf16"] = "bf16"
    seed: int = 0

    # Inference
    score_threshold: float = 0.0  # 0: none; AP at the paper's .05 is measured beside AP in any case
    topk: int = 1000
    nms: float = 0.5
    max_detections: int = 100

    def __post_init__(self) -> None:
        for field, hint in RunConfig.__annotations__.items():
            _check_type(field, value := getattr(self, field), hint)
            if hint is float:  # 2 and 2.0 are the same number and must give the same id
                _require(abs(value) <= sys.float_info.max, field, value, "a finite number")  # nor NaN
                object.__setattr__(self, field, float(value))
        for fields, is_right, wanted in _LIMITS:
            for field in fields.split():
                _require(is_right(getattr(self, field)), field, getattr(self, field), wanted)
        _check_together(self)

    @property
    def levels(self) -> tuple[int, ...]:
        return tuple(range(self.first_level, self.last_level + 1))

    def replace(self, **changes: Any) -> "RunConfig":
        """A copy with some fields changed; an unknown field is an error that names the nearest."""
        return from_dict(self.as_dict() | changes)

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def differences(self, other: "RunConfig") -> dict[str, Any]:
        """The fields of self that other does not share."""
        mine, theirs = self.as_dict(), other.as_dict()
        return {k: v for k, v in mine.items() if v != theirs[k]}

    def run_id(self, train_digest: str, val_digest: str, version: int | None = None) -> str:
        """12 hex digits from the config, both splits' digests and the training code's version; None: today's.

        Only fields that differ from the first defaults are hashed, so that a new field, whose default means
        what was done before it existed, leaves old ids as they are.
        """
        content = self.differences(RunConfig(score_threshold=0.05)) | {
            "_train": train_digest,
            "_val": val_digest,
            "_version": TRAINING_VERSION if version is None else version,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def from_dict(values: dict[str, Any]) -> RunConfig:
    """RunConfig from plain values (as in a run's JSON); ValueError for an unknown key or a wrong type."""
    known = RunConfig.__annotations__
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"RunConfig has no field {', '.join(unknown)}{did_you_mean(unknown[0], known)}")
    return RunConfig(**values)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """What a message on an unknown name ends with: the nearest there is, or nothing where none is near."""
    by_lower = {str(k).lower(): k for k in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, 1)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""


def check_device(name: str, option: str = "device") -> None:
    """ValueError that names the option where it is no device that runs are made for."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"{option} is {name!r}; it must be auto, cpu, cuda or cuda:N, as cuda:1")


# What each field may be by itself. The fields of the first column share a rule; False is an error.
_LIMITS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("image_size fpn_channels batch_size steps views", lambda v: v >= 1, "1 or more"),
    ("anchor_scales ohem_batch topk max_detections", lambda v: v >= 1, "1 or more"),
    ("train_images val_images head_convs warmup seed", lambda v: v >= 0, "0 or more"),
    ("ohem_ratio box_weight weight_decay", lambda v: v >= 0, "0 or more"),
    ("first_level last_level", lambda v: 2 <= v <= 30, "between 2 and 30"),
    ("gamma", lambda v: v >= 0, "0 (cross entropy) or more"),
    ("lr box_beta anchor_size", lambda v: v > 0, "above 0"),
    ("prior", lambda v: 0 <= v < 1, "0 (the data's own) or more and below 1 (0.5 is no prior)"),
    ("score_threshold", lambda v: 0 <= v < 1, "0 (none) or more and below 1"),
    ("gamma_object", lambda v: v == -1 or v >= 0, "0 or more, or -1 for gamma's"),
    ("alpha neg_iou best_iou nms", lambda v: 0 <= v <= 1, "between 0 and 1"),
    ("pos_iou train_fraction ohem_nms kept_channels", lambda v: 0 < v <= 1, "above 0 and at most 1"),
    ("momentum", lambda v: 0 <= v < 1, "0 or more and below 1"),
    ("anchor_ratios", lambda v: v in (1, 3), "1 or 3, the sets of Table 1c"),  # the keys of anchors.RATIOS
)


def _check_together(c: RunConfig) -> None:
    """What fields ask of each other; each is right by itself."""
    # A stride of twice the image's side or more puts the centre of the level's one cell outside the image.
    most = (c.image_size - 1).bit_length()
    stride = 2**c.first_level  # make_anchors asks for this; coarser levels round up, as their convolutions do
    cached, picks = c.frozen == "backbone", c.loss in ("ohem", "hard_negatives")
    mirror = 'False where frozen is "backbone", whose maps cannot be mirrored exactly; set views to 2 or more'
    fixed = 'something else where frozen is "backbone": a random backbone would stay random'
    whole = 'another for the loss "quality", whose targets are those of the whole batch'
    alone = '"positives" for the loss "ghm", a mean by itself, or "moving" for moving counts'
    groups, norm = min(32, c.fpn_channels // 4), "4 or more, and a multiple of 32 from 128 on, for GroupNorm"
    picked = '"picked" only where the loss picks anchors: "ohem" or "hard_negatives"'
    for field, is_right, wanted in (
        ("gamma", c.gamma > 0 or c.loss != "focal_star", "above 0: FL* divides by it"),
        ("neg_iou", c.neg_iou <= c.pos_iou, f"at most pos_iou {c.pos_iou}"),
        ("first_level", c.first_level <= c.last_level, f"at most last_level {c.last_level}"),
        ("last_level", c.last_level <= most, f"at most {most} for {c.image_size}² images"),
        ("image_size", c.image_size % stride == 0, f"a multiple of {stride}, the stride of P{c.first_level}"),
        ("flip", not (cached and c.flip), mirror),
        ("views", cached or c.views == 1, '1 unless frozen is "backbone"'),
        ("kept_channels", cached or c.kept_channels == 1, '1 unless frozen is "backbone"'),
        ("normalizer", c.normalizer != "image" or c.loss != "quality", whole),
        ("normalizer", c.normalizer in ("positives", "moving") or c.loss != "ghm", alone),
        ("normalizer", c.normalizer != "picked" or picks, picked),
        ("fpn_channels", c.head_norm != "group" or (groups and c.fpn_channels % groups == 0), norm),
        ("weights", not cached or c.weights != "none", fixed),
    ):
        _require(is_right, field, getattr(c, field), wanted)


def _require(ok: bool, field: str, value: object, wanted: str) -> None:
    if not ok:
        raise ValueError(f"RunConfig.{field} is {value!r:.200}; it must be {wanted}")


def _check_type(field: str, value: object, hint: object) -> None:
    if typing.get_origin(hint) is Literal:
        if value not in (known := typing.get_args(hint)):
            _require(False, field, value, f"one of {', '.join(known)}{did_you_mean(value, known)}")
        return
    wanted = (int, float) if hint is float else hint
    ok = isinstance(value, wanted) and (hint is bool or not isinstance(value, bool))
    _require(ok, field, value, f"a value of type {hint.__name__}")
