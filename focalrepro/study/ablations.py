"""The ablations of `ablations.toml`: each a table or figure, as rows that name only what they change."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from numbers import Integral
from typing import Any

from focalrepro.config import RunConfig, did_you_mean
from focalrepro.study.profiles import Profile
from focalrepro.study.rates import family_of
from focalrepro.study.rows import FILE, RATES, Row, rows_of

SEARCH_SEED = 1000
MOST = 1000  # seeds, workers or runs of one command: a typing error must not plan for hours


def check_count(option: str, value: int, zero: str) -> None:
    """ValueError that names the option where its number is none or below 0 or above MOST; zero: what 0
    stands for."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not 0 <= value <= MOST:
        raise ValueError(f"{option} is {value!r}; it must be 1 … {MOST}, or 0 for {zero}")


@dataclass(frozen=True)
class Ablation:
    """name as given to `focalrepro run`; what it shows; the paper's table; rows in the paper's order, or
    what makes them of a baseline.

    given: what `focalrepro run` is given for one that is not built in. note: for readers of its table.
    search: its runs choose a rate, on tune images and with seeds of their own (SEARCH_SEED and on), so that
    what it chose is judged on other images with other seeds. seeds: how many, where a profile does not say.
    """

    name: str
    title: str
    source: str
    rows: tuple[Row, ...] | Callable[[RunConfig], tuple[Row, ...]] = field(repr=False)
    search: bool = False
    given: str = ""
    note: str = ""
    seeds: int = 0

    def __post_init__(self) -> None:
        """Errors: ValueError without a title, and for rows given one by one as `rows_for` has it."""
        if not self.title:
            raise ValueError(f"ablation {self.name!r}: it has no title; say what it shows")
        check_count(f"ablation {self.name!r}: seeds", self.seeds, "the profile's own number")
        if not callable(self.rows):
            object.__setattr__(self, "rows", self._check(tuple(self.rows)))
            if not self.rows:
                raise ValueError(f"ablation {self.name!r}: it has no rows; give it some")

    def rows_for(self, base: RunConfig) -> tuple[Row, ...]:
        """Its rows over a baseline; none where they do not apply to it.

        Errors: ValueError for rows that share a label or set the seed.
        """
        return self._check(self.rows(base)) if callable(self.rows) else self.rows

    def _check(self, rows: Sequence[Row]) -> tuple[Row, ...]:
        labels = [row.label for row in rows]
        if again := sorted({label for label in labels if labels.count(label) > 1}):
            what = f"the rows {', '.join(map(repr, again))} stand there twice"
            raise ValueError(f"ablation {self.name!r}: {what}; give each row a label of its own")
        if seeded := [row.label for row in rows if "seed" in row.changes]:
            what = f"row {seeded[0]!r} sets the seed"
            raise ValueError(f"ablation {self.name!r}: {what}; every row has all seeds")
        return tuple(rows)

    def configs(
        self, base: RunConfig, seeds: range | list[int], rates: Mapping[str, float] | None = None
    ) -> dict[tuple[str, int], RunConfig]:
        """The config of every (row label, seed), with the rate of its loss where the row has none of its own.

        rates: by the loss's family, as a profile has them.
        """
        configs = {}
        for row in self.rows_for(base):
            for seed in seeds:
                try:
                    config = base.replace(**row.changes, seed=seed + SEARCH_SEED * self.search)
                except ValueError as error:
                    raise ValueError(f"ablation {self.name!r}, row {row.label!r}: {error}") from None
                of = row.rate_of or family_of(config)
                rate = None if "lr" in row.changes or not rates else rates.get(of)
                configs[row.label, seed] = config.replace(lr=rate) if rate else config
        return configs

    def row_configs(self, base: RunConfig, rates: Mapping[str, float]) -> dict[str, RunConfig]:
        """The config of every row by its label, as `Record.row` has it: whatever seed."""
        configs = self.configs(base, [0], rates).items()
        return {label: config.replace(seed=0) for (label, _), config in configs}


def _possible(base: RunConfig, row: Row) -> bool:
    """Whether a baseline, as of one's own recipe, can take a row's changes. GHM-C brings its own divisor, and
    three quarters of a side need not suit the strides."""
    try:
        base.replace(**row.changes)
    except ValueError:
        return False
    return True


def _built_in(name: str) -> Ablation:
    about = dict(FILE["ablations"][name])
    blocks, over = about.pop("rows"), about.pop("only_over", "")
    if about.get("search"):
        blocks = [{"label": "{loss}, rate {lr:g}", "lr": RATES} | block for block in blocks]

    @cache
    def rows(base: RunConfig) -> tuple[Row, ...]:
        if not base.dataset.startswith(over):
            return ()
        found = [row for block in blocks for row in rows_of(block, base)]
        return tuple(row for row in found if _possible(base, row))

    return Ablation(name, rows=rows, **about)


ABLATIONS: dict[str, Ablation] = {name: _built_in(name) for name in FILE["ablations"]}
GRID_GAMMAS, GRID_ALPHAS = (tuple(FILE["ablations"]["grid"]["rows"][0][of]) for of in ("gamma", "alpha"))


def get_ablation(name: str, known: Mapping[str, Ablation] = ABLATIONS) -> Ablation:
    """The ablation of that name; ValueError lists those there are."""
    if name not in known:
        hint = did_you_mean(name, known)
        raise ValueError(f"there is no ablation {name!r}; there are {', '.join(known)}{hint}")
    return known[name]


@dataclass(frozen=True)
class Planned:
    """A run that one or more ablations want, and the id that its data gives it; "" before that is loaded."""

    config: RunConfig
    wanted_by: tuple[tuple[str, str], ...]  # (ablation, row label)
    run_id: str = ""

    @property
    def title(self) -> str:
        """The first ablation and row that want it, and its seed."""
        return f"{': '.join(self.wanted_by[0])}, seed {self.config.seed}"


def plan(
    profile: Profile, names: Sequence[str | Ablation], seeds: int = 0, **overrides: Any
) -> list[Planned]:
    """All runs of some ablations, each config once, first seed first: a table is whole before it is repeated.

    seeds: of every row; 0: as many as the profile has for each ablation. A search of rates is finished before
    what comes after it in `names` begins.
    Errors: ValueError for an unknown ablation or loss lists those there are, for a number of seeds that is
    none, and where none of the ablations has rows over the profile's data.
    """
    # Imports torch: the names of ablations need not wait for it.
    from focalrepro.training.criteria import get_loss

    check_count("--seeds", seeds, "the profile's own number")
    base = profile.base.replace(**overrides)
    wanted: dict[RunConfig, list[tuple[str, str]]] = {}
    asked = [get_ablation(a) if isinstance(a, str) else a for a in names]
    numbers = {a.name: seeds or a.seeds or profile.seeds_of(a.name) for a in asked}
    for _, block in groupby(asked, lambda a: a.search):
        mine = list(block)
        for seed in range(max(numbers[a.name] for a in mine)):
            for a in (a for a in mine if seed < numbers[a.name]):
                for (label, _), config in a.configs(base, [seed], profile.rates).items():
                    wanted.setdefault(config, []).append((a.name, label))
    if asked and not wanted:
        none = ", ".join(a.name for a in asked)
        raise ValueError(f"no rows over {base.dataset}: {none}; choose another profile")
    for loss in sorted({config.loss for config in wanted}):
        get_loss(loss)
    return [Planned(config, tuple(by)) for config, by in wanted.items()]
