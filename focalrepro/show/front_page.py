"""The results on the repository's front page: written between two markers of README.md, never by hand."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path

from focalrepro.evidence.claims import CLAIMS, SEEDS, has_family, judge_all
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.tables import table
from focalrepro.evidence.verdict import NOT_YET
from focalrepro.files import repo_root, results_root, write_atomic
from focalrepro.runs import load_splits
from focalrepro.show import front_facts as facts
from focalrepro.show import front_tables as cells
from focalrepro.show.claims_page import claims_page
from focalrepro.show.figures_results import GRIDS, figure_of, forest
from focalrepro.show.figures_scenes import detections
from focalrepro.show.front_tables import (
    ANSWERS,
    AS_PAPER,
    BOTH,
    DIVISOR,
    FURTHER,
    MORE_SEEDS,
    PLACES,
    gap,
    share,
    told,
)
from focalrepro.show.pages import Figures, render, save
from focalrepro.show.sentences import WORDS, seeds_text
from focalrepro.show.tables import Md, enough, number
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import get_profile
from focalrepro.study.study import Study

BEGIN, END = "<!-- results:begin (written by `focalrepro report`) -->", "<!-- results:end -->"

# The profiles that may speak for each dataset, down to the first whose Tables 1a and 1b are whole.
COCO, EMBEDDED = ("coco-cpu",), ("full-quick", "quick")
# Whether the lead grows with rarity; what is compared at the rarest level, too; and the lead where objects
# are few and not rare.
GROWS, RAREST, FEW = "rarer-more", ("rare-rarest-prior", "rare-rarest-hard"), "few-not-rare"
# By a moving average, whether the lead grows, and what it is; and what the paper's divisor makes of it.
STEADY = "rarer-more-steady", "rare-rarest-steady", "rarest-divisor"
ALL = "fl-all-classes"  # of COCO
LEADS = (*AS_PAPER, "fl-tuned-ce", FURTHER)  # of less and less that differs besides the loss
PAPER = CLAIMS["fl-best-alpha"].a, CLAIMS["fl-best-alpha"].b  # its Table 1b
BORROWED = "CE, α = .5, π = .001"  # whose rate the strongest of the ten have
DRAWN = "CE, α = .5", "FL, γ = 2"  # rows of the ablation `primary`


def _speakers(names: tuple[str, ...]) -> list[Evidence]:
    """The profiles with committed runs, down to the first whose Tables 1a and 1b are whole."""
    found = []
    for e in (Evidence(Study.committed(name)) for name in names):
        found += [e] if e.study.records else []
        if e.whole("1a") and e.whole("1b"):
            break
    return found


def _planes(groups: list[list[Evidence]], places: Collection[str]) -> list[tuple[Evidence, str]]:
    """Of each dataset the whole plane of γ and α, or the short one where that is not trained."""
    found = ([(e, n) for n, e in product(GRIDS, g) if e.study.name in places and e.whole(n)] for g in groups)
    return [planes[0] for planes in found if planes]


@dataclass(frozen=True)
class FrontPage:
    """What is written of all results: README.md or what stands between its markers ("" without results),
    results/CLAIMS.md, and the figures by name, not drawn yet."""

    text: str = ""
    claims: str = ""
    figures: Figures = field(default_factory=dict)


def front_page() -> FrontPage:
    """That of the committed results."""
    groups = [_speakers(names) for names in (COCO, EMBEDDED)]
    sides = {e.study.name: e for group in groups for e in group}
    if not sides:
        return FrontPage()
    every = {n: {c.id: v for c, v in judge_all(e) if v.word != "not run"} for n, e in sides.items()}
    words = {*WORDS, NOT_YET}
    judged = {n: of for n, of in every.items() if words & {v.word for v in of.values()}}
    sides = {name: sides[name] for name in judged}
    places = {name: PLACES[get_profile(name).base.dataset] for name in sides}
    figures: Figures = {"forest": lambda: forest(cells.gaps(judged), "Differences in AP")}
    planes = _planes(groups, places)
    for e, name in planes:
        figures[f"heat-{e.study.name}"] = partial(
            figure_of,
            *(e, name),
            f"AP over γ and α, {places[e.study.name]}{', a quarter of the steps' if name != 'grid' else ''}",
        )
    rows = groups[1][-1].study.rows("primary") if groups[1] else {}
    kept = {name: rows[name][0] for name in DRAWN if rows.get(name)}
    if len(kept) == len(DRAWN) and all(r.examples for r in kept.values()):
        # Truth and what both losses found, on scenes that are drawn where they are not prepared.
        figures["found"] = lambda: detections(load_splits(kept[next(iter(kept))].config)[1], kept)
    rare, embedded = Evidence(Study.committed(EMBEDDED[0])), every.get(EMBEDDED[0], {})
    on_coco = every.get(COCO[0], {})
    leads = facts.rarities(embedded)
    if leads:
        figures["rarity"] = lambda: figure_of(rare, "imbalance", "AP against how rare objects are")
    paper = [side.paper(get_profile(next(iter(every))).base) for side in PAPER]
    last = {g[-1].study.name: g[-1] for g in groups if g}
    frames = {name: {n: f for n, e in last.items() if enough(f := table(e, name))} for name in ("1a", "1b")}
    on = {name: f"on {place}" for name, place in places.items()}
    text = render(
        "front.md.j2",
        **{"answers": cells.spoken(ANSWERS[0], judged).values(), "told": told},
        further={
            n: told(of[FURTHER])[0]
            for n, of in judged.items()
            if all(c in of and of[c].word in WORDS for c in (FURTHER, ANSWERS[0][0]))
        },
        unbeaten={n: facts.unbeaten(of) for n, of in judged.items()},
        ahead=[a for of in ANSWERS for a in cells.spoken(of, judged).values() if a[2].word == "refuted"],
        leads={
            on[n]: [cells.lead(of[c]) for c in LEADS]
            for n, of in judged.items()
            if all(c in of and of[c].word in WORDS for c in LEADS)
        },
        added=[
            f"{of[c].seeds - SEEDS} of {of[c].seeds} {on[n]}"
            for n, of in judged.items()
            for c in MORE_SEEDS
            if c in of and of[c].seeds > SEEDS
        ],
        level=[on[n] for n, of in judged.items() if FURTHER in of and of[FURTHER].word == "undecided"],
        ridge={on[n]: found for n, of in judged.items() if (found := facts.ridge(of))},
        replicated={on[n]: found for n, of in judged.items() if (found := facts.replicated(of))},
        ten_over_three={on[n]: found for n, e in sides.items() if (found := facts.ten_over_three(e))},
        picked={on[n]: facts.borrowed_rate(sides[n]) for n, of in judged.items() if BOTH in of},
        free=CLAIMS["fl-sampling-free"].against,
        terms={
            on[n]: f"{t.anchors.per_image / t.anchors.positive_per_image * len(t.per_class):,.0f}"
            for n, e in sides.items()
            if (t := e.study.typical()) and t.anchors
        },
        shares={on[n]: found for n, of in judged.items() if (found := facts.shares(of))},
        five_elsewhere=facts.five_elsewhere(embedded),
        drowns={
            n: [of[c].remark for c in facts.DROWNS]
            for n, of in judged.items()
            if {*facts.DROWNS} <= of.keys()
        },
        afloat=all(of[facts.DROWNS[0]].high < 0 for of in judged.values() if facts.DROWNS[0] in of),
        paper=[*map(number, paper), share(*paper)],
        baselines=cells.baselines(judged),
        speed=facts.speed(embedded) if facts.word(embedded, facts.SPEED[0]) == WORDS["confirmed"] else [],
        speed_on_coco=facts.speed(on_coco),
        **{"gain": facts.gain(embedded), "gain_on_coco": facts.gain(on_coco)},
        closer=facts.closer(embedded),
        shrinks=[facts.word(of, facts.SPEED[-1]) for of in (embedded, on_coco)],
        divisor=facts.divisor(embedded),
        instead=facts.instead(rare),
        divisor_on_coco=cells.answer(on_coco[DIVISOR[0]]) if DIVISOR[0] in on_coco else "",
        by_divisor=cells.by_divisor(embedded),
        late_alpha=facts.late_alpha(groups[0]),
        late=facts.other_rates(rare, "lr-more"),
        strongest={
            on[n]: found
            for n, e in sides.items()
            if (found := facts.other_rates(e, "lr-strongest", BORROWED))
        },
        by_seed=facts.by_seed([e for e in sides.values() if has_family(e.study)], judged, on),
        ours=lambda claim: Md(" | ".join(cells.answer(of.get(claim)) for of in judged.values())),
        places={Md(name): place for name, place in places.items()},
        coco=[Md(e.study.name) for e in groups[0]],
        planes=[
            (Md(e.study.name), seeds_text(min(map(len, e.rows(name).values()))), name != "grid")
            for e, name in planes
        ],
        breaks=Md("; ".join(f"{on[e.study.name]} {facts.plane_rates(e, name)}" for e, name in planes) + "."),
        rarity="; ".join(f"at {at} {gap(v)}" for at, v in leads.items()),
        levels_of_rarity=[f"{gap(v)} at one anchor {at.removeprefix('1 ')}" for at, v in leads.items()],
        all_classes=told(on_coco[ALL]) if ALL in on_coco else (),
        steady=[told(embedded[c]) for c in STEADY] if {*STEADY} <= embedded.keys() else [],
        rarest_gain=facts.rarest_gain(rare),
        rare_clear=any(v.word == "confirmed" for v in leads.values()),
        rare_adjusted=any(v.primary for v in leads.values()),
        rarest=[told(embedded[c]) for c in RAREST] if {*RAREST} <= embedded.keys() else [],
        **{name: told(embedded[c]) if c in embedded else () for name, c in (("grows", GROWS), ("few", FEW))},
        found="found" in figures,
        caveat=Md(get_ablation("imbalance").note),
        tables=[(get_ablation(name), cells.paper_table(name, of)) for name, of in frames.items() if of],
    )
    return FrontPage(text.strip(), claims_page(judged), figures)


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
    """Replaces what stands between the markers, and writes results/CLAIMS.md."""
    page = renewed()
    save(page.figures, results_root("figures"))
    write_atomic(results_root("x").parent / "CLAIMS.md", page.claims)
    write_atomic(readme_path(), page.text)
