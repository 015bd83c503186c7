"""What a claim is: a sentence, and a difference between two rows or a statistic that can confirm or refute
it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from focalrepro.config import RunConfig
from focalrepro.evidence import statistics as of
from focalrepro.evidence.difference import AP, Estimate, Evidence, Measure, Records
from focalrepro.evidence.statistics import Verdict
from focalrepro.study.ablations import get_ablation
from focalrepro.study.rates import LOSSES, RIVALS

FAMILY = ("fl-tuned-ce", "fl-hard-negatives", "fl-sampling-free", "ridge")  # the protocol's primary one


@dataclass(frozen=True)
class Side:
    """One side of a difference: a row of an ablation, or the best or worst (by mean AP) of those that match.

    where: fields of the config that the row has, a value or a tuple of such; "tuned": the best by the mean AP
    of the tune images at the rates of the search.
    """

    ablation: str
    where: dict[str, Any]
    pick: Literal["row", "best", "worst", "tuned"] = "row"

    def records(self, e: Evidence) -> tuple[Records, str] | None:
        """The side's records and its row's label; None where a run is missing that it needs."""
        if self.pick == "tuned":
            return of.best_on_tune(e, self.ablation, TUNED)
        base, rows = e.study.base, e.rows(self.ablation)
        configs = {r.label: base.replace(**r.changes) for r in get_ablation(self.ablation).rows_for(base)}
        labels = [label for label, config in configs.items() if self._is(config, base)]
        labels = labels[:1] if self.pick == "row" else labels
        found = {label: rows[label] for label in labels}
        if not found or not all(found.values()):  # the best of some rows is not the best of all
            return None
        label = of.best(found, -1 if self.pick == "worst" else 1)
        return found[label], label

    def _is(self, config: RunConfig, base: RunConfig) -> bool:
        for key, wanted in self.where.items():
            wanted = wanted(base) if callable(wanted) else wanted
            if getattr(config, key) not in (wanted if isinstance(wanted, tuple) else (wanted,)):
                return False
        return True


def row(ablation: str, **where: Any) -> Side:
    """The first row whose config has these fields; a function is asked for its value with the study's
    baseline."""
    return Side(ablation, where)


def best(ablation: str, **where: Any) -> Side:
    """The row of highest mean AP among those; only where every row of the ablation has runs."""
    return Side(ablation, where, "best")


def worst(ablation: str, **where: Any) -> Side:
    """The row of lowest mean AP among those; only where every row of the ablation has runs."""
    return Side(ablation, where, "worst")


@dataclass(frozen=True)
class Claim:
    """A sentence with its source and question. Either a less b is above 0 ("more") or 0 ("equal"), or
    `statistic`.

    id: a short slug, the same for all time. scale: of a. needs: the ablations that it reads, derived for a
    difference.
    """

    id: str
    sentence: str
    source: str
    a: Side | None = None
    b: Side | None = None
    kind: Literal["more", "equal"] = "more"
    measure: Measure = AP
    scale: float = 1.0
    statistic: Callable[[Evidence], Verdict | None] | None = None
    needs: tuple[str, ...] = ()
    question: str = ""

    def __post_init__(self) -> None:
        if self.a and self.b and not self.needs:
            sides = dict.fromkeys([self.a.ablation, self.b.ablation])
            search = ["lr"] if "tuned" in (self.a.pick, self.b.pick) else []
            object.__setattr__(self, "needs", (*search, *sides))

    @property
    def primary(self) -> bool:
        """Whether it is one of the protocol's primary family; all others are exploratory."""
        return self.id in FAMILY

    def difference(self, e: Evidence) -> Estimate | None:
        """a less b; None where runs or a measure are missing. The remark names a row that was picked."""
        sides = [side.records(e) for side in (self.a, self.b) if side]
        if None in sides or len(sides) < 2:
            return None
        (one, _), (other, _) = sides
        found = e.difference(one, other, self.measure, self.scale)
        names = [
            f"the {side.pick if side.pick != 'tuned' else 'best on tune images'} is {label}"
            for side, (_, label) in zip((self.a, self.b), sides, strict=True)
            if side.pick != "row"
        ]
        return found and found.remarked("; ".join(names))


def FL(ablation: str) -> Side:
    """The row of focal loss as the paper has it."""
    return row(ablation, loss="focal", gamma=2.0, alpha=0.25, prior=0.01, guided=False)


TUNED = ("CE, α = .5", "CE, α = .75", "CE, α = .5, π = .001")  # the searched cross entropies


def plain(ablation: str, **more: Any) -> Side:
    """The row of cross entropy that weighs both classes alike."""
    return row(ablation, gamma=0.0, alpha=0.5, **more)


def at(ablation: str, name: str) -> Side:
    """The row of a searched loss."""
    return row(ablation, **({"loss": "focal", "prior": 0.01, "guided": False} | (LOSSES | RIVALS)[name]))
