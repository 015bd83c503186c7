"""What a finished run leaves, as one typed model.

A record is checked where its JSON comes in or a run ends, and only there: whatever reads one has attributes,
not keys. AP is that of the test images without a threshold; AP at the paper's score of .05 stands beside it.
"""

import hashlib
import json
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from scipy.special import ndtri

from focalrepro.config import TRAINING_VERSION, RunConfig, from_dict
from focalrepro.data.annotations import Text, describe_fault

PAPER_THRESHOLD = 0.05
OLDEST = 3  # the version of the training code whose records are still read: those before had other terms
ROUNDED = 2e-4  # AP and the mean of its classes, each with four digits


def _config(values: Any) -> RunConfig:
    if not isinstance(values, dict | RunConfig):
        raise ValueError("it should be an object of RunConfig's fields")
    return from_dict(values) if isinstance(values, dict) else values


def _array(values: list[float | None]) -> np.ndarray:
    """float64 [R]; null, a resample without any object, becomes NaN."""
    found = np.array(values, np.float64)
    found.flags.writeable = False
    return found


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Percent = Annotated[Number, Field(ge=0, le=100)] | None  # null: no such object in any image
Replicates = Annotated[list[Percent], Field(min_length=1), AfterValidator(_array)]
Count = Annotated[int, Field(strict=True, ge=0)]


class _Part(BaseModel):
    """Frozen; fields that a later version added are kept and not read."""

    model_config = ConfigDict(frozen=True, extra="allow", arbitrary_types_allowed=True)


class Metrics(_Part):
    """COCO's metrics in percent."""

    AP: Percent
    AP50: Percent = None
    AP75: Percent = None
    APs: Percent = None
    APm: Percent = None
    APl: Percent = None
    AR1: Percent = None
    AR10: Percent = None
    AR100: Percent = None
    AP_at_05: Percent = None


class Bootstrap(_Part):
    """AP, AP50 and AP at .05 of the same resamples of the images for every run, float64 [R] in percent."""

    AP: Replicates
    AP50: Replicates
    AP_at_05: Replicates


class Histogram(_Part):
    """Detections by the bin of their logit (`measures.LOGITS`), right and wrong at IoU .5."""

    right: list[Count]
    wrong: list[Count]


class Scores(_Part):
    """Score histograms of the tune and of the test images."""

    tune: Histogram
    test: Histogram


class Counted(_Part):
    """Detections of the tune and the test images, and of the latter those of a score of .05 or more."""

    tune: int
    test: int
    test_at_05: int


class Anchors(_Part):
    """Anchors that are scored in an image, and those assigned to an object, mean over training."""

    per_image: int
    positive_per_image: Number


class Split(_Part):
    """A split that a run was made on: its number of images and the digest of its content."""

    images: Count
    digest: Text


class Splits(_Part):
    """Both splits of a run."""

    train: Split
    val: Split


class Hardware(_Part):
    """Where a run was made; empty texts where a record does not say."""

    device: Text
    cpu: Text
    gpu: Text | None = None
    precision: Literal["fp32"] | None = None  # a CPU without bf16, whatever the config says
    cores: int = 1
    processes: int = 1  # that trained it together
    threads: int | None = None
    torch: str = ""
    torchvision: str = ""
    focalrepro: str = ""
    commit: str = ""

    @property
    def name(self) -> str:
        """The GPU's name, where one was used, else the CPU's, with the precision that it lacks."""
        return self.gpu or self.cpu + " without bf16" * (self.precision == "fp32")


class Seconds(_Part):
    """Wall time by what it went into."""

    total: Number
    train: Number = float("nan")
    evaluate: Number = float("nan")
    diagnose: Number = float("nan")


class OnObjects(_Part):
    """At some steps of the training, what share of the classification loss, and of the sizes of its slopes,
    lies on anchors of objects (`evaluation.on_objects`); null where nothing is lost.

    Added up over images, and divided as the training divides each batch, which old records do not say.
    """

    step: list[Count]
    loss: list[Number | None]
    gradient: list[Number | None]
    divided_loss: list[Number | None] | None = None
    divided_gradient: list[Number | None] | None = None


class StepSeconds(_Part):
    """Median seconds of a training step with the run's own loss and with cross entropy, timed in turn."""

    own: Number
    cross_entropy: Number


class Record(_Part):
    """What a finished run leaves. What was not measured is None or empty.

    metrics, per_class: of the test images without a threshold. at_05: the same detections at the paper's .05.
    tune, whole: of the tune images, and of all. agnostic: with all classes merged. thresholds: AP by
    threshold. tide: TIDE's errors. scores: histograms for calibration.

    Raises pydantic's ValidationError for what is no record, one whose id does not follow from its config,
    data and version, whose AP is not the mean of its classes', or whose content is not that of its digest.
    """

    run_id: Text
    status: Literal["done", "diverged"]
    config: Annotated[RunConfig, BeforeValidator(_config)]
    protocol: str = ""
    metrics: Metrics
    per_class: dict[str, Percent] = {}
    at_05: Metrics
    tune: Metrics
    whole: Metrics
    agnostic: Metrics
    thresholds: dict[str, Percent]
    tide: dict[str, Number | None] | None = None
    scores: Scores
    detections: Counted
    bootstrap: Bootstrap
    examples: list[dict[str, Any]] = []
    history: dict[str, list[Number | None]] = {}
    loss_distribution: dict[str, Any] | None = None
    on_objects: OnObjects | None = None
    anchors: Anchors
    images_per_second: Number
    step_seconds: StepSeconds | None = None
    inference_ms: Number
    data: Splits
    hardware: Hardware
    training_version: Annotated[int, Field(strict=True, ge=OLDEST)]
    finished: str = ""
    seconds: Seconds
    digest: str = ""
    reused: bool = False
    _json: dict[str, Any] = {}

    @pydantic.model_validator(mode="wrap")
    @classmethod
    def _whole(cls, values: Any, handler: Any) -> Self:
        record = handler(values)
        data, classes = record.data, [ap for ap in record.per_class.values() if ap is not None]
        wanted = record.config.run_id(data.train.digest, data.val.digest, record.training_version)
        if record.run_id != wanted:
            raise ValueError(f"run_id is {record.run_id!r:.99}; config, data and version make it {wanted!r}")
        if classes and not abs(np.mean(classes) - record.AP) <= ROUNDED:
            raise ValueError(f"metrics.AP is {record.AP:g}, the mean of per_class {np.mean(classes):.4f}")
        if isinstance(values, dict):
            record._json = values
            if record.digest != content_digest(values):
                raise ValueError(f"the content is not that of its digest {record.digest!r:.99}")
        return record

    def as_json(self) -> dict[str, Any]:
        """The values that the record was read from, in their order."""
        return self._json

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def diverged(self) -> bool:
        return self.status == "diverged"

    @property
    def AP(self) -> float:
        """AP in percent; 0 of a diverged run; NaN where no image has an object."""
        return _float(self.metrics.AP)

    @property
    def outcome(self) -> str:
        """What a list of runs says of one: its AP in percent, or why it has none."""
        return "no objects in val" if isnan(self.AP) else f"AP {self.AP:.1f}"

    @property
    def AP_interval(self) -> tuple[float, float]:
        """The two ends of AP's interval over images, 95 %, in percent."""
        half = float(ndtri(0.975)) * float(np.nanstd(self.bootstrap.AP))
        return max(self.AP - half, 0.0), min(self.AP + half, 100.0)

    @property
    def AP_at_05(self) -> float:
        """AP in percent of the detections of a score of .05 or more; NaN where no image has an object."""
        return _float(self.at_05.AP)

    @property
    def tune_AP(self) -> float:
        """AP in percent of the tune images; NaN where none has an object."""
        return _float(self.tune.AP)

    @property
    def agnostic_AP(self) -> float | None:
        """AP in percent with all classes merged; None of a single class."""
        return self.agnostic.AP if len(self.per_class) != 1 else None

    @property
    def pair(self) -> tuple[int, str, str]:
        """What two runs must share to be a pair: the seed, and the kind of machine. Else a difference would
        be the machine's as well as the row's."""
        return self.seed, *self.kind

    @property
    def kind(self) -> tuple[str, str]:
        """What a machine adds to a run: a CPU or a GPU, and the precision that it lacks."""
        return self.hardware.device.split(":")[0], self.hardware.precision or ""

    @cached_property
    def row(self) -> RunConfig:
        """The config without what does not part rows, the seed."""
        return self.config.replace(seed=0)


def content_digest(values: dict[str, Any]) -> str:
    """16 hex digits of a record's content, but the digest and how it came to a store ("reused")."""
    content = {k: v for k, v in values.items() if k not in ("digest", "reused")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _float(value: float | None) -> float:
    return float("nan") if value is None else value


class RunFileError(ValueError):
    """A file that should hold a run's record does not."""


def read_record(path: Path) -> Record:
    """The record in a file; RunFileError names the file, the field and the mend in one line."""
    mend = "git checkout brings a committed one back; or delete the file, and its run is made again"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunFileError(f"{path}: not readable as JSON ({error}); {mend}") from error
    try:
        record = Record.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        fault = describe_fault(error) if first["loc"] else first["msg"].removeprefix("Value error, ")
        version = values.get("training_version") if isinstance(values, dict) else None
        if "has no field" in fault and isinstance(version, int) and version > TRAINING_VERSION:
            mend = f"training_version is {version}: it is of a newer focalrepro: update this one"
        raise RunFileError(f"{path}: {fault}; {mend}") from None
    if record.run_id != path.stem:
        raise RunFileError(f"{path}: run_id is {record.run_id!r}, the file name says {path.stem!r}; {mend}")
    return record
