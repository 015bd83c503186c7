"""results/EVIDENCE.md: what stands behind the front page's answer, with what to be careful about."""

from focalrepro.evidence import rates
from focalrepro.evidence.claims import SEEDS, has_family
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.tables import table
from focalrepro.runs import load_splits
from focalrepro.show import front_facts as facts
from focalrepro.show import front_tables as cells
from focalrepro.show.figures_results import figure_of
from focalrepro.show.figures_scenes import detections
from focalrepro.show.front_tables import BOTH, DIVISOR, FURTHER, gap, told
from focalrepro.show.pages import Figures, render
from focalrepro.show.sentences import WORDS
from focalrepro.show.speakers import EMBEDDED, Speakers
from focalrepro.show.tables import Md, enough
from focalrepro.study.ablations import get_ablation
from focalrepro.study.study import Study

GROWS, FEW = "rarer-more", "few-not-rare"  # the lead with rarity, and where objects are few and not rare
# By a moving average, whether the lead grows, and what it is; and what the paper's divisor makes of it.
STEADY = "rarer-more-steady", "rare-rarest-steady", "rarest-divisor"
BORROWED = "CE, α = .5, π = .001"  # whose rate the strongest of the ten have
DRAWN = "CE, α = .5", "FL, γ = 2"  # rows of the ablation `primary`


def evidence_page(said: Speakers) -> tuple[str, Figures]:
    """The page's text, and its figures by name, not drawn yet."""
    judged, on, sides = said.judged, said.on, said.sides
    embedded, on_coco = said.of_embedded(), said.of_coco()
    drawn, leads = Evidence(Study.committed(EMBEDDED[0])), facts.rarities(embedded)
    figures = _figures(said, drawn)
    last = {e.study.name: e for group in (said.coco, said.embedded) for e in group[-1:]}
    frames = {name: {n: f for n, e in last.items() if enough(f := table(e, name))} for name in ("1a", "1b")}
    text = render(
        "evidence.md.j2",
        **{"places": {Md(name): place for name, place in said.places.items()}, "coco": said.coco},
        baselines=cells.baselines(judged, cells.ALL_LINES),
        by_seed=facts.by_seed([e for e in sides.values() if has_family(e.study)], judged, on),
        luck=said.by_place(sides, facts.luck),
        ten_over_three=said.by_place(sides, facts.ten_over_three),
        added=[f"{more} of {more + SEEDS} {on[n]}" for n, of in judged.items() if (more := facts.added(of))],
        picked={on[n]: facts.borrowed_rate(sides[n]) for n, of in judged.items() if BOTH in of},
        strongest=said.by_place(sides, lambda e: facts.other_rates(e, "lr-strongest", BORROWED)),
        replicated=said.by_place(judged, facts.replicated),
        five_elsewhere=facts.five_elsewhere(embedded),
        ridge=said.by_place(judged, facts.ridge),
        terms={
            on[n]: f"{t.anchors.per_image / t.anchors.positive_per_image * len(t.per_class):,.0f}"
            for n, e in sides.items()
            if (t := e.study.typical()) and t.anchors
        },
        drowns=said.by_place(judged, facts.drowns),
        afloat=facts.afloat(judged),
        level=[on[n] for n, of in judged.items() if FURTHER in of and of[FURTHER].word == "undecided"],
        **{"closer": facts.closer(embedded), "gain": facts.gain(embedded)},
        gain_on_coco=facts.gain(on_coco),
        speed=facts.speed(embedded) if facts.word(embedded, facts.SPEED[0]) == WORDS["confirmed"] else [],
        speed_on_coco=facts.speed(on_coco),
        long=said.by_place(judged, facts.long),
        shrinks=[facts.word(of, facts.SPEED[-1]) for of in (embedded, on_coco)],
        **{"divisor": facts.divisor(embedded), "instead": facts.instead(drawn)},
        box_edge=facts.box_edge(embedded),
        box_rates=facts.other_rates(drawn, "lr-box_weight"),
        box_weight=said.by_place(judged, facts.box_weight),
        divisor_on_coco=cells.answer(on_coco[DIVISOR[0]]) if DIVISOR[0] in on_coco else "",
        each_on_coco=told(on_coco.get("divisor-each-image")),
        by_divisor=cells.by_divisor(embedded),
        late=facts.other_rates(drawn, "lr-more"),
        found="found" in figures,
        rarity="; ".join(f"at {at} {gap(v)}" for at, v in leads.items()),
        rare_clear=any(v.word == "confirmed" for v in leads.values()),
        rare_adjusted=any(v.primary for v in leads.values()),
        rarest_gain=facts.rarest_gain(drawn),
        **{"grows": told(embedded.get(GROWS)), "few": told(embedded.get(FEW))},
        steady=cells.all_told(embedded, STEADY),
        images=cells.all_told(embedded, cells.IMAGES),
        rarest_images=told(embedded.get("divisor-images-rarest")),
        by_rate=cells.all_told(embedded, facts.AT_OWN_RATES),
        on_tune=facts.searched_level(drawn),
        at_the_end=rates.at_the_end(drawn, "lr-rarity"),
        rarest=cells.all_told(embedded, facts.RAREST),
        tables=[(get_ablation(name), cells.paper_table(name, of)) for name, of in frames.items() if of],
        ours=lambda claim: Md(" | ".join(cells.answer(of.get(claim)) for of in judged.values())),
    )
    return text, figures


def _figures(said: Speakers, drawn: Evidence) -> Figures:
    """What both losses find on drawn scenes, and AP by how rare objects are, where records have it."""
    figures: Figures = {}
    rows = said.embedded[-1].study.rows("primary") if said.embedded else {}
    kept = {name: rows[name][0] for name in DRAWN if rows.get(name)}
    if len(kept) == len(DRAWN) and all(r.examples for r in kept.values()):
        # The scenes are drawn anew where they are not prepared.
        figures["found"] = lambda: detections(load_splits(kept[DRAWN[0]].config)[1], kept)
    if facts.rarities(said.of_embedded()):
        figures["rarity"] = lambda: figure_of(drawn, "imbalance", "AP against how rare objects are")
    return figures
