"""How evidence becomes a verdict.

A claim that one side is better is *confirmed* where the difference has the claimed sign and its p value, corrected by
Holm over all such claims of the profile, is below .05; *refuted* where it is as clear with the other sign. A claim
of a tie is confirmed where the 95 % interval lies within ±`margin`, refuted where it lies outside. All else is
*undecided*, with what would decide it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from focalrepro.evidence import Estimate, Evidence

MARGIN = 1.0  # AP; within it two rows are called tied,
SHARE = 0.05  # and within this part of the higher AP, where that is less: at 6 AP one point is a sixth of all
LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """confirmed, refuted, undecided or not run; the effect as text; n, test and corrected p as text.

    seeds: that it rests on, 0 where seeds do not matter.
    """

    verdict: str
    effect: str = ""
    how: str = ""
    p: float | None = None
    seeds: int = 0


@dataclass(frozen=True)
class Claim:
    """sentence and source; the ablations it needs; what would decide it; the test on the evidence.

    The test gives a Verdict, or an Estimate for "is this difference positive?", which `judge_all` judges together
    with the other claims' estimates; None where runs are missing.
    """

    sentence: str
    source: str
    needs: tuple[str, ...]
    decided_by: str
    test: Callable[[Evidence], Verdict | Estimate | None]


def margin(estimate: Estimate) -> float:
    """Points of AP within which the two sides of a difference count as tied."""
    return min(MARGIN, SHARE * estimate.larger)


def tie(estimate: Estimate | None) -> Verdict | None:
    """A claim that two rows do not differ by more than `margin`."""
    if estimate is None:
        return None
    within = margin(estimate)
    inside = estimate.low > -within and estimate.high < within
    outside = estimate.high < -within or estimate.low > within
    word = "confirmed" if inside else "refuted" if outside else "undecided"
    return Verdict(word, str(estimate), f"{estimate.how}; tied within ±{within:.2g} AP", seeds=estimate.seeds)


def reaches(estimate: Estimate | None) -> Verdict | None:
    """A claim that the first side is not worse than the second by more than `margin`."""
    if estimate is None:
        return None
    within = margin(estimate)
    word = "confirmed" if estimate.low > -within else "refuted" if estimate.high < -within else "undecided"
    return Verdict(
        word, str(estimate), f"{estimate.how}; reached from −{within:.2g} AP on", seeds=estimate.seeds
    )


def judge(estimate: Estimate, p: float) -> Verdict:
    """A claim that a difference is positive, with its corrected p value."""
    clear = p < LEVEL
    word = "confirmed" if clear and estimate.effect > 0 else "refuted" if clear else "undecided"
    shown = f"p {p:.3f}" if p >= 0.001 else "p < .001"
    return Verdict(word, str(estimate), f"{estimate.how}; {shown}", p, estimate.seeds)
