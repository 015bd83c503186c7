"""The rates of a profile are those that its committed search chose."""

from made_up import changed, record, study

from focalrepro.evidence import rates
from focalrepro.evidence.difference import Evidence
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import PROFILES
from focalrepro.study.study import Study

SEEN_ONLY = ("lr-edge", "lr-more", "lr-box_weight")  # from which no row takes a rate


def test_the_profiles_rates_are_those_of_its_committed_search():
    for name in ("coco-cpu", "full-quick"):
        e = Evidence(Study.committed(name))
        searches = [name for name, a in e.study.ablations.items() if a.search and name not in SEEN_ONLY]
        chosen = {loss: rate for name in searches for loss, rate in rates.best(e, name).items()}
        assert PROFILES[name].rates == {loss: rate for loss, (rate, _) in chosen.items()}
    assert PROFILES["quick"].rates == PROFILES["full-quick"].rates


def searched(changes=lambda r: {}):
    base = PROFILES["coco-cpu"].base
    of = [record(c, 1.0, tune={"AP": 5 + c.lr}) for c in get_ablation("lr").configs(base, range(2)).values()]
    return Evidence(study([changed(r, **changes(r)) for r in of], "coco-cpu"))


def test_rates_are_compared_within_a_loss_over_pairs():
    whole = rates.best(searched(), "lr")
    assert {rate for rate, _ in whole.values()} == {0.008} and len(whole) == 8
    lacking = searched(lambda r: {"hardware": {"precision": "fp32"}} if r.config.loss == "ohem" else {})
    assert rates.best(lacking, "lr") == whole, "all of one loss's on another machine compare"
    torn = searched(
        lambda r: {"hardware": {"precision": "fp32"}} if (r.config.lr, r.seed) == (0.001, 1001) else {}
    )
    assert not rates.best(torn, "lr"), "one seed of two is left to compare"
