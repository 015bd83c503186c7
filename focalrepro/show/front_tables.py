"""The front page's tables and cells: what verdicts become there."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from focalrepro.evidence.claims import CLAIMS
from focalrepro.evidence.difference import MEASURES
from focalrepro.evidence.tables import rank_correlation
from focalrepro.evidence.verdict import NOT_YET, Verdict
from focalrepro.show.sentences import WORDS, effect, seeds_text
from focalrepro.show.speakers import PLACES, Judged, Verdicts
from focalrepro.show.tables import NONE, Md, ap_digits, between, bold, markdown, number
from focalrepro.study.profiles import get_profile

# What a reader wants to know first: of each line the first claim that was judged.
FURTHER = "fl-alpha-and-prior"  # the baseline of more settings than the protocol's
BOTH = "best-gamma"  # the same baseline, and γ is picked as well
OWN_RATE = "fl-strongest-rate"  # the strongest of these settings, at rates of their own
# Focal loss picks its α, too: at borrowed rates, the same at rates of their own, and with a lower α.
OWN_ALPHA = "fl-own-alpha", "fl-own-alpha-rate", "fl-lower-alpha-rate"
JOINT = "fl-strongest-box-weight"  # the strongest of these, with the box loss that cross entropy wants
BOX_WEIGHT = "fl-box-weight"  # plain cross entropy, and the weight of the box loss is picked on both sides
ANSWERS = (
    ("fl-tuned-ce", FURTHER, "fl-best-alpha"),
    *(
        (FURTHER,),
        (BOTH,),
        (OWN_ALPHA[0],),
        (OWN_RATE,),
        *((claim,) for claim in OWN_ALPHA[1:]),
        (JOINT,),
        (BOX_WEIGHT,),
    ),
    *(("fl-plain-ce",), ("fl-hard-negatives",), ("fl-sampling-free",)),
)
# The paper's own comparison, and the same without its threshold of score.
AS_PAPER = ("fl-best-alpha-05", "fl-best-alpha")
ALL_LINES = (
    *((claim,) for claim in AS_PAPER),
    *(tuple(claim for claim in claims if claim not in AS_PAPER) for claims in ANSWERS),
)
FEW_LINES = ((AS_PAPER[0],), ANSWERS[0], (OWN_RATE, FURTHER), *((claim,) for claim in OWN_ALPHA))
FEW_LINES += ((JOINT,), (BOX_WEIGHT,), *ANSWERS[-2:])
# Whether the divisor is worth more than the loss, and who is ahead once it is steady.
DIVISOR = ("divisor-smooth", "divisor-smooth-ce", "divisor-smooth-hard", "divisor-smooth-free")
# The same with one more in the divisor for each image.
WITH_IMAGES = ("divisor-images-ce", "divisor-images-hard", "divisor-images-free")
PAPER = CLAIMS["fl-best-alpha"].a, CLAIMS["fl-best-alpha"].b  # its Table 1b


def spoken(claims: tuple[str, ...], judged: Judged) -> dict[str, str]:
    """Of each study the first of these claims that it judged."""
    found = {name: next((c for c in claims if c in of), "") for name, of in judged.items()}
    return {name: claim for name, claim in found.items() if claim}


def share(ours: float, theirs: float, sign: str = "") -> str:
    """How much more the first is, in percent of the second; sign "+": with its sign in any case. "–" of 0."""
    if not theirs:
        return NONE
    return f"{100 * (ours / theirs - 1):{sign}.0f} %".replace("-", "−")


def lead(v: Verdict) -> str:
    """How much more focal loss has, where that is clear."""
    return share(*v.estimate.levels) if v.word in ("confirmed", "refuted") else "not clear"


def answer(v: Verdict | None) -> str:
    """A verdict's number in the table of questions: what it was before and after; else its effect."""
    if v is None:
        return NONE
    text = v.remark if v.unit == "calibration error" else effect(replace(v, remark="", made_on=""))
    if v.estimate and v.estimate.of[0] == MEASURES["threshold"]:  # with a threshold and without
        text = v.remark.rpartition("; judged")[0].rpartition("; ")[2]
    return f"{text}; {seeds_text(v.seeds)}, {v.word}" if v.word == NOT_YET else text


def papers_lead() -> str:
    """How much more focal loss has than α-balanced cross entropy in the paper's Table 1b, in percent."""
    ours, theirs = (side.paper(get_profile("coco-cpu").base) for side in PAPER)
    return f"{share(ours, theirs)}, {number(ours)} against {number(theirs)}"


def baselines(judged: Judged, lines: Sequence[tuple[str, ...]]) -> Md:
    """Each baseline's line: on each dataset how focal loss does against it."""
    rows, asked = [], {}
    for said in filter(None, (spoken(claims, judged) for claims in lines)):
        against = "; or ".join(dict.fromkeys(CLAIMS[claim].against for claim in said.values()))
        row: dict[str, object] = {"focal loss against": against} | dict.fromkeys(PLACES.values(), NONE)
        for name, claim in said.items():
            of, v, text = judged[name], judged[name][claim], CLAIMS[claim].against
            same = asked.setdefault((name, v.estimate.of), text.split(",")[0])
            levels = f"{of.levels(claim)} ({share(*v.estimate.levels, sign='+')})"
            parts = [of.gap(claim), levels, of.seeds(claim), *of.made_on(claim)]
            parts += [f"the same runs as {same}"] * (same != text.split(",")[0])
            row[PLACES[name]] = Md(f"**{of.word(claim)}**: {'; '.join(parts)}")
        rows.append(row)
    return markdown(rows)


def by_divisor(verdicts: Verdicts) -> Md:
    """Focal loss less each baseline, divided as the paper does, by one more for each image, and by the moving
    average."""
    rows = []
    for (*_, claim), images, steady in zip(ANSWERS[-3:], WITH_IMAGES, DIVISOR[1:], strict=True):
        if claim in verdicts and steady in verdicts:
            row = {"focal loss against": CLAIMS[claim].against.split(" (")[0]}
            ways = {"divided as in the paper": claim, "one more for each image": images}
            for way, of in (ways | {"by the moving average": steady}).items():
                v = verdicts.get(of)
                row[way] = Md(f"{bold(WORDS.get(v.word, v.word))}: {effect(v)}") if v else NONE
            rows.append(row)
    return markdown(rows)


def paper_table(name: str, frames: dict[str, pd.DataFrame]) -> Md:
    """An ablation's AP: the paper's, then each study's at the paper's threshold, then without one, where each
    cell leads to its table."""
    first, correlation = next(iter(frames.values())), "rank correlation with the paper, at .05"
    paper = _best_bold(first["paper_AP"])
    cells: dict[str, list[str]] = {"row": [*first["row"], correlation], "paper, at .05": [*paper, ""]}
    for study, frame in frames.items():
        rho = number(rank_correlation(frame)[0], 2)
        cells[Md(f"`{study}`, at .05")] = [*_best_bold(frame["AP_at_05"]), rho]
    for study, frame in frames.items():
        page, best = f"{study}/README.md#table-{name}", frame["AP"].max()
        column, digits = [], ap_digits(*frame["AP"])
        for r in frame.itertuples():
            link = Md(f"[{number(r.AP, digits)}]({page})")
            about = f"({between(r.low, r.high, digits)}, {seeds_text(r.seeds)})"
            column.append(Md(f"{bold(link) if best == r.AP else link} {about}") if r.seeds else "")
        cells[Md(f"`{study}`, no threshold")] = [*column, ""]
    return markdown(pd.DataFrame(cells).to_dict("records"))


def _best_bold(column: pd.Series) -> list[str]:
    texts = column.map(partial(number, digits=ap_digits(*column)))
    return [bold(text) if ap == column.max() else text for ap, text in zip(column, texts, strict=True)]


def gaps(judged: Judged) -> dict[str, pd.DataFrame]:
    """The paper's differences, then those of each study, of the claims that have a short
    name and any verdict; thick: whose interval is that of the primary family, adjusted."""
    claims = [c for c in CLAIMS.values() if c.short and any(c.id in of for of in judged.values())]
    index, base = [c.short for c in claims], get_profile(next(iter(judged))).base
    # The paper's AP is at .05: beside the comparison that is, too, its number would be twice there.
    paper = [np.nan if c.id == AS_PAPER[1] else c.a.paper(base) - c.b.paper(base) for c in claims]
    frames = {"paper, COCO": pd.DataFrame({"value": paper, "low": np.nan, "high": np.nan}, index)}
    for name, of in judged.items():
        verdicts = [of.get(c.id, Verdict("not run")) for c in claims]
        columns = {side: [getattr(v, side) for v in verdicts] for side in ("value", "low", "high")}
        columns |= {"judged": [v.word in WORDS for v in verdicts], "thick": [v.primary for v in verdicts]}
        frames[f"here, {PLACES[name]}"] = pd.DataFrame(columns, index)
    return frames
