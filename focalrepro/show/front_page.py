"""The results on the repository's front page: written between two markers of README.md, never by hand."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, product
from pathlib import Path

import numpy as np
import pandas as pd

from focalrepro.evidence.claims import CLAIMS, FAMILY, has_family, judge_all
from focalrepro.evidence.difference import MEASURES, Evidence
from focalrepro.evidence.rates import trials
from focalrepro.evidence.tables import mean, rank_correlation, table
from focalrepro.evidence.verdict import NOT_YET, Verdict, verdict_of
from focalrepro.files import repo_root, results_root, write_atomic
from focalrepro.runs import load_splits
from focalrepro.show.claims_page import claims_page
from focalrepro.show.figures_results import GRIDS, figure_of, forest
from focalrepro.show.figures_scenes import detections
from focalrepro.show.pages import Figures, render, save
from focalrepro.show.sentences import FINE, WORDS, effect, interval, levels, seeds_text
from focalrepro.show.tables import NONE, Md, between, bold, enough, markdown, number, precision, signed
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import get_profile
from focalrepro.study.rates import best_rate
from focalrepro.study.study import Study

BEGIN, END = "<!-- results:begin (written by `focalrepro report`) -->", "<!-- results:end -->"

# The profiles that may speak for each dataset, down to the first whose Tables 1a and 1b are whole.
COCO, EMBEDDED = ("coco-cpu",), ("full-quick", "quick")
# From where on it matters: the lead over plain cross entropy by rarity; whether it grows; what is compared at
# the rarest level, too; and the lead where objects are few and not rare.
RARITIES = ("rare-frequent", "rare-300", "rare-default", "rare-3000", "rare-rarest")
GROWS, RAREST, FEW = "rarer-more", ("rare-rarest-prior", "rare-rarest-hard"), "few-not-rare"
PLACES = {"coco256": "real COCO", "synthetic-1000": "the embedded data"}
# What a reader wants to know first: of each line the first claim that was judged.
FURTHER = "fl-alpha-and-prior"  # the baseline of more settings than the protocol's
BOTH = "best-gamma"  # the same baseline, and γ is picked as well
ANSWERS = (
    ("fl-tuned-ce", FURTHER, "fl-best-alpha"),
    *((FURTHER,), ("fl-plain-ce",), ("fl-hard-negatives",), ("fl-sampling-free",)),
)
# Whether a loss that ends up level was there first, and whether its lead shrinks.
SPEED = ("sooner", "sooner-tuned", "ahead-after-twice", "lead-shrinks")
# Whether the divisor is worth more than the loss, and who is ahead once it is steady.
DIVISOR = ("divisor-smooth", "divisor-smooth-ce", "divisor-smooth-hard", "divisor-smooth-free")
PAPER = CLAIMS["fl-best-alpha"].a, CLAIMS["fl-best-alpha"].b  # its Table 1b
DRAWN = "CE, α = .5", "FL, γ = 2"  # rows of the ablation `primary`
Judged = dict[str, dict[str, Verdict]]  # by study and claim, without those that were not run


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
    figures: Figures = {"forest": lambda: forest(_gaps(judged), "Differences in AP")}
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
        **{"answers": _spoken(ANSWERS[0], judged).values(), "told": _told},
        further={
            n: (_told(of[FURTHER]), _told(of[BOTH]))
            for n, of in judged.items()
            if all(c in of and of[c].word in WORDS for c in (FURTHER, BOTH, ANSWERS[0][0]))
        },
        ahead=[a for of in ANSWERS for a in _spoken(of, judged).values() if a[2].word == "refuted"],
        more=lambda v: _share(*v.estimate.levels),
        paper=[*map(number, paper), _share(*paper)],
        baselines=_baselines(judged),
        speed=[effect(replace(embedded[c], remark="")) for c in SPEED if c in embedded],
        speed_on_coco=[effect(replace(on_coco[c], remark="")) for c in SPEED if c in on_coco],
        gain=_gain(embedded),
        gain_on_coco=_parts_of_gain(on_coco),
        shrinks=[WORDS.get(of[SPEED[-1]].word, "") if SPEED[-1] in of else "" for of in (embedded, on_coco)],
        divisor=_divisor(embedded),
        by_divisor=_by_divisor(embedded),
        late_alpha=_late_alpha(groups[0]),
        late=_other_rates(rare),
        by_seed=_by_seed([e for e in sides.values() if has_family(e.study)], judged, places),
        ours=lambda claim: Md(" | ".join(_answer(of.get(claim)) for of in judged.values())),
        places={Md(name): place for name, place in places.items()},
        coco=[Md(e.study.name) for e in groups[0]],
        planes=[
            (Md(e.study.name), seeds_text(min(map(len, e.rows(name).values()))), name != "grid")
            for e, name in planes
        ],
        breaks=Md("; ".join(f"on {places[e.study.name]} {_rates(e, name)}" for e, name in planes) + "."),
        rarity="; ".join(f"at {at} {_gap(v)}" for at, v in leads.items()),
        rare_clear=any(v.word == "confirmed" for v in leads.values()),
        rare_adjusted=any(v.primary for v in leads.values()),
        rarest=[_gap(embedded[c]) for c in RAREST if c in embedded],
        **{name: _told(embedded[c]) if c in embedded else () for name, c in (("grows", GROWS), ("few", FEW))},
        found="found" in figures,
        caveat=Md(get_ablation("imbalance").note),
        tables=[(get_ablation(name), _table(name, of)) for name, of in frames.items() if of],
    )
    return FrontPage(text.strip(), claims_page(judged), figures)


def _by_seed(judges: list[Evidence], judged: Judged, places: dict[str, str]) -> tuple[int, int, Md]:
    """Of the primary differences how many would be called otherwise with the seeds paired, too, which the
    protocol does not do; of how many; and these."""
    asked = [(CLAIMS[name], e) for e in judges for name in FAMILY if CLAIMS[name].a]
    found = [(c, e.study.name, verdict_of(gap)) for c, e in asked if (gap := c.difference(e, by_seed=True))]
    other = [
        f"{c.short} on {places[name]} {_told(v)[1]}"
        for c, name, v in found
        if c.id in judged[name] and v.word != judged[name][c.id].word
    ]
    return len(other), len(found), Md("; ".join(other))


def _share(ours: float, theirs: float) -> str:
    """How much more the first is, in percent of the second."""
    return f"{100 * (ours / theirs - 1):.0f} %"


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
    return [effect(found), _gap(fit)] if found and fit else []


def _divisor(verdicts: dict[str, Verdict]) -> list[str]:
    """What a steady divisor adds, and the losses' differences with it, where it is more than they are."""
    found = [verdicts[claim] for claim in DIVISOR if claim in verdicts]
    if len(found) < len(DIVISOR) or found[0].word != "confirmed":
        return []
    most = max(max(abs(v.low), abs(v.high)) for v in found[1:])
    return [effect(v) for v in found] if found[0].low > most else []


def _by_divisor(verdicts: dict[str, Verdict]) -> Md:
    """Focal loss less each baseline, divided as the paper does, and by the moving average."""
    rows = []
    for (*_, claim), steady in zip(ANSWERS[2:], DIVISOR[1:], strict=True):
        if claim in verdicts and steady in verdicts:
            pair = verdicts[claim], verdicts[steady]
            cells = [Md(f"{bold(WORDS.get(v.word, v.word))}: {effect(v)}") for v in pair]
            row = {"focal loss against": CLAIMS[claim].against.split(" (")[0]}
            rows.append(
                row | dict(zip(("divided as in the paper", "by the moving average"), cells, strict=True))
            )
    return markdown(rows)


def _late_alpha(group: list[Evidence]) -> list[str]:
    """AP of cross entropy with α = .1 after a quarter of the steps and after all, where both were run."""
    rows = [(e.row("grid-short", gamma=0.0, alpha=0.1), e.row("1a", alpha=0.1)) for e in group]
    return [number(mean(r.AP for r in records)) for records in (rows[-1] if rows else ()) if records]


def _other_rates(e: Evidence) -> Md:
    """What each loss would gain on tune images by the moving average's own rate; "" without a search."""
    gains, ending = [], ", moving average"
    for name, by_rate in trials(e, "lr-more").items():
        if (loss := name.removesuffix(ending)) != name and all(by_rate.values()):
            used = {rate: records for rate, records in by_rate.items() if rate == e.study.rates[loss]}
            gains.append(f"{loss}: {number(best_rate(by_rate)[1] - best_rate(used)[1])}")
    return Md("; ".join(gains))


def _rates(e: Evidence, plane: str) -> str:
    """The learning rates of a plane's cells, γ by γ."""
    columns: dict[float, dict[float, None]] = {}
    for config in e.study.ablation(plane).configs(e.study.base, [0], e.study.rates).values():
        columns.setdefault(config.gamma, {})[config.lr] = None
    parts = []
    for rates, group in groupby(columns.items(), lambda column: tuple(column[1])):
        gammas = [f"{gamma:g}" for gamma, _ in group]
        told = ", then ".join(f"{rate:g}" for rate in rates) + " as α rises" * (len(rates) > 1)
        parts.append(f"{told} at γ = {' … '.join(dict.fromkeys((gammas[0], gammas[-1])))}")
    return ", ".join(parts)


def _spoken(claims: tuple[str, ...], judged: Judged) -> dict[str, tuple[str, str, Verdict]]:
    """Of each dataset its first speaker's name, the baseline of the first of these claims that it judged, and
    the verdict."""
    spoken: dict[str, tuple[str, str, Verdict]] = {}
    for name, verdicts in judged.items():
        if claim := next((c for c in claims if c in verdicts), None):
            about = name, CLAIMS[claim].against, verdicts[claim]
            spoken.setdefault(get_profile(name).base.dataset, about)
    return spoken


def _told(v: Verdict) -> tuple[str, str, str, str]:
    """A verdict's word, its difference, AP of focal loss and of what it is compared with, and the seeds."""
    seeds = seeds_text(v.seeds)
    seeds = f"{v.seeds} of {seeds_text(v.wanted)}" if v.word == NOT_YET else seeds
    digits = 1 if max(v.estimate.levels) >= FINE else 2
    return WORDS.get(v.word, v.word), _gap(v, digits), levels(v), seeds


def _answer(v: Verdict | None) -> str:
    """A verdict's number in the table of questions: what it was before and after; else its effect."""
    if v is None:
        return NONE
    text = v.remark if v.unit == "calibration error" else effect(replace(v, remark=""))
    if v.estimate and v.estimate.of[0] == MEASURES["threshold"]:  # with a threshold and without
        text = v.remark.rpartition("; ")[2]
    return f"{text}; {seeds_text(v.seeds)}, {v.word}" if v.word == NOT_YET else text


def _gap(v: Verdict, digits: int = 1) -> str:
    digits = precision(v.value, v.low, v.high, digits=digits)
    return f"{signed(v.value, digits)} ({interval(v, digits)})"


def _baselines(judged: Judged) -> Md:
    """Each baseline's line: on each dataset how focal loss does against it."""
    rows, first = [], {dataset: v.estimate.of for dataset, (*_, v) in _spoken(ANSWERS[0], judged).items()}
    for spoken in filter(None, (_spoken(claims, judged) for claims in ANSWERS)):
        against = "; or ".join(dict.fromkeys(text for _, text, _ in spoken.values()))
        row: dict[str, object] = {"focal loss against": against} | dict.fromkeys(PLACES.values(), NONE)
        for dataset, (*_, v) in spoken.items():
            word, *parts = _told(v)
            again = bool(rows) and v.estimate.of == first.get(dataset)
            parts += ["the runs of the first line"] * again
            explored = "" if v.primary else ", exploratory"
            row[PLACES[dataset]] = Md(f"**{word}**{explored}: {'; '.join(parts)}")
        rows.append(row)
    return markdown(rows)


def _table(name: str, frames: dict[str, pd.DataFrame]) -> Md:
    """An ablation's AP, the paper's first, then a column for each study; each cell leads to its table."""
    first = next(iter(frames.values()))
    paper = [bold(number(ap)) if ap == first["paper_AP"].max() else number(ap) for ap in first["paper_AP"]]
    cells: dict[str, list[str]] = {"row": [*first["row"], "rank correlation"], "paper, at .05": [*paper, ""]}
    for study, frame in frames.items():
        page, best = f"results/{study}/README.md#table-{name}", frame["AP"].max()
        column = []
        for r in frame.itertuples():
            link = Md(f"[{number(r.AP)}]({page})")
            about = f"({between(r.low, r.high)}, {seeds_text(r.seeds)})"
            column.append(Md(f"{bold(link) if best == r.AP else link} {about}") if r.seeds else "")
        cells[Md(f"`{study}`")] = [*column, number(rank_correlation(frame)[0], 2)]
    return markdown(pd.DataFrame(cells).to_dict("records"))


def _gaps(judged: Judged) -> dict[str, pd.DataFrame]:
    """The paper's differences, then those of each dataset's first speaker, of the claims that have a short
    name and any verdict."""
    claims = [c for c in CLAIMS.values() if c.short and any(c.id in of for of in judged.values())]
    index, base = [c.short for c in claims], get_profile(next(iter(judged))).base
    paper = [c.a.paper(base) - c.b.paper(base) for c in claims]
    gaps = {"paper, COCO": pd.DataFrame({"value": paper, "low": np.nan, "high": np.nan}, index)}
    for dataset in dict.fromkeys(get_profile(name).base.dataset for name in judged):
        none = ("", "", Verdict("not run"))
        found = [_spoken((c.id,), judged).get(dataset, none) for c in claims]
        columns = {side: [getattr(v, side) for *_, v in found] for side in ("value", "low", "high")}
        columns["judged"] = [v.word in WORDS for *_, v in found]
        gaps[f"here, {PLACES[dataset]}"] = pd.DataFrame(columns, index)
    return gaps


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
