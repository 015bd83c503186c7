"""Profiles: a dataset, a model and a budget. A profile is its baseline RunConfig;
ablations change its fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from focalrepro.config import RunConfig, did_you_mean
from focalrepro.data.registry import COMMANDS, describe, prepared

# Object or background, where one anchor in 1,000 is assigned to an object: 96² images, P2 to P4, 6,804
# anchors an image, a frozen backbone that knows digits. How it was chosen: results/full-quick/SEARCH.md.
_QUICK = RunConfig(
    dataset="synthetic-1000",
    classes="supercategories",
    image_size=96,
    backbone="small",
    weights="digits",
    frozen="backbone",
    flip=False,
    fpn_channels=24,
    head_convs=1,
    head_norm="group",
    first_level=2,
    last_level=4,
    anchor_size=2.5,
    optimizer="adamw",
    lr=8e-3,
    weight_decay=0.05,
    schedule="cosine",
    batch_size=8,
    steps=1000,
    warmup=60,
)

# What the search of full-quick chose (`lr`, on tune images; a test holds it).
_QUICK_RATES = {
    "CE, α = .5": 4e-3,
    "CE, α = .75": 2e-3,
    "CE, α = .5, π = .001": 2e-3,
    "FL, γ = 2": 8e-3,
    "FL, γ = 1": 2e-3,
    "hard negatives 1:3": 4e-3,
    "Sampling-Free": 4e-3,
    "OHEM": 4e-3,
}

# A few steps on the ten digits, nothing frozen.
_SMOKE = _QUICK.replace(
    dataset="synthetic",
    classes="all",
    image_size=128,
    weights="none",
    frozen="nothing",
    flip=True,
    fpn_channels=16,
    lr=6e-3,
    batch_size=4,
    steps=3,
    warmup=1,
    train_images=24,
    val_images=12,
)

# Real COCO on a laptop: the frozen backbone's C3 and C4 of four views of each image are computed once, a
# light pyramid and head are trained. What was tried: results/coco-cpu/README.md.
_COCO_CPU = RunConfig(
    dataset="coco256",
    classes="supercategories",
    image_size=256,
    backbone="resnet50v2",
    frozen="backbone",
    flip=False,
    views=4,
    kept_channels=0.25,
    fpn_channels=64,
    head_convs=1,
    head_norm="group",
    last_level=6,
    anchor_size=2.0,
    optimizer="adamw",
    lr=4e-3,
    weight_decay=0.05,
    schedule="cosine",
    batch_size=8,
    steps=4000,
    warmup=200,
)

# Real COCO on one GPU: everything from C2 up is trained, 256 channels and four-conv heads as in the paper.
_COCO256 = RunConfig(
    dataset="coco256",
    backbone="resnet50v2",
    frozen="stage1",
    head_norm="group",
    anchor_size=2.0,
    optimizer="adamw",
    batch_size=64,
    lr=1e-3 / 4,
    weight_decay=0.05,
    schedule="cosine",
    steps=1500,
    warmup=100,
)


# The paper's optimisation on the same: SGD, warm-up, steps, no norm in the heads; 24 epochs of the subset.
_COCO256_PAPER = _COCO256.replace(
    optimizer="sgd",
    lr=0.01,
    weight_decay=1e-4,
    schedule="steps",
    head_norm="none",
    batch_size=16,
    steps=9000,
    warmup=500,
)

# All of COCO as the paper trains it; the longer side is 512 px where the paper's shorter side is 400 to 800.
_COCO = RunConfig(dataset="coco", resize="letterbox", image_size=512)


@dataclass(frozen=True)
class Profile:
    """A baseline config with what is run over it, and what to tell a reader before it is started.

    seeds: how many a reproduction runs unless told; repeats: of the ablations that have another number.
    whole: the profile that runs every ablation over the same baseline. rates: the learning rate of each loss
    (`study/rates.py`), as its committed search chose it. own: over a dataset that the user registered.
    gpus: that a run takes.
    """

    name: str
    what: str
    hardware: str
    base: RunConfig
    ablations: tuple[str, ...]
    seconds_per_run: float  # a first guess, until runs of one's own are there
    seeds: int = 1
    whole: str = ""
    repeats: dict[str, int] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    own: bool = False
    gpus: int = 0

    def seeds_of(self, ablation: str) -> int:
        """How many seeds an ablation's rows get unless told."""
        return self.repeats.get(ablation, self.seeds)


ALL = "lr primary 1b 1a imbalance prior tuned 1d 3 normalizer data budget box_weight grid 1c 1e plane"
CAMPAIGN = (
    "lr primary 1b 1a grid prior tuned 1c 1d 3 normalizer data box_weight budget rival-lr rivals 1e plane sgd"
)
GPU = "1a 1b prior tuned 1d 3 1c grid budget 1e normalizer data plane"
OWN = "1b 1a tuned prior grid"

_PROFILES = (
    Profile(
        "smoke",
        "the embedded dataset, a few steps: walks the whole path, its numbers mean nothing",
        "seconds on any CPU",
        _SMOKE,
        ("1a", "1b"),
        2.0,
    ),
    Profile(
        "quick",
        "the embedded dataset: digits on cluttered ground, one anchor in 1,000 is assigned to one",
        "two CPU cores, minutes",
        _QUICK,
        ("1a", "1b"),
        35.0,
        whole="full-quick",
        rates=_QUICK_RATES,
    ),
    Profile(
        "full-quick",
        "the embedded dataset, every ablation of the paper, and from where on the loss matters",
        "two CPU cores, an hour for each seed",
        _QUICK,
        tuple(ALL.split()),
        35.0,
        seeds=3,
        repeats={"lr": 2},
        rates=_QUICK_RATES,
    ),
    Profile(
        "coco-cpu-first",
        "the first recipe of coco-cpu, until its new results are whole: one view an image, AP at a "
        "score of .05",
        "two CPU cores, an evening",
        _COCO_CPU.replace(val_images=1000, score_threshold=0.05, views=1, kept_channels=1.0, steps=3200),
        ("1b", "1a", "prior", "tuned", "1d", "3", "normalizer", "data"),
        285.0,
    ),
    Profile(
        "coco-cpu",
        "real COCO on a laptop: 5,705 training images at 256², 12 supercategories, frozen ImageNet backbone",
        "two CPU cores, many evenings",
        _COCO_CPU,
        tuple(CAMPAIGN.split()),
        250.0,
        seeds=3,
        repeats={"lr": 2, "rival-lr": 2, "primary": 8, "sgd": 2},
        rates={"CE, α = .5": 8e-3, "CE, α = .75": 8e-3, "CE, α = .5, π = .001": 4e-3, "FL, γ = 2": 4e-3},
    ),
    Profile(
        "coco256",
        "real COCO: 5,705 training images at 256², 80 classes, ResNet-50 v2 trained from C2 up",
        "one GPU",
        _COCO256,
        tuple(GPU.split()),
        60.0,
        gpus=1,
    ),
    Profile(
        "coco",
        "all of COCO at 512 px with the paper's recipe: ResNet-50, SGD, 90,000 steps of 16 images",
        "a machine of eight GPUs, days",
        _COCO,
        ("1b", "1a", "1d", "1c"),
        # Detectron2's model zoo: .205 s a step of 16 images of 800 × 1067 on eight V100; here 512².
        90_000 * 0.205 * 512**2 / (800 * 1067),
        gpus=8,
    ),
    Profile(
        "coco256-paper",
        "real COCO as coco256, with the paper's optimisation: SGD, steps, no norm in the heads",
        "one GPU",
        _COCO256_PAPER,
        ("1a", "1b", "budget"),
        360.0,
    ),
)
PROFILES: dict[str, Profile] = {p.name: p for p in _PROFILES}


def own_profile(dataset: str, recipe: Mapping[str, Any]) -> Profile:
    """The profile of a registered dataset: coco-cpu's detector on its classes and images, letterboxed.

    recipe: fields of RunConfig that are to be otherwise. ValueError names one that cannot be.
    """
    own = {"classes": "all", "resize": "letterbox", **recipe, "dataset": dataset, "seed": 0}
    base = _COCO_CPU.replace(**own)
    what = f"your own data, {dataset}: {base.resize} at {base.image_size}², backbone {base.backbone}"
    rates = {} if "lr" in recipe else PROFILES["coco-cpu"].rates
    return Profile(dataset, what, "two CPU cores", base, tuple(OWN.split()), 250.0, rates=rates, own=True)


def get_profile(name: str) -> Profile:
    """The profile of that name, or a registered dataset's; ValueError lists those there are."""
    if name in PROFILES:
        return PROFILES[name]
    own = [dataset for dataset in prepared() if dataset not in COMMANDS]
    if name in own:
        return own_profile(name, describe(name).parameters.get("recipe", {}))
    hint = did_you_mean(name, [*PROFILES, *own])
    raise ValueError(f"there is no profile {name!r}; there are {', '.join([*PROFILES, *own])}{hint}")
