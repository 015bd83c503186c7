"""What pages and notebooks say of a loss of one's own, beside those that it is compared with."""

from focalrepro.evidence.claims import SEEDS
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.verdict import verdict_of
from focalrepro.show import sentences
from focalrepro.show.tables import Md


def verdict(e: Evidence, name: str) -> Md:
    """One sentence on the own loss against each other row, and one on their rates; "" of other ablations."""
    rows, ablation = e.rows(name), e.study.ablation(name)
    if ablation.search or not ablation.given.startswith("--loss") or not all(rows.values()):
        return Md("")
    *others, mine = rows
    found = {label: verdict_of(gap) for label in others if (gap := e.difference(rows[mine], rows[label]))}
    if not found:
        return Md("**Not compared yet**: no seed of it and of another row from like machines.")
    enough = all(v.seeds >= SEEDS for v in found.values())
    said = {k: f"{sentences.WORDS[v.word]} than {k}" if enough else f"less {k}" for k, v in found.items()}
    each = (f"{said[k]} ({sentences.effect(v)})" for k, v in found.items())
    is_ = "is" if enough else f"is not judged yet, with fewer than {SEEDS} seeds:"
    rates = f"{mine} was trained at {rows[mine][0].config.lr:g}, the best of its search"
    if e.study.profile.rates and not e.study.profile.own:
        rates += ", the others each at the best of theirs."
    else:
        borrowed = bool(e.study.profile.rates)
        theirs = "rates that were searched on other data" if borrowed else "the profile's one rate"
        rates += f"; the others at {theirs}: a search of theirs might move them."
    by = sentences.how(next(iter(found.values())))
    return Md(f"**{mine} {is_} {'; '.join(each)}** (exploratory; {by}). {rates}")
