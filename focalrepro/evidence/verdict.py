"""Verdicts: how an interval becomes a word. The rules are those of results/PROTOCOL.md."""

from collections.abc import Sequence
from dataclasses import dataclass

from focalrepro.evidence.difference import LEVEL, MARGIN, Estimate, mean_interval

JUDGED = ("confirmed", "refuted", "undecided")
NOT_YET = "not judged yet"  # since who looks early and often finds something


@dataclass(frozen=True)
class Verdict:
    """confirmed, refuted, undecided, measured, not comparable, not judged yet or not run; a value with its
    interval and unit.

    p: of the test, adjusted in the primary family; wanted: the seeds below which there is no verdict.
    direction: above 0 where it speaks for the claim. remark: as which row was picked; how: the interval's.
    made_on: of which machine its runs are, where these are not what other tables count.
    """

    word: str
    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    unit: str = "AP"
    seeds: int = 0
    p: float | None = None
    primary: bool = False
    wanted: int = 0
    direction: float = 0.0
    remark: str = ""
    made_on: str = ""
    how: str = ""
    estimate: Estimate | None = None


def verdict_of(gap: Estimate, kind: str = "more") -> Verdict:
    """The verdict of a difference: "more" claims that it is above 0, by its unadjusted 95 % interval; "equal"
    that the rows tie, by two one-sided tests at 5 % within ±MARGIN, refuted by the 95 % interval."""
    luck = "for the one seed" if gap.seeds == 1 else "for luck with the seeds, which no row shows"
    how = f"images, and ±{gap.margin:g} {luck}" if gap.margin else "images and seeds"
    how += ", the seeds' spread as in the committed results" if gap.borrowed else ""
    how += f", the images' error as that of {gap.images_as}" if gap.images_as else ""
    word = "measured"
    if kind == "more":
        word = "confirmed" if gap.low > 0 else "refuted" if gap.high < 0 else "undecided"
    elif kind == "equal":
        low, high = gap.interval(1 - 2 * LEVEL)  # both tests hold where it lies within the margin
        beyond = gap.low > MARGIN or gap.high < -MARGIN
        word = "confirmed" if low > -MARGIN and high < MARGIN else "refuted" if beyond else "undecided"
        how += f"; equal within ±{MARGIN:g}"
    speaks = gap.effect if kind != "measured" else 0.0  # which claims nothing
    made_on = f"both sides by runs of {gap.machine}, to compare with no other row" if gap.machine else ""
    about = {"direction": speaks, "remark": gap.remark, "made_on": made_on, "how": how, "estimate": gap}
    return Verdict(word, gap.effect, gap.low, gap.high, gap.measure, gap.seeds, gap.p, **about)


def over_seeds(values: Sequence[float], unit: str, remark: str) -> Verdict:
    """The mean of a value for each seed, with Student's interval from three on. Measured, not judged: a
    verdict holds the images' error, too, and of these values records keep no replicates over the images."""
    n, (value, low, high) = len(values), mean_interval(values)
    how = "over the seeds alone, so without a verdict"
    about = {"unit": unit, "seeds": n, "remark": remark, "how": how, "direction": value}
    return Verdict("measured", value, **about | ({"low": low, "high": high} if n > 2 else {}))
