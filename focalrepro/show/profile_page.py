"""`results/<profile>/`: README.md with tables and figures, results.csv, all from the run records."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from nbformat import NotebookNode

from focalrepro.evaluation.measures import images_that_judge
from focalrepro.evidence import rates
from focalrepro.evidence.claims import has_family, judge_all
from focalrepro.evidence.difference import MARGIN, UNKNOWN_SEED_MARGIN, Evidence
from focalrepro.evidence.expected import compare
from focalrepro.evidence.made_twice import LEAST, made_twice
from focalrepro.evidence.seed_spread import LEAST_AP
from focalrepro.evidence.tables import rank_correlation, runs_frame, table
from focalrepro.files import results_root, write_atomic
from focalrepro.show import own_comparison, sentences
from focalrepro.show.figures_results import PLANES, figure_of
from focalrepro.show.pages import Figures, render, save
from focalrepro.show.tables import Md, escape, markdown, number, of_page, provenance, recipe_changes, search
from focalrepro.study.ablations import SEARCH_SEED, plan
from focalrepro.study.profiles import PROFILES
from focalrepro.study.store import Store
from focalrepro.study.study import Study

FEW_IMAGES = 30  # test images, of fewer of which resamples say little
# What a page says first, as far as its runs judge it.
IN_SHORT = (
    *("fl-best-alpha-05", "fl-best-alpha", "fl-tuned-ce", "fl-alpha-and-prior", "fl-plain-ce"),
    *("fl-hard-negatives", "fl-sampling-free"),
)


def write_report(profile: str) -> Path:
    """Writes tables, figures and results.csv; returns the README's path. ValueError where there are no runs.

    The local store's runs are copied to the results, where nothing is deleted; without any those stay.
    """
    local = Store.local(profile).records()
    study = Study(profile, records=local) if local else Study.committed(profile)
    if not study.records:
        raise ValueError(f"profile {profile} has no runs yet; make them: focalrepro run --profile {profile}")
    for record in study.records if local else ():
        Store(study.folder / "runs").put(record)
    text, figures = page(study)
    save(figures, study.folder / "figures")
    write_atomic(study.folder / "results.csv", runs_frame(study).to_csv(index=False))
    write_atomic(study.folder / "README.md", text)
    write_index()
    return study.folder / "README.md"


def page(study: Study) -> tuple[str, Figures]:
    """The text of a study's results page, and the figures that it shows, not drawn yet.

    Of an ablation fewer than two rows of which have runs there is one line that says how to make them.
    """
    e, figures, records = Evidence(study), {}, study.records
    judging = min((images_that_judge(r.data.val.images) for r in records), default=FEW_IMAGES)
    names = [name for name in study.shown() if not sentences.missing(study, name)]
    changes = recipe_changes(study).to_dict("index").items()
    sections = [_section(e, name, figures) for name in names]
    judged = {c.id for c, v in judge_all(e) if v.word != "not run"}
    text = render(
        "profile.md.j2",
        **{"study": study, "e": e, "records": records, "margin": MARGIN, "least": LEAST},
        unknown=UNKNOWN_SEED_MARGIN,
        what=sentences.sentence_case(study.profile.what),
        notebooks=_notebooks(study),
        ledger=markdown(sentences.ledger(e)),
        short=sentences.takeaway(e, *(name for name in IN_SHORT if name in judged)),
        not_run=sentences.not_run(e),
        family=has_family(study),
        at_the_end=_at_the_end(e, "lr") if "lr" in study.profile.ablations else "",
        no_objects=bool(records) and all(np.isnan(r.AP) for r in records),
        nothing_found=not any(r.AP >= LEAST_AP for r in records),
        few_images=judging * (judging < FEW_IMAGES),
        search_seed=SEARCH_SEED,
        twice=made_twice(study),
        protocols=", ".join(sorted({r.protocol for r in records} - {""})),
        sections=sections,
        contents=_contents(["The claims", *(s["heading"] for s in sections), "What differs from the paper"]),
        missing=sentences.missing(study, *study.profile.ablations),
        changes=markdown({"field": Md(f"`{field}`")} | row for field, row in changes),
        made=markdown(provenance(records).to_dict("records")),
        hours=sum(r.seconds.total for r in records) / 3600,
        planned=len(plan(study.profile, list(study.profile.ablations))),
        own_seeds=sentences.seeds_text(study.profile.seeds),
    )
    return text, figures


def _section(e: Evidence, name: str, figures: Figures) -> dict[str, Any]:
    """What a page says of one ablation; its figure is added to `figures`."""
    ablation, frame = e.study.ablation(name), table(e, name)
    title = sentences.sentence_case(ablation.title)
    if ablation.search:
        shown, seeds = search(e, name), e.study.seeds_of(name)
    else:
        shown, seeds = of_page(frame), int(frame["seeds"].max())
        figures[name] = lambda: figure_of(e, name, title)
    rho, count = rank_correlation(frame)
    source = ablation.source.split(",")[0]
    return {
        "heading": source if source.startswith("Table") else title,
        "at_the_end": _at_the_end(e, name) if ablation.search and name != rates.BEYOND else "",
        **{"ablation": ablation, "name": Md(name), "title": title, "table": shown, "plane": name in PLANES},
        "note": own_comparison.verdict(e, name) or Md(ablation.note),
        "elsewhere": e.every(name) is not e.study.rows(name),
        "machines": Counter(r.hardware.name for records in e.rows(name).values() for r in records),
        "rank": None if np.isnan(rho) else (number(rho, 2), count),
        "command": Md(f"focalrepro run {ablation.given or name} --profile {e.study.name} --seeds {seeds}"),
    }


def _contents(headings: Iterable[str]) -> Md:
    """A line of links to a page's headings, by the anchors that GitHub and the site give them."""
    anchors = {text: re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
    return Md(" · ".join(f"[{escape(text)}](#{anchor})" for text, anchor in anchors.items()))


def _at_the_end(e: Evidence, search_of: str) -> Md:
    """Which losses of a search may want a higher rate than any that it tried; "" if none."""
    late = "; ".join(rates.at_the_end(e, search_of))
    return Md(f"Best at the highest rate tried: {late}. A higher one may be better still." if late else "")


def executed(study: Study) -> Iterator[tuple[Path, list[NotebookNode]]]:
    """The executed notebooks of a study's results, each with its cells."""
    for path in sorted((study.folder / "notebooks").glob("[0-9A-Z]*.ipynb")):
        if ".partial" not in path.name:
            yield path, nbformat.read(path, as_version=4).cells


def _notebooks(study: Study) -> Md:
    """Links to the executed notebooks, each with its title."""
    titles = {path: cells[0].source.partition("\n")[0].lstrip("# ") for path, cells in executed(study)}
    links = (f"[{p.stem.split('_')[0]} {escape(text)}](notebooks/{p.name})" for p, text in titles.items())
    return Md(" · ".join(links))


def agreement(profile: str) -> str:
    """One paragraph: how one's own runs agree with the committed ones."""
    if not (found := compare(Study(profile, records=Store.local(profile).records()))):
        return f"No committed results of {profile} to compare with."
    off, rows = found
    text = f"{rows - len(off)} of {rows} rows are within the range expected from the committed results."
    return "\n".join([text, *(f"  outside: {line}" for line in off)])


def write_index() -> None:
    """results/README.md: a line per profile that has results."""
    root = results_root()
    shown = [p for n, p in PROFILES.items() if (root / n / "README.md").exists() and n != "smoke"]
    ids = {p.name: {path.name for path in (root / p.name / "runs").glob("*.json")} for p in shown}
    runs = {name: len(mine) for name, mine in ids.items()}
    parts = {p.name: p.whole for p in shown if p.whole and ids[p.name] <= ids.get(p.whole, set())}
    there = {"bench": (root / "bench" / "README.md").exists(), "claims": (root / "CLAIMS.md").exists()}
    write_atomic(root / "README.md", render("index.md.j2", profiles=shown, runs=runs, parts=parts, **there))
