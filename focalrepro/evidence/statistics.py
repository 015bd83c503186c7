"""Verdicts as data, and the statistics of the claims that are no plain difference between two rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from focalrepro.evaluation import calibration
from focalrepro.evaluation.record import Record
from focalrepro.evidence import cost
from focalrepro.evidence.difference import LEVEL, MARGIN, Estimate, Evidence, Records, seed_luck, student
from focalrepro.evidence.tables import mean

MATCHED = 0.5  # AP; calibration is compared only between rows that differ by less
FL = {"gamma": 2.0, "alpha": 0.25}
Test = Callable[[Evidence], "Verdict | None"]


@dataclass(frozen=True)
class Verdict:
    """confirmed, refuted, undecided, measured or not run; a value with its interval and unit; n and p.

    p: of the test, adjusted in the primary family. direction: above 0 where the value speaks for the claim.
    remark: which row was picked, and the like; how: what the interval holds.
    """

    word: str
    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    unit: str = "AP"
    seeds: int = 0
    p: float | None = None
    primary: bool = False
    direction: float = 0.0
    remark: str = ""
    how: str = ""
    estimate: Estimate | None = None


def word(low: float, high: float) -> str:
    """The word for "this is above 0" by an interval."""
    return "confirmed" if low > 0 else "refuted" if high < 0 else "undecided"


def of_estimate(word: str, found: Estimate, rule: str = "") -> Verdict:
    """The verdict that a difference gives."""
    how = "images and seeds" if not found.margin else f"images, and ±{found.margin:g} for the one seed"
    how += ", the seeds' spread as in the committed results" if found.borrowed else ""
    how += f", the images' error as that of {found.images_as}" if found.images_as else ""
    return Verdict(
        word, found.effect, found.low, found.high, found.measure, found.seeds, found.p, False, found.effect,
        found.remark, f"{how}; {rule}" if rule else how, found,
    )  # fmt: skip


def more(found: Estimate) -> Verdict:
    """A claim that a difference is above 0, by its unadjusted 95 % interval."""
    return of_estimate(word(found.low, found.high), found)


def equal(found: Estimate) -> Verdict:
    """A claim that a difference is none: two one-sided tests at 5 % within ±MARGIN; refuted by the 95 %
    interval."""
    low, high = found.interval(1 - 2 * LEVEL)  # both tests hold where it lies within the margin
    if low > -MARGIN and high < MARGIN:
        verdict = "confirmed"
    else:
        verdict = "refuted" if found.low > MARGIN or found.high < -MARGIN else "undecided"
    return of_estimate(verdict, found, f"equal within ±{MARGIN:g}")


def best(rows: Mapping[str, Records], sign: int = 1) -> str:
    """The label of the row of highest (sign 1) or lowest (-1) mean AP."""
    return max(rows, key=lambda label: sign * mean(r.AP for r in rows[label]))


def best_on_tune(e: Evidence, ablation: str, names: Sequence[str]) -> tuple[Records, str] | None:
    """Of some searched losses the one with the highest mean tune AP at its own rate: its row and label.

    The rates' search (`lr`) decides; None where it is not done, or where the row has no run.
    """
    trials = {
        name: [rows for label, rows in e.rows("lr").items() if label.startswith(f"{name}, rate")]
        for name in names
    }
    if not all(rows for search in trials.values() for rows in search):
        return None
    tuned = {name: max(mean(r.tune_AP for r in rows) for rows in search) for name, search in trials.items()}
    name = max(tuned, key=tuned.get)
    found = e.rows(ablation).get(name)
    return (found, name) if found else None


# ---- the place of the best α, in resamples


def best_alpha(e: Evidence) -> Verdict | None:
    """In what share of resamples the best α of cross entropy lies in [.5, .9]."""
    rows = e.whole("1a")
    if not rows:
        return None
    alphas = np.array([found[0].config.alpha for found in rows.values()])
    winner = alphas[seed_luck(e, list(rows.values()), np.random.default_rng(0)).argmax(axis=0)]
    share = float(((winner >= 0.5) & (winner <= 0.9)).mean())
    at = rows[best(rows)][0].config.alpha
    verdict = "confirmed" if share >= 1 - LEVEL else "refuted" if share <= LEVEL else "undecided"
    return _share(e, rows, verdict, share, f"best at α = {at:g}")


def ridge(gamma: float) -> Test:
    """Over the grid: in what share of resamples the best α of a γ is below that of γ = 0; p: in which it is
    not."""

    def test(e: Evidence) -> Verdict | None:
        rows = e.whole("grid")
        if not rows:
            return None
        rng, winners, at = np.random.default_rng(0), [], []
        for value in (0.0, gamma):
            mine = {label: found for label, found in rows.items() if found[0].config.gamma == value}
            alphas = np.array([found[0].config.alpha for found in mine.values()])
            winners.append(alphas[seed_luck(e, list(mine.values()), rng).argmax(axis=0)])
            at.append(mine[best(mine)][0].config.alpha)
        lower, higher = (float((sign * (winners[1] - winners[0]) > 0).mean()) for sign in (-1, 1))
        p, direction = min((1 - lower, 1.0), (1 - higher, -1.0))
        verdict = "undecided" if p > LEVEL else "confirmed" if direction > 0 else "refuted"
        remark = f"best at α = {at[0]:g} for γ = 0 and at α = {at[1]:g} for γ = {gamma:g}"
        return _share(e, rows, verdict, lower, remark, p, direction)

    return test


def _share(
    e: Evidence, rows: Mapping[str, Records], word: str, share: float, remark: str, p: float | None = None,
    direction: float = 0.0,
) -> Verdict:  # fmt: skip
    how = "resamples of the images and of the seeds' luck"
    if not e.spread().freedom:
        word, p, how = "undecided", None, "resamples of the images; one seed, whose luck is unknown"
    if max(mean(r.AP for r in found) for found in rows.values()) < 1:
        word, p, how = "undecided", None, "no row finds anything"
    seeds = min(map(len, rows.values()))
    return Verdict(
        word, share, unit="of resamples", seeds=seeds, p=p, direction=direction, remark=remark, how=how
    )


# ---- numbers of each run: Student's t over seeds


def _over_seeds(values: Sequence[float], unit: str, remark: str, how: str = "") -> Verdict:
    """The verdict of "these are above 0", a value for each seed; three seeds are needed."""
    found, n = np.array(values), len(values)
    how = f"{how}; Student's t over the seeds" if how else "Student's t over the seeds"
    if n < 3:
        value = float(found.mean())
        return Verdict("undecided", value, unit=unit, seeds=n, remark=remark, how=f"{how}; three are needed")
    low, high = student(float(found.mean()), float(found.std(ddof=1)) / n**0.5, n - 1)
    return Verdict(word(low, high), float(found.mean()), low, high, unit, n, remark=remark, how=how)


def reshaping(e: Evidence) -> Verdict | None:
    """What γ = 2 adds to the share of the loss on the background's hardest tenth, less twice what it adds for
    objects."""
    kept = [r.loss_distribution for r in e.row("1b", **FL) if r.loss_distribution]
    if not kept:
        return None

    def added(kind: str) -> np.ndarray:  # index 90 of 101: what the easier nine tenths carry
        return np.array([100 * (d[kind]["0"][90] - d[kind]["2"][90]) for d in kept])

    background, objects = added("background"), added("foreground")
    remark = f"background {background.mean():+.0f} points, objects {objects.mean():+.0f}"
    return _over_seeds(
        background - 2 * objects, "points of the loss", remark, "background less twice objects"
    )


def probabilities(r: Record, way: str) -> np.ndarray:
    """What a record's scores mean, [240] probabilities: raw, or after temperature, isotonic or closed
    form."""
    tune = r.scores.tune.model_dump()
    if way == "closed form":
        return calibration.closed_form(r.config.alpha, r.config.gamma)
    return {"raw": calibration.raw, "temperature": calibration.tempered, "isotonic": calibration.isotonic}[
        way
    ](tune)


def calibration_error(r: Record, way: str = "raw") -> float:
    """Expected calibration error of the test images' detections; NaN where a record has no scores for it.

    Records up to version 2 have the raw one of all detections above .05.
    """
    if r.scores is None:
        kept = r.calibration.error if r.calibration and way == "raw" else None
        return float("nan") if kept is None else kept
    if not sum(r.scores.tune.right) and way != "closed form":
        return float("nan")
    return calibration.calibration_of(r.scores.test.model_dump(), probabilities(r, way)).error


def reliability_bins(r: Record) -> pd.DataFrame:
    """count, score and right (the share that is) of ten equal bins of raw score that have detections, test
    images."""
    if r.scores:
        histogram = r.scores.test.model_dump()
        return pd.DataFrame(calibration.reliability(histogram, calibration.raw(histogram)))
    kept = r.calibration and r.calibration.model_dump(include={"count", "score", "right"})
    return pd.DataFrame(kept or {}).dropna()


def matched(e: Evidence) -> tuple[Records, Records, float] | None:
    """Focal loss, the plain cross entropy nearest to it in AP (Table 1a's, or of twice the steps), and their
    gap."""
    focal, base = e.row("1b", **FL), e.study.base
    rows = [e.row("1a", alpha=0.5), e.row("budget", gamma=0.0, steps=2 * base.steps)]
    sides = []
    for plain in rows:
        seeds = {r.seed for r in plain} & {r.seed for r in focal}
        one, other = ([r for r in side if r.seed in seeds] for side in (focal, plain))
        if seeds:
            sides.append((one, other, abs(mean(r.AP for r in one) - mean(r.AP for r in other))))
    return min(sides, key=lambda side: side[2]) if sides else None


def calibrated(way: str) -> Test:
    """Calibration error of cross entropy less that of focal loss, both after `way`, where their AP is
    matched."""

    def test(e: Evidence) -> Verdict | None:
        found = matched(e)
        if not found:
            return None
        focal, plain, gap = found
        errors = [[calibration_error(r, way) for r in side] for side in (focal, plain)]
        if np.isnan(errors).any():
            return None
        remark = f"{np.mean(errors[0]):.3f} against {np.mean(errors[1]):.3f}"
        verdict = _over_seeds(np.subtract(errors[1], errors[0]), "calibration error", remark)
        if gap < MATCHED:
            return verdict
        how = f"not comparable: their AP differs by {gap:.1f}, {MATCHED:g} or more"
        return Verdict(
            "undecided", verdict.value, unit=verdict.unit, seeds=verdict.seeds, remark=remark, how=how
        )

    return test


def closed_form(e: Evidence) -> Verdict | None:
    """Calibration error of focal loss's scores as they are less that after the closed form."""
    records = [r for r in e.row("1b", **FL) if r.scores]
    if not records:
        return None
    before, after = ([calibration_error(r, way) for r in records] for way in ("raw", "closed form"))
    remark = f"{np.mean(before):.3f} before, {np.mean(after):.3f} after"
    return _over_seeds(np.subtract(before, after), "calibration error", remark)


# ---- differences whose rows depend on the profile


def star(e: Evidence) -> Verdict | None:
    """Of the paper's two settings of FL*, the one that is farther from focal loss, which both must equal."""
    focal = e.row("3", gamma=2.0, loss="focal")
    rows = {k: found for k, found in e.rows("3").items() if k.startswith("FL*")}
    if not all(rows.values()) or not focal:
        return None
    label = max(rows, key=lambda k: abs(mean(r.AP for r in rows[k]) - mean(r.AP for r in focal)))
    found = e.difference(rows[label], focal)
    return found and equal(found.remarked(f"the farther is {label}"))


def _single_stage(e: Evidence) -> list[Records]:
    """The rows of 1e with a one-stage detector."""
    return [found for found in e.rows("1e").values() if found and found[0].config.detector != "faster_rcnn"]


def deeper(e: Evidence) -> Verdict | None:
    """At the baseline's image size, the deeper backbone less the baseline's."""
    base = e.study.base
    rows = [found for found in _single_stage(e) if found[0].config.image_size == base.image_size]
    own = [found for found in rows if found[0].config.backbone == base.backbone]
    other = [found for found in rows if found[0].config.backbone != base.backbone]
    found = e.difference(other[0], own[0]) if own and other else None
    return found and more(found)


def larger(e: Evidence) -> Verdict | None:
    """With the baseline's backbone, the largest images less the smallest."""
    rows = [found for found in _single_stage(e) if found[0].config.backbone == e.study.base.backbone]
    rows.sort(key=lambda found: found[0].config.image_size)
    found = e.difference(rows[-1], rows[0]) if len(rows) > 1 else None
    return found and more(found)


# ---- measurements, without a verdict


def rarity(e: Evidence) -> Verdict | None:
    """How many anchors there are for each that is assigned to an object."""
    r = e.study.typical()
    if r is None or r.anchors is None:
        return None
    ratio = r.anchors.per_image / max(r.anchors.positive_per_image, 1e-9)
    return Verdict(
        "measured", ratio, unit="anchors for each assigned one", how="counted on the training images"
    )


def training_speed(e: Evidence) -> Verdict | None:
    """Steps of both losses timed in turn within each run; where no run did so, the speeds of whole runs."""
    found = cost.step_ratio(e.study)
    if found is None:
        return _measured(
            cost.ratio(cost.speeds(e.study), cost.TRAINING), "× the images a second", "whole runs"
        )
    return _measured(found, "× the time of a step", "steps timed in turn within a run")


def inference_speed(e: Evidence) -> Verdict | None:
    """One image alone, of the runs with γ > 0 over that of cross entropy's."""
    return _measured(
        cost.ratio(cost.speeds(e.study), cost.INFERENCE), "× the time of an image", "seed by seed"
    )


def _measured(found: cost.Ratio | None, unit: str, how: str) -> Verdict | None:
    return found and Verdict(
        "measured", found.ratio, found.low, found.high, unit, how=f"{how}, {found.runs} runs"
    )
