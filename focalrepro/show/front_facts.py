"""What fills the sentences of the front page and of the evidence, from verdicts and records."""

from collections import Counter
from itertools import groupby

from focalrepro.evidence.claims import CLAIMS, FAMILY, SEEDS, in_family
from focalrepro.evidence.difference import MEASURES, Evidence, holm
from focalrepro.evidence.made_twice import made_twice
from focalrepro.evidence.rates import at_the_end, best, trials
from focalrepro.evidence.seed_spread import pooled, repeated
from focalrepro.evidence.statistics import UNDIVIDED
from focalrepro.evidence.verdict import JUDGED, Verdict, verdict_of
from focalrepro.show.front_tables import ANSWERS, AS_PAPER, BOTH, DIVISOR, FURTHER, answer
from focalrepro.show.sentences import effect, gap, seeds_text
from focalrepro.show.speakers import Judged, Speakers, Verdicts
from focalrepro.show.tables import Md, background_shares, between, number, signed
from focalrepro.study.rates import best_rate, family_of
from focalrepro.study.rows import LOSSES

# From where on it matters: the lead over plain cross entropy by rarity.
RARITIES = ("rare-frequent", "rare-300", "rare-default", "rare-3000", "rare-rarest")
# What the paper says in its own measure, of which without a threshold nothing is left that is clear.
REPLICATED = dict.fromkeys((AS_PAPER[0], "best-alpha-05", "ridge-05", "threshold"), "confirmed")
REPLICATED |= {"best-alpha": "undecided", "ridge": "undecided"}
REPLICATED |= {"collapse-05": "refuted", "five-05": "refuted"}  # and what does not come out again
# Whether the background drowns the objects, as the paper says of cross entropy.
DROWNS = ("drowns", "drowns-gradient")
# What focal loss is compared with where all have a steady divisor and the box loss a weight of its own.
LEVEL = {
    "level-ce": "plain cross entropy",
    "level-strongest": "the strongest of ten cross entropies",
    "level-hard": "hard negatives",
    "level-free": "Sampling-Free",
    "level-ghm": "GHM-C",
    "level-ohem": "OHEM divided by what it picks",
}
# Baselines that the counted trainings pick.
PICKED = {
    "fl-best-alpha-05": "the best α without scores below .05",
    "fl-best-alpha": "the best α",
    FURTHER: "the best of ten",
}
# What is tried in place of a steady divisor: of an ablation a row and the one that it is compared with.
INSTEAD = (
    ("normalizer", ("FL, assigned anchors of each image", "FL, assigned anchors (the paper)")),
    ("box_weight", ("FL, box loss × 4", "FL, box loss × 1")),
)


def replicated(verdicts: Verdicts) -> tuple[str, str, float, str]:
    """In the paper's measure: focal loss's lead, what α = .10 loses with a threshold and without, the share
    of AP that it keeps, γ = 5 less the best α; () unless each verdict is as `REPLICATED` has it."""
    if any(c not in verdicts or verdicts[c].word != word for c, word in REPLICATED.items()):
        return ()
    lost = answer(verdicts["threshold"]).partition("; ")[0]
    most, least = verdicts["collapse-05"].estimate.levels
    return gap(verdicts[AS_PAPER[0]]), lost, least / most, gap(verdicts["five-05"])


def by_seed(judges: list[Evidence], judged: Judged, on: dict[str, str]) -> tuple[int, int, Md]:
    """How many judged primary differences would be called otherwise with the seeds paired, too, which the
    protocol does not do; of how many; and these."""
    other, asked = [], 0
    for e in judges:
        name = e.study.name
        claims = [CLAIMS[c] for c in FAMILY if CLAIMS[c].a and judged[name].judged(c)]
        found = [(c, verdict_of(d)) for c in claims if (d := c.difference(e, by_seed=True))]
        adjusted = holm([v.p for _, v in found], len(FAMILY))
        asked += len(found)
        for (c, v), p in zip(found, adjusted, strict=True):
            if (v := in_family(v, p, SEEDS)).word != judged[name][c.id].word:
                other.append(f"{c.short} {on[name]} {gap(v)}")
    return len(other), asked, Md("; ".join(other))


def rarities(verdicts: Verdicts) -> dict[str, Verdict]:
    """The lead at each level of rarity, by its name: "1 in 1,000"."""
    return {
        CLAIMS[c].a.model_extra["label"].rpartition(", ")[2]: verdicts[c] for c in RARITIES if c in verdicts
    }


def overtaken(verdicts: Verdicts) -> list[str]:
    """What is clearly better than focal loss, of the front page's baselines."""
    lines = (next((c for c in claims if c in verdicts), None) for claims in ANSWERS)
    return [CLAIMS[c].against for c in lines if c and verdicts[c].word == "refuted"]


def searched_level(e: Evidence) -> list[str]:
    """AP on tune images of focal loss and of plain cross entropy where objects are rarest, with a moving
    average, at the rates that their searches found; [] where these are not whole."""
    found = best(e, "lr-rarity")
    names = [f"{loss}, 1 in 10,000, moving average" for loss in ("FL, γ = 2", "CE, α = .5")]
    return [number(found[name][1]) for name in names] if {*names} <= found.keys() else []


def drowns(verdicts: Verdicts) -> list[str]:
    """What the background has of plain cross entropy's loss and of its gradient in the course of a training,
    in percent; [] where not both were measured."""
    if not {*DROWNS} <= verdicts.keys():
        return []
    remarks = [verdicts[claim].remark.removesuffix(f" ({UNDIVIDED})") for claim in DROWNS]
    return [remark.removeprefix("the background has ") for remark in remarks]


def undivided(said: Speakers) -> list[str]:
    """The data whose records tell what `drowns` says of the sum over images alone: "on real COCO"."""
    of = said.by_place(said.judged, lambda of: DROWNS[0] in of and UNDIVIDED in of[DROWNS[0]].remark)
    return list(of)


def focal_ends(e: Evidence) -> list[str]:
    """What the background has of focal loss's loss and gradient at the end of a training, in percent."""
    shares = background_shares(e)
    found = (
        [] if shares is None else [label for label in ("FL", f"FL ({UNDIVIDED})") if label in shares.index]
    )
    return [str(shares.loc[found[0], by].iloc[-1]) for by in ("loss", "gradient")] if found else []


def drowns_longer(e: Evidence) -> dict[str, str]:
    """What the background has of plain cross entropy's loss after 20 steps, in percent, by the rarity of the
    embedded data's objects; {} unless it is known as a training divides its batches."""
    rows = {"one in 100": "CE, 1 in 100", "one in 1,000": "CE", "one in 10,000": "CE, 1 in 10,000"}
    shares = background_shares(e)
    if shares is None or not {*rows.values()} <= {*shares.index}:
        return {}
    return {rarity: str(shares.loc[name, ("loss", "step 20")]) for rarity, name in rows.items()}


def usual_lead(e: Evidence) -> str:
    """Focal loss's lead over plain cross entropy at the usual number of steps, over the seeds that the
    longer and the shorter trainings have, too; "" without these."""
    if not e.whole("budget"):
        return ""
    ours, theirs = (e.row("budget", gamma=gamma, steps=e.study.base.steps) for gamma in (2.0, 0.0))
    return gap(verdict_of(e.difference(ours, theirs)))


def outcomes(verdicts: Verdicts) -> str:
    """What the protocol's primary claims came to: "2 confirmed, 2 undecided"; "" of those not judged yet."""
    words = Counter(verdicts[c].word for c in FAMILY if verdicts.judged(c) and verdicts[c].primary)
    return ", ".join(f"{words[word]} {word}" for word in JUDGED if words[word])


def afloat(judged: Judged) -> bool:
    """Whether the background soon has clearly less than half of plain cross entropy's loss, where known."""
    return all(of[DROWNS[0]].high < 0 for of in judged.values() if DROWNS[0] in of)


def divisor_matters(verdicts: Verdicts) -> bool:
    """Whether a steady divisor clearly adds more than the losses differ by with it."""
    if not verdicts.has(*DIVISOR):
        return False
    gain, *leads = (verdicts[claim] for claim in DIVISOR)
    most = max(max(abs(v.low), abs(v.high)) for v in leads)
    return gain.word == "confirmed" and all(v.word != "refuted" for v in leads) and gain.low > most


def level(verdicts: Verdicts) -> dict[str, list[str]]:
    """What focal loss is clearly better than where the ground is level, and what not, by these words; empty
    where not all have been judged."""
    found: dict[str, list[str]] = {}
    for claim, name in LEVEL.items() if verdicts.judged(*LEVEL) else ():
        found.setdefault(verdicts.word(claim), []).append(name)
    return found


def instead(e: Evidence) -> list[str]:
    """What else than a steady divisor brings focal loss: each image's own one, and a greater box loss."""
    if not all(e.whole(name) for name, _ in INSTEAD):
        return []
    return [effect(verdict_of(e.difference(*map(e.rows(name).get, pair)))) for name, pair in INSTEAD]


def fit_by_weight(e: Evidence) -> str:
    """What four times the box loss adds to how closely plain cross entropy's boxes fit."""
    rows = e.whole("box_weight")
    pair = rows and (rows[f"CE, box loss × {weight}"] for weight in (4, 1))
    found = e.difference(*pair, MEASURES["fit"]) if pair else None
    return f"{gap(verdict_of(found))} points" if found else ""


def rarest_gain(e: Evidence) -> list[str]:
    """What a moving average brings focal loss and plain cross entropy where objects are rarest."""
    steady, papers = CLAIMS["rare-rarest-steady"], CLAIMS["rare-rarest"]
    sides = [(steady.a.records(e), papers.a.records(e)), (steady.b.records(e), papers.b.records(e))]
    return [gap(verdict_of(e.difference(one[0], other[0]))) for one, other in sides if one and other]


def spread(e: Evidence) -> str:
    """The standard deviation of AP over seeds, pooled over the primary rows; "" where none has two."""
    deviation = pooled(repeated([r.AP for r in of] for of in e.rows("primary").values()))[0] ** 0.5
    return number(deviation, 1 if deviation > 1 else 2) if deviation > 0 else ""


def made_again(e: Evidence) -> str:
    """What one row of the primary family leads another by on the tables' machine, and on others that made the
    same runs again; "" where none did."""
    said: dict[str, dict[str, str]] = {}
    for twice in made_twice(e.study):
        if lead := twice.lead(e.rows("primary")):
            of = said.setdefault(f"{lead.ahead} less {lead.behind}, {seeds_text(lead.seeds)}: ", {})
            for name, (mean, low, high) in zip(twice.machines, lead[3:], strict=True):
                of[name] = f"{signed(mean, 2)} ({between(low, high, 2, signed)}) on {name}"
    return "; ".join(what + ", ".join(of.values()) for what, of in said.items())


def luck(e: Evidence) -> list[str]:
    """How much of each picked cross entropy's AP is the luck of the seeds that picked it, as far as known."""
    found = [(CLAIMS[claim].b.luck(e), said) for claim, said in PICKED.items()]
    return [f"{value:.2f} for {said}" for value, said in found if value is not None]


def ten_over_three(e: Evidence) -> str:
    """How far the best of ten cross entropies is ahead of the best of three; "" where either is missing."""
    sides = [CLAIMS[claim].b.records(e) for claim in (FURTHER, ANSWERS[0][0])]
    ahead = e.difference(sides[0][0], sides[1][0]) if all(sides) else None
    return effect(verdict_of(ahead)) if ahead else ""


def borrowed_rate(e: Evidence) -> bool:
    """Whether the row that is picked with γ has a rate that was searched for another."""
    config = CLAIMS[BOTH].a.records(e)[0][0].config
    own = e.study.base.replace(**LOSSES.get(family_of(config), {}))
    return any(getattr(config, field) != getattr(own, field) for field in ("loss", "alpha", "gamma", "prior"))


def other_rates(e: Evidence, search: str, borrowed: str = "") -> Md:
    """What each loss of a search gains by its best rate, on the tune images that chose it; "" without one.

    borrowed: the loss whose rate they all have; else each has that of the loss its own name begins with."""
    gains = []
    for name, by_rate in trials(e, search).items():
        loss = name if borrowed else max(filter(name.startswith, e.study.rates), key=len)
        rate = e.study.rates[borrowed or loss]
        if all(len(records) == e.study.seeds_of(search) for records in by_rate.values()):
            ahead = best_rate(by_rate)[1] - best_rate({rate: by_rate[rate]})[1]
            text = number(ahead, 2 if ahead < 0.1 else 1)
            gains.append(f"{loss}: {text}" + " (at the highest rate tried)" * (name in at_the_end(e, search)))
    return Md("; ".join(gains))


def plane_rates(e: Evidence) -> str:
    """The learning rates of the cells of γ and α, γ by γ."""
    columns: dict[float, dict[float, None]] = {}
    for config in e.study.ablation("grid").row_configs(e.study.base, e.study.rates).values():
        columns.setdefault(config.gamma, {})[config.lr] = None
    parts = []
    for rates, group in groupby(columns.items(), lambda column: tuple(column[1])):
        gammas = [f"{gamma:g}" for gamma, _ in group]
        said = ", then ".join(f"{rate:g}" for rate in rates) + " as α rises" * (len(rates) > 1)
        parts.append(f"{said} at γ = {' … '.join(dict.fromkeys((gammas[0], gammas[-1])))}")
    return ", ".join(parts)
