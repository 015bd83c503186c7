"""What a search of learning rates chose, on tune images alone (results/PROTOCOL.md, "Rates")."""

from focalrepro.evidence.difference import Evidence, Records, shared
from focalrepro.study.rates import best_rate

Trials = dict[float, Records]  # of one loss, by its rate


def trials(e: Evidence, ablation: str) -> dict[str, Trials]:
    """The searched losses' records, over the seeds that all rates of a loss share."""
    losses: dict[str, Trials] = {}
    for label, records in e.study.rows(ablation).items():
        loss, rate = label.rsplit(", rate ", 1)
        losses.setdefault(loss, {})[float(rate)] = records
    return {loss: shared(rates) for loss, rates in losses.items()}


def best(e: Evidence, ablation: str) -> dict[str, tuple[float, float]]:
    """`best_rate` of each loss whose rates have all their seeds: half a search has chosen nothing."""
    wanted = e.study.profile.seeds_of(ablation)
    found = trials(e, ablation).items()
    return {loss: best_rate(rates) for loss, rates in found if min(map(len, rates.values())) >= wanted}


def at_the_end(e: Evidence, ablation: str) -> list[str]:
    """The losses whose best rate is the highest that was tried: one beyond it may be better still."""
    tried = trials(e, ablation)
    return [loss for loss, (rate, _) in best(e, ablation).items() if rate == max(tried[loss])]
