"""`results/<profile>/`: README.md with tables and figures, results.csv, figures/, all from the run
records."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from focalrepro.evidence.difference import MARGIN, UNKNOWN_SEED_MARGIN, Evidence
from focalrepro.evidence.seed_spread import pooled_sd
from focalrepro.evidence.tables import (
    agreement,
    at_paper_threshold,
    equal_rows,
    rank_correlation,
    runs_frame,
    table,
)
from focalrepro.files import results_root, write_atomic
from focalrepro.show.cells import differences
from focalrepro.show.figures_results import PLANES, figure_of, time_to_ap
from focalrepro.show.pages import render, save
from focalrepro.show.sentences import ledger, sentence_case
from focalrepro.show.tables import Md, code, markdown, of_page, recipe_changes, search
from focalrepro.study.ablations import SEARCH_SEED, get_ablation
from focalrepro.study.belonging import strangers
from focalrepro.study.profiles import PROFILES
from focalrepro.study.store import Store
from focalrepro.study.study import Study

NOTES = {
    "1d": "The paper's rows are of ResNet-101 at 600 px, which is why its focal loss stands at 36.0 here "
    "and at 34.0 "
    "in Table 1b. The SSD-style row is not the paper's.",
    "budget": "Each row is a training of its own, whose rate falls to its own end: not one training looked "
    "at early.",
}
Figures = dict[str, Callable[[], Figure]]  # by the name of its file


def export(study: Study) -> Path:
    """Copies the local store's records to the study's folder of results; nothing there is deleted."""
    target = Store(study.folder / "runs")
    for record in Store.local(study.profile.name, study.dataset).records():
        target.put(record)
    return target.folder


def write_report(profile: str, dataset: str = "") -> Path:
    """Writes tables, figures and results.csv; returns the README's path. ValueError where there are no runs.

    The local store's runs are taken, and copied to the results; where it has none, those of the results.
    """
    local = Store.local(profile, dataset).records()
    study = Study(profile, dataset, records=local) if local else Study.committed(profile, dataset)
    if not study.records:
        flag = f" --dataset {dataset}" if dataset else ""
        raise ValueError(
            f"profile {study.name} has no runs yet; make them: focalrepro run --profile {profile}{flag}"
        )
    if local:
        export(study)
    text, figures = page(study)
    for name, draw in figures.items():
        save(draw(), study.folder / "figures" / f"{name}.png")
    write_atomic(study.folder / "results.csv", runs_frame(study).to_csv(index=False))
    write_atomic(study.folder / "README.md", text)
    write_index()
    return study.folder / "README.md"


def verify(profile: str, dataset: str = "") -> list[str]:
    """What the committed page and results.csv say otherwise than the committed records do; nothing is
    written.

    Every table, figure's name and verdict is made again. A cell that differs is named with its table, row and
    column, and so are files and records that do not belong to the results. Errors: FileNotFoundError where there is no page or no record to check; RunFileError for a damaged
    record.
    """
    study = Study.committed(profile, dataset)
    readme = study.folder / "README.md"
    if not readme.is_file() or not study.records:
        raise FileNotFoundError(
            f"{readme}: no committed results; make them with focalrepro report --profile {profile}"
        )
    text, figures = page(study)
    wanted = {readme: text, study.folder / "results.csv": runs_frame(study).to_csv(index=False)}
    off = strangers(study)
    for path, right in wanted.items():
        there = path.read_text(encoding="utf-8") if path.is_file() else ""
        off += differences(path.name, there, right)
    missing = [n for n in figures if not (study.folder / "figures" / f"{n}.png").is_file()]
    return off + [f"figures/{name}.png is missing" for name in missing]


def page(study: Study) -> tuple[str, Figures]:
    """The text of a study's results page, and the figures that it shows, not drawn yet."""
    e, figures = Evidence(study), {}
    sections, recipes = [], []
    for recipe in study.recipes:
        one = Evidence(study.with_recipe(recipe))
        sections += [_section(one, name, figures) for name in one.study.shown()]
    for recipe in study.profile.recipes:
        found, timed = agreement(study, recipe), any(study.with_recipe(recipe).rows("budget").values())
        if found or timed:
            name = f"time-to-ap-{recipe}"
            figures |= {name: lambda: time_to_ap(study)} if timed else {}
            recipes.append({"name": recipe, "agreement": found, "figure": name if timed else ""})
    spread, anchors = e.spread(), study.typical() and study.typical().anchors
    changes = [
        {"field": code(field), "what it is": r.meaning, "here": r.here, "paper": r.paper}
        for field, r in recipe_changes(study).iterrows()
    ]
    text = render(
        "profile.md.j2",
        **{"profile": study.profile, "dataset": study.dataset, "what": sentence_case(study.profile.what)},
        **{
            "base": study.base,
            "anchors": anchors,
            "at_paper": any(r.at_paper_threshold for r in study.records),
        },
        ratio=anchors and anchors.per_image / max(anchors.positive_per_image, 1e-9),
        **{"ledger": markdown(ledger(e)), "margin": f"{MARGIN:g}", "unknown": f"{UNKNOWN_SEED_MARGIN:g}"},
        protocols=", ".join(sorted({r.protocol for r in study.records} - {""})),
        **{
            "sections": sections,
            "recipes": recipes,
            "changes": markdown(changes),
            "data": study.base.dataset,
        },
        luck=np.sqrt(spread.variance) if spread.freedom else None,
        **{"borrowed": e.borrowed is not None, "rates": bool(study.profile.rates)},
        search=(study.folder / "SEARCH.md").is_file(),
        **_made(study),
    )
    return text, figures


def _section(e: Evidence, name: str, figures: Figures) -> dict[str, Any]:
    """What a page says of one ablation; its figure is added to `figures`."""
    study, ablation, frame = e.study, get_ablation(name), table(e, name)
    title = sentence_case(ablation.title)
    stem = name if study.recipe == "fast" else f"{name}-{study.recipe}"
    if not ablation.search:
        figures[stem] = lambda: figure_of(e, name, title)
    rho, count = rank_correlation(frame)
    sd, freedom = pooled_sd([[r.AP for r in found] for found in e.rows(name).values()])
    flags = f" --recipe {study.recipe}" if study.recipe != "fast" else ""
    flags += f" --dataset {study.dataset}" if study.dataset else ""
    timed, at_paper = name == "1e", at_paper_threshold(e, name)
    return {
        "heading": ablation.source.split(",")[0] if ablation.source.startswith("Table") else title,
        **{"title": title, "source": ablation.source, "recipe": study.recipe, "search": ablation.search},
        "table": search(e, name) if ablation.search else of_page(frame, at_paper, timed),
        "equal": [] if ablation.search else equal_rows(frame),
        "note": NOTES.get(name, ""),
        "rank": None if np.isnan(rho) else (rho, count),
        "spread": (sd, freedom) if freedom and not ablation.search else None,
        **{"figure": "" if ablation.search else stem, "plane": name in PLANES},
        "command": Md(
            f"focalrepro run {name} --profile {study.profile.name} --seeds {int(frame['seeds'].max())}{flags}"
        ),
    }


def _made(study: Study) -> dict[str, Any]:
    """Runs, machines, versions and time; the command that makes it all again."""
    records = study.records
    hardware = [r.hardware for r in records]
    seconds = [r.seconds.total for r in records]
    speed = np.median([r.images_per_second for r in records if r.images_per_second] or [np.nan])

    def all_of(values: Any) -> str:
        return "; ".join(sorted({str(v) for v in values if v != ""}))

    seeds = sorted({r.seed for r in records})
    facts = {
        "runs": len(records),
        "seeds": ", ".join(map(str, seeds)),
        "hardware": all_of(h.name for h in hardware),
        "cores": all_of(h.cores for h in hardware),
        "training and evaluation, all runs": f"{sum(seconds) / 60:.1f} min of one worker's time",
        "median per run": f"{np.median(seconds):.1f} s, {speed:.0f} images/s in training",
        **{name: all_of(getattr(h, name) for h in hardware) for name in ("torch", "torchvision", "commit")},
        "finished": max(r.finished for r in records),
    }
    repeated = Counter(r.row for r in records if r.seed < SEARCH_SEED)  # a search has seeds of its own
    count = max(repeated.values(), default=1)
    own = bool(study.profile.repeats)  # the profile knows how many seeds each ablation gets
    command = f"make reproduce PROFILE={study.profile.name}" + ("" if own else f" SEEDS={count}")
    if study.dataset:
        command = f"focalrepro run --profile {study.profile.name} --dataset {study.dataset} --seeds {count}"
    fewer = 0 if own else sum(c < count for c in repeated.values())
    rows = [{"what": key, "value": value} for key, value in facts.items()]
    return {"made": markdown(rows), "command": Md(command), "fewer": fewer}


def write_index() -> Path:
    """results/README.md: a line per profile that has results."""
    root = results_root("x").parent
    rows = [
        {
            "profile": Md(f"[{p.name}]({p.name}/README.md)"),
            "what": f"{p.what}; {p.hardware}",
            "runs": len(list((root / p.name / "runs").glob("*.json"))),
        }
        for p in PROFILES.values()
        if (root / p.name / "README.md").exists() and p.name != "smoke"
    ]
    text = render("index.md.j2", profiles=markdown(rows), bench=(root / "bench" / "README.md").exists())
    write_atomic(root / "README.md", text)
    return root / "README.md"
