"""The results on the repository's front page: written between two markers of README.md, never by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from focalrepro.claims import CLAIMS, QUESTIONS, judge_all
from focalrepro.files import repo_root, write_atomic
from focalrepro.results import load_records, rank_correlation, table
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import PROFILES
from focalrepro.verdicts import Claim, Verdict

BEGIN = "<!-- results:begin (written by `focalrepro verify --freeze`) -->"
END = "<!-- results:end -->"
TABLES = ("1a", "1b")

BETTER = {"confirmed": "better", "refuted": "worse", "undecided": "not decided"}
REACHED = {"confirmed": "yes", "refuted": "no", "undecided": "not decided"}
# What a reader wants to know first: the question, how its claim begins, and the verdicts in the question's own words.
ANSWERS = (
    ("Focal loss against plain cross entropy", "Focal loss (γ = 2, α = .25) beats plain", BETTER),
    ("… against cross entropy with the best class weight α", "Focal loss (γ = 2, α = .25) beats the best α", BETTER),
    ("… against cross entropy with α *and* the prior π tuned", "Focal loss (γ = 2, α = .25, π = .01)", BETTER),
    ("… against SSD's hard negatives, three for each positive", "Focal loss (γ = 2, α = .25) beats SSD", BETTER),
    ("Given twice the steps, plain cross entropy reaches where focal loss was", "Twice the steps bring", REACHED),
    ("Given half of the images, focal loss reaches plain cross entropy on all of them", "Focal loss on half", REACHED),
    ("Focal loss's scores as probabilities, against plain cross entropy's", "Focal loss is better calibrated", BETTER),
    ("The speed of training", "Focal loss does not slow training", {"confirmed": "kept", "refuted": "lost", "undecided": "not decided"}),
)  # fmt: skip
NAMES = {"synthetic": "embedded data", "coco256": "real COCO"}


def front_page_results() -> str:
    """The answers in short, all verdicts, and both tables with a column per profile that has results, and the figure of the first of them."""
    committed = {name: load_records(name, committed=True) for name in PROFILES if name != "smoke"}
    committed = {name: r for name, r in committed.items() if r}
    if not committed:
        return ""
    # Of a profile and the one that runs the whole paper over the same baseline, the tables show the first and the
    # verdicts are the second's.
    wholes = {PROFILES[name].whole for name in committed} & set(committed)
    records = {name: r for name, r in committed.items() if name not in wholes}
    judges = {name: r for name, r in committed.items() if PROFILES[name].whole not in wholes}
    judged = {name: dict(judge_all(r, name)) for name, r in judges.items()}
    parts = [
        "**In short**, with 95 % intervals; what these words rest on is in the table below:",
        _in_short(judged),
        "<details><summary><b>All claims of the paper, and the common explanations, with verdicts</b></summary>",
        _verdicts(judged),
        "</details>",
    ]
    for name in TABLES:
        frames = {profile: table(r, profile, name) for profile, r in records.items()}
        frames = {profile: f for profile, f in frames.items() if f["AP"].notna().any()}
        if frames:
            parts += [
                f"**{get_ablation(name).source.split(',')[0]}**: {get_ablation(name).title}",
                _table(frames),
            ]
    first = next(iter(records))
    figure = f"results/{first}/figures/1b.png"
    parts.append(f"![AP against γ, here (profile {first}) and in the paper]({figure})")
    parts.append(
        "AP in percent, with the 95 % interval and, where there is more than one, the number of seeds. The last "
        "line is Spearman's rank correlation of a column with the paper's. What it took, runs only:"
    )
    parts.append("\n".join(_effort(name, r) for name, r in committed.items()))
    return "\n\n".join(parts)


def _in_short(judged: dict[str, dict[Claim, Verdict]]) -> str:
    """A line for each of ANSWERS that any profile has a verdict on."""
    lines = []
    for question, begins, words in ANSWERS:
        (claim,) = [c for c in CLAIMS if c.sentence.startswith(begins)]
        found = []
        for name, verdicts in judged.items():
            v = verdicts.get(claim)
            if v and v.verdict != "not run":
                where = NAMES.get(PROFILES[name].base.dataset, name)
                seeds = ", 1 seed" if v.seeds == 1 else ""
                found.append(f"**{words[v.verdict]}** on {where} (`{name}`{seeds}): {v.effect}")
        if found:
            lines.append(f"- {question}: {'; '.join(found)}.")
    return "\n".join(lines)


def _verdicts(judged: dict[str, dict[Claim, Verdict]]) -> str:
    """What each profile says of each claim, question by question; how it was judged is on the profiles' own pages."""
    pages = [f"[`{name}`](results/{name}/README.md)" for name in judged]
    lines = ["| claim | " + " | ".join(pages) + " |", "|---|" + "---|" * len(pages)]
    for question, claims in QUESTIONS.items():
        rows = [
            f"| {claim.sentence} ({claim.source}) | {' | '.join(cells)} |"
            for claim in claims
            if any(cells := [_verdict(verdicts.get(claim)) for verdicts in judged.values()])
        ]
        if rows:
            lines += [f"| **{question}** |" + " |" * len(pages), *rows]
    return "\n".join(lines)


def _verdict(v: Verdict | None) -> str:
    """A cell: the verdict with its effect, empty where nothing was run."""
    if v is None or v.verdict == "not run":
        return ""
    return f"**{v.verdict}**: {v.effect}" + (", 1 seed" if v.seeds == 1 else "")


def _effort(name: str, records: list[dict[str, Any]]) -> str:
    """One line: runs, machine, time."""
    seconds = [r["seconds"]["total"] for r in records]
    hardware = records[0]["hardware"]
    at_once = 1 if "gpu" in hardware else hardware["cores"]
    machine = hardware.get("gpu", f"{hardware['cores']} cores of {hardware['cpu']}")
    return (
        f"- [{name}](results/{name}/README.md): {len(records)} runs of {np.median(seconds):.0f} s (median), about "
        f"{sum(seconds) / at_once / 60:.0f} min on {machine}"
    )


def _table(frames: dict[str, pd.DataFrame]) -> str:
    any_frame = next(iter(frames.values()))
    lines = [
        "| row | paper | " + " | ".join(f"`{p}`" for p in frames) + " |",
        "|---|---|" + "---|" * len(frames),
    ]
    for i, row in enumerate(any_frame.itertuples()):
        cells = [_cell(frame.iloc[i], frame["AP"].max()) for frame in frames.values()]
        paper = f"{row.paper_AP:.1f}"
        best = row.paper_AP == any_frame["paper_AP"].max()
        lines.append("| " + " | ".join([row.row, f"**{paper}**" if best else paper, *cells]) + " |")
    ranks = [rank_correlation(frame)[0] for frame in frames.values()]
    lines.append(
        "| rank correlation | | " + " | ".join("" if np.isnan(r) else f"{r:.2f}" for r in ranks) + " |"
    )
    return "\n".join(lines)


def _cell(row: pd.Series, best: float) -> str:
    if row["seeds"] == 0:
        return ""
    ap = f"**{row['AP']:.1f}**" if row["AP"] == best else f"{row['AP']:.1f}"
    seeds = f", {row['seeds']} seeds" if row["seeds"] > 1 else ""
    return f"{ap} ({row['low']:.1f} … {row['high']:.1f}{seeds})"


def readme_path() -> Path:
    return (repo_root() or Path.cwd()) / "README.md"


def update_front_page() -> None:
    """Replaces what stands between the markers; ValueError where README.md has lost them."""
    path = readme_path()
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{path}: the markers {BEGIN} and {END} must be there once each")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    write_atomic(path, f"{before}{BEGIN}\n{front_page_results()}\n{END}{after}")


def is_up_to_date() -> bool:
    """Whether README.md shows just what the committed results say."""
    text = readme_path().read_text(encoding="utf-8")
    return text.split(BEGIN)[1].split(END)[0].strip() == front_page_results().strip()
