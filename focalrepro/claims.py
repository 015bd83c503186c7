"""What the paper and the common explanations say, each as one sentence that runs can confirm or refute.

A claim that one side is better is *confirmed* where the difference has the claimed sign and its p value, corrected by
Holm over all such claims of the profile, is below .05; *refuted* where it is as clear with the other sign. A claim
of a tie is confirmed where the 95 % interval lies within ±MARGIN, refuted where it lies outside. All else is
*undecided*, with what would decide it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from focalrepro.evidence import Estimate, Evidence, Records, holm
from focalrepro.results import replicates

MARGIN = 1.0  # AP; within it two rows are called tied
LEVEL = 0.05
SPEED_KEPT = 0.95  # of the speed of cross entropy


@dataclass(frozen=True)
class Verdict:
    """confirmed, refuted, undecided or not run; the effect as text; n, test and corrected p as text."""

    verdict: str
    effect: str = ""
    how: str = ""
    p: float | None = None


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


FL = {"gamma": 2.0, "alpha": 0.25}


def _seeds(count: int) -> str:
    return f"{count} seed{'s'[: count > 1]}"


def tie(estimate: Estimate | None) -> Verdict | None:
    """A claim that two rows do not differ by more than MARGIN."""
    if estimate is None:
        return None
    inside = estimate.low > -MARGIN and estimate.high < MARGIN
    outside = estimate.high < -MARGIN or estimate.low > MARGIN
    word = "confirmed" if inside else "refuted" if outside else "undecided"
    return Verdict(word, str(estimate), f"{estimate.how}; tied within ±{MARGIN:g} AP")


def mean_ap(records: Records) -> float:
    """Mean AP over seeds; -1 for a row without runs, which so is never the best."""
    return float(np.mean([r["metrics"]["AP"] for r in records])) if records else -1.0


def best(rows: list[Records]) -> Records:
    """The row of the highest mean AP."""
    return max(rows, key=mean_ap)


def _difference(ablation: str, one: dict[str, Any], other_ablation: str, other: dict[str, Any]) -> Callable:
    return lambda e: e.difference(e.row(ablation, **one), e.row(other_ablation, **other))


def _collapse(e: Evidence) -> Verdict | None:
    """α = .10 has less than a tenth of the best α's AP."""
    collapsed = e.row("1a", alpha=0.10)
    reference = best(list(e.rows["1a"].values()))
    if not collapsed or not reference:
        return None
    share = mean_ap(collapsed) / max(mean_ap(reference), 1e-9)
    word = "confirmed" if share < 0.1 else "refuted" if share > 0.5 else "undecided"
    return Verdict(word, f"{share:.0%} of the best α's AP", "below 10 % is a collapse, above 50 % is none")


def _best_alpha(e: Evidence) -> Verdict | None:
    """In how many resamples of the images the best α of cross entropy lies in [.5, .9]."""
    rows = {label: records for label, records in e.rows["1a"].items() if records}
    if len(rows) < 4:
        return None
    resampled = np.array([np.mean([replicates(r) for r in records], axis=0) for records in rows.values()])
    alphas = np.array([records[0]["config"]["alpha"] for records in rows.values()])
    winner = alphas[resampled.argmax(axis=0)]
    share = float(((winner >= 0.5) & (winner <= 0.9)).mean())
    word = "confirmed" if share >= 1 - LEVEL else "refuted" if share <= LEVEL else "undecided"
    at = alphas[int(np.argmax([np.mean([r["metrics"]["AP"] for r in x]) for x in rows.values()]))]
    return Verdict(
        word, f"best at α = {at:g}; in [.5, .9] in {share:.0%} of resamples", "bootstrap over images"
    )


def _alpha_falls(e: Evidence) -> Verdict | None:
    """Over the grid: the rank correlation of γ with its best α, in resamples of the images."""
    rows = [(records[0]["config"], records) for records in e.rows["grid"].values() if records]
    gammas = sorted({c["gamma"] for c, _ in rows})
    if len(gammas) < 4 or len(rows) < 4 * len(gammas):
        return None
    best_alpha = []
    for gamma in gammas:
        mine = [(c["alpha"], records) for c, records in rows if c["gamma"] == gamma]
        resampled = np.array([np.mean([replicates(r) for r in x], axis=0) for _, x in mine])
        best_alpha.append(np.array([a for a, _ in mine])[resampled.argmax(axis=0)])
    change = best_alpha[-1] - best_alpha[0]
    share = float((change < 0).mean())
    word = (
        "confirmed" if share >= 1 - LEVEL else "refuted" if (change > 0).mean() >= 1 - LEVEL else "undecided"
    )
    text = f"α falls from γ = {gammas[0]:g} to γ = {gammas[-1]:g} in {share:.0%} of resamples"
    return Verdict(word, text, "bootstrap over images")


def _prior_ce(e: Evidence) -> Verdict | Estimate | None:
    """Without the prior cross entropy diverges, or is at least worse than with it."""
    without, having = (e.row("prior", gamma=0.0, prior=p) for p in (0.5, 0.01))
    if not without or not having:
        return None
    diverged = sum(r["status"] == "diverged" for r in without)
    if diverged:
        return Verdict("confirmed", f"{diverged} of {len(without)} runs diverged", "status of the runs")
    return e.difference(having, without)


def _prior_insensitive(e: Evidence) -> Verdict | None:
    rows = [e.row("prior", gamma=2.0, prior=p) for p in (0.1, 0.01, 0.001)]
    if not all(rows):
        return None
    order = sorted(rows, key=mean_ap)
    return tie(e.difference(order[-1], order[0]))


def _ohem(e: Evidence) -> Estimate | None:
    rows = [r for r in e.rows["1d"].values() if r and r[0]["config"]["loss"] == "ohem"]
    return e.difference(e.rows["1d"]["FL"], best(rows)) if rows else None


def _ssd(e: Evidence) -> Estimate | None:
    return e.difference(e.rows["1d"]["FL"], e.row("1d", loss="hard_negatives"))


def _star(e: Evidence) -> Verdict | None:
    rows = [r for r in e.rows["3"].values() if r and r[0]["config"]["loss"] == "focal_star"]
    return tie(e.difference(best(rows), e.row("3", gamma=2.0, loss="focal"))) if rows else None


def _more_anchors(e: Evidence) -> Verdict | None:
    return tie(
        e.difference(
            e.row("1c", anchor_scales=4, anchor_ratios=3), e.row("1c", anchor_scales=3, anchor_ratios=3)
        )
    )


def _imbalance(e: Evidence) -> Verdict | None:
    if not e.records:
        return None
    anchors = e.records[0]["anchors"]
    ratio = anchors["per_image"] / max(anchors["positive_per_image"], 1e-9)
    return Verdict(
        "confirmed" if ratio >= 1000 else "refuted", f"1 in {ratio:,.0f}", "counted on the training images"
    )


def _reshaping(e: Evidence) -> Verdict | None:
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
    more = change["background"] - change["foreground"]
    clear = len(records) >= 3
    word = (
        "confirmed"
        if clear and (more > 0).all()
        else "refuted"
        if clear and (more < 0).all()
        else "undecided"
    )
    text = ", ".join(f"{kind} {np.mean(c):+.0%}" for kind, c in change.items())
    return Verdict(
        word, f"share of the hardest tenth, γ 0 to 2: {text}", f"{_seeds(len(records))}, three must agree"
    )


def _speed(e: Evidence) -> Verdict | None:
    """Training images a second of the rows with γ > 0 over those without, as a ratio of geometric means."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    for records in {**e.rows["1a"], **e.rows["1b"]}.values():
        for r in records:
            rates[r["config"]["gamma"] > 0].append(np.log(r["images_per_second"]))
    if min(map(len, rates.values())) < 3:
        return None
    test = stats.ttest_ind(rates[True], rates[False], equal_var=False)
    low, high = (float(np.exp(v)) for v in test.confidence_interval(0.95))
    ratio = float(np.exp(np.mean(rates[True]) - np.mean(rates[False])))
    word = "confirmed" if low > SPEED_KEPT else "refuted" if high < SPEED_KEPT else "undecided"
    text = f"{ratio:.2f} × the training images/s of cross entropy ({low:.2f} … {high:.2f})"
    return Verdict(
        word, text, f"Welch's t over {sum(map(len, rates.values()))} runs; kept means above {SPEED_KEPT}"
    )


def _calibration(e: Evidence) -> Verdict | None:
    """Expected calibration error of cross entropy less that of focal loss, by seed."""

    def errors(records: Records) -> dict[int, float]:
        kept = {r["config"]["seed"]: (r.get("calibration") or {}).get("error") for r in records}
        return {seed: error for seed, error in kept.items() if error is not None}

    one, other = errors(e.row("1a", alpha=0.75)), errors(e.row("1b", **FL))
    gains = [one[seed] - other[seed] for seed in one if seed in other]
    if not gains:
        return None
    clear = len(gains) >= 3
    word = "confirmed" if clear and min(gains) > 0 else "refuted" if clear and max(gains) < 0 else "undecided"
    return Verdict(word, f"error lower by {np.mean(gains):+.3f}", f"{_seeds(len(gains))}, three must agree")


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "Focal loss (γ = 2, α = .25) beats the best α-balanced cross entropy.",
        "Table 1b",
        ("1a", "1b"),
        "more seeds",
        lambda e: e.difference(e.row("1b", **FL), best(list(e.rows["1a"].values()))),
    ),
    Claim(
        "Cross entropy with α = .10 collapses.", "Table 1a", ("1a",), "a longer training", _collapse
    ),
    Claim("The best α for cross entropy lies in [.5, .9].", "Table 1a", ("1a",), "more images", _best_alpha),
    Claim("AP declines from γ = 2 to γ = 5.", "Table 1b", ("1b",), "more seeds",
          _difference("1b", FL, "1b", {"gamma": 5.0})),
    Claim("γ = .5 is already better than the best α-balanced cross entropy.", "Table 1b", ("1a", "1b"), "more seeds",
          lambda e: e.difference(e.row("1b", gamma=0.5), best(list(e.rows["1a"].values())))),
    Claim("The best α falls as γ rises.", "section 5.1", ("grid",), "more seeds of the grid", _alpha_falls),
    Claim("Cross entropy needs the prior: without it, it diverges or is worse.", "section 5.1", ("prior",),
          "more seeds", _prior_ce),
    Claim("With focal loss the exact π does not matter.", "section 5.1", ("prior",), "more seeds", _prior_insensitive),
    Claim("Focal loss beats the best of OHEM.", "Table 1d", ("1d",), "more seeds", _ohem),
    Claim("Focal loss beats SSD's hard negatives 1:3.", "a public replication found the opposite", ("1d",),
          "more seeds", _ssd),
    Claim("FL* ties with focal loss.", "Table 3", ("3",), "more seeds", _star),
    Claim("Nine anchors beat one.", "Table 1c", ("1c",), "more seeds",
          _difference("1c", {"anchor_scales": 3, "anchor_ratios": 3}, "1c", {"anchor_scales": 1, "anchor_ratios": 1})),
    Claim("More than nine anchors do not help.", "Table 1c", ("1c",), "more seeds", _more_anchors),
    Claim("γ moves the background's loss to its hard windows and hardly the objects'.", "Figure 4", ("1b",),
          "more seeds", _reshaping),
    Claim("Among anchors, objects are rarer than 1 in 1000.", "section 3", (), "nothing: it is counted", _imbalance),
    Claim("Focal loss does not slow training.", "a common question", ("1a", "1b"), "an idle machine", _speed),
    Claim("Focal loss is better calibrated than cross entropy.", "a common explanation", ("1a", "1b"),
          "three seeds", _calibration),
    Claim("Focal loss on half of the images matches cross entropy on all.", "a common explanation", ("data",),
          "more seeds",
          lambda e: tie(e.difference(e.row("data", gamma=2.0, train_fraction=0.5),
                                     e.row("data", gamma=0.0, train_fraction=1.0)))),
)  # fmt: skip


def judge_all(records: Records, profile: str) -> list[tuple[Claim, Verdict]]:
    """Every claim with its verdict, differences corrected together by Holm; "not run" where runs are missing."""
    evidence = Evidence(records, profile)
    found = [claim.test(evidence) for claim in CLAIMS]
    estimates = [i for i, f in enumerate(found) if isinstance(f, Estimate)]
    corrected = dict(zip(estimates, holm([found[i].p for i in estimates]), strict=True))
    result = []
    for i, (claim, f) in enumerate(zip(CLAIMS, found, strict=True)):
        if f is None:
            result.append((claim, Verdict("not run", how=f"needs {', '.join(claim.needs)}")))
        elif isinstance(f, Estimate):
            result.append((claim, _judge(f, corrected[i])))
        else:
            result.append((claim, f))
    return result


def _judge(estimate: Estimate, p: float) -> Verdict:
    clear = p < LEVEL
    word = "confirmed" if clear and estimate.effect > 0 else "refuted" if clear else "undecided"
    shown = f"p {p:.3f}" if p >= 0.001 else "p < .001"
    return Verdict(word, str(estimate), f"{estimate.how}; {shown}", p)


def ledger(records: Records, profile: str) -> str:
    """The claims as a Markdown table, verdict first."""
    lines = ["| verdict | claim | effect (95 %) | by | undecided? then by |", "|---|---|---|---|---|"]
    for claim, v in judge_all(records, profile):
        decide = claim.decided_by if v.verdict == "undecided" else ""
        lines.append(
            f"| **{v.verdict}** | {claim.sentence} ({claim.source}) | {v.effect} | {v.how} | {decide} |"
        )
    return "\n".join(lines)
