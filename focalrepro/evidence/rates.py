"""What a search of learning rates chose, on tune images alone (results/PROTOCOL.md, "Rates")."""

from focalrepro.evidence.difference import Evidence, Records, shared
from focalrepro.study.rates import best_rate

BEYOND = "lr-edge"  # the ablation that goes on where a search ended; no loss takes its rate from it
Trials = dict[float, Records]  # of one loss, by its rate


def trials(e: Evidence, ablation: str) -> dict[str, Trials]:
    """The searched losses' records, over the seeds that all rates of a loss share, if any."""
    losses: dict[str, Trials] = {}
    for label, records in e.study.rows(ablation).items():
        loss, rate = label.rsplit(", rate ", 1)
        losses.setdefault(loss, {})[float(rate)] = records
    return {loss: shared(rates) for loss, rates in losses.items()}


def best(e: Evidence, ablation: str) -> dict[str, tuple[float, float]]:
    """`best_rate` of each loss whose rates have all their seeds: half a search has chosen nothing."""
    wanted = e.study.seeds_of(ablation)
    found = trials(e, ablation).items()
    return {loss: best_rate(rates) for loss, rates in found if min(map(len, rates.values())) >= wanted}


def at_the_end(e: Evidence, ablation: str) -> list[str]:
    """The losses whose best rate is the highest tried, unless one beyond the search is known to be worse."""
    tried, more = trials(e, ablation), trials(e, BEYOND)
    found = []
    for loss, (rate, ap) in best(e, ablation).items():
        beyond = {r: records for r, records in more.get(loss, {}).items() if r > rate and records}
        if rate == max(tried[loss]) and not (beyond and best_rate(beyond)[1] < ap):
            found.append(loss)
    return found
