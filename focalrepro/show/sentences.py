"""What pages and notebooks say about results in sentences, computed from the records."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from focalrepro.evaluation.record import Record
from focalrepro.evidence.claims import MADE, Claim, judge_all
from focalrepro.evidence.difference import MEASURES, Evidence
from focalrepro.evidence.per_class import trend
from focalrepro.evidence.tables import rank_correlation
from focalrepro.evidence.verdict import NOT_YET, Verdict
from focalrepro.show.pages import render
from focalrepro.show.tables import Md, ap_digits, between, bold, escape, markdown, number, precision, signed
from focalrepro.study.ablations import ABLATIONS
from focalrepro.study.rates import family_of
from focalrepro.study.store import Store
from focalrepro.study.study import Study

# ---- verdicts

WORDS = {
    "confirmed": "clearly better",
    "refuted": "clearly worse",
    "undecided": "not clearly better or worse",
}
OWN_RATES = "each at its own rate"
HALF = ", beyond a half"  # ends the unit of a share less a half


def seeds_text(count: int) -> str:
    """ "1 seed", "3 seeds"."""
    return "1 seed" if count == 1 else f"{count} seeds"


def effect(v: Verdict) -> str:
    """A verdict's number with its interval and unit, what was picked, and on which machine."""
    if v.word == "not run":
        return ""
    if v.unit == "of resamples":
        share = 100 * v.value  # with a digit more where that decides
        digits = 1 if abs(min(share, 100 - share) - 2.5) < 1 else 0
        text = f"true in {number(share, digits)} % of resamples"
    elif v.unit.startswith("anchors"):
        text = f"1 in {v.value:,.0f}"
    elif v.unit.startswith("×"):
        text = f"{v.value:.2f} {v.unit} ({between(v.low, v.high, 2)})"
    else:
        least = 3 if v.unit == "calibration error" else digits_of(v)
        digits = precision(v.value, v.low, v.high, digits=least)
        text = f"{signed(v.value, digits)} {v.unit}"
        if v.unit.endswith(HALF):
            side = "above" if v.value > 0 else "below"
            loss = v.unit.removesuffix(HALF).removeprefix("points ")
            text = f"{number(abs(v.value), digits)} points {side} half {loss}"
        text += "" if np.isnan(v.low) else f" ({interval(v, digits)})"
    # What a number is made of comes first where it is no plain difference.
    plain, about = not v.estimate or v.estimate.of[1:3] in ((), (1.0, -1.0)), (v.remark, v.made_on)
    return "; ".join(part for part in ((text, *about) if plain else (*about, text)) if part)


def digits_of(v: Verdict) -> int:
    """The digits that a verdict's difference is told with: a second one where both sides' AP is small."""
    return ap_digits(*v.estimate.levels) if v.estimate else 1


def interval(v: Verdict, digits: int = 1) -> str:
    """A verdict's interval; that of a primary claim is wider, and says so."""
    return between(v.low, v.high, digits, signed) + ", adjusted" * v.primary


def gap(v: Verdict) -> str:
    """A verdict's difference with its interval, without its unit."""
    digits = precision(v.value, v.low, v.high, digits=digits_of(v))
    return f"{signed(v.value, digits)} ({interval(v, digits)})"


def levels(v: Verdict) -> str:
    """The AP of both sides, where a verdict is a plain difference of these; else ""."""
    plain = [(MEASURES[name], 1.0, -1.0) for name in ("AP", "at .05")]
    if v.estimate is None or len(v.estimate.levels) != 2 or v.estimate.of[:3] not in plain:
        return ""
    (ours, theirs), digits = v.estimate.levels, digits_of(v)
    return f"AP {number(ours, digits)} against {number(theirs, digits)}"


def verdict_word(v: Verdict) -> str:
    """A verdict's word; for what is measured and not judged, also whether the number speaks for the claim,
    where its interval leaves out 0."""
    if v.word != "measured" or not v.direction or not (v.low > 0 or v.high < 0):
        return v.word
    return f"{v.word}, {'for' if v.direction > 0 else 'against'} it"


def how(v: Verdict) -> str:
    """How a verdict was come by: seeds, what the interval holds, p of the primary family."""
    parts = [seeds_text(v.seeds) if v.seeds else "", v.how]
    if v.word == NOT_YET:
        parts.append(f"no verdict before it has {seeds_text(v.wanted)}")
    if v.primary and v.p is not None:
        parts.append(f"adjusted p {v.p:.3f}" if v.p >= 0.001 else "adjusted p < .001")
    return "; ".join(part for part in parts if part)


def said(c: Claim, *studies: Study) -> Md:
    """A claim's sentence as it holds for some studies: one that speaks of a rate for each loss says otherwise
    where losses share one, or have that of other data."""
    found = {_rates(c, study) for study in studies}
    text = found.pop() if len(found) == 1 else "at the rates that each page names"
    return escape(c.sentence.replace(OWN_RATES, text))


def _rates(c: Claim, study: Study) -> str:
    if not study.rates:
        return "all at one rate"
    asked = {label for side in (c.a, c.b) if side for label in side.labels(study.base)}
    tables = [
        study.ablation(name).row_configs(study.base, study.rates) for name in c.needs if name in ABLATIONS
    ]
    rows = [config for of in tables for label, config in of.items() if not asked or label in asked]
    searched = all(family_of(config) in study.rates for config in rows)
    return OWN_RATES if searched and not study.profile.own else "at the rates that the table names"


def sentence(c: Claim, *studies: Study) -> Md:
    """A claim with its source; those of the primary family say so."""
    primary = ", **primary**" if all(map(c.primary, studies)) else ""
    return Md(f"{said(c, *studies)} ({escape(c.source)}{primary})")


def ledger(e: Evidence, *names: str) -> list[dict[str, object]]:
    """The claims whose runs are there as rows of a table, by question, verdict first; names: only those that
    read one of these ablations."""
    rows, question = [], ""
    for c, v in [judged for judged in judge_all(e, *names) if judged[1].word != "not run"]:
        if c.question != question and not names:
            rows.append({"verdict": "", "claim": bold(c.question), "effect (95 %)": "", "by": ""})
        question = c.question
        row = {"verdict": bold(verdict_word(v)), "claim": sentence(c, e.study), "effect (95 %)": effect(v)}
        rows.append(row | {"by": how(v)})
    return rows


def not_run(e: Evidence) -> Md:
    """One line on the claims of the profile's ablations that have no verdict yet; "" if all have one."""
    mine = e.study.profile.ablations
    unjudged = [(c, v) for c, v in judge_all(e) if v.word == "not run" and set(c.needs) <= set(mine)]
    lacking = [[name for name in c.needs if not e.whole(name)] for c, v in unjudged if v.how not in MADE]
    needs, count = [name for names in lacking for name in names], len(lacking)
    lines = [left_out(e.study, f"{count} more claim{'s'[: count > 1]}", *needs)] if needs else []
    return Md(" ".join([*lines, *_made_in_vain([(c, v, e) for c, v in unjudged if v.how in MADE[1:]])]))


def verdicts(e: Evidence, *names: str) -> Md:
    """The claims that read one of these ablations (none: all) and have a verdict, as on the page of the
    profile that judges them: that which runs the whole paper, where one's own does not run them."""
    p = e.study.profile
    left = p.whole and not set(names or ABLATIONS) <= set(p.ablations)
    judge = e.of_whole if left else e
    text = markdown(ledger(judge, *names)) or Md("No claim on these ablations has its runs yet.")
    return Md(f"As judged for profile `{judge.study.name}`:\n\n{text}") if left else text


def takeaway(e: Evidence, *ids: str) -> Md:
    """What these claims came to, each in bold and in one line; last those without records, with the command.

    Judged for the profile that runs the whole paper, where one's own does not have the claim's runs.
    """
    judged = {}
    for judge in (e.of_whole, e):  # one's own runs say more, where they say anything
        for c, v in judge_all(judge):
            if v.word != "not run" or c.id not in judged:
                judged[c.id] = c, v, judge
    asked = [judged[name] for name in ids]
    lines = [
        f"- **{verdict_word(v).capitalize()}: {said(c, judge.study)}** {_numbers(v)} "
        f"(`{judge.study.name}`; {escape(how(v))}{_explored(c, v)})"
        for c, v, judge in asked
        if v.word != "not run"
    ]
    unjudged = [claim for claim in asked if claim[1].word == "not run"]
    lines += [f"- {line}" for line in _made_in_vain(unjudged)]
    if lacking := [(c, judge) for c, v, judge in unjudged if v.how not in MADE]:
        what = "» «".join(said(c, of.study) for c, of in lacking)
        needs = [n for c, _ in lacking for n in c.needs]
        lines += ["", f"{UNJUDGED}: «{what}» To make them: `{command(lacking[0][1].study, *needs)}`."]
    return Md("\n".join(lines).lstrip())


def _made_in_vain(unjudged: Sequence[tuple[Claim, Verdict, Evidence]]) -> list[str]:
    """For each reason why no more runs would judge a claim, one line with those that it holds for."""
    of = {why: [said(c, e.study) for c, v, e in unjudged if v.how == why] for why in MADE}
    return [f"{sentence_case(why)}: «{'» «'.join(claims)}»" for why, claims in of.items() if claims]


def _explored(c: Claim, v: Verdict) -> str:
    """Whether a verdict is exploratory, and its claim was asked after runs had been seen; "" of a primary."""
    if v.primary or v.word not in WORDS:
        return ""
    _, found, asked = c.source.partition("; asked after ")
    return "; exploratory" + f", asked after {asked}" * bool(found)


def _numbers(v: Verdict) -> Md:
    """A verdict's effect and AP in a sentence."""
    return Md("; ".join(filter(None, (escape(effect(v)), levels(v)))) + ".")


# ---- where runs are from

LEFT_OUT = "Left out"  # begins each line that stands for something without records
UNJUDGED = "No runs judge yet"  # begins that of claims without


def left_out(study: Study, what: str, *needs: str) -> Md:
    """One line for what no record holds, as its run is missing or of an older version, and how to make it;
    needs: the ablations that it takes."""
    make = command(study, *needs)
    return Md(f"{LEFT_OUT} for lack of records that hold it: {what.rstrip('.')}. To make them: `{make}`.")


def command(study: Study, *needs: str) -> str:
    """What makes the runs of some ablations."""
    return f"focalrepro run {' '.join(dict.fromkeys(needs))} --profile {study.name}"


def missing(study: Study, *names: str) -> Md:
    """One line that says how to make the ablations of which fewer than two rows have runs, or less than half
    of them all; "" if none. Those of the primary comparisons are shown from two on: all wait for them."""
    lacking = []
    for name in names:
        there = [bool(records) for records in study.rows(name).values()]
        lacking += [name] if sum(there) < max(2, len(there) / 2 * (name != "primary")) else []
    lines, without = [], [name for name in lacking if not study.rows(name)]
    if lacking := [name for name in lacking if name not in without]:
        few = [title(name, study) for name in lacking] if len(lacking) <= 3 else [f"{len(lacking)} ablations"]
        lines.append(left_out(study, escape("; ".join(few)), *lacking))
    if without:
        titles = escape("; ".join(title(name, study) for name in without))
        lines.append(f"{LEFT_OUT}, as this profile's data has no such rows: {titles}.")
    return Md(" ".join(lines))


def where_from(study: Study, *names: str) -> Md:
    """Opening of a results notebook: the profile, its hardware, whose runs are shown and what they took.

    names: of the ablations that the notebook shows.
    """
    shown = [name for name in names if not missing(study, name)]
    rows = [records for name in shown for records in study.rows(name).values()]
    records = {r.run_id: r for row in rows for r in row}
    text = render(
        "where_from.md.j2",
        **{"name": Md(study.name), "profile": study.profile, "records": list(records.values())},
        **{"missing": missing(study, *names), "whose": _whose(study, set(records))},
        seeds=seeds_text(max(map(len, rows), default=0)),
    )
    return Md(text.rstrip())


def _whose(study: Study, left: set[str]) -> Md:
    """Whose runs these are, in words: one's own, the profile's committed ones, those of its `whole`."""
    name, parts = study.profile.name, {}
    stores = {f"of the local store, data/runs/{name}": Store.local(name)}
    stores[f"of the committed results of `{name}`"] = Store.committed(name)
    for text, store in stores.items():
        mine = {i for i in left if store.path(i).exists()}
        parts[text], left = len(mine), left - mine
    parts[f"of the committed results of `{study.profile.whole}`"] = len(left)
    return Md(", ".join(f"{count} {text}" for text, count in parts.items() if count))


# ---- tables in words


def title(name: str, study: Study | None = None) -> str:
    """A table's heading: the paper's number for it, where it has one, and what it shows.

    study: one that knows it, where it is not built in.
    """
    ablation = study.ablation(name) if study else ABLATIONS[name]
    source, shows = ablation.source.split(",")[0], ablation.title
    return f"{source}: {shows}" if source.startswith(("Table", "Figure")) else sentence_case(shows)


def sentence_case(text: str) -> str:
    """With a capital first letter, unless it is a Greek one that would turn into a Latin look-alike."""
    return text[0].upper() + text[1:] if text[0].isascii() else text


def summary(frame: pd.DataFrame) -> str:
    """The best row here and in the paper, and how far the orders agree; "" for fewer than two rows."""
    if frame["AP"].count() < 2:
        return ""
    top = frame.loc[frame["AP"].idxmax()]
    if top.AP <= 0.05:
        return "No row detects anything, which is what a few steps of training give."
    digits = ap_digits(top.AP)
    interval = between(top.low, top.high, digits)
    lines = [f"Best row here: {bold(top.row)} with AP {number(top.AP, digits)} ({interval})."]
    if frame["paper_AP"].notna().any():
        theirs = frame.loc[frame["paper_AP"].idxmax()]
        if frame["AP_at_05"].max() > 0:
            at_05 = frame.loc[frame["AP_at_05"].idxmax()]
            ap = number(at_05.AP_at_05, digits)
            lines.append(f"At a score of .05 or more: {bold(at_05.row)} with {ap}.")
        lines.append(f"In the paper, at .05: {bold(theirs.row)} with {theirs.paper_AP:.1f}.")
    rho, count = rank_correlation(frame)
    if not np.isnan(rho):
        lines += [f"Rank correlation at .05 with the paper (Spearman, {count} rows): **{number(rho, 2)}**."]
    return " ".join(lines)


def hardest(record: Record, share: float = 0.1) -> str:
    """What the hardest windows carry of the loss, for γ = 0 and γ = 2, foreground and background."""
    kept = record.loss_distribution
    at = kept["shares"].index(round(1 - share, 2))
    parts = []
    for kind in ("foreground", "background"):
        plain, focal = (1 - kept[kind][gamma][at] for gamma in ("0", "2"))
        parts.append(f"of the {kind}'s loss {plain:.0%} at γ = 0 and {focal:.0%} at γ = 2")
    return f"**Here the hardest {share:.0%} of the windows carry {'; '.join(parts)}.**"


def cut_costs(rows: Mapping[str, Sequence[Record]]) -> str:
    """What dropping the lower scores costs each row in AP, at the paper's threshold and at a half; "" where
    no image that judges has an object."""
    judged = {name: [r for r in of if not np.isnan(r.AP)] for name, of in rows.items()}
    parts = []
    for cut in ("0.05", "0.5"):
        lost = {k: np.mean([r.AP - r.thresholds[cut] for r in of]) for k, of in judged.items() if of}
        parts.append(f"of less than {cut}: " + ", ".join(f"{k}: {number(v, 1)}" for k, v in lost.items()))
    return f"Dropping scores costs AP; those {'; those '.join(parts)}." if any(judged.values()) else ""


def class_trend(frame: pd.DataFrame) -> str:
    """Whether the gain goes to rare classes, in words; frame: of `per_class.by_class`."""
    v = trend(frame)
    if v is None:
        return (
            "There is no gain by class to compare: the runs are missing, or the profile's dataset is not "
            "prepared on this machine (`focalrepro data` does it)."
        )
    which = {"confirmed": "rare classes gain more", "refuted": "frequent classes gain more"}
    return (
        f"Spearman's correlation of the gain with the number of training objects is **{signed(v.value, 2)}** "
        f"({between(v.low, v.high, 2, signed)}, 95 %, {v.how}), where {v.remark}: "
        f"**{which.get(v.word, 'no trend can be claimed, in either direction')}**."
    )
