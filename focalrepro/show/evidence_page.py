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
from focalrepro.show.front_tables import BOTH, FURTHER, OWN_ALPHA
from focalrepro.show.pages import Figures, render
from focalrepro.show.sentences import gap
from focalrepro.show.speakers import COCO, EMBEDDED, PLACES, Speakers
from focalrepro.show.tables import Md
from focalrepro.study.ablations import get_ablation

BORROWED = "CE, α = .5, π = .001"  # whose rate the strongest of the ten have
DRAWN = "CE, α = .5", "FL, γ = 2"  # rows of the ablation `primary`


def evidence_page(said: Speakers) -> tuple[str, Figures]:
    """The page's text, and its figures by name, not drawn yet."""
    judged, on, sides = said.judged, said.on, said.sides
    embedded, drawn = said.of(EMBEDDED), said.studies[EMBEDDED]
    leads = facts.rarities(embedded)
    figures = _figures(said, drawn)
    frames = {name: {n: table(e, name) for n, e in said.studies.items()} for name in ("1a", "1b")}
    frames = {name: {n: f for n, f in of.items() if f["AP"].count() > 1} for name, of in frames.items()}
    text = render(
        "evidence.md.j2",
        **{"places": {Md(name): PLACES[name] for name in judged}, "coco": COCO in judged},
        **{"embedded": embedded, "on_coco": said.of(COCO), "that_judged": said.that_judged},
        baselines=cells.baselines(judged, cells.ALL_LINES),
        by_seed=facts.by_seed([e for e in sides.values() if has_family(e.study)], judged, on),
        luck=said.by_place(sides, facts.luck),
        again=said.by_place(sides, facts.made_again),
        ten_over_three=said.by_place(sides, facts.ten_over_three),
        added=[
            f"{more} of {more + SEEDS} {on[n]}"  # seeds, of those that fewer had left undecided
            for n, of in judged.items()
            if FURTHER in of and (more := of[FURTHER].seeds - SEEDS)
        ],
        picked={on[n]: facts.borrowed_rate(sides[n]) for n, of in judged.items() if BOTH in of},
        strongest=said.by_place(sides, lambda e: facts.other_rates(e, "lr-strongest", BORROWED)),
        replicated=said.by_place(judged, facts.replicated),
        terms={
            on[n]: f"{t.anchors.per_image / t.anchors.positive_per_image * len(t.per_class):,.0f}"
            for n, e in sides.items()
            if (t := e.study.typical())
        },
        drowns=said.by_place(judged, facts.drowns),
        undivided=facts.undivided(said),
        focal_ends=said.by_place(sides, facts.focal_ends),
        rarer=facts.drowns_longer(sides[EMBEDDED]) if EMBEDDED in sides else {},
        own_alpha=any(claim in of for of in judged.values() for claim in OWN_ALPHA),
        afloat=facts.afloat(judged),
        level=[on[n] for n, of in judged.items() if FURTHER in of and of[FURTHER].word == "undecided"],
        divisor=facts.divisor_matters(embedded),
        instead=facts.instead(drawn),
        fit_by_weight=said.by_place(sides, facts.fit_by_weight),
        grounds=facts.LEVEL if facts.level(embedded) else {},
        box_rates=facts.other_rates(drawn, "lr-box_weight"),
        by_divisor=cells.by_divisor(embedded),
        late=facts.other_rates(drawn, "lr-more"),
        found="found" in figures,
        rarity="; ".join(f"at {at} {gap(v)}" for at, v in leads.items()),
        rare_clear=any(v.word == "confirmed" for v in leads.values()),
        rare_adjusted=any(v.primary for v in leads.values()),
        rarest_gain=facts.rarest_gain(drawn),
        on_tune=facts.searched_level(drawn),
        at_the_end=rates.at_the_end(drawn, "lr-rarity"),
        tables=[(get_ablation(name), cells.paper_table(name, of)) for name, of in frames.items() if of],
        ours=lambda claim: Md(" | ".join(cells.answer(of.get(claim)) for of in judged.values())),
    )
    return text, figures


def _figures(said: Speakers, drawn: Evidence) -> Figures:
    """What both losses find on drawn scenes, and AP by how rare objects are, where records have it."""
    figures: Figures = {}
    rows = drawn.study.rows("primary")
    kept = {name: rows[name][0] for name in DRAWN if rows.get(name)}
    if len(kept) == len(DRAWN) and all(r.examples for r in kept.values()):
        # The scenes are drawn anew where they are not prepared.
        figures["found"] = lambda: detections(load_splits(kept[DRAWN[0]].config)[1], kept)
    if facts.rarities(said.of(EMBEDDED)):
        figures["rarity"] = lambda: figure_of(drawn, "imbalance", "AP against how rare objects are")
    return figures
