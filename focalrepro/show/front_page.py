"""The results on the repository's front page: written between two markers of README.md, never by hand.

With it what else is said of all results: results/EVIDENCE.md, results/CLAIMS.md, results/figures/.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from focalrepro.evidence.claims import CLAIMS
from focalrepro.evidence.difference import MARGIN, Evidence
from focalrepro.files import repo_root, results_root, write_atomic
from focalrepro.show import front_facts as facts
from focalrepro.show import front_tables as cells
from focalrepro.show.claims_page import claims_page
from focalrepro.show.evidence_page import evidence_page
from focalrepro.show.figures_results import figure_of
from focalrepro.show.figures_rows import forest
from focalrepro.show.front_tables import ANSWERS, AS_PAPER, FURTHER
from focalrepro.show.pages import Figures, render, save
from focalrepro.show.sentences import gap, seeds_text
from focalrepro.show.speakers import Speakers, speakers
from focalrepro.show.tables import Md

BEGIN, END = "<!-- results:begin (written by `focalrepro report`) -->", "<!-- results:end -->"
LEADS = (*AS_PAPER, "fl-tuned-ce", FURTHER)  # what a whole answer needs


@dataclass(frozen=True)
class FrontPage:
    """What is written of all results: README.md or what stands between its markers ("" without results),
    results/EVIDENCE.md, results/CLAIMS.md, and the figures by name, not drawn yet."""

    text: str = ""
    evidence: str = ""
    claims: str = ""
    figures: Figures = field(default_factory=dict)


def front_page() -> FrontPage:
    """That of the committed results."""
    said = speakers()
    if not said.every:
        return FrontPage()
    evidence, figures = evidence_page(said)
    planes = _planes(said)
    figures["forest"] = lambda: forest(cells.gaps(said.judged), "Differences in AP")
    for e in planes:
        what = f"AP over γ and α, {said.places[e.study.name]}"
        figures[f"heat-{e.study.name}"] = partial(figure_of, e, "grid", what)
    return FrontPage(_answer(said, planes).strip(), evidence, claims_page(said.judged), figures)


def _answer(said: Speakers, planes: list[Evidence]) -> str:
    judged, on, embedded = said.judged, said.on, said.of_embedded()
    return render(
        "front.md.j2",
        **{"places": said.places, "on": on, "judged": judged, "that_judged": said.that_judged},
        **{"embedded": embedded, "on_coco": said.of_coco()},
        **{"answers": cells.spoken(ANSWERS[0], judged).values(), "claims": CLAIMS, "lead": cells.lead},
        overtaken={n: facts.overtaken(of) for n, of in judged.items()},
        leads={on[n]: [cells.lead(of[c]) for c in AS_PAPER] for n, of in judged.items() if of.judged(*LEADS)},
        paper=cells.papers_lead(),
        margin=MARGIN,
        spread=said.by_place(said.sides, facts.spread) if said.embedded else {},
        rarity=[f"{gap(v)} at one anchor {at[2:]}" for at, v in facts.rarities(embedded).items()],
        afloat=facts.afloat(judged),
        steadier=facts.divisor_matters(embedded),
        overtook=facts.ahead_of_steady(embedded),
        drowns=said.by_place(judged, facts.drowns),
        replicated=said.by_place(judged, facts.replicated),
        baselines=cells.baselines(judged, cells.FEW_LINES),
        coco=[Md(e.study.name) for e in said.coco],
        planes=[(Md(e.study.name), seeds_text(min(map(len, e.rows("grid").values())))) for e in planes],
        breaks=Md("; ".join(f"{on[e.study.name]} {facts.plane_rates(e)}" for e in planes) + "."),
    )


def _planes(said: Speakers) -> list[Evidence]:
    """Of each kind of data the first study that has the whole plane of γ and α."""
    groups = ([e for e in group if e.study.name in said.judged] for group in (said.coco, said.embedded))
    found = ([e for e in group if e.whole("grid")] for group in groups)
    return [whole[0] for whole in found if whole]


def readme_path() -> Path:
    return (repo_root() or Path.cwd()) / "README.md"


def renewed() -> FrontPage:
    """As the committed results have it, with all of README.md; ValueError where it lacks the markers."""
    path = readme_path()
    before, _, rest = (text := path.read_text(encoding="utf-8")).partition("<!-- results:begin")
    _, end, after = rest.partition(END)
    if not end or text.count("<!-- results:begin") + text.count(END) > 2:
        raise ValueError(f"{path}: the markers {BEGIN} and {END} must be there once each")
    found = front_page()
    return replace(found, text=f"{before}{BEGIN}\n{found.text}\n{END}{after}")


def update_front_page() -> None:
    """Replaces what stands between the markers, and writes results/EVIDENCE.md and results/CLAIMS.md."""
    page, results = renewed(), results_root()
    save(page.figures, results / "figures")
    write_atomic(results / "EVIDENCE.md", page.evidence)
    write_atomic(results / "CLAIMS.md", page.claims)
    write_atomic(readme_path(), page.text)
