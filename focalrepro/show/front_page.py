"""The results on the repository's front page: written between two markers of README.md, never by hand.

With it what else is said of all results: results/EVIDENCE.md, results/CLAIMS.md, results/figures/.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path

from focalrepro.evidence.claims import CLAIMS
from focalrepro.evidence.difference import MARGIN, Evidence
from focalrepro.evidence.verdict import Verdict
from focalrepro.files import repo_root, results_root, write_atomic
from focalrepro.show import front_facts as facts
from focalrepro.show import front_tables as cells
from focalrepro.show.evidence_page import evidence_page
from focalrepro.show.figures_results import figure_of
from focalrepro.show.figures_rows import forest
from focalrepro.show.front_tables import ANSWERS, AS_PAPER, FURTHER
from focalrepro.show.pages import Figures, render, save
from focalrepro.show.sentences import WORDS, effect, gap, seeds_text, sentence, verdict_word
from focalrepro.show.speakers import COCO, EMBEDDED, PLACES, Speakers, speakers
from focalrepro.show.tables import NONE, Md, bold, markdown
from focalrepro.study.study import Study

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
    if not said.judged:
        return FrontPage()
    evidence, figures = evidence_page(said)
    planes = [e for e in said.sides.values() if e.whole("grid")]
    figures["forest"] = lambda: forest(cells.gaps(said.judged), "Differences in AP")
    for e in planes:
        what = f"AP over γ and α, {PLACES[e.study.name]}"
        figures[f"heat-{e.study.name}"] = partial(figure_of, e, "grid", what)
    return FrontPage(_answer(said, planes).strip(), evidence, claims_page(said.judged), figures)


def _answer(said: Speakers, planes: list[Evidence]) -> str:
    judged, on, embedded = said.judged, said.on, said.of(EMBEDDED)
    return render(
        "front.md.j2",
        **{"places": PLACES, "on": on, "judged": judged, "that_judged": said.that_judged},
        **{"embedded": embedded, "on_coco": said.of(COCO)},
        **{"answers": cells.spoken(ANSWERS[0], judged).items(), "claims": CLAIMS, "lead": cells.lead},
        overtaken={n: facts.overtaken(of) for n, of in judged.items()},
        leads={on[n]: [cells.lead(of[c]) for c in AS_PAPER] for n, of in judged.items() if of.judged(*LEADS)},
        paper=cells.papers_lead(),
        margin=MARGIN,
        spread=said.by_place(said.sides, facts.spread) if EMBEDDED in judged else {},
        rarity=[f"{gap(v)} at one anchor {at[2:]}" for at, v in facts.rarities(embedded).items()],
        afloat=facts.afloat(judged),
        steadier=facts.divisor_matters(embedded),
        usual=facts.usual_lead(said.sides[COCO]) if COCO in judged else "",
        outcomes=said.by_place(judged, facts.outcomes),
        explored=sum(v.word in WORDS and not v.primary for of in judged.values() for v in of.values()),
        level=facts.level(embedded),
        drowns=said.by_place(judged, facts.drowns),
        rarer=facts.drowns_longer(said.sides[EMBEDDED]) if EMBEDDED in said.sides else {},
        undivided=facts.undivided(said),
        replicated=said.by_place(judged, facts.replicated),
        baselines=cells.baselines(judged, cells.FEW_LINES),
        coco=COCO in judged,
        planes=[(Md(e.study.name), seeds_text(min(map(len, e.rows("grid").values())))) for e in planes],
        breaks=Md("; ".join(f"{on[e.study.name]} {facts.plane_rates(e)}" for e in planes) + "."),
    )


def claims_page(judged: Mapping[str, Mapping[str, Verdict]]) -> str:
    """The page's text; judged: verdicts by the claim's id, by the profile's name."""
    pages = {name: Md(f"[`{name}`]({name}/README.md)") for name in judged}
    told = [c for c in CLAIMS.values() if any(c.id in verdicts for verdicts in judged.values())]
    rows = []
    for question, claims in groupby(told, lambda claim: claim.question):
        rows.append({"claim": bold(question)} | dict.fromkeys(pages.values(), ""))
        for c in claims:
            found = {page: judged[name].get(c.id) for name, page in pages.items()}
            speak = [Study.committed(name) for name in judged if c.id in judged[name]]
            rows.append({"claim": sentence(c, *speak)} | {k: _cell(v) for k, v in found.items()})
    return render("claims.md.j2", verdicts=markdown(rows))


def _cell(v: Verdict | None) -> Md:
    if v is None:
        return NONE
    told = "; ".join(filter(None, (effect(v), seeds_text(v.seeds) if v.seeds else "")))
    return Md(f"{bold(verdict_word(v))}: {told}")


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
