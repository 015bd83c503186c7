"""What pages and notebooks say about results in sentences, computed from the records."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from focalrepro.evaluation.record import Record
from focalrepro.evidence import cost
from focalrepro.evidence.claims import QUESTIONS, Claim, judge_all
from focalrepro.evidence.difference import Estimate, Evidence
from focalrepro.evidence.per_class import Trend
from focalrepro.evidence.statistics import Verdict
from focalrepro.evidence.tables import rank_correlation
from focalrepro.show.tables import Md, bold, escape, interval_text, markdown, signed
from focalrepro.study.ablations import ABLATIONS
from focalrepro.study.store import Store
from focalrepro.study.study import Study

# ---- verdicts


def estimate_text(found: Estimate) -> str:
    """An effect in AP with its 95 % interval."""
    return f"{signed(found.effect)} AP ({signed(found.low)} … {signed(found.high)})"


def seeds_text(count: int) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{count} seed{'s'[: count > 1]}"


def effect(v: Verdict) -> str:
    """A verdict's number with its interval and unit, and what was picked."""
    if v.word == "not run":
        return ""
    between = "" if np.isnan(v.low) else f" ({signed(v.low)} … {signed(v.high)})"
    if v.unit == "of resamples":
        text = f"{v.value:.0%} of resamples"
    elif v.unit.startswith("anchors"):
        text = f"1 in {v.value:,.0f}"
    elif v.unit.startswith("×"):
        text = f"{v.value:.3f} {v.unit} ({v.low:.3f} … {v.high:.3f})"
    elif v.unit == "calibration error":
        between = "" if np.isnan(v.low) else f" ({signed(v.low, 3)} … {signed(v.high, 3)})"
        text = f"{signed(v.value, 3)}{between} in calibration error"
    else:
        text = f"{signed(v.value)} {v.unit}{between}"
    return "; ".join(part for part in (text, v.remark) if part)


def how(v: Verdict) -> str:
    """How a verdict was come by: seeds, what the interval holds, p of the primary family."""
    parts = [seeds_text(v.seeds)] if v.seeds else []
    parts.append(v.how)
    if v.primary and v.p is not None:
        parts.append(f"adjusted p {v.p:.3f}" if v.p >= 0.001 else "adjusted p < .001")
    return "; ".join(part for part in parts if part)


def ledger(e: Evidence, *names: str) -> list[dict[str, object]]:
    """The claims as rows of a table, by question, verdict first; names: only those that read one of these
    ablations."""
    judged = {c.id: (c, v) for c, v in judge_all(e, *names)}
    rows = []
    for question, claims in QUESTIONS.items():
        found = [judged[c.id] for c in claims if c.id in judged]
        if found and not names:
            rows.append({"verdict": "", "claim": bold(question), "effect (95 %)": "", "by": ""})
        for c, v in found:
            row = {"verdict": bold(v.word), "claim": sentence(c), "effect (95 %)": effect(v), "by": how(v)}
            rows.append(row)
    return rows


def sentence(c: Claim) -> Md:
    """A claim with its source; those of the primary family say so."""
    return Md(f"{escape(c.sentence)} ({escape(c.source)}{', **primary**' if c.primary else ''})")


def judging(study: Study, *names: str) -> Study:
    """The study that judges claims on these ablations: of the profile that runs the whole paper, where one's
    own does not run them."""
    p = study.profile
    left = p.whole and not set(names or ABLATIONS) <= set(p.ablations)
    return type(study)(p.whole) if left else study


def verdicts(study: Study, *names: str) -> Md:
    """The claims that read one of these ablations (none: all), as on the page of the profile that judges
    them."""
    judge = judging(study, *names)
    text = markdown(ledger(Evidence(judge), *names)) or Md("No claim reads these ablations.")
    return text if judge is study else Md(f"{text}\n\n(As judged for profile `{judge.profile.name}`.)")


# ---- where runs are from


def where_from(study: Study, *names: str) -> str:
    """Opening of a results notebook: the profile, its hardware, whose runs are shown and what they took.

    names: of the ablations that the notebook shows.
    """
    p = study.profile
    rows = {
        f"{label} ({name})" if len(names) > 1 else label: found
        for name in names
        for label, found in study.rows(name).items()
    }
    lines = [f"**Profile `{p.name}`**: {p.what}. Meant for: {p.hardware}.", ""]
    shown = {r.run_id: r for found in rows.values() for r in found}
    missing = [label for label, found in rows.items() if not found]
    command = f"`focalrepro run {' '.join(names)} --profile {p.name}`"
    if not shown:
        lines += [
            f"**There are no runs to show yet.** To make them: {command}; then execute this notebook again."
        ]
        return "\n".join(lines)
    minutes = sum(r.seconds.total for r in shown.values()) / 60
    machines = ", ".join(sorted({r.hardware.name for r in shown.values()}))
    seeds = seeds_text(len({r.seed for r in shown.values()}))
    lines.append(
        f"Shown are {len(shown)} runs ({_sources(study, list(shown))}) with {seeds}. They took "
        f"{minutes:.1f} minutes "
        f"in all, added up over the workers, on {machines}."
    )
    if any(r.at_paper_threshold for r in shown.values()):
        lines.append("Their AP is that of detections with a score of .05 or more, as in the paper.")
    if missing:
        named = ", ".join(missing) if len(missing) <= 8 else f"{len(missing)} of {len(rows)} rows"
        lines.append(f"Not run yet: {named}. To add them: {command}.")
    if max(r.config.steps for r in shown.values()) < 20:
        lines += [
            "",
            "*These runs are a few steps long: they show that the path works; their AP means nothing.*",
        ]
    return "\n".join(lines)


def _sources(study: Study, run_ids: Sequence[str]) -> str:
    """Whose runs these are, in words: one's own, the profile's committed ones, those of the whole paper's
    profile."""
    name, parts, left = study.profile.name, {}, set(run_ids)
    for text, store in (
        (f"of the local store, data/runs/{study.name}", Store.local(name, study.dataset)),
        (f"of the committed results of `{name}`", Store.committed(name, study.dataset)),
    ):
        mine = {i for i in left if store.path(i).exists()}
        parts[text], left = len(mine), left - mine
    parts[f"of the committed results of `{study.profile.whole}`"] = len(left)
    there = {text: count for text, count in parts.items() if count}
    if len(there) == 1:
        return next(iter(there))
    return ", ".join(f"{count} {text}" for text, count in there.items())


# ---- tables in words


def summary(frame: pd.DataFrame) -> str:
    """The best row here and in the paper, collapsed and diverged rows, agreement of the rankings, in
    words."""
    lines, run = [], frame[frame["AP"].notna()]
    if run.empty:
        return "No row has a run yet, so there is nothing to compare."
    finds = run["AP"].max() > 0.05
    if finds:
        top = run.loc[run["AP"].idxmax()]
        between = interval_text(top.low, top.high)
        lines.append(
            f"- Best row here: {bold(top.row)} with AP {top.AP:.1f} ({between}, 95 %, images and seeds)."
        )
    else:
        lines.append(
            "- Best row here: none; no row detects anything, which is what a few steps of training give."
        )
    if frame["paper_AP"].notna().any():
        theirs = frame.loc[frame["paper_AP"].idxmax()]
        lines.append(f"- Best row in the paper: {bold(theirs.row)} with AP {theirs.paper_AP:.1f}.")
    if len(run) < len(frame):
        lines.append(
            f"- Rows without a run: {len(frame) - len(run)} of {len(frame)}; this is about the others."
        )
    for what, rows in (
        ("Diverged", run[run["diverged"] > 0]),
        ("AP below 1", run[(run["AP"] < 1) & (run["diverged"] == 0)]),
    ):
        if len(rows) and finds:
            lines.append(f"- {what}: {'; '.join(map(escape, rows['row']))}.")
    rho, count = rank_correlation(frame)
    if not np.isnan(rho):
        lines.append(
            f"- Rank correlation with the paper (Spearman, {count} rows): **{rho:.2f}**; 1 is the same order."
        )
    return "\n".join(lines)


def title(name: str) -> str:
    """A table's heading: where the paper has it, and what it shows."""
    return f"{ABLATIONS[name].source.split(',')[0]}: {ABLATIONS[name].title}"


def sentence_case(text: str) -> str:
    """With a capital first letter, unless it is a Greek one that would turn into a Latin look-alike."""
    return text[0].upper() + text[1:] if text[0].isascii() else text


NO_DISTRIBUTION = (
    "The runs of this profile have no record of their loss distribution; train them again to see it."
)


def hardest(record: Record, share: float = 0.2) -> str:
    """What the hardest windows carry of the loss, for γ = 0 and γ = 2, foreground and background."""
    kept = record.loss_distribution
    at = kept["shares"].index(round(1 - share, 2))
    parts = []
    for kind in ("foreground", "background"):
        plain, focal = (1 - kept[kind][gamma][at] for gamma in ("0", "2"))
        parts.append(
            f"of the {kind}'s loss the hardest {share:.0%} of the windows carry {plain:.0%} at γ = 0 and "
            f"{focal:.0%} at γ = 2"
        )
    return f"Here, {'; '.join(parts)}."


def step_time(study: Study) -> str:
    """`cost.step_ratio` as a sentence in Markdown."""
    found = cost.step_ratio(study)
    if found is None:
        return "None of these runs timed steps of both losses in turn (a GPU's one captured step serves "
        "every γ)."
    return (
        f"Timed in turn within {found.runs} runs, a training step with focal loss takes **{found.ratio:.3f} "
        f"×** "
        f"({found.low:.3f} … {found.high:.3f}) as long as one with cross entropy."
    )


EVEN = 1.5  # classes that differ in number by less are called equally frequent
NO_DATASET = (
    "The profile's dataset is not prepared on this machine (`focalrepro data` does it), so the training "
    "objects of "
    "each class cannot be counted."
)


def class_trend(found: Trend) -> str:
    """Whether the gain goes to rare classes, in words: what it is, and whether it can be told from none."""
    if np.isnan(found.correlation):
        return "There are too few classes with a gain to compare, so nothing can be said about a trend."
    text = (
        f"Over {found.classes} classes, Spearman's correlation of the gain with the number of training "
        f"objects is "
        f"**{found.correlation:+.2f}** ({found.low:+.2f} … {found.high:+.2f}, 95 %, bootstrap over classes). "
    )
    if found.spread < EVEN:
        return text + (
            f"The most frequent class has only {found.spread:.2f} times the objects of the least frequent "
            f"one: "
            "this dataset cannot answer the question."
        )
    if found.low > 0:
        return text + "The gain is larger for frequent classes."
    if found.high < 0:
        return text + "The gain is larger for rare classes."
    return text + "The interval holds 0: no trend can be claimed, in either direction."


def reach(frame: pd.DataFrame) -> str:
    """How far the reach of anchors goes, and whether AP goes with it, here and in the paper."""
    low, high = (frame.loc[at] for at in (frame["reach_50"].idxmin(), frame["reach_50"].idxmax()))
    lines = [
        f"- At IoU ≥ .5, {low.row} reaches {low.reach_50:.0f} % of the training objects, {high.row} "
        f"{high.reach_50:.0f} %. At .4, down to which an object's best anchor still learns it, the shares "
        f"are "
        f"{low.reach_40:.0f} % and {high.reach_40:.0f} %."
    ]
    for column, whose in (("AP", "here"), ("paper_AP", "in the paper")):
        both = frame.dropna(subset=[column])
        if len(both) >= 3 and both[column].nunique() > 1:
            rho = both["reach_50"].corr(both[column], method="spearman")
            lines.append(
                f"- Rank correlation of that share with AP {whose}: {rho:.2f} ({len(both)} rows; 1: the set "
                f"that "
                "reaches more objects is always the better one)."
            )
    if frame["AP"].notna().sum() < 3:
        lines.append("- Too few rows are run to set AP here against the reach.")
    return "\n".join(lines)
