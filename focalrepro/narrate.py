"""What the notebooks say about results in sentences, computed from the run records.

The tables for the eye are in `narrate_tables`; notebooks reach them through this module, too.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from focalrepro import claims, results
from focalrepro.narrate_tables import (
    agreement,
    calibration_table,
    comparison,
    gains,
    interval_text,
    provenance,
    recipe_changes,
    tables,
)
from focalrepro.study.ablations import ABLATIONS
from focalrepro.study.profiles import get_profile
from focalrepro.study.records import Store

__all__ = [
    "NO_DISTRIBUTION",
    "agreement",
    "calibration_table",
    "calibration_verdict",
    "comparison",
    "gains",
    "hardest",
    "ledger",
    "provenance",
    "recipe_changes",
    "summary",
    "tables",
    "title",
    "verdicts",
    "where_from",
    "with_distribution",
]

Records = Sequence[Mapping[str, Any]]


def where_from(profile: str, *names: str) -> str:
    """Opening of a results notebook: the profile, its hardware, whose runs are shown and what they took.

    names: of the ablations that the notebook shows.
    """
    p = get_profile(profile)
    lines = [f"**Profile `{profile}`**: {p.what}. Meant for: {p.hardware}.", ""]
    records = results.records_or_committed(profile)
    rows = {
        f"{label} ({name})" if len(names) > 1 else label: found
        for name in names
        for label, found in results.select(records, profile, name).items()
    }
    shown = {r["run_id"]: r for found in rows.values() for r in found}
    missing = [label for label, found in rows.items() if not found]
    command = f"`focalrepro run {' '.join(names)} --profile {profile}`"
    if not shown:
        lines.append(
            f"**There are no runs to show yet.** To make them: {command}; then execute this notebook again."
        )
        return "\n".join(lines)
    seconds = sum(r["seconds"]["total"] for r in shown.values())
    machines = sorted({r["hardware"].get("gpu", r["hardware"]["cpu"]) for r in shown.values()})
    seeds = len({r["config"]["seed"] for r in shown.values()})
    lines.append(
        f"Shown are {len(shown)} runs ({_sources(profile, shown)}) with {seeds} seed{'s'[: seeds > 1]}. They took {seconds / 60:.1f} minutes "
        f"in all, added up over the workers, on {', '.join(machines)}."
    )
    if missing:
        named = ", ".join(missing) if len(missing) <= 8 else f"{len(missing)} of {len(rows)} rows"
        lines.append(f"Not run yet: {named}. To add them: {command}.")
    if max(r["config"]["steps"] for r in shown.values()) < 20:
        lines.append(
            "\n*These runs are a few steps long: they show that the path works, their AP means nothing.*"
        )
    return "\n".join(lines)


def _sources(profile: str, run_ids: Collection[str]) -> str:
    """Whose runs these are, in words: one's own, the profile's committed ones, those of the whole paper's profile."""
    local, committed = Store.local(profile), Store.committed(profile)
    mine = {i for i in run_ids if local.path(i).exists()}
    kept = {i for i in run_ids if i not in mine and committed.path(i).exists()}
    rest = len(run_ids) - len(mine) - len(kept)
    parts = {
        f"of the local store, data/runs/{profile}": len(mine),
        f"of the committed results of `{profile}`": len(kept),
        f"of the committed results of `{get_profile(profile).whole}`": rest,
    }
    there = {text: count for text, count in parts.items() if count}
    if len(there) == 1:
        return next(iter(there))
    return ", ".join(f"{count} {text}" for text, count in there.items())


def summary(frame: pd.DataFrame) -> str:
    """The best row here and in the paper, collapsed and diverged rows, agreement of the rankings, in words."""
    lines = []
    run = frame[frame["AP"].notna()]
    if run.empty:
        return "No row has a run yet, so there is nothing to compare."
    if run["AP"].max() <= 0.05:
        lines.append(
            "- Best row here: none; no row detects anything, which is what a few steps of training give."
        )
    else:
        best = run.loc[run["AP"].idxmax()]
        lines.append(
            f"- Best row here: **{_plain(best.row)}** with AP {best.AP:.1f} ({interval_text(best.low, best.high)})."
        )
    if frame["paper_AP"].notna().any():
        theirs = frame.loc[frame["paper_AP"].idxmax()]
        lines.append(f"- Best row in the paper: **{_plain(theirs.row)}** with AP {theirs.paper_AP:.1f}.")
    if len(run) < len(frame):
        missing = f"{len(frame) - len(run)} of {len(frame)}"
        lines.append(f"- Rows without a run: {missing}; what is said here is about the others.")
    for what, rows in (
        ("diverged", run[run["diverged"] > 0]),
        ("AP below 1", run[(run["AP"] < 1) & (run["diverged"] == 0)]),
    ):
        if len(rows) and run["AP"].max() > 0.05:
            lines.append(f"- {what[0].upper() + what[1:]}: {'; '.join(map(_plain, rows['row']))}.")
    correlation, count = results.rank_correlation(frame)
    if not np.isnan(correlation):
        lines.append(
            f"- Rank correlation with the paper (Spearman, {count} rows): **{correlation:.2f}**; 1 is the same order."
        )
    kinds = sorted({k for k in run["interval_of"] if k})
    if kinds:
        lines.append(f"- Intervals are at 95 %: {' and '.join(kinds)}.")
    return "\n".join(lines)


def _plain(label: str) -> str:
    """A row's label in Markdown: the star of FL* is no emphasis."""
    return label.replace("*", r"\*")


NO_DISTRIBUTION = (
    "The runs of this profile have no record of their loss distribution; train them again to see it."
)


def with_distribution(records: Records) -> Mapping[str, Any] | None:
    """The first record that kept its loss distribution."""
    return next((r for r in records if r.get("loss_distribution")), None)


def hardest(record: Mapping[str, Any], share: float = 0.2) -> str:
    """What the hardest windows carry of the loss, for γ = 0 and γ = 2, foreground and background."""
    kept = record["loss_distribution"]
    at = kept["shares"].index(round(1 - share, 2))
    parts = []
    for kind in ("foreground", "background"):
        plain, focal = (1 - kept[kind][gamma][at] for gamma in ("0", "2"))
        parts.append(
            f"of the {kind}'s loss the hardest {share:.0%} of the windows carry {plain:.0%} at γ = 0 and {focal:.0%} at γ = 2"
        )
    return f"Here, {'; '.join(parts)}."


def title(name: str) -> str:
    """A table's heading from its key in `tables`: where the paper has it, and what it shows."""
    ablation = ABLATIONS[name.split(",")[0]]
    recipe = name.partition(", ")[2]
    return f"{ablation.source.split(',')[0]}: {ablation.title}" + (f" ({recipe})" if recipe else "")


def calibration_verdict(profile: str) -> str:
    """The claim on calibration in words."""
    judged = claims.judge_all(results.records_or_committed(profile), profile)
    found = [(c, v) for c, v in judged if "calibrated" in c.sentence]
    return "\n".join(
        f"{c.sentence} **{v.verdict.capitalize()}**: {v.effect or v.how} ({v.how})." for c, v in found
    )


def _judge_of(profile: str, names: Collection[str]) -> str:
    """The profile that judges claims on these ablations: the one that runs the whole paper, where this one does not."""
    p = get_profile(profile)
    return p.whole if p.whole and not set(names) <= set(p.ablations) else profile


def ledger(profile: str) -> str:
    """All claims with their verdicts, as on the results page of the profile, or of the one that runs the whole paper."""
    judge_of = _judge_of(profile, ABLATIONS)
    text = claims.ledger(results.records_or_committed(judge_of), judge_of)
    return text if judge_of == profile else f"{text}\n\n(As judged for profile `{judge_of}`.)"


def verdicts(profile: str, *names: str) -> str:
    """The claims that need one of these ablations as a Markdown table, judged as on a profile's results page.

    The profile's own, or that of the profile which runs the whole paper where this one leaves an ablation to it. The
    p values are corrected over all claims of that page, not over those shown.
    """
    judge_of = _judge_of(profile, names)
    judged = claims.judge_all(results.records_or_committed(judge_of), judge_of)
    lines = ["| verdict | claim | effect (95 %) | by |", "|---|---|---|---|"]
    lines += [
        f"| **{v.verdict}** | {claim.sentence} ({claim.source}) | {v.effect} | {v.how} |"
        for claim, v in judged
        if set(names) & set(claim.needs)
    ]
    if judge_of != profile:
        lines += ["", f"(As judged for profile `{judge_of}`, which has these runs.)"]
    return "\n".join(lines)
