"""What the comparison of a loss of one's own came to: rates, differences and a sentence."""

from focalrepro.evidence import tables
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.verdict import more
from focalrepro.show.sentences import WORDS, effect, how
from focalrepro.show.tables import NONE, Md, between, markdown


def summary(e: Evidence, name: str) -> Md:
    """The rows of the comparison, each with its rate and with what the own loss has more AP; the verdict."""
    rows, frame = e.rows(name), tables.table(e, name).set_index("row")
    *_, mine = rows
    lines = []
    for label, records in rows.items():
        r, gap = frame.loc[label], e.difference(rows[mine], records)
        lines.append(
            {
                "loss": label,
                "rate": f"{records[0].config.lr:g}",
                "AP (95 %)": f"{r.AP:.1f} ({between(r.low, r.high)})",
                "AP at .05": f"{r.AP_at_05:.1f}",
                f"{mine} less this (95 %)": effect(more(gap)) if gap and label != mine else NONE,
                "seeds": str(r.seeds) + f", {r.diverged} diverged" * bool(r.diverged),
            }
        )
    return Md(f"{markdown(lines)}\n\n{verdict(e, name)}")


def verdict(e: Evidence, name: str) -> Md:
    """One sentence on the own loss against each other row, and one on their rates; "" of other ablations."""
    rows = e.rows(name)
    *others, mine = rows
    ablation = e.study.ablation(name)
    if ablation.search or not ablation.given.startswith("--loss") or not all(rows.values()):
        return Md("")
    found = {label: more(gap) for label in others if (gap := e.difference(rows[mine], rows[label]))}
    said = "; ".join(f"{WORDS[v.word]} than {label} ({effect(v)})" for label, v in found.items())
    basis = how(next(iter(found.values())))
    rate = f"{mine} was trained at {rows[mine][0].config.lr:g}, the best of its search"
    if e.study.profile.rates:
        rates = f"{rate}, the others each at the best of theirs."
    else:
        base = f"the profile's one rate, {e.study.base.lr:g}, which was chosen on focal loss"
        rates = f"{rate}; the others at {base}: a search of theirs might move them."
    return Md(f"**{mine} is {said}** (exploratory; {basis}). {rates}")
