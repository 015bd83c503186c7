"""Profiles: a dataset, a model and a budget. A profile is its baseline RunConfig; ablations change its fields."""

from dataclasses import dataclass, field

from focalrepro.config import RunConfig, did_you_mean

# The detector of the embedded dataset: 128² images, P2 to P4, 12,096 anchors an image. Its AdamW, cosine and
# GroupNorm make a few hundred steps enough; they were chosen on the baseline row (γ = 2, α = .25) alone.
_QUICK = RunConfig(
    dataset="synthetic",
    image_size=128,
    backbone="small",
    weights="crops",
    frozen="nothing",
    fpn_channels=32,
    head_convs=1,
    head_norm="group",
    first_level=2,
    last_level=4,
    anchor_size=2.5,
    optimizer="adamw",
    lr=6e-3,
    weight_decay=0.05,
    schedule="cosine",
    batch_size=8,
    steps=540,
    warmup=36,
    val_images=300,
)

# Real COCO on a laptop: the frozen backbone's C3 and C4 of four views of each image are computed once, a light pyramid
# and head are trained. What was tried: results/coco-cpu/README.md.
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


@dataclass(frozen=True)
class Profile:
    """name, baseline config, and what to tell a reader before it is started.

    recipes: other baselines under the same name, e.g. "paper" beside the "fast" default of coco256. seeds: how
    many a reproduction runs unless told; repeats: of the ablations that have another number. whole: the profile that
    runs every ablation over the same baseline. rates: the learning rate of each loss (`study/rates.py`), as its
    committed search chose it.
    """

    name: str
    what: str
    hardware: str
    base: RunConfig
    ablations: tuple[str, ...]
    recipes: dict[str, RunConfig]
    seconds_per_run: float  # a first guess, until runs of one's own are there
    seeds: int = 1
    whole: str = ""
    repeats: dict[str, int] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)

    def seeds_of(self, ablation: str) -> int:
        """How many seeds an ablation's rows get unless told."""
        return self.repeats.get(ablation, self.seeds)

    def config(self, recipe: str = "fast") -> RunConfig:
        """The baseline of a recipe; ValueError lists those there are."""
        if recipe == "fast":
            return self.base
        if recipe not in self.recipes:
            raise ValueError(
                f"profile {self.name} has no recipe {recipe!r}; it has fast {' '.join(self.recipes)}"
            )
        return self.recipes[recipe]


PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        Profile(
            "smoke",
            "the embedded dataset, a few steps: walks the whole path, its numbers mean nothing",
            "seconds on any CPU",
            _QUICK.replace(
                steps=3,
                warmup=1,
                batch_size=4,
                train_images=24,
                val_images=12,
                fpn_channels=16,
                weights="none",
            ),
            ("1a", "1b"),
            {},
            2.0,
        ),
        Profile(
            "quick",
            "the embedded dataset: handwritten digits on cluttered ground, 128²",
            "two CPU cores, minutes",
            _QUICK,
            ("1a", "1b"),
            {},
            35.0,
            whole="full-quick",
        ),
        Profile(
            "full-quick",
            "the embedded dataset, every ablation of the paper",
            "two CPU cores, an hour or two",
            _QUICK,
            (
                "1b",
                "1a",
                "prior",
                "tuned",
                "1c",
                "1d",
                "1e",
                "3",
                "normalizer",
                "data",
                "budget",
                "plane",
                "grid",
            ),
            {},
            35.0,
            seeds=3,
        ),
        Profile(
            "coco-cpu-first",
            "the first recipe of coco-cpu, until its new results are whole: one view an image, AP at a score of .05",
            "two CPU cores, an evening",
            _COCO_CPU.replace(val_images=1000, score_threshold=0.05, views=1, kept_channels=1.0, steps=3200),
            ("1b", "1a", "prior", "tuned", "1d", "3", "normalizer", "data"),
            {},
            285.0,
        ),
        Profile(
            "coco-cpu",
            "real COCO on a laptop: 5,705 training images at 256², 12 supercategories, frozen ImageNet backbone",
            "two CPU cores, an evening",
            _COCO_CPU,
            (
                *(
                    "lr",
                    "primary",
                    "1b",
                    "1a",
                    "grid",
                    "prior",
                    "tuned",
                    "1c",
                    "1d",
                    "3",
                    "normalizer",
                    "data",
                ),
                *("box_weight", "budget", "rival-lr", "rivals", "1e", "plane", "sgd"),
            ),
            {},
            250.0,
            seeds=3,
            repeats={"lr": 2, "rival-lr": 2, "primary": 8, "sgd": 2},
        ),
        Profile(
            "coco256",
            "real COCO: 5,705 training images at 256², 80 classes, ResNet-50 v2 trained from C2 up",
            "one GPU",
            _COCO256,
            (
                "1a",
                "1b",
                "prior",
                "tuned",
                "1d",
                "3",
                "1c",
                "grid",
                "budget",
                "1e",
                "normalizer",
                "data",
                "plane",
            ),
            {
                # The paper's optimisation: SGD, warm-up, steps, no norm in the heads; 24 epochs of the subset.
                "paper": _COCO256.replace(
                    optimizer="sgd",
                    lr=0.01,
                    weight_decay=1e-4,
                    schedule="steps",
                    head_norm="none",
                    batch_size=16,
                    steps=9000,
                    warmup=500,
                )
            },
            60.0,
        ),
    )
}


def get_profile(name: str) -> Profile:
    """The profile of that name; ValueError lists those there are."""
    if name not in PROFILES:
        hint = did_you_mean(name, PROFILES)
        raise ValueError(f"there is no profile {name!r}; there are {', '.join(PROFILES)}{hint}")
    return PROFILES[name]
