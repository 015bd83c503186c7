"""Profiles of `profiles.toml`: a dataset, a model, a budget; a baseline whose fields ablations change."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from focalrepro.config import RunConfig, did_you_mean
from focalrepro.data.registry import COMMANDS, describe, prepared

NO_RECIPE = {"dataset": "--data tells which", "seed": "--seeds tells how many"}


@dataclass(frozen=True)
class Profile:
    """A baseline config with what is run over it, and what to tell a reader before it is started.

    seeds: how many a reproduction runs unless told; repeats: of the ablations that have another number.
    whole: the profile that runs every ablation over the same baseline. rates: of each loss, as its committed
    search chose it (`study/rates.py`). own: over a dataset that the user registered. gpus: that a run takes.
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


FILE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


def _base(name: str) -> RunConfig:
    fields = dict(FILE[name]["base"])
    like = fields.pop("like", None)
    return (_base(like) if like else RunConfig()).replace(**fields)


def _profile(name: str, ablations: str, **more: Any) -> Profile:
    """A profile of the file; base and rates are those of its `whole`, where it has one."""
    whole = more.get("whole", name)
    more |= {"base": _base(whole), "rates": FILE[whole].get("rates", {})}
    return Profile(name, ablations=tuple(ablations.split()), **more)


PROFILES: dict[str, Profile] = {name: _profile(name, **fields) for name, fields in FILE.items()}


def own_profile(dataset: str, recipe: Mapping[str, Any]) -> Profile:
    """The profile of a registered dataset: coco-cpu's detector on its classes and images, letterboxed.

    recipe: fields of RunConfig that are to be otherwise. ValueError names one that cannot be.
    """
    for taken, mend in NO_RECIPE.items():
        if taken in recipe:
            raise ValueError(f"a recipe cannot set {taken}: {mend}")
    like, own = PROFILES["coco-cpu"], {"classes": "all", "resize": "letterbox", **recipe}
    base = like.base.replace(**own | {"dataset": dataset, "seed": 0})
    what = f"your own data, {dataset}: {base.resize} at {base.image_size}², backbone {base.backbone}"
    rates, ablations = {} if "lr" in recipe else like.rates, ("1b", "1a", "tuned", "prior", "grid")
    return Profile(dataset, what, "two CPU cores", base, ablations, 250.0, rates=rates, own=True)


def get_profile(name: str) -> Profile:
    """The profile of that name, or a registered dataset's; ValueError lists those there are."""
    if name in PROFILES:
        return PROFILES[name]
    own = [dataset for dataset in prepared() if dataset not in COMMANDS]
    if name in own:
        return own_profile(name, describe(name).parameters.get("recipe", {}))
    hint = did_you_mean(name, [*PROFILES, *own])
    raise ValueError(f"there is no profile {name!r}; there are {', '.join([*PROFILES, *own])}{hint}")
