"""The results on the repository's front page: written between two markers of README.md, never by hand.

With it what else is said of all results: results/EVIDENCE.md, results/CLAIMS.md, results/figures/.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from focalrepro.evidence.difference import Evidence
from focalrepro.files import repo_root, results_root, write_atomic
from focalrepro.show import front_facts as facts
from focalrepro.show import front_tables as cells
from focalrepro.show.claims_page import claims_page
from focalrepro.show.evidence_page import FEW, GROWS, evidence_page
from focalrepro.show.figures_results import figure_of
from focalrepro.show.figures_rows import forest
from focalrepro.show.front_tables import ANSWERS, AS_PAPER, FURTHER, OWN_RATE, told
from focalrepro.show.pages import Figures, render, save
from focalrepro.show.sentences import WORDS, seeds_text
from focalrepro.show.speakers import Speakers, speakers
from focalrepro.show.tables import Md

BEGIN, END = "<!-- results:begin (written by `focalrepro report`) -->", "<!-- results:end -->"
ALL = "fl-all-classes"  # of COCO
LEADS = (*AS_PAPER, "fl-tuned-ce", FURTHER)  # of less and less that differs besides the loss


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
    shrinks = [facts.word(of, facts.SPEED[-1]) for of in (embedded, said.of_coco())]
    leads = {n: of for n, of in judged.items() if all(c in of and of[c].word in WORDS for c in LEADS)}
    both = {n: of for n, of in leads.items() if ANSWERS[0][0] in of}
    return render(
        "front.md.j2",
        **{"answers": cells.spoken(ANSWERS[0], judged).values(), "told": told, "places": said.places},
        further={n: told(of[FURTHER])[0] for n, of in both.items()},
        own_rate={n: told(of[OWN_RATE]) for n, of in both.items() if OWN_RATE in of},
        weighed={
            n: cells.all_told(of, facts.BOX[1:]) for n, of in both.items() if facts.judged(of, facts.BOX)
        },
        overtaken={n: facts.overtaken(of) for n, of in judged.items()},
        all_classes=told(said.of_coco().get(ALL)),
        leads={on[n]: [cells.lead(of[c]) for c in LEADS] for n, of in leads.items()},
        paper=cells.papers_lead(),
        **{"shrinks": shrinks, "grows": facts.word(embedded, GROWS)},
        rarity=[f"{cells.gap(v)} at one anchor {at[2:]}" for at, v in facts.rarities(embedded).items()],
        by_rate=cells.all_told(embedded, facts.AT_OWN_RATES),
        beside_it=cells.all_told(embedded, facts.RAREST),
        few=told(embedded.get(FEW)),
        afloat=facts.afloat(judged),
        steadier="".join(facts.divisor(embedded)[:1]),
        images=cells.all_told(embedded, cells.IMAGES),
        level_with_free=all(
            facts.word(embedded, of[-1]) == WORDS["undecided"] for of in (cells.WITH_IMAGES, cells.DIVISOR)
        ),
        speed=facts.speed(said.of_coco()),
        long=said.by_place(judged, facts.long),
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
