"""The ablations: each a table or figure of the paper,
as a baseline and rows that name only what they change."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from types import MappingProxyType
from typing import Any

from focalrepro.config import RunConfig, did_you_mean
from focalrepro.study.profiles import Profile
from focalrepro.study.rates import LOSSES, RIVALS, family_of
from focalrepro.study.rows import (
    FOCAL,
    NAMED,
    Row,
    alpha_gamma_rows,
    anchor_rows,
    budget_rows,
    depth_scale_rows,
    imbalance_rows,
    ohem_rows,
    searched,
    sgd_rows,
    star_rows,
)

SEARCH_SEED = 1000
NO_RATES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Ablation:
    """name as given to `focalrepro run`; what it shows; the paper's table; rows in the paper's order.

    given: what `focalrepro run` is given for one that is not built in.
    search: its runs choose a rate, on tune images and with seeds of their own (SEARCH_SEED and on), so that
    what it chose is judged on other images with other seeds. fitted: instead of rows, where these depend on
    what the baseline has (its backbone, its image size).
    """

    name: str
    title: str
    source: str
    rows: tuple[Row, ...] = field(repr=False)
    search: bool = False
    fitted: Callable[[RunConfig], tuple[Row, ...]] | None = field(default=None, repr=False)
    given: str = ""

    def rows_for(self, base: RunConfig) -> tuple[Row, ...]:
        """The rows over a baseline."""
        return self.fitted(base) if self.fitted else self.rows

    def configs(
        self, base: RunConfig, seeds: range | list[int], rates: Mapping[str, float] = NO_RATES
    ) -> dict[tuple[str, int], RunConfig]:
        """The config of every (row label, seed); rates: by the loss's family, as a profile has them."""
        return {
            (row.label, seed): self.config(base, row, seed, rates)
            for row in self.rows_for(base)
            for seed in seeds
        }

    def config(
        self, base: RunConfig, row: Row, seed: int, rates: Mapping[str, float] = NO_RATES
    ) -> RunConfig:
        """A row's config for its seed of that number:
        with the rate of its loss, unless the row has one of its own."""
        config = base.replace(**row.changes, seed=seed + SEARCH_SEED * self.search)
        rate = None if "lr" in row.changes else rates.get(family_of(config))
        return config.replace(lr=rate) if rate else config


GRID_GAMMAS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
GRID_ALPHAS = (0.10, 0.25, 0.50, 0.75, 0.90, 0.99, 0.999)
STAR_GAMMAS = (1.0, 2.0, 4.0)
STAR_BETAS = (-1.0, 0.0, 1.0, 2.0)

ABLATIONS: dict[str, Ablation] = {
    a.name: a
    for a in (
        Ablation(
            "lr",
            "the learning rate of each loss, chosen on tune images",
            "the protocol, Rates",
            searched(LOSSES),
            search=True,
        ),
        Ablation(
            "rival-lr",
            "the learning rate of each rival, chosen on tune images",
            "the protocol, Rates",
            searched(RIVALS),
            search=True,
        ),
        Ablation(
            "primary",
            "the few comparisons that are judged, each loss at its own rate",
            "results/PROTOCOL.md",
            tuple(Row(name, changes) for name, changes in LOSSES.items() if name != "OHEM"),
        ),
        Ablation(
            "rivals",
            "losses and recipes that say they beat or replace focal loss",
            "a common question",
            tuple(
                Row(name, changes)
                for name, changes in (LOSSES | RIVALS).items()
                if name in (*RIVALS, "Sampling-Free", "CE, α = .5", "FL, γ = 2")
            ),
        ),
        Ablation(
            "box_weight",
            "the share of the box loss",
            "a confound: with another loss the box loss has another share",
            tuple(
                Row(f"{name}, box loss × {weight:g}", {**loss, "box_weight": weight})
                for name, loss in NAMED
                for weight in (0.25, 1.0, 4.0)
            ),
        ),
        Ablation(
            "sgd",
            "SGD in place of AdamW, three times the steps",
            "a confound: AdamW hides the scale of a loss",
            (),
            fitted=sgd_rows,
        ),
        Ablation(
            "1a",
            "α-balanced cross entropy (γ = 0)",
            "Table 1a, section 5.1",
            alpha_gamma_rows("1a", "α = {alpha}"),
        ),
        Ablation(
            "1b",
            "focal loss: γ, each with the best α that the paper found for it",
            "Table 1b, section 5.1",
            alpha_gamma_rows("1b", "γ = {gamma}, α = {alpha}"),
        ),
        Ablation(
            "grid",
            "the whole plane of γ and α, which the paper searched but does not print",
            "section 5.1",
            tuple(
                Row(f"γ = {g:g}, α = {a:g}", {"gamma": g, "alpha": a})
                for g in GRID_GAMMAS
                for a in GRID_ALPHAS
            ),
        ),
        Ablation(
            "prior",
            "the prior π of the initial foreground probability; 0.5 is none",
            "sections 3.3 and 5.1",
            tuple(
                Row(f"{name}, π = {prior:g}", {**loss, "prior": prior})
                for name, loss in NAMED
                for prior in (0.5, 0.1, 0.01, 0.001)
            ),
        ),
        Ablation(
            "tuned",
            "cross entropy with both α and π tuned, the baseline that focal loss has to beat",
            "a common question",
            (
                *(
                    Row(f"CE, α = {alpha:g}, π = {prior:g}", {"gamma": 0.0, "alpha": alpha, "prior": prior})
                    for alpha in (0.5, 0.75, 0.9)
                    for prior in (0.01, 0.001)
                ),
                *(Row(f"FL, π = {prior:g}", {**FOCAL, "prior": prior}) for prior in (0.01, 0.001)),
            ),
        ),
        Ablation("1c", "anchors: scales and aspect ratios", "Table 1c, section 5.2", anchor_rows()),
        Ablation("1d", "focal loss against online hard example mining", "Table 1d, section 5.1", ohem_rows()),
        Ablation(
            "1e",
            "depth of the backbone and size of the images, and a two-stage detector",
            "Table 1e, section 5.2; Table 2",
            (),
            fitted=depth_scale_rows,
        ),
        Ablation("3", "FL*, and the hinge loss", "Table 3, appendix A and section 3", star_rows()),
        Ablation(
            "plane",
            "FL* over its γ and β",
            "Figure 7, appendix A",
            tuple(
                Row(f"γ = {g:g}, β = {b:g}", {"loss": "focal_star", "gamma": g, "beta": b, "alpha": 0.25})
                for g in STAR_GAMMAS
                for b in STAR_BETAS
            ),
        ),
        Ablation(
            "normalizer",
            "what the classification loss is divided by",
            "section 4, and a question that users ask",
            tuple(
                Row(text, {"normalizer": key})
                for key, text in (
                    ("positives", "anchors assigned to an object (the paper)"),
                    ("anchors", "all anchors"),
                    ("moving", "moving average of the assigned anchors"),
                    ("image", "assigned anchors of each image"),
                )
            ),
        ),
        Ablation(
            "data",
            "a better loss against more data",
            "a common explanation",
            tuple(
                Row(f"{name}, {fraction:.0%} of the images", {**loss, "train_fraction": fraction})
                for name, loss in NAMED
                for fraction in (0.12, 0.25, 0.5, 1.0)
            ),
        ),
        Ablation(
            "imbalance",
            "how rare objects have to be until the loss matters",
            "section 3",
            (),
            fitted=imbalance_rows,
        ),
        Ablation(
            "budget",
            "a better loss against a longer training",
            "a question that users ask",
            (),
            fitted=budget_rows,
        ),
    )
}


def get_ablation(name: str, known: Mapping[str, Ablation] = ABLATIONS) -> Ablation:
    """The ablation of that name; ValueError lists those there are."""
    if name not in known:
        hint = did_you_mean(name, known)
        raise ValueError(f"there is no ablation {name!r}; there are {', '.join(known)}{hint}")
    return known[name]


@dataclass(frozen=True)
class Planned:
    """A run that one or more ablations want."""

    config: RunConfig
    wanted_by: tuple[tuple[str, str], ...]  # (ablation, row label)


def plan(
    profile: Profile, names: Sequence[str | Ablation], seeds: int = 0, **overrides: Any
) -> list[Planned]:
    """All runs of some ablations, each config once, first seed first: a table is whole before it is repeated.

    seeds: of every row; 0: as many as the profile has for each ablation. A search of rates is finished before
    what comes after it in `names` begins.
    Errors: ValueError for an unknown ablation or loss lists those there are.
    """
    from focalrepro.training.criteria import (
        get_loss,  # imports torch: the names of ablations need not wait for it
    )

    base = profile.base.replace(**overrides)
    wanted: dict[RunConfig, list[tuple[str, str]]] = {}
    asked = [get_ablation(a) if isinstance(a, str) else a for a in names]
    numbers = {a.name: seeds or profile.seeds_of(a.name) for a in asked}
    for _, block in groupby(asked, lambda a: a.search):
        mine = list(block)
        for seed in range(max(numbers[a.name] for a in mine)):
            for a in mine:
                if seed < numbers[a.name]:
                    for row in a.rows_for(base):
                        config = a.config(base, row, seed, profile.rates)
                        wanted.setdefault(config, []).append((a.name, row.label))
    for loss in sorted({config.loss for config in wanted}):
        get_loss(loss)
    return [Planned(config, tuple(by)) for config, by in wanted.items()]
