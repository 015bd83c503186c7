"""What the paper and the common explanations say, each as one sentence that runs can confirm or refute.

How a verdict is reached is in `verdicts.py`, the statistic of each claim in `claim_statistics.py`.
"""

from focalrepro import claim_statistics as of
from focalrepro import cost
from focalrepro.evidence import Estimate, Evidence, Records, holm
from focalrepro.study.profiles import get_profile
from focalrepro.verdicts import Claim, Verdict, judge

__all__ = ["CLAIMS", "QUESTIONS", "judge_all", "ledger"]

SEEDS = "more seeds"

# By the question that they answer, in the order in which a reader asks.
QUESTIONS: dict[str, tuple[Claim, ...]] = {
    "Does it work?": (
        Claim("Focal loss (γ = 2, α = .25) beats plain cross entropy (α = .5).", "Tables 1a, 1b", ("1a", "1b"), SEEDS,
              of.over_plain_cross_entropy),
        Claim("Focal loss (γ = 2, α = .25) beats the best α-balanced cross entropy.", "Table 1b", ("1a", "1b"), SEEDS,
              of.over_best_cross_entropy(**of.FL)),
        Claim("Focal loss (γ = 2, α = .25, π = .01) beats cross entropy whose α and π are both tuned.", "a common question", ("tuned",), SEEDS,
              of.tuned_cross_entropy),
        Claim("γ = .5 is already better than the best α-balanced cross entropy.", "Table 1b", ("1a", "1b"), SEEDS,
              of.over_best_cross_entropy(gamma=0.5)),
        Claim("Any γ from .5 to 5 is better than the best α-balanced cross entropy.", "section 4", ("1a", "1b"),
              SEEDS, of.whole_plateau),
        Claim("AP declines from γ = 2 to γ = 5.", "Table 1b", ("1b",), SEEDS,
              of.difference("1b", of.FL, {"gamma": 5.0})),
    ),
    "Does a constant weight do?": (
        Claim("Cross entropy with α = .10 collapses.", "Table 1a", ("1a",), "a longer training", of.collapse),
        Claim("The best α for cross entropy lies in [.5, .9].", "Table 1a", ("1a",), "more images", of.best_alpha),
        Claim("The best α is lower at γ = 5 than at γ = 0.", "section 5.1", ("grid",), "more seeds of the grid", of.alpha_falls),
    ),
    "Why does it work?": (
        Claim("Assigned anchors are as rare as in the paper's example, 1 in 1000.", "section 3", (), "nothing: it is counted",
              of.imbalance),
        Claim("γ moves the background's loss to its hard anchors, and the objects' far less.", "Figure 4", ("1b",),
              SEEDS, of.reshaping),
        Claim("Focal loss is better calibrated than plain cross entropy.", "a common explanation", ("1a", "1b"),
              "three seeds", of.calibration),
    ),
    "Is cross entropy unable, or late?": (
        Claim("Twice the steps bring plain cross entropy to where focal loss was.", "a common explanation",
              ("budget",), SEEDS, of.twice_the_steps),
        Claim("After twice the steps focal loss is still ahead of plain cross entropy.", "a common question",
              ("budget",), SEEDS, of.ahead_after_twice_the_steps),
        Claim("Focal loss on half of the images reaches plain cross entropy on all of them.", "a common explanation",
              ("data",), SEEDS, of.half_the_images),
    ),
    "What does it need beside it?": (
        Claim("Cross entropy needs the prior: without it, it diverges or is worse.", "section 5.1", ("prior",), SEEDS,
              of.prior_ce),
        Claim("With focal loss the exact π does not matter.", "section 5.1", ("prior",), SEEDS, of.prior_insensitive),
        Claim("The loss wants dividing by the assigned anchors, not by all.", "section 4", ("normalizer",), SEEDS,
              of.difference("normalizer", {"normalizer": "positives"}, {"normalizer": "anchors"})),
    ),
    "Does something else do as well?": (
        Claim("Focal loss (γ = 2, α = .25) beats the best of OHEM.", "Table 1d", ("1d",), SEEDS, of.ohem),
        Claim("Focal loss (γ = 2, α = .25) beats SSD's hard negatives 1:3.", "a public replication found the opposite", ("1d",), SEEDS,
              of.ssd),
        Claim("FL* ties with focal loss, at both of the paper's settings.", "Table 3", ("3",), SEEDS, of.star),
        Claim("The hinge loss on p_t does not train.", "section 3", ("3",), "a longer training", of.hinge_fails),
    ),
    "And the architecture?": (
        Claim("Nine anchors beat one.", "Table 1c", ("1c",), SEEDS,
              of.difference("1c", {"anchor_scales": 3, "anchor_ratios": 3}, {"anchor_scales": 1, "anchor_ratios": 1})),
        Claim("More than nine anchors do not help.", "Table 1c", ("1c",), SEEDS, of.more_anchors),
        Claim("A deeper backbone helps.", "Table 1e", ("1e",), SEEDS, of.deeper),
        Claim("Larger images help.", "Table 1e", ("1e",), SEEDS, of.larger),
        Claim("One stage with focal loss reaches two stages.", "Table 2", ("1e",), SEEDS, of.two_stage),
    ),
    "What does it cost?": (
        Claim("Focal loss does not slow training.", "a common question", ("1a", "1b"), "an idle machine",
              of.training_kept),
        Claim("Focal loss does not slow inference.", "a common question", ("1a", "1b"), "an idle machine",
              of.speed_kept(cost.INFERENCE)),
    ),
}  # fmt: skip
CLAIMS: tuple[Claim, ...] = tuple(claim for claims in QUESTIONS.values() for claim in claims)


def judge_all(records: Records, profile: str, dataset: str = "") -> list[tuple[Claim, Verdict]]:
    """Every claim with its verdict, differences corrected together by Holm; "not run" where runs are missing.

    Where another profile runs the whole paper over the same baseline, the claims that only that one can judge are
    left to it.
    """
    p = get_profile(profile)
    claims = [claim for claim in CLAIMS if not p.whole or set(claim.needs) <= set(p.ablations)]
    evidence = Evidence(records, profile, dataset)
    found = [claim.test(evidence) for claim in claims]
    estimates = [i for i, f in enumerate(found) if isinstance(f, Estimate)]
    corrected = dict(zip(estimates, holm([found[i].p for i in estimates]), strict=True))
    result = []
    for i, (claim, f) in enumerate(zip(claims, found, strict=True)):
        if f is None:
            result.append((claim, Verdict("not run", how=f"needs {', '.join(claim.needs)}")))
        elif isinstance(f, Estimate):
            result.append((claim, judge(f, corrected[i])))
        else:
            result.append((claim, f))
    return result


def ledger(records: Records, profile: str, dataset: str = "") -> str:
    """The claims as a Markdown table, question by question, verdict first."""
    judged = dict(judge_all(records, profile, dataset))
    lines = ["| verdict | claim | effect (95 %) | by | undecided? then by |", "|---|---|---|---|---|"]
    for question, claims in QUESTIONS.items():
        found = [(claim, judged[claim]) for claim in claims if claim in judged]
        if found:
            lines.append(f"| | **{question}** | | | |")
        for claim, v in found:
            decide = claim.decided_by if v.verdict == "undecided" else ""
            lines.append(
                f"| **{v.verdict}** | {claim.sentence} ({claim.source}) | {v.effect} | {v.how} | {decide} |"
            )
    return "\n".join(lines)
