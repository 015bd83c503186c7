"""The luck of a pick, on made-up records whose truth is known."""

import numpy as np
import pytest
from made_up import record, study

from focalrepro.evidence.claims import CLAIMS, Side
from focalrepro.evidence.difference import Evidence
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import PROFILES

BEST = CLAIMS["fl-best-alpha"].b


def table_1a(ap, seeds=3):
    """Table 1a, AP by ap(α, seed) on the images that judge and on those that tune."""
    profile = PROFILES["coco-cpu"]
    configs = get_ablation("1a").configs(profile.base, range(seeds), profile.rates).values()
    found = [(c, ap(c.alpha, c.seed)) for c in configs]
    return Evidence(study([record(c, value, tune={"AP": value}) for c, value in found], "coco-cpu"))


def test_rows_that_differ_by_luck_alone_are_picked_for_their_luck():
    """At each of three seeds another α is lucky: the others' pick never is."""
    lucky = {(0.25, 0): 3.0, (0.5, 1): 2.9, (0.75, 2): 2.8}
    e = table_1a(lambda alpha, seed: 20.0 + lucky.get((alpha, seed), 0.0))
    assert BEST.luck(e) == pytest.approx(1.0)  # 3.0 / 3, where the others' picks have 20.0


def test_seeds_that_only_the_picked_row_has_dilute_its_luck():
    """α = .25 is picked for its luck at one of the three seeds that all rows have, and judged over six."""
    lucky = {(0.25, 0): 3.0, (0.5, 1): 2.9, (0.75, 2): 2.8}
    e = table_1a(lambda alpha, seed: 20.0 + lucky.get((alpha, seed), 0.0))
    more = table_1a(lambda alpha, seed: 20.0, seeds=6).study.records
    further = [r for r in more if r.seed >= 3 and r.config.alpha == 0.25]
    both = Evidence(study([*e.study.records, *further], "coco-cpu"))
    assert BEST.luck(both) == pytest.approx(0.5)


def test_a_row_that_is_ahead_at_every_seed_is_no_luck():
    noise = np.random.default_rng(1).normal(0, 0.1, 100)
    e = table_1a(lambda alpha, seed: 20.0 + 2.0 * (alpha == 0.25) + noise[int(10 * alpha) + seed])
    assert BEST.luck(e) == pytest.approx(0.0)


def test_of_one_seed_and_of_a_row_that_is_not_picked_there_is_none():
    assert BEST.luck(table_1a(lambda alpha, seed: 20.0, seeds=1)) is None
    e = table_1a(lambda alpha, seed: 20.0)
    assert Side(ablation="1a", alpha=0.5).luck(e) is None
    assert CLAIMS["fl-tuned-ce"].b.luck(e) is None, "picked by the search, with its own seeds"
