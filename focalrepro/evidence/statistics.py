"""The statistics of the claims that are no difference between two rows; `claims.toml` names them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from focalrepro.evaluation import calibration
from focalrepro.evaluation.calibration import Calibration
from focalrepro.evaluation.record import Record
from focalrepro.evidence.difference import LEVEL, MEASURES, Evidence, Measure, Records, mean_interval, shared
from focalrepro.evidence.tables import mean
from focalrepro.evidence.verdict import Verdict, over_seeds, verdict_of
from focalrepro.study.study import Rows

MATCHED = 0.5  # AP; calibration is compared only between rows that differ by less
FL = {"gamma": 2.0, "alpha": 0.25}
DRAWS = 50  # of the seeds' luck for each resample of the images: fewer, and a p near .05 is a matter of them

ENOUGH = 3  # records that say how the loss lay as it was divided
UNDIVIDED = "undivided"

# ---- the place of the best α, in resamples


def _winners(
    e: Evidence, rows: Rows, rng: np.random.Generator, measure: Measure
) -> tuple[np.ndarray, float] | None:
    """The best α in each of R resamples of the images, [R, DRAWS] with the seeds' luck, [R, 1] where that is
    unknown; and the best by the means. The luck is Student's, as in every interval: its spread is estimated.

    Resamples without an object say nothing, and are left out; None where no image that judges has one.
    """
    alphas, spread = np.array([of[0].config.alpha for of in rows.values()]), e.spread(measure)
    ap = np.array([np.mean([*map(measure.replicates, of)], axis=0) for of in rows.values()])
    ap = ap[:, ~np.isnan(ap).any(axis=0), None]
    values = [[measure.value(r) for r in of] for of in rows.values()]
    if not ap.size or any(v is None for of in values for v in of):
        return None
    if spread.freedom:
        each = [(len(seeds), *spread.of(seeds)) for seeds in values]
        luck = [(v / n) ** 0.5 * rng.standard_t(freedom, (ap.shape[1], DRAWS)) for n, v, freedom in each]
        ap = ap + np.array(luck)
    return alphas[ap.argmax(0)], alphas[np.argmax([mean(seeds) for seeds in values])]


def best_alpha(e: Evidence, measure: str = "AP") -> Verdict | None:
    """In what share of resamples the best α of cross entropy lies in [.5, .9], by a measure of MEASURES."""
    rows, by = e.whole("1a"), MEASURES[measure]
    if not rows:
        return None
    found = _winners(e, rows, np.random.default_rng(0), by)
    if not found:
        return None
    winner, at = found
    share = float(((winner >= 0.5) & (winner <= 0.9)).mean())
    word = "confirmed" if share >= 1 - LEVEL / 2 else "refuted" if share <= LEVEL / 2 else "undecided"
    return _with_luck(e, rows, Verdict(word, share, remark=f"highest at α = {at:g}"), by)


def ridge(e: Evidence, gamma: float, over: str, measure: str = "AP") -> Verdict | None:
    """In what share of resamples the best α of a γ is below that of γ = 0; p: two-sided, as the others are.

    over: the ablation that has both γ with every α. measure: of MEASURES.
    """
    rows, by = e.whole(over), MEASURES[measure]
    if not rows:
        return None
    rng = np.random.default_rng(0)
    found = [
        _winners(e, {k: records for k, records in rows.items() if records[0].config.gamma == value}, rng, by)
        for value in (0.0, gamma)
    ]
    if None in found:
        return None
    (plain, at_plain), (focal, at_focal) = found
    # A resample of the images more speaks against it: no finite number of them shows a p of 0.
    against, count = {1.0: focal >= plain, -1.0: focal <= plain}, len(focal)
    p, direction = min((2 * (1 + count * of.mean()) / (1 + count), sign) for sign, of in against.items())
    p, lower = min(float(p), 1.0), float((focal < plain).mean())
    word = "undecided" if p > LEVEL else "confirmed" if direction > 0 else "refuted"
    lowest = min(of[0].config.alpha for of in rows.values())
    edge = ", the lowest tried," if at_focal == lowest else ""
    remark = f"highest at α = {at_plain:g} for γ = 0 and at α = {at_focal:g}{edge} for γ = {gamma:g}"
    return _with_luck(e, rows, Verdict(word, lower, p=p, direction=direction, remark=remark), by)


def _with_luck(e: Evidence, rows: Rows, v: Verdict, measure: Measure) -> Verdict:
    """The verdict of a share of resamples, undecided where the seeds' luck is unknown or nothing is found."""
    how = "resamples of the images and of the seeds' luck"
    v = replace(v, unit="of resamples", seeds=min(map(len, rows.values())), how=how)
    if max(mean(r.AP for r in records) for records in rows.values()) < 1:
        return replace(v, word="undecided", p=None, how="no row finds anything")
    if not e.spread(measure).freedom:
        how = "resamples of the images; one seed, whose luck is unknown"
        return replace(v, word="undecided", p=None, how=how)
    return v


# ---- numbers of each run, over seeds


def reshaping(e: Evidence) -> Verdict | None:
    """What γ = 2 adds to the loss's share on the hardest tenth of background, less twice that of objects."""
    kept = [r.loss_distribution for r in e.row("1b", **FL) if r.loss_distribution]
    if not kept:
        return None
    background, objects = (  # index 90 of 101: what the easier nine tenths carry
        np.array([100 * (d[kind]["0"][90] - d[kind]["2"][90]) for d in kept])
        for kind in ("background", "foreground")
    )
    remark = (
        f"the hardest tenth carries {background.mean():.0f} points more of the background's loss and "
        f"{objects.mean():.0f} more of the objects'; judged is the first less twice the second"
    )
    return over_seeds(background - 2 * objects, "points of the loss", remark)


class Background(NamedTuple):
    """What the background has of a row's classification loss, or of its gradient by the logits, in percent:
    [seeds, looks], the looks before these steps. divided: as a training divides its batches, where enough
    records say so, or all of them; else as images add up."""

    shares: np.ndarray
    steps: Sequence[int]
    divided: bool


def background(e: Evidence, mine: Records, by: Literal["loss", "gradient"]) -> Background | None:
    """`Background` of a row's records and of those made again on another machine; None where none looked."""
    made = [*chain.from_iterable(e.study.again.values()), *mine] if mine else []
    looked = [(r.seed, r.on_objects) for r in made if r.on_objects and r.row == mine[0].row]
    divided = dict(look for look in looked if look[1].divided_loss)
    enough = len(divided) >= min(ENOUGH, len(dict(looked)))
    kept = divided if enough else dict(looked)
    if not kept:
        return None
    shares = [getattr(look, f"divided_{by}" if enough else by) for look in kept.values()]
    return Background(100 * (1 - np.array(shares, float)), next(iter(kept.values())).step, enough)


def drowns(e: Evidence, by: Literal["loss", "gradient"]) -> Verdict | None:
    """What the background has of plain cross entropy's loss or gradient after the first looks, less a half:
    the share that is left to objects' anchors, in points."""
    mine = e.row("1a", alpha=0.5)
    found = background(e, mine, by)
    if found is None:
        return None
    last = found.steps[-2]  # the last look at the beginning; after it comes the end
    first, after, end = (f"{share:.0f} %" for share in found.shares.mean(0)[[0, -2, -1]])
    then = f"{after} after {last} of {mine[0].config.steps:,} steps"
    remark = f"the background has {first} at the start, {then}, {end} at the end"
    remark += "" if found.divided else f" ({UNDIVIDED})"
    return over_seeds(found.shares[:, -2] - 50, f"points of the {by}, beyond a half", remark)


def calibration_error(r: Record, way: str = "raw", best: bool = False) -> float:
    """`calibration_after`'s expected calibration error."""
    return calibration_after(r, way, best).error


def calibration_after(r: Record, way: str = "raw", best: bool = False) -> Calibration:
    """How far the scores of the test images' detections are probabilities: raw, or after temperature,
    isotonic or closed form; best: of the best-scored, as many as are right. NaN where nothing on tune is
    right."""
    tune = r.scores.tune.model_dump()
    if way == "closed form":
        probabilities = calibration.closed_form(r.config.alpha, r.config.gamma)
    elif not sum(tune["right"]):
        return Calibration(np.nan, np.nan, np.nan)
    else:
        maps = {"raw": calibration.raw, "temperature": calibration.tempered, "isotonic": calibration.isotonic}
        probabilities = maps[way](tune)
    judged = r.scores.test.model_dump()
    judged = calibration.best_scored(judged) if best else judged
    return calibration.calibration_of(judged, probabilities)


def reliability_bins(r: Record) -> pd.DataFrame:
    """count, score and right (the share that is) of ten equal bins of raw score that have detections."""
    histogram = r.scores.test.model_dump()
    return pd.DataFrame(calibration.reliability(histogram, calibration.raw(histogram)))


def score_below(r: Record, share: float) -> float:
    """The score that a share of the test images' detections does not exceed, to a tenth of its logit."""
    scores = r.scores.test.model_dump()
    reached = np.cumsum(np.add(scores["right"], scores["wrong"]))
    return float(calibration.raw(scores)[np.searchsorted(reached, share * reached[-1])])


def matched(e: Evidence) -> tuple[Records, Records, float] | None:
    """Focal loss, the cross entropy nearest to it in AP (of Table 1a, or of twice the steps), their gap."""
    focal, sides = e.row("1b", **FL), []
    for plain in (e.row("1a", alpha=0.5), e.row("budget", gamma=0.0, steps=2 * e.study.base.steps)):
        one, other = shared({"FL": focal, "CE": plain}).values()
        if one and other:
            sides.append((one, other, abs(mean(r.AP for r in one) - mean(r.AP for r in other))))
    return min(sides, key=lambda side: side[2]) if sides else None


def calibrated(e: Evidence, way: str) -> Verdict | None:
    """Calibration error of cross entropy less focal loss's, both after `way`, where their AP is matched."""
    found = matched(e)
    if not found:
        return None
    *sides, apart = found
    focal, plain = ([calibration_error(r, way) for r in side] for side in sides)
    if np.isnan([*focal, *plain]).any():
        return None
    steps = sides[1][0].config.steps
    best = [mean(calibration_error(r, way, best=True) for r in side) for side in sides]
    ap, other = (f"{mean(r.AP for r in side):.1f}" for side in sides)
    remark = f"{{1:.3f}} against {{0:.3f}} of cross entropy after {steps:,} steps, with AP {ap} and {other}"
    if not np.isnan(best).any():
        remark += "; of the best-scored detections, as many as are right, {:.3f} against {:.3f}".format(*best)
    verdict = _errors(plain, focal, remark)
    if apart < MATCHED:
        return verdict
    how = f"their AP differs by {apart:.1f}, {MATCHED:g} or more"
    return replace(verdict, word="not comparable", low=np.nan, high=np.nan, how=how)


def closed_form(e: Evidence) -> Verdict | None:
    """Calibration error of focal loss's scores as they are less that after the closed form."""
    records, ways = e.row("1b", **FL), ("raw", "closed form")
    before, after = ([calibration_error(r, way) for r in records] for way in ways)
    best = [mean(calibration_error(r, way, best=True) for r in records) for way in ways]
    if not records or np.isnan([*before, *after, *best]).any():  # nothing is right
        return None
    remark = "{0:.3f} before, {1:.3f} after; of the best-scored {2:.3f} and {3:.3f}"
    worse = best[1] > best[0]  # of what users meet: then the number speaks neither for it nor against it
    verdict = _errors(before, after, remark + ", so worse" * worse, *best)
    return replace(verdict, direction=0.0) if worse else verdict


def _errors(one: Sequence[float], other: Sequence[float], remark: str, *beside: float) -> Verdict:
    text = remark.format(np.mean(one), np.mean(other), *beside)
    return over_seeds(np.subtract(one, other), "calibration error", text)


# ---- differences of differences


def lead_grows(
    e: Evidence, over: str, to: str | float, since: str | float, losses: Sequence[str], beside: str = ""
) -> Verdict | None:
    """What the first loss is ahead of the second in an ablation's rows of `to`, less what it is in `since`.

    Rows are named "loss, setting"; a setting that is a number is a part of the baseline's steps. beside: the
    ablation that has the rows of `since`, where it is another.
    """
    steps = e.study.base.steps
    names = [at if isinstance(at, str) else f"{round(at * steps):,} steps" for at in (to, since)]
    places = zip((over, beside or over), names, strict=True)
    rows = [e.rows(ablation).get(f"{loss}, {name}") for ablation, name in places for loss in losses]
    gap = e.contrast(rows, (1.0, -1.0, -1.0, 1.0)) if all(rows) else None
    return gap and verdict_of(gap)


# ---- a measurement, without a verdict


def rarity(e: Evidence) -> Verdict | None:
    """How many anchors there are for each that is assigned to an object."""
    r = e.study.typical()
    if r is None:
        return None
    ratio = r.anchors.per_image / max(r.anchors.positive_per_image, 1e-9)
    how = "counted on the training images"
    return Verdict("measured", ratio, unit="anchors for each assigned one", how=how)


def training_speed(e: Evidence) -> Verdict | None:
    """What a step takes with focal loss against cross entropy: the geometric mean of the ratios of runs, each
    of which timed both in turn. None below three such runs."""
    timed = [r.step_seconds for rows in e.study.rows("1b").values() for r in rows if r.step_seconds]
    if len(timed) < 3:
        return None
    logs = np.log([t.own / t.cross_entropy for t in timed])
    value, low, high = np.exp(mean_interval(logs)).tolist()
    how = f"steps timed in turn within a run, {len(timed)} runs"
    return Verdict("measured", value, low, high, "× the time of a step", how=how)


_ALL = best_alpha, ridge, drowns, reshaping, calibrated, closed_form, lead_grows, rarity, training_speed
STATISTICS = {of.__name__: of for of in _ALL}  # by the name that claims.toml has
