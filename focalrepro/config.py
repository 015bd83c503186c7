"""RunConfig: everything that a run depends on, apart from the data itself and the training code's version."""

import dataclasses
import hashlib
import json
import typing
from dataclasses import dataclass
from typing import Any, Literal

# Bump when a change makes the same RunConfig give other numbers. It is part of every run's id.
TRAINING_VERSION = 2


@dataclass(frozen=True)
class RunConfig:
    """One training and its evaluation. The defaults are the paper's (section 4 and the authors' code)."""

    # Data: a prepared dataset's name; 0 images means all of them; pixels are squashed to image_size².
    dataset: str = "coco256"
    classes: Literal["all", "supercategories"] = "all"
    image_size: int = 256
    train_images: int = 0
    train_fraction: float = 1.0  # of those images, a random part that is the same for all seeds
    val_images: int = 0

    # Model
    detector: Literal["retinanet", "faster_rcnn"] = "retinanet"  # the second: two_stage.py
    backbone: Literal[
        "small", "small_deep", "resnet18", "resnet34", "resnet50", "resnet101", "resnet50v2"
    ] = "resnet50"
    weights: str = "imagenet"  # "imagenet", "none", "crops" (pretrain.py), or a file in the backbone's naming
    frozen: Literal["nothing", "stage1", "backbone"] = "stage1"  # "backbone": its features are computed once
    fpn_channels: int = 256
    head_convs: int = 4
    head_norm: Literal["none", "group"] = "none"
    first_level: int = 3
    last_level: int = 7
    prior: float = 0.01  # π of section 3.3; 0.5 is no prior

    # Anchors and matching
    anchor_size: float = 4.0  # in strides; the paper's 32² on P3 … 512² on P7
    anchor_scales: int = 3
    anchor_ratios: int = 3
    pos_iou: float = 0.5
    neg_iou: float = 0.4
    best_iou: float = 0.4

    # Loss
    loss: str = "focal"  # a name in focalrepro.criteria.LOSSES
    alpha: float = 0.25
    gamma: float = 2.0
    beta: float = 0.0  # FL*'s shift, appendix A
    normalizer: Literal["positives", "anchors", "moving", "image"] = "positives"  # of the classification loss
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
    score_threshold: float = 0.05
    topk: int = 1000
    nms: float = 0.5
    max_detections: int = 100

    def __post_init__(self) -> None:
        for field, hint in typing.get_type_hints(type(self)).items():
            _check_type(field, getattr(self, field), hint)
            if hint is float:  # 2 and 2.0 are the same number and must give the same id
                object.__setattr__(self, field, float(getattr(self, field)))
        _require(0 < self.prior < 1, "prior", self.prior, "between 0 and 1 (0.5 is no prior)")
        _require(self.gamma >= 0, "gamma", self.gamma, "0 (cross entropy) or more")
        _require(
            self.gamma > 0 or self.loss != "focal_star", "gamma", self.gamma, "above 0: FL* divides by it"
        )
        _require(0 <= self.alpha <= 1, "alpha", self.alpha, "between 0 and 1")
        _require(self.neg_iou <= self.pos_iou, "neg_iou", self.neg_iou, f"at most pos_iou {self.pos_iou}")
        _require(2 <= self.first_level <= self.last_level, "first_level", self.first_level, "2 … last_level")
        _require(0 < self.train_fraction <= 1, "train_fraction", self.train_fraction, "above 0 and at most 1")
        _require(0 < self.ohem_nms <= 1, "ohem_nms", self.ohem_nms, "above 0 and at most 1")
        _require(self.ohem_ratio >= 0, "ohem_ratio", self.ohem_ratio, "0 or more")
        for field in (
            "image_size",
            "ohem_batch",
            "fpn_channels",
            "batch_size",
            "anchor_scales",
            "steps",
            "topk",
        ):
            _require(getattr(self, field) >= 1, field, getattr(self, field), "1 or more")
        for field in ("train_images", "val_images", "head_convs", "warmup"):
            _require(getattr(self, field) >= 0, field, getattr(self, field), "0 or more")
        for field in ("lr", "box_beta", "anchor_size"):
            _require(getattr(self, field) > 0, field, getattr(self, field), "above 0")
        _require(0 < self.score_threshold < 1, "score_threshold", self.score_threshold, "between 0 and 1")
        _require(
            self.frozen != "backbone" or not self.flip,
            "flip",
            self.flip,
            'False where frozen is "backbone": cached features cannot be mirrored exactly',
        )
        _require(
            self.frozen != "backbone" or self.weights != "none",
            "weights",
            self.weights,
            'something else where frozen is "backbone": a random backbone would stay random',
        )

    @property
    def levels(self) -> tuple[int, ...]:
        return tuple(range(self.first_level, self.last_level + 1))

    def replace(self, **changes: Any) -> "RunConfig":
        """A copy with some fields changed; an unknown field is an error that lists the close ones."""
        return from_dict({**dataclasses.asdict(self), **changes})

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def differences(self, other: "RunConfig") -> dict[str, Any]:
        """The fields of self that other does not share."""
        mine, theirs = self.as_dict(), other.as_dict()
        return {k: v for k, v in mine.items() if v != theirs[k]}

    def run_id(self, train_digest: str, val_digest: str) -> str:
        """12 hex digits from the config, both splits' digests and TRAINING_VERSION.

        Only fields that differ from the defaults are hashed, so that a new field, whose default means what was
        done before it existed, leaves old ids as they are.
        """
        content = self.differences(RunConfig()) | {
            "_train": train_digest,
            "_val": val_digest,
            "_version": TRAINING_VERSION,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def from_dict(values: dict[str, Any]) -> RunConfig:
    """RunConfig from plain values (as in a run's JSON); ValueError for an unknown key or a wrong type."""
    known = {f.name for f in dataclasses.fields(RunConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        import difflib

        near = difflib.get_close_matches(unknown[0], known)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"RunConfig has no field {', '.join(unknown)}{hint}")
    return RunConfig(**values)


def _require(ok: bool, field: str, value: object, wanted: str) -> None:
    if not ok:
        raise ValueError(f"RunConfig.{field} is {value!r}; it must be {wanted}")


def _check_type(field: str, value: object, hint: object) -> None:
    if typing.get_origin(hint) is Literal:
        _require(
            value in typing.get_args(hint),
            field,
            value,
            f"one of {', '.join(map(str, typing.get_args(hint)))}",
        )
        return
    wanted = (int, float) if hint is float else hint
    ok = isinstance(value, wanted) and (hint is bool or not isinstance(value, bool))
    _require(ok, field, value, f"a value of type {hint.__name__}")
