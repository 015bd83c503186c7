"""The statistics behind the claims: each a function of the evidence, None where runs are missing."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from focalrepro import cost
from focalrepro.evidence import Estimate, Evidence, Records, signed
from focalrepro.results import replicates, typical
from focalrepro.verdicts import LEVEL, Verdict, reaches, tie

SPEED_KEPT = 0.95  # of the speed of cross entropy
FL = {"gamma": 2.0, "alpha": 0.25}
Test = Callable[[Evidence], Verdict | Estimate | None]


def seeds_text(count: int) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{count} seed{'s'[: count > 1]}"


def mean_ap(records: Records) -> float:
    """Mean AP over seeds; -1 for a row without runs, which so is never the best."""
    return float(np.mean([r["metrics"]["AP"] for r in records])) if records else -1.0


def best(rows: list[Records]) -> Records:
    """The row of the highest mean AP."""
    return max(rows, key=mean_ap)


def difference(ablation: str, one: dict[str, Any], other: dict[str, Any]) -> Test:
    """One row of an ablation less another."""
    return lambda e: e.difference(e.row(ablation, **one), e.row(ablation, **other))


def best_cross_entropy(e: Evidence) -> Records:
    """The best row of Table 1a; [] unless all rows have runs."""
    rows = e.whole("1a")
    return best(list(rows.values())) if rows else []


def over_best_cross_entropy(**changes: Any) -> Test:
    """A row of Table 1b less the best row of Table 1a."""
    return lambda e: e.difference(e.row("1b", **changes), best_cross_entropy(e))


def over_plain_cross_entropy(e: Evidence) -> Estimate | None:
    """Focal loss less cross entropy that weighs both classes alike."""
    return e.difference(e.row("1b", **FL), e.row("1a", alpha=0.5))


def whole_plateau(e: Evidence) -> Estimate | None:
    """The worst γ of .5 to 5 less the best α-balanced cross entropy."""
    rows = {gamma: e.row("1b", gamma=gamma) for gamma in (0.5, 1.0, 2.0, 5.0)}
    if not all(rows.values()):
        return None
    worst = min(rows, key=lambda gamma: mean_ap(rows[gamma]))
    found = e.difference(rows[worst], best_cross_entropy(e))
    return found and found.remarked(f"the worst is γ = {worst:g}")


def collapse(e: Evidence) -> Verdict | None:
    """α = .10 has less than a tenth of the best α's AP."""
    collapsed = e.row("1a", alpha=0.10)
    reference = best_cross_entropy(e)
    if not collapsed or not reference:
        return None
    share = mean_ap(collapsed) / max(mean_ap(reference), 1e-9)
    word = "confirmed" if share < 0.1 else "refuted" if share > 0.5 else "undecided"
    return Verdict(word, f"{share:.0%} of the best α's AP", "below 10 % is a collapse, above 50 % is none")


def _resampled(e: Evidence, rows: list[Records]) -> np.ndarray:
    """AP of each row in resamples of the images, [rows, R], with the luck of its seeds added where it is known."""
    rng = np.random.default_rng(0)
    ap = np.array([np.nan_to_num(np.mean([replicates(r) for r in records], axis=0)) for records in rows])
    if not e.seeds.freedom:
        return ap
    variance = [e.seeds.of([r["metrics"]["AP"] for r in records])[0] / len(records) for records in rows]
    return ap + np.sqrt(variance)[:, None] * rng.standard_normal(ap.shape)


def _of_what(e: Evidence, seeds: int) -> str:
    return f"{seeds_text(seeds)}; resamples of the images" + (
        " and of the seeds' luck" if e.seeds.freedom else ""
    )


def best_alpha(e: Evidence) -> Verdict | None:
    """In how many resamples the best α of cross entropy lies in [.5, .9]."""
    rows = e.whole("1a")
    if not rows:
        return None
    alphas = np.array([records[0]["config"]["alpha"] for records in rows.values()])
    winner = alphas[_resampled(e, list(rows.values())).argmax(axis=0)]
    share = float(((winner >= 0.5) & (winner <= 0.9)).mean())
    word = "confirmed" if share >= 1 - LEVEL else "refuted" if share <= LEVEL else "undecided"
    at, seeds = best_cross_entropy(e)[0]["config"]["alpha"], min(map(len, rows.values()))
    text = f"best at α = {at:g}; in [.5, .9] in {share:.0%} of resamples"
    return Verdict(word, text, _of_what(e, seeds), seeds=seeds)


def alpha_falls(e: Evidence) -> Verdict | None:
    """Over the grid: in how many resamples the best α of the largest γ is below that of γ = 0."""
    rows = e.whole("grid")
    if not rows:
        return None
    found = [(r[0]["config"]["gamma"], r[0]["config"]["alpha"], r) for r in rows.values()]
    ends = []
    for gamma in (min(g for g, _, _ in found), max(g for g, _, _ in found)):
        mine = [(alpha, records) for g, alpha, records in found if g == gamma]
        alphas = np.array([alpha for alpha, _ in mine])
        ends.append(alphas[_resampled(e, [records for _, records in mine]).argmax(axis=0)])
    share = float((ends[1] < ends[0]).mean())
    other = float((ends[1] > ends[0]).mean())
    word = "confirmed" if share >= 1 - LEVEL else "refuted" if other >= 1 - LEVEL else "undecided"
    seeds = min(map(len, rows.values()))
    return Verdict(word, f"lower in {share:.0%} of resamples", _of_what(e, seeds), seeds=seeds)


def prior_ce(e: Evidence) -> Verdict | Estimate | None:
    """Without the prior cross entropy diverges, or is at least worse than with it."""
    without, having = (e.row("prior", gamma=0.0, prior=p) for p in (0.5, 0.01))
    if not without or not having:
        return None
    diverged = sum(r["status"] == "diverged" for r in without)
    if 2 * diverged > len(without):
        text = f"{diverged} of {len(without)} runs diverged"
        return Verdict("confirmed", text, "status of the runs", seeds=len(without))
    return e.difference(having, without)


def prior_insensitive(e: Evidence) -> Verdict | None:
    rows = [e.row("prior", gamma=2.0, prior=p) for p in (0.1, 0.01, 0.001)]
    if not all(rows):
        return None
    order = sorted(rows, key=mean_ap)
    return tie(e.difference(order[-1], order[0]))


def tuned_cross_entropy(e: Evidence) -> Estimate | None:
    """Focal loss as the paper has it less the best cross entropy over α and π."""
    rows = e.whole("tuned")
    if not rows:
        return None
    plain = {label: r for label, r in rows.items() if r[0]["config"]["gamma"] == 0}
    label = max(plain, key=lambda k: mean_ap(plain[k]))
    found = e.difference(e.row("tuned", gamma=2.0, prior=0.01), plain[label])
    return found and found.remarked("; ".join([f"the best is {label}", *_at_best_gamma(e, plain[label])]))


def _at_best_gamma(e: Evidence, other: Records) -> list[str]:
    """What is left of a difference to focal loss when γ is chosen on this profile, as the other side's settings are."""
    rows = {label: r for label, r in (e.whole("1b") or {}).items() if r[0]["config"]["gamma"] > 0}
    if not rows:
        return []
    label = max(rows, key=lambda k: mean_ap(rows[k]))
    found = e.difference(rows[label], other)
    return [f"with the best row of Table 1b here ({label}): {found}"] if found else []


def ohem(e: Evidence) -> Estimate | None:
    """Focal loss less the best of OHEM's nine rows."""
    rows = [r for r in (e.whole("1d") or {}).values() if r[0]["config"]["loss"] == "ohem"]
    found = e.difference(e.rows["1d"]["FL"], best(rows)) if rows else None
    return found and found.remarked("; ".join(_at_best_gamma(e, best(rows))))


def ssd(e: Evidence) -> Estimate | None:
    """Focal loss less hard negatives 1:3."""
    row = e.row("1d", loss="hard_negatives")
    found = e.difference(e.rows["1d"]["FL"], row)
    return found and found.remarked("; ".join(_at_best_gamma(e, row)))


def star(e: Evidence) -> Verdict | None:
    """Of the paper's two settings of FL*, the one that is farther from focal loss."""
    focal = e.row("3", gamma=2.0, loss="focal")
    rows = {k: r for k, r in e.rows["3"].items() if k.startswith("FL*")}
    if not all(rows.values()) or not focal:
        return None
    label = max(rows, key=lambda k: abs(mean_ap(rows[k]) - mean_ap(focal)))
    found = e.difference(rows[label], focal)
    return tie(found and found.remarked(f"the farther is {label}"))


def more_anchors(e: Evidence) -> Verdict | None:
    return tie(
        e.difference(
            e.row("1c", anchor_scales=4, anchor_ratios=3), e.row("1c", anchor_scales=3, anchor_ratios=3)
        )
    )


def imbalance(e: Evidence) -> Verdict | None:
    if not e.records:
        return None
    anchors = typical(e.records, e.profile)["anchors"]
    ratio = anchors["per_image"] / max(anchors["positive_per_image"], 1e-9)
    return Verdict(
        "confirmed" if ratio >= 1000 else "refuted", f"1 in {ratio:,.0f}", "counted on the training images"
    )


def reshaping(e: Evidence) -> Verdict | None:
    """The share of the loss on the hardest tenth of the windows: how γ changes it, for background and object."""
    records = [r for r in e.row("1b", **FL) if r.get("loss_distribution")]
    if not records:
        return None
    change = {}
    for kind in ("background", "foreground"):
        hardest = [
            [1 - r["loss_distribution"][kind][g][90] for g in ("0", "2")] for r in records
        ]  # index 90 of 101: what the easier nine tenths carry
        change[kind] = np.array([after - before for before, after in hardest])
    word, how = _sign(change["background"] - 2 * change["foreground"])
    text = ", ".join(f"{kind} {signed(100 * np.mean(c), 0)} points" for kind, c in change.items())
    how = f"background less twice the foreground: {how}"
    return Verdict(word, f"share of the hardest tenth, γ 0 to 2: {text}", how, seeds=len(records))


def training_kept(e: Evidence) -> Verdict | None:
    """Steps of both losses timed in turn within each run; where no run did so, the speeds of whole runs."""
    found = cost.step_ratio(e.records, e.profile, e.dataset)
    if found is None:
        return speed_kept(cost.TRAINING)(e)
    text = f"a step takes {found.ratio:.3f} × the time ({found.low:.3f} … {found.high:.3f})"
    how = f"steps timed in turn in {found.runs} runs; kept means a speed above {SPEED_KEPT}"
    return Verdict(_kept(1 / found.high, 1 / found.low), text, how)


def _sign(values: np.ndarray) -> tuple[str, str]:
    """The word for "these are above 0", values by seed, and the test: Student's t, from three seeds on."""
    if len(values) < 3:
        return "undecided", f"{seeds_text(len(values))}; three are needed"
    half = float(stats.t.ppf(1 - LEVEL / 2, len(values) - 1)) * values.std(ddof=1) / np.sqrt(len(values))
    low, high = values.mean() - half, values.mean() + half
    word = "confirmed" if low > 0 else "refuted" if high < 0 else "undecided"
    return word, f"t over {seeds_text(len(values))}"


def speed_kept(quantity: str) -> Test:
    """One of `cost.QUANTITIES` of the runs with γ > 0 over that of cross entropy's."""
    return lambda e: _speed_kept(cost.ratio(cost.speeds(e.records, e.profile, e.dataset), quantity), quantity)


def _speed_kept(found: cost.Ratio | None, quantity: str) -> Verdict | None:
    if found is None:
        return None
    ratio, low, high = found.ratio, found.low, found.high
    if quantity == cost.INFERENCE:  # milliseconds: less is faster
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    text = f"{ratio:.2f} × the speed ({low:.2f} … {high:.2f})"
    how = f"t over the seeds of {found.runs} runs; kept means a speed above {SPEED_KEPT}"
    return Verdict(_kept(low, high), text, how)


def _kept(low: float, high: float) -> str:
    """The word for an interval of a relative speed."""
    return "confirmed" if low > SPEED_KEPT else "refuted" if high < SPEED_KEPT else "undecided"


def calibration(e: Evidence) -> Verdict | None:
    """Expected calibration error of plain cross entropy less that of focal loss, by seed.

    Plain (α = .5), since a class weight distorts the scores on purpose.
    """

    def errors(records: Records) -> dict[int, float]:
        kept = {r["config"]["seed"]: (r.get("calibration") or {}).get("error") for r in records}
        return {seed: error for seed, error in kept.items() if error is not None}

    plain, focal = errors(e.row("1a", alpha=0.5)), errors(e.row("1b", **FL))
    both = sorted(plain.keys() & focal.keys())
    if not both:
        return None
    word, how = _sign(np.array([plain[seed] - focal[seed] for seed in both]))
    means = [np.mean([side[seed] for seed in both]) for side in (focal, plain)]
    text = "expected calibration error {:.3f} against {:.3f}".format(*means)
    return Verdict(word, text, how, seeds=len(both))


def half_the_images(e: Evidence) -> Verdict | None:
    """Focal loss on half of the images against plain cross entropy on all."""
    half = e.row("data", gamma=2.0, train_fraction=0.5)
    found = e.difference(half, e.row("data", gamma=0.0, train_fraction=1.0))
    weighted = e.difference(half, best_cross_entropy(e))
    if found and weighted:
        found = found.remarked(f"against the best α-balanced one: {weighted}")
    return reaches(found)


def twice_the_steps(e: Evidence) -> Verdict | None:
    """Cross entropy after twice the steps against focal loss after the baseline's."""
    steps = e.base.steps
    return reaches(
        e.difference(e.row("budget", gamma=0.0, steps=2 * steps), e.row("budget", gamma=2.0, steps=steps))
    )


def ahead_after_twice_the_steps(e: Evidence) -> Estimate | None:
    """Focal loss less cross entropy, both after twice the steps."""
    focal, plain = (e.row("budget", gamma=gamma, steps=2 * e.base.steps) for gamma in (2.0, 0.0))
    return e.difference(focal, plain)


def hinge_fails(e: Evidence) -> Verdict | None:
    """Over its α, hinge loss diverges in most runs or stays below a tenth of focal loss's AP; above half: refuted."""
    rows = {label: r for label, r in e.rows["3"].items() if label.startswith("hinge")}
    focal = e.row("3", gamma=2.0, loss="focal")
    if not all(rows.values()) or not focal:
        return None
    label = max(rows, key=lambda k: mean_ap(rows[k]))
    diverged = sum(r["status"] == "diverged" for r in rows[label])
    share = mean_ap(rows[label]) / max(mean_ap(focal), 1e-9)
    failed = 2 * diverged > len(rows[label]) or share < 0.1
    word = "confirmed" if failed else "refuted" if share > 0.5 else "undecided"
    text = f"at its best α ({label}): {share:.0%} of focal loss's AP, {diverged} of {len(rows[label])} runs diverged"
    return Verdict(word, text, "most diverge or below 10 %; refuted above 50 %", seeds=len(rows[label]))


def _single_stage(e: Evidence) -> list[Records]:
    """The rows of 1e with a one-stage detector."""
    return [r for r in e.rows["1e"].values() if r and r[0]["config"].get("detector") != "faster_rcnn"]


def deeper(e: Evidence) -> Estimate | None:
    """At the baseline's image size, the deeper backbone less the baseline's."""
    base = e.base
    rows = [r for r in _single_stage(e) if r[0]["config"]["image_size"] == base.image_size]
    own = [r for r in rows if r[0]["config"]["backbone"] == base.backbone]
    other = [r for r in rows if r[0]["config"]["backbone"] != base.backbone]
    return e.difference(other[0], own[0]) if own and other else None


def larger(e: Evidence) -> Estimate | None:
    """With the baseline's backbone, the largest images less the smallest."""
    rows = [r for r in _single_stage(e) if r[0]["config"]["backbone"] == e.base.backbone]
    rows.sort(key=lambda r: r[0]["config"]["image_size"])
    return e.difference(rows[-1], rows[0]) if len(rows) > 1 else None


def two_stage(e: Evidence) -> Verdict | None:
    """One stage with focal loss less two stages, same backbone, data, size and steps."""
    return reaches(
        e.difference(
            e.row("1e", detector="retinanet", backbone=e.base.backbone, image_size=e.base.image_size),
            e.row("1e", detector="faster_rcnn"),
        )
    )
