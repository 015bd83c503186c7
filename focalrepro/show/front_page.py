"""The results on the repository's front page: written between two markers of README.md, never by hand."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from focalrepro.evidence.claims import CLAIMS, judge_all
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.tables import at_paper_threshold, rank_correlation, table
from focalrepro.evidence.verdict import Verdict
from focalrepro.files import repo_root, results_root, write_atomic
from focalrepro.show.figures_results import figure_of, forest
from focalrepro.show.pages import render, save
from focalrepro.show.sentences import effect, seeds_text, sentence
from focalrepro.show.tables import Md, bold, enough, markdown, number
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import get_profile
from focalrepro.study.study import Study

BEGIN = "<!-- results:begin (written by `focalrepro report`) -->"
BLOCK = re.compile(r"<!-- results:begin[^>]*-->\n.*?<!-- results:end -->", re.DOTALL)
END = "<!-- results:end -->"

# The profiles that may speak for each dataset, the first whole one first.
COCO, EMBEDDED = ("coco-cpu", "coco-cpu-first"), ("full-quick", "quick")
PLACES = {"synthetic": "the embedded data", "coco256": "real COCO"}
# What a reader wants to know first: the first claim of each line that was judged, and what it sets focal loss
# against.
ANSWERS = (
    {
        "fl-tuned-ce": "the best-tuned cross entropy, each at its own learning rate",
        "fl-alpha-and-prior": "cross entropy with both its class weight α and its prior π tuned",
        "fl-best-alpha": "cross entropy with its best class weight α",
    },
    {"fl-plain-ce": "plain cross entropy"},
    {"fl-hard-negatives": "hard negatives, three for each positive"},
)
WORDS = {
    "confirmed": "clearly better",
    "refuted": "clearly worse",
    "undecided": "not clearly better or worse",
}
FOREST = {
    "fl-tuned-ce": "FL over the best-tuned CE",
    "fl-alpha-and-prior": "FL over CE, α and π tuned",
    "fl-best-alpha": "FL over CE, best α",
    "fl-plain-ce": "FL over plain CE",
    "half-gamma": "γ = .5 over CE, best α",
    "gamma-five": "γ = 2 over γ = 5",
    "fl-hard-negatives": "FL over hard negatives 1:3",
    "fl-sampling-free": "FL over Sampling-Free",
    "ohem": "FL over the best OHEM",
    "nine-anchors": "9 anchors over 1",
}
Judged = dict[str, dict[str, Verdict]]  # by study and claim, without those that were not run


def _of(names: tuple[str, ...]) -> Evidence | None:
    """The first profile whose committed Tables 1a and 1b are whole; else the last that has any run."""
    every = [Evidence(Study.committed(name)) for name in names]
    whole = [e for e in every if e.whole("1a") and e.whole("1b")]
    return next(iter(whole or [e for e in every[::-1] if e.study.records]), None)


def front_page() -> tuple[str, dict[str, Any]]:
    """The text between the markers, and its figures by name, not drawn yet; "" without results."""
    sides = [e for e in map(_of, (COCO, EMBEDDED)) if e]
    if not sides:
        return "", {}
    judged = {e.study.name: {c.id: v for c, v in judge_all(e) if v.word != "not run"} for e in sides}
    figures: dict[str, Any] = {"forest": lambda: _forest(judged)}
    heat = next((e for e in sides if e.whole("grid")), None)
    if heat:
        figures["heat"] = lambda: figure_of(heat, "grid", f"AP over γ and α, {_place(heat.study)}")
    names = {_place(e.study): e.study.name for e in sides}
    coco = names.get(PLACES["coco256"], "")
    text = render(
        "front.md.j2",
        answers=[
            _answer(claims, judged)
            for claims in ANSWERS
            if any(set(claims) & set(v) for v in judged.values())
        ],
        **{"coco": Md(coco), "embedded": Md(names.get(PLACES["synthetic"], ""))},
        **{"first_generation": coco == COCO[1], "newer": len(Study.committed(COCO[0]).records)},
        heat=heat and {"name": Md(heat.study.name), "place": _place(heat.study), "seeds": _seeds(heat)},
        tables=[shown for name in ("1a", "1b") if (shown := _table(sides, name))],
        at_paper=any(at_paper_threshold(e, "1b") for e in sides),
        **{"verdicts": _verdicts(judged), "efforts": [_effort(e.study) for e in sides]},
    )
    return text.strip(), figures


def _seeds(e: Evidence) -> str:
    return seeds_text(min(map(len, e.rows("grid").values())))


def _place(study: Study) -> str:
    return PLACES.get(study.base.dataset, study.base.dataset)


def _answer(claims: dict[str, str], judged: Judged) -> Md:
    """A sentence on each study's first of these claims."""
    parts: dict[str, list[str]] = {}
    for name, verdicts in judged.items():
        claim = next((c for c in claims if c in verdicts), None)
        if claim:
            v, place = verdicts[claim], PLACES[get_profile(name).base.dataset]
            text = f"{bold(WORDS[v.word])} on {place}: {effect(v)}, {seeds_text(v.seeds)}"
            parts.setdefault(claims[claim], []).append(text)
    lines = [f"Against {against}, focal loss is {'; and '.join(on)}." for against, on in parts.items()]
    return Md(" ".join(lines))


def _forest(judged: Judged) -> Any:
    """The paper's differences, then each study's, of the claims that any study has judged."""
    claims = [c for c in FOREST if any(c in verdicts for verdicts in judged.values())]
    index, base = [FOREST[c] for c in claims], get_profile(next(iter(judged))).base
    paper = [CLAIMS[c].a.paper(base) - CLAIMS[c].b.paper(base) for c in claims]
    gaps = {"paper, COCO": pd.DataFrame({"effect": paper, "low": np.nan, "high": np.nan}, index)}
    for name, verdicts in judged.items():
        rows = [verdicts.get(c, Verdict("not run")) for c in claims]
        values = {
            "effect": [v.value for v in rows],
            "low": [v.low for v in rows],
            "high": [v.high for v in rows],
        }
        gaps[f"here, {PLACES[get_profile(name).base.dataset]}"] = pd.DataFrame(values, index)
    return forest(gaps, "Differences in AP, paired by image and by seed")


def _verdicts(judged: Judged) -> Md:
    """What each study says of each claim, question by question."""
    pages = {name: Md(f"[`{name}`](results/{name}/README.md)") for name in judged}
    rows, question = [], ""
    for claim in CLAIMS.values():
        cells = [verdicts.get(claim.id) for verdicts in judged.values()]
        if any(cells):
            if claim.question != question:
                rows.append({"claim": bold(claim.question)} | dict.fromkeys(pages.values(), ""))
            question = claim.question
            texts = (
                Md(f"{bold(v.word)}: {effect(v)}{', 1 seed' * (v.seeds == 1)}") if v else "" for v in cells
            )
            rows.append({"claim": sentence(claim)} | dict(zip(pages.values(), texts, strict=True)))
    return markdown(rows)


def _effort(study: Study) -> dict[str, Any]:
    """Runs, machine, time."""
    seconds, hardware = [r.seconds.total for r in study.records], study.records[0].hardware
    at_once = 1 if hardware.gpu else hardware.cores
    machine = hardware.gpu or f"{hardware.cores} core{'s'[: hardware.cores > 1]} of {hardware.cpu}"
    facts = {"median": np.median(seconds), "minutes": sum(seconds) / at_once / 60}
    return {"name": Md(study.name), "runs": len(seconds), "machine": machine, **facts}


def _table(sides: list[Evidence], name: str) -> dict[str, Any] | None:
    """An ablation's AP, the paper's first, then a column for each study; each cell leads to its table."""
    frames = {e.study.name: f for e in sides if enough(f := table(e, name))}
    if not frames:
        return None
    paper = next(iter(frames.values()))[["row", "paper_AP"]]
    best, rows = paper["paper_AP"].max(), []
    for i, (label, ap) in enumerate(paper.itertuples(index=False)):
        row = {"row": label, "paper": bold(number(ap)) if ap == best else number(ap)}
        rows.append(row | {Md(f"`{n}`"): _cell(f.iloc[i], f["AP"].max(), n, name) for n, f in frames.items()})
    ranks = {Md(f"`{n}`"): number(rank_correlation(f)[0], 2) for n, f in frames.items()}
    source = get_ablation(name).source.split(",")[0]
    about = {"source": source, "title": get_ablation(name).title}
    return about | {"table": markdown([*rows, {"row": "rank correlation", "paper": ""} | ranks])}


def _cell(row: pd.Series, best: float, study: str, name: str) -> Md:
    if row["seeds"] == 0:
        return Md("")
    link = Md(f"[{row['AP']:.1f}](results/{study}/README.md#table-{name})")
    link = bold(link) if row["AP"] == best else link
    return Md(f"{link} ({row['low']:.1f} … {row['high']:.1f}, {seeds_text(row['seeds'])})")


def readme_path() -> Path:
    return (repo_root() or Path.cwd()) / "README.md"


def update_front_page() -> None:
    """Replaces what stands between the markers; ValueError where README.md has lost them."""
    path = readme_path()
    text = path.read_text(encoding="utf-8")
    if len(BLOCK.findall(text)) != 1:
        raise ValueError(f"{path}: the markers {BEGIN} and {END} must be there once each")
    block, figures = front_page()
    for name, draw in figures.items():
        save(draw(), results_root("figures") / f"{name}.png")
    write_atomic(path, BLOCK.sub(lambda _: f"{BEGIN}\n{block}\n{END}", text))


def is_up_to_date() -> bool:
    """Whether README.md shows just what the committed results say."""
    (block,) = BLOCK.findall(readme_path().read_text(encoding="utf-8"))
    return block.split("-->", 1)[1].rsplit("<!--", 1)[0].strip() == front_page()[0]
