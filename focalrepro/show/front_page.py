"""The results on the repository's front page: written between two markers of README.md, never by hand."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from focalrepro.evidence.claims import QUESTIONS, judge_all
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.statistics import Verdict
from focalrepro.evidence.tables import at_paper_threshold, rank_correlation, table
from focalrepro.files import repo_root, write_atomic
from focalrepro.show.pages import render
from focalrepro.show.sentences import effect, sentence
from focalrepro.show.tables import Md, bold, markdown, one
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import PROFILES
from focalrepro.study.study import Study

BEGIN = "<!-- results:begin (written by `focalrepro report`) -->"
BLOCK = re.compile(r"<!-- results:begin[^>]*-->\n.*?<!-- results:end -->", re.DOTALL)
END = "<!-- results:end -->"
TABLES = ("primary", "1a", "1b")

BETTER = {"confirmed": "better", "refuted": "worse", "undecided": "not decided"}
YES = {"confirmed": "yes", "refuted": "no", "undecided": "not decided"}
# What a reader wants to know first: the claim, its question in short, and the verdicts in the question's own
# words.
ANSWERS = {
    "fl-tuned-ce": ("Focal loss against the best-tuned cross entropy, each at its own learning rate", BETTER),
    "fl-plain-ce": ("Focal loss against plain cross entropy", BETTER),
    "fl-best-alpha": ("… against cross entropy with the best class weight α", BETTER),
    "fl-alpha-and-prior": ("… against cross entropy with α *and* the prior π tuned", BETTER),
    "fl-hard-negatives": ("… against hard negatives, three for each positive", BETTER),
    "fl-sampling-free": ("… against Sampling-Free, which needs no focal loss", BETTER),
    "threshold": ("Most of what a low α loses is lost to the threshold of the scores", YES),
    "agnostic": ("The gain over plain cross entropy remains when all classes are merged", YES),
    "twice-the-steps": ("Given twice the steps, plain cross entropy passes where focal loss was", YES),
    "half-the-images": (
        "Given half of the images, focal loss passes plain cross entropy on all of them",
        YES,
    ),
    "calibration-raw": (
        "Focal loss's scores as probabilities, against cross entropy's of the same AP",
        BETTER,
    ),
    "training-speed": ("The time of training", {"measured": "measured"}),
}
NAMES = {"synthetic": "embedded data", "coco256": "real COCO"}


def front_page_results() -> str:
    """The answers in short, all verdicts, and the main tables with a column per profile that has results."""
    studies = {name: Study.committed(name) for name in PROFILES if name != "smoke"}
    found = {name: Evidence(study) for name, study in studies.items() if study.records}
    if not found:
        return ""
    # Of a profile and the one that runs the whole paper over the same baseline, the tables show the first and
    # the verdicts are the second's.
    wholes = {PROFILES[name].whole for name in found} & set(found)
    shown = {name: e for name, e in found.items() if name not in wholes}
    judged = {
        name: {c.id: v for c, v in judge_all(e) if v.word != "not run"}
        for name, e in found.items()
        if PROFILES[name].whole not in wholes
    }
    tables = []
    for name in TABLES:
        frames = {profile: table(e, name) for profile, e in shown.items()}
        frames = {profile: f for profile, f in frames.items() if f["AP"].notna().any()}
        if frames:
            old = {profile for profile in frames if at_paper_threshold(shown[profile], name)}
            a = get_ablation(name)
            tables.append({"source": a.source.split(",")[0], "title": a.title, "table": _table(frames, old)})
    return render(
        "front.md.j2",
        **{"answers": _answers(judged), "verdicts": _verdicts(judged), "tables": tables},
        first=next(iter(shown)),
        at_paper=any(at_paper_threshold(e, "1b") for e in shown.values()),
        efforts=[_effort(e.study) for e in found.values()],
    ).strip()


def _answers(judged: dict[str, dict[str, Verdict]]) -> list[dict[str, Any]]:
    """A line for each of ANSWERS that any profile has a verdict on."""
    lines = []
    for claim, (question, words) in ANSWERS.items():
        found = [
            {
                "word": words[v.word],
                "where": NAMES.get(PROFILES[name].base.dataset, name),
                **{"name": Md(name), "seeds": v.seeds, "effect": effect(v)},
            }
            for name, verdicts in judged.items()
            if (v := verdicts.get(claim))
        ]
        if found:
            lines.append({"question": Md(question), "found": found})
    return lines


def _verdicts(judged: dict[str, dict[str, Verdict]]) -> Md:
    """What each profile says of each claim, question by question; how it was judged is on the profiles' own
    pages."""
    pages = {name: Md(f"[`{name}`](results/{name}/README.md)") for name in judged}
    rows = []
    for question, claims in QUESTIONS.items():
        lines = [
            {"claim": sentence(c)} | {page: _verdict(judged[name].get(c.id)) for name, page in pages.items()}
            for c in claims
            if any(c.id in verdicts for verdicts in judged.values())
        ]
        if lines:
            rows += [{"claim": bold(question)} | dict.fromkeys(pages.values(), ""), *lines]
    return markdown(rows)


def _verdict(v: Verdict | None) -> str:
    """A cell: the verdict with its effect, empty where nothing was run."""
    return "" if v is None else Md(f"{bold(v.word)}: {effect(v)}{', 1 seed' if v.seeds == 1 else ''}")


def _effort(study: Study) -> dict[str, Any]:
    """Runs, machine, time."""
    seconds, hardware = [r.seconds.total for r in study.records], study.records[0].hardware
    at_once = 1 if hardware.gpu else hardware.cores
    machine = hardware.gpu or f"{hardware.cores} core{'s'[: hardware.cores > 1]} of {hardware.cpu}"
    facts = {"median": np.median(seconds), "minutes": sum(seconds) / at_once / 60}
    return {"name": Md(study.name), "runs": len(seconds), "machine": machine, **facts}


def _table(frames: dict[str, pd.DataFrame], old: set[str]) -> Md:
    first = next(iter(frames.values()))
    names = {name: Md(f"`{name}`{' .05' if name in old else ''}") for name in frames}
    paper, rows = first["paper_AP"].notna().any(), []
    for i, row in enumerate(first.itertuples()):
        ap = one(row.paper_AP)
        entry = {"row": row.row}
        entry |= {"paper": bold(ap) if row.paper_AP == first["paper_AP"].max() else ap} if paper else {}
        rows.append(entry | {names[n]: _cell(f.iloc[i], f["AP"].max()) for n, f in frames.items()})
    if paper:
        ranks = {n: rank_correlation(f)[0] for n, f in frames.items()}
        cells = {names[n]: "" if np.isnan(r) else f"{r:.2f}" for n, r in ranks.items()}
        rows.append({"row": "rank correlation", "paper": ""} | cells)
    return markdown(rows)


def _cell(row: pd.Series, best: float) -> Md:
    if row["seeds"] == 0:
        return Md("")
    ap = bold(one(row["AP"])) if row["AP"] == best else one(row["AP"])
    seeds = f", {row['seeds']} seeds" if row["seeds"] > 1 else ""
    return Md(f"{ap} ({row['low']:.1f} … {row['high']:.1f}{seeds})")


def readme_path() -> Path:
    return (repo_root() or Path.cwd()) / "README.md"


def update_front_page() -> None:
    """Replaces what stands between the markers; ValueError where README.md has lost them."""
    path = readme_path()
    text = path.read_text(encoding="utf-8")
    if len(BLOCK.findall(text)) != 1:
        raise ValueError(f"{path}: the markers {BEGIN} and {END} must be there once each")
    write_atomic(path, BLOCK.sub(lambda _: f"{BEGIN}\n{front_page_results()}\n{END}", text))


def is_up_to_date() -> bool:
    """Whether README.md shows just what the committed results say."""
    (block,) = BLOCK.findall(readme_path().read_text(encoding="utf-8"))
    return block.split("-->", 1)[1].rsplit("<!--", 1)[0].strip() == front_page_results()
