"""The results on the repository's front page: written between two markers of README.md, never by hand."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, product
from pathlib import Path

from focalrepro.evidence.claims import CLAIMS, FAMILY, SEEDS, has_family, in_family, judge_all
from focalrepro.evidence.difference import Evidence, holm
from focalrepro.evidence.rates import at_the_end, trials
from focalrepro.evidence.tables import mean, table
from focalrepro.evidence.verdict import NOT_YET, Verdict, verdict_of
from focalrepro.files import repo_root, results_root, write_atomic
from focalrepro.runs import load_splits
from focalrepro.show.claims_page import claims_page
from focalrepro.show.figures_results import GRIDS, figure_of, forest
from focalrepro.show.figures_scenes import detections
from focalrepro.show.front_tables import (
    ANSWERS,
    AS_PAPER,
    DIVISOR,
    FURTHER,
    MORE_SEEDS,
    PLACES,
    Judged,
    answer,
    baselines,
    by_divisor,
    gap,
    gaps,
    paper_table,
    share,
    spoken,
    told,
)
from focalrepro.show.pages import Figures, render, save
from focalrepro.show.sentences import WORDS, effect, seeds_text
from focalrepro.show.tables import Md, enough, number
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import get_profile
from focalrepro.study.rates import best_rate, family_of
from focalrepro.study.rows import LOSSES
from focalrepro.study.study import Study

BEGIN, END = "<!-- results:begin (written by `focalrepro report`) -->", "<!-- results:end -->"

# The profiles that may speak for each dataset, down to the first whose Tables 1a and 1b are whole.
COCO, EMBEDDED = ("coco-cpu",), ("full-quick", "quick")
# From where on it matters: the lead over plain cross entropy by rarity; whether it grows; what is compared at
# the rarest level, too; and the lead where objects are few and not rare.
RARITIES = ("rare-frequent", "rare-300", "rare-default", "rare-3000", "rare-rarest")
GROWS, RAREST, FEW = "rarer-more", ("rare-rarest-prior", "rare-rarest-hard"), "few-not-rare"
BOTH = "best-gamma"  # the baseline of `FURTHER`, and γ is picked as well
# Whether a loss that ends up level was there first, and whether its lead shrinks.
SPEED = ("sooner", "sooner-tuned", "ahead-after-twice", "lead-shrinks")
# Whether the background drowns the objects, as the paper says of cross entropy.
DROWNS = ("drowns", "drowns-gradient")
# Whether the best α falls as γ rises, in the paper's own measure and without a threshold.
RIDGE = "ridge-05", "ridge"
# What the paper says in its own measure, of which without a threshold nothing is left that is clear.
REPLICATED = dict.fromkeys((AS_PAPER[0], "best-alpha-05", "ridge-05", "threshold"), "confirmed")
REPLICATED |= {"best-alpha": "undecided", "ridge": "undecided"}
REPLICATED |= {"collapse-05": "refuted", "five-05": "refuted"}  # and what does not come out again
NONE = Verdict("not run")
# What is tried in place of a steady divisor: of an ablation a row and the one that it is compared with.
INSTEAD = (
    ("normalizer", ("FL, assigned anchors of each image", "FL, assigned anchors (the paper)")),
    ("box_weight", ("FL, box loss × 4", "FL, box loss × 1")),
)
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
    figures: Figures = {"forest": lambda: forest(gaps(judged), "Differences in AP")}
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
    leads = {_rarity(c): embedded[c] for c in RARITIES if c in embedded}
    if leads:
        figures["rarity"] = lambda: figure_of(rare, "imbalance", "AP against how rare objects are")
    paper = [side.paper(get_profile(next(iter(every))).base) for side in PAPER]
    last = {g[-1].study.name: g[-1] for g in groups if g}
    frames = {name: {n: f for n, e in last.items() if enough(f := table(e, name))} for name in ("1a", "1b")}
    text = render(
        "front.md.j2",
        **{"answers": spoken(ANSWERS[0], judged).values(), "told": told},
        further={
            n: (told(of[FURTHER]), told(of[BOTH]), share(*of[FURTHER].estimate.levels))
            for n, of in judged.items()
            if all(c in of and of[c].word in WORDS for c in (FURTHER, BOTH, ANSWERS[0][0]))
        },
        ahead=[a for of in ANSWERS for a in spoken(of, judged).values() if a[2].word == "refuted"],
        more=lambda v: share(*v.estimate.levels),
        as_paper={
            n: [share(*of[c].estimate.levels) for c in AS_PAPER]
            for n, of in judged.items()
            if all(c in of for c in AS_PAPER)
        },
        added=[
            f"{of[c].seeds - SEEDS} of {of[c].seeds} on {places[n]}"
            for n, of in judged.items()
            for c in MORE_SEEDS
            if c in of and of[c].seeds > SEEDS
        ],
        level=[
            f"on {places[n]}" for n, of in judged.items() if FURTHER in of and of[FURTHER].word == "undecided"
        ],
        ridge={f"on {places[n]}": found for n, of in judged.items() if (found := _ridge(of))},
        replicated={
            f"on {places[n]}": (
                gap(of[AS_PAPER[0]]),
                answer(of["threshold"]).partition("; ")[0],
                of["collapse-05"].estimate.levels[1] / of["collapse-05"].estimate.levels[0],
                gap(of["five-05"]),
            )
            for n, of in judged.items()
            if all(c in of and of[c].word == word for c, word in REPLICATED.items())
        },
        ten_over_three={f"on {places[n]}": found for n, e in sides.items() if (found := _ten_over_three(e))},
        borrowed={n: _borrowed(sides[n]) for n, of in judged.items() if BOTH in of},
        free=CLAIMS["fl-sampling-free"].against,
        terms={
            f"on {places[n]}": f"{t.anchors.per_image / t.anchors.positive_per_image * len(t.per_class):,.0f}"
            for n, e in sides.items()
            if (t := e.study.typical()) and t.anchors
        },
        drowns={n: [of[c].remark for c in DROWNS] for n, of in judged.items() if {*DROWNS} <= of.keys()},
        afloat=all(of[DROWNS[0]].high < 0 for of in judged.values() if DROWNS[0] in of),
        paper=[*map(number, paper), share(*paper)],
        baselines=baselines(judged),
        speed=[effect(replace(embedded[c], remark="")) for c in SPEED if c in embedded]
        if embedded.get(SPEED[0], NONE).word == "confirmed"
        else [],
        speed_on_coco=[effect(replace(on_coco[c], remark="")) for c in SPEED if c in on_coco],
        gain=_gain(embedded),
        gain_on_coco=_parts_of_gain(on_coco),
        shrinks=[WORDS.get(of[SPEED[-1]].word, "") if SPEED[-1] in of else "" for of in (embedded, on_coco)],
        divisor=_divisor(embedded),
        instead=_instead(rare),
        divisor_on_coco=answer(on_coco[DIVISOR[0]]) if DIVISOR[0] in on_coco else "",
        by_divisor=by_divisor(embedded),
        late_alpha=_late_alpha(groups[0]),
        late=_other_rates(rare, "lr-more"),
        strongest={
            places[n]: found for n, e in sides.items() if (found := _other_rates(e, "lr-strongest", BORROWED))
        },
        by_seed=_by_seed([e for e in sides.values() if has_family(e.study)], judged, places),
        ours=lambda claim: Md(" | ".join(answer(of.get(claim)) for of in judged.values())),
        places={Md(name): place for name, place in places.items()},
        coco=[Md(e.study.name) for e in groups[0]],
        planes=[
            (Md(e.study.name), seeds_text(min(map(len, e.rows(name).values()))), name != "grid")
            for e, name in planes
        ],
        breaks=Md("; ".join(f"on {places[e.study.name]} {_rates(e, name)}" for e, name in planes) + "."),
        rarity="; ".join(f"at {at} {gap(v)}" for at, v in leads.items()),
        rare_clear=any(v.word == "confirmed" for v in leads.values()),
        rare_adjusted=any(v.primary for v in leads.values()),
        rarest=[gap(embedded[c]) for c in RAREST] if {*RAREST} <= embedded.keys() else [],
        **{name: told(embedded[c]) if c in embedded else () for name, c in (("grows", GROWS), ("few", FEW))},
        found="found" in figures,
        caveat=Md(get_ablation("imbalance").note),
        tables=[(get_ablation(name), paper_table(name, of)) for name, of in frames.items() if of],
    )
    return FrontPage(text.strip(), claims_page(judged), figures)


def _by_seed(judges: list[Evidence], judged: Judged, places: dict[str, str]) -> tuple[int, int, Md]:
    """Of the judged primary differences how many would be called otherwise with the seeds paired, too, which
    the protocol does not do; of how many; and these."""
    other, asked = [], 0
    for e in judges:
        name = e.study.name
        claims = [CLAIMS[c] for c in FAMILY if CLAIMS[c].a and judged[name].get(c, NONE).word in WORDS]
        found = [(c, verdict_of(d)) for c in claims if (d := c.difference(e, by_seed=True))]
        adjusted = holm([v.p for _, v in found], len(FAMILY))
        asked += len(found)
        for (c, v), p in zip(found, adjusted, strict=True):
            if (v := in_family(v, p, SEEDS)).word != judged[name][c.id].word:
                other.append(f"{c.short} on {places[name]} {told(v)[1]}")
    return len(other), asked, Md("; ".join(other))


def _rarity(claim: str) -> str:
    """ "1 in 1,000", of a claim about a level of rarity."""
    return CLAIMS[claim].a.model_extra["label"].rpartition(", ")[2]


def _gain(verdicts: dict[str, Verdict]) -> list[str]:
    """What focal loss finds more and how much closer its boxes fit, where the second is its gain alone."""
    found, fit = map(verdicts.get, ("finds-more", "fits-better"))
    closer = found and fit and found.word != "confirmed" == fit.word
    return _parts_of_gain(verdicts) if closer else []


def _parts_of_gain(verdicts: dict[str, Verdict]) -> list[str]:
    """What focal loss finds more, and how much closer its boxes fit; nothing where either was not judged."""
    found, fit = map(verdicts.get, ("finds-more", "fits-better"))
    return [effect(found), gap(fit), fit.word] if found and fit else []


def _divisor(verdicts: dict[str, Verdict]) -> list[str]:
    """What a steady divisor adds, and the losses' differences with it, where it is more than they are."""
    found = [verdicts[claim] for claim in DIVISOR if claim in verdicts]
    clear = found and found[0].word == "confirmed" and all(v.word != "refuted" for v in found[1:])
    if len(found) < len(DIVISOR) or not clear:
        return []
    most = max(max(abs(v.low), abs(v.high)) for v in found[1:])
    return [effect(v) for v in found] if found[0].low > most else []


def _instead(e: Evidence) -> list[str]:
    """What else than a steady divisor brings focal loss: each image's own one, and a greater box loss."""
    if not all(e.whole(name) for name, _ in INSTEAD):
        return []
    gaps = (e.difference(*map(e.rows(name).get, pair)) for name, pair in INSTEAD)
    return [effect(verdict_of(gap)) for gap in gaps]


def _ten_over_three(e: Evidence) -> str:
    """How far the best of ten cross entropies is ahead of the best of three; "" where either is missing."""
    sides = [CLAIMS[claim].b.records(e) for claim in (FURTHER, ANSWERS[0][0])]
    gap = e.difference(sides[0][0], sides[1][0]) if all(sides) else None
    return effect(verdict_of(gap)) if gap else ""


def _borrowed(e: Evidence) -> bool:
    """Whether the row that is picked with γ has a rate that was searched for another."""
    config = CLAIMS[BOTH].a.records(e)[0][0].config
    own = e.study.base.replace(**LOSSES.get(family_of(config), {}))
    return any(getattr(config, field) != getattr(own, field) for field in ("loss", "alpha", "gamma", "prior"))


def _ridge(verdicts: dict[str, Verdict]) -> list[str]:
    """Whether the best α falls as γ rises, at .05 and without, where only the first is clear."""
    found = [verdicts[claim] for claim in RIDGE if claim in verdicts]
    return [effect(v) for v in found] if [v.word for v in found] == ["confirmed", "undecided"] else []


def _late_alpha(group: list[Evidence]) -> list[str]:
    """AP of cross entropy with α = .1 after a quarter of the steps and after all, where both were run."""
    rows = [(e.row("grid-short", gamma=0.0, alpha=0.1), e.row("1a", alpha=0.1)) for e in group]
    return [number(mean(r.AP for r in records)) for records in (rows[-1] if rows else ()) if records]


def _other_rates(e: Evidence, search: str, borrowed: str = "") -> Md:
    """What each loss of a search would gain on tune images by a rate of its own; "" without the search.

    borrowed: the loss whose rate they all have; else each has that of the loss whose name its own begins
    with."""
    gains = []
    for name, by_rate in trials(e, search).items():
        rate = e.study.rates[borrowed or name.removesuffix(", moving average")]
        if all(len(records) == e.study.profile.seeds_of(search) for records in by_rate.values()):
            gain = best_rate(by_rate)[1] - best_rate({rate: by_rate[rate]})[1]
            more = "at least " if name in at_the_end(e, search) else ""  # the highest rate tried is the best
            text = number(gain, 2 if gain < 0.1 else 1)
            gains.append(f"{name.removesuffix(', moving average')}: {more}{text}")
    return Md("; ".join(gains))


def _rates(e: Evidence, plane: str) -> str:
    """The learning rates of a plane's cells, γ by γ."""
    columns: dict[float, dict[float, None]] = {}
    for config in e.study.ablation(plane).configs(e.study.base, [0], e.study.rates).values():
        columns.setdefault(config.gamma, {})[config.lr] = None
    parts = []
    for rates, group in groupby(columns.items(), lambda column: tuple(column[1])):
        gammas = [f"{gamma:g}" for gamma, _ in group]
        said = ", then ".join(f"{rate:g}" for rate in rates) + " as α rises" * (len(rates) > 1)
        parts.append(f"{said} at γ = {' … '.join(dict.fromkeys((gammas[0], gammas[-1])))}")
    return ", ".join(parts)


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
