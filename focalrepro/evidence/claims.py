"""What the paper, its rivals and the common explanations say, each a sentence that runs can judge.

Most claims are "row A less row B": they are declared here, and everything else about them is derived.
Verdicts follow results/PROTOCOL.md; statistics of another kind are in `statistics.py`.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from focalrepro.config import RunConfig
from focalrepro.evidence import statistics as of
from focalrepro.evidence.claim import FAMILY, FL, Claim, Side, at, best, plain, row, worst
from focalrepro.evidence.difference import (
    AGNOSTIC,
    BACKGROUND,
    LEVEL,
    THRESHOLD,
    Evidence,
    holm,
)
from focalrepro.evidence.statistics import Verdict

COMMON, ASKED, CONFOUND = "a common explanation", "a common question", "a confound"
GUIDED, POST_HOC, ASYMMETRIC = "arXiv 1909.04868", "arXiv 2405.20459", "arXiv 2009.14119"
# By the name of `rates.RIVALS`: id and source.
SAYS_BETTER = {
    "GHM-C": ("ghm", "arXiv 1811.05181"),
    "Quality focal loss": ("quality", "arXiv 2006.04388"),
    "asymmetric, γ₊ = 0, γ₋ = 2": ("asymmetric-0-2", ASYMMETRIC),
    "asymmetric, γ₊ = 1, γ₋ = 4": ("asymmetric-1-4", ASYMMETRIC),
    "Poly-1, ε = −1": ("poly1", "arXiv 2204.12511"),
    "Sampling-Free, its prior alone": ("sampling-free-prior", GUIDED),
    "Sampling-Free, its scaling alone": ("sampling-free-scaling", GUIDED),
}
GAMMAS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
LOW_PRIORS = (0.1, 0.01, 0.001)


def _twice(base: RunConfig) -> int:
    return 2 * base.steps


# By the question that they answer, in the order in which a reader asks.
QUESTIONS: dict[str, tuple[Claim, ...]] = {
    "Does it work?": (
        Claim("fl-tuned-ce",
              "Focal loss (γ = 2, α = .25) beats the best-tuned cross entropy, each at its own rate.",
              ASKED, at("primary", "FL, γ = 2"), Side("primary", {}, "tuned")),
        Claim("fl-plain-ce",
              "Focal loss (γ = 2, α = .25) beats plain cross entropy (α = .5).",
              "Tables 1a, 1b", FL("1b"), plain("1a")),
        Claim("fl-best-alpha",
              "Focal loss (γ = 2, α = .25) beats the best α-balanced cross entropy.",
              "Table 1b", FL("1b"), best("1a")),
        Claim("fl-alpha-and-prior",
              "Focal loss (γ = 2, α = .25, π = .01) beats cross entropy whose α and π are both tuned.",
              ASKED, FL("tuned"), best("tuned", gamma=0.0)),
        Claim("best-gamma",
              "Focal loss at the best row of Table 1b beats cross entropy whose α and π are both tuned.",
              ASKED, best("1b", gamma=GAMMAS), best("tuned", gamma=0.0)),
        Claim("half-gamma",
              "γ = .5 is already better than the best α-balanced cross entropy.",
              "Table 1b", row("1b", gamma=0.5), best("1a")),
        Claim("plateau",
              "Any γ from .5 to 5 is better than the best α-balanced cross entropy.",
              "section 4", worst("1b", gamma=GAMMAS[2:]), best("1a")),
        Claim("gamma-five",
              "AP declines from γ = 2 to γ = 5.",
              "Table 1b", FL("1b"), row("1b", gamma=5.0)),
    ),
    "Does a constant weight do?": (
        Claim("collapse",
              "Cross entropy with α = .10 collapses: it has less than a tenth of the best α's AP.",
              "Table 1a", best("1a"), row("1a", alpha=0.1), scale=0.1),
        Claim("threshold",
              "Table 1a is mostly a table of the threshold: most of what α = .10 loses to the best α at a "
              "score of .05 is not lost without it.",
              CONFOUND, row("1a", alpha=0.1), best("1a"), measure=THRESHOLD),
        Claim("best-alpha",
              "The best α for cross entropy lies in [.5, .9].",
              "Table 1a", statistic=of.best_alpha, needs=("1a",)),
        Claim("ridge",
              "The best α is lower at γ = 2 than at γ = 0.",
              "section 5.1", statistic=of.ridge(2.0), needs=("grid",)),
        Claim("alpha-falls",
              "The best α is lower at γ = 5 than at γ = 0.",
              "section 5.1", statistic=of.ridge(5.0), needs=("grid",)),
    ),
    "Why does it work?": (
        Claim("rarity",
              "How rare assigned anchors are; the paper's example is 1 in 1000.",
              "section 3", statistic=of.rarity),
        Claim("reshaping",
              "γ moves the background's loss to its hard anchors, and the objects' far less.",
              "Figure 4", statistic=of.reshaping, needs=("1b",)),
        Claim("background-fp",
              "Focal loss has fewer false positives on background: mending them gains less AP50 than with "
              "plain cross entropy.",
              COMMON, plain("1a"), FL("1b"), measure=BACKGROUND),
        Claim("agnostic",
              "The gain over plain cross entropy remains when all classes are merged.",
              CONFOUND, FL("1b"), plain("1a"), measure=AGNOSTIC),
    ),
    "Can its scores be trusted?": (
        Claim("calibration-raw",
              "Focal loss is better calibrated than cross entropy at matched AP.",
              "arXiv 2002.09437", statistic=of.calibrated("raw"), needs=("1a", "1b")),
        Claim("calibration-temperature",
              "It is so after a temperature for each, fitted on tune images.",
              POST_HOC, statistic=of.calibrated("temperature"), needs=("1a", "1b")),
        Claim("calibration-isotonic",
              "It is so after isotonic regression for each, fitted on tune images.",
              POST_HOC, statistic=of.calibrated("isotonic"), needs=("1a", "1b")),
        Claim("calibration-closed-form",
              "A closed form without data maps focal loss's scores to better probabilities.",
              "arXiv 2011.09172", statistic=of.closed_form, needs=("1b",)),
    ),
    "Is cross entropy unable, or late?": (
        Claim("twice-the-steps",
              "Twice the steps bring plain cross entropy beyond where focal loss was.",
              COMMON, plain("budget", steps=_twice),
              row("budget", gamma=2.0, steps=lambda base: base.steps)),
        Claim("ahead-after-twice",
              "After twice the steps focal loss is still ahead of plain cross entropy.",
              ASKED, row("budget", gamma=2.0, steps=_twice), plain("budget", steps=_twice)),
        Claim("half-the-images",
              "Focal loss on half of the images beats plain cross entropy on all of them.",
              COMMON, row("data", gamma=2.0, train_fraction=0.5), plain("data", train_fraction=1.0)),
        Claim("half-the-images-best",
              "Focal loss on half of the images beats the best α-balanced one on all of them.",
              COMMON, row("data", gamma=2.0, train_fraction=0.5), best("1a")),
    ),
    "What does it need beside it?": (
        Claim("prior-needed",
              "Cross entropy needs the prior: without it, it diverges or is worse.",
              "section 5.1", plain("prior", prior=0.01), plain("prior", prior=0.5)),
        Claim("prior-insensitive",
              "With focal loss the exact π does not matter.",
              "section 5.1", best("prior", gamma=2.0, prior=LOW_PRIORS),
              worst("prior", gamma=2.0, prior=LOW_PRIORS), "equal"),
        Claim("normalizer",
              "The loss wants dividing by the assigned anchors, not by all.",
              "section 4", row("normalizer", normalizer="positives"),
              row("normalizer", normalizer="anchors")),
    ),
    "Does something else do as well?": (
        Claim("fl-hard-negatives",
              "Focal loss (γ = 2, α = .25) beats hard negatives 1:3, each at its own rate.",
              "a public replication found the opposite", at("primary", "FL, γ = 2"),
              at("primary", "hard negatives 1:3")),
        Claim("best-gamma-hard-negatives",
              "Focal loss at the best row of Table 1b beats hard negatives 1:3.",
              ASKED, best("1b", gamma=GAMMAS), row("1d", loss="hard_negatives")),
        Claim("fl-sampling-free",
              "Focal loss (γ = 2, α = .25) beats Sampling-Free (prior and scaling).",
              GUIDED, at("primary", "FL, γ = 2"), at("primary", "Sampling-Free")),
        Claim("ohem",
              "Focal loss (γ = 2, α = .25) beats the best of the paper's nine rows of OHEM.",
              "Table 1d", FL("1d"), best("1d", loss="ohem", normalizer="positives")),
        *(
            Claim(f"rival-{slug}",
                  f"{name[0].upper()}{name[1:]} beats focal loss (γ = 2, α = .25), each at its own rate.",
                  source, at("rivals", name), at("rivals", "FL, γ = 2"))
            for name, (slug, source) in SAYS_BETTER.items()
        ),
        Claim("star",
              "FL* ties with focal loss, at both of the paper's settings.",
              "Table 3", statistic=of.star, needs=("3",)),
        Claim("hinge",
              "The hinge loss on p_t does not train: at its best α it has less than a tenth of focal loss's "
              "AP.",
              "section 3", FL("3"), best("3", loss="hinge"), scale=0.1),
    ),
    "And the architecture?": (
        Claim("nine-anchors",
              "Nine anchors beat one.",
              "Table 1c", row("1c", anchor_scales=3, anchor_ratios=3),
              row("1c", anchor_scales=1, anchor_ratios=1)),
        Claim("more-anchors",
              "More than nine anchors do not help.",
              "Table 1c", row("1c", anchor_scales=4, anchor_ratios=3),
              row("1c", anchor_scales=3, anchor_ratios=3), "equal"),
        Claim("deeper",
              "A deeper backbone helps.",
              "Table 1e", statistic=of.deeper, needs=("1e",)),
        Claim("larger",
              "Larger images help.",
              "Table 1e", statistic=of.larger, needs=("1e",)),
        Claim("two-stage",
              "One stage with focal loss beats two stages.",
              "Table 2",
              row("1e", detector="retinanet", backbone=lambda b: b.backbone,
                  image_size=lambda b: b.image_size),
              row("1e", detector="faster_rcnn")),
    ),
    "What does it cost?": (
        Claim("training-speed",
              "What a training step with focal loss takes, against cross entropy.",
              ASKED, statistic=of.training_speed, needs=("1b",)),
        Claim("inference-speed",
              "What one image takes, against cross entropy.",
              ASKED, statistic=of.inference_speed, needs=("1a", "1b")),
    ),
}  # fmt: skip
QUESTIONS = {q: tuple(replace(c, question=q) for c in claims) for q, claims in QUESTIONS.items()}
CLAIMS: dict[str, Claim] = {claim.id: claim for claims in QUESTIONS.values() for claim in claims}


def judge_all(e: Evidence, *ablations: str) -> list[tuple[Claim, Verdict]]:
    """Claims with their verdicts, "not run" where runs are missing; ablations: only claims that read one of
    these.

    Where another profile runs the whole paper over the same baseline, the claims that only that one can judge
    are left to it.
    """
    p = e.study.profile
    claims = [c for c in CLAIMS.values() if not p.whole or set(c.needs) <= set(p.ablations)]
    found = {c.id: c.statistic(e) if c.statistic else _verdict(c, e) for c in claims}
    primary = [i for i in FAMILY if found.get(i) and found[i].p is not None]
    adjusted = dict(zip(primary, holm([found[i].p for i in primary], len(FAMILY)), strict=True))
    judged = []
    for c in claims:
        verdict = found[c.id]
        if verdict is None:
            verdict = Verdict("not run", how=f"needs {', '.join(c.needs)}")
        elif c.id in adjusted:
            verdict = _in_family(verdict, adjusted[c.id])
        if not ablations or set(ablations) & set(c.needs):
            judged.append((c, verdict))
    return judged


def _verdict(c: Claim, e: Evidence) -> Verdict | None:
    found = c.difference(e)
    if found is None:
        return None
    return of.equal(found) if c.kind == "equal" else of.more(found)


def _in_family(v: Verdict, p: float) -> Verdict:
    """A verdict of the primary family by its adjusted p value, with the interval of that level."""
    clear = p < LEVEL
    word = "confirmed" if clear and v.direction > 0 else "refuted" if clear else "undecided"
    changes: dict[str, Any] = {"word": word, "p": p, "primary": True}
    if v.estimate:
        factor = p / v.p if v.p and p < 1 else len(FAMILY)
        changes["low"], changes["high"] = v.estimate.interval(1 - LEVEL / np.clip(factor, 1, len(FAMILY)))
    return replace(v, **changes)
