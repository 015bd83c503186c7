"""Intervals of differences on made-up runs whose truth is known."""

import numpy as np
import pytest
from made_up import changed, record, runs, study
from scipy import stats

from focalrepro.config import RunConfig
from focalrepro.evidence import seed_spread
from focalrepro.evidence.difference import MEASURES, UNKNOWN_SEED_MARGIN, Evidence, holm
from focalrepro.study.study import Study

pytestmark = pytest.mark.usefixtures("nothing_committed")


def gain(records, profile="smoke", **more):
    """Focal loss less cross entropy with α = .75."""
    e = Evidence(study(records, profile))
    return e.difference(e.row("1b", gamma=2.0), e.row("1a", alpha=0.75), **more)


def test_one_seed_needs_more_than_the_usual_luck_of_a_seed():
    found = gain(runs(lambda c: 30 + 2.0 * (c.gamma == 2), seeds=1, seed_sd=0.0))
    assert found.margin == UNKNOWN_SEED_MARGIN and found.high - found.effect > UNKNOWN_SEED_MARGIN
    assert found.seeds == 1 and found.p < 0.05 and found.clear
    less = gain(runs(lambda c: 30 + 0.4 * (c.gamma == 2), seeds=1, seed_sd=0.0))
    assert not less.clear and less.p == 1


def test_one_seed_borrows_the_spread_of_the_committed_ones(monkeypatch):
    one, found, kept = runs(lambda c: 30 + 4.0 * (c.gamma == 2), seeds=1, seed_sd=0.0), [], []
    read = []
    monkeypatch.setattr(
        Study, "committed", lambda profile: read.append(profile) or study(list(kept), profile)
    )
    for _ in range(2):
        found.append(gain(one))
        kept += runs(lambda c: 30, seeds=3, seed_sd=3.0)
    alone, borrowed = found
    assert alone.low > 0 > borrowed.low and borrowed.borrowed and not alone.borrowed
    read.clear()
    e = Evidence(study(one))
    assert not read, "a constructor reads nothing"
    for _ in range(3):
        e.difference(e.row("1b", gamma=2.0), e.row("1a", alpha=0.75))
    assert read == ["smoke"]


def test_pairing_by_seed_takes_out_the_seeds_common_luck():
    luck = {0: -3.0, 1: 0.0, 2: 3.0}
    of = [changed(r, metrics={"AP": r.AP + luck[r.seed]}) for r in runs(lambda c: 30 + 2 * (c.gamma == 2))]
    e = Evidence(study(of))
    sides = e.row("1b", gamma=2.0), e.row("1a", alpha=0.75)
    added, paired = (e.contrast(sides, (1.0, -1.0), by_seed=by_seed) for by_seed in (False, True))
    assert added.effect == paired.effect and paired.error < added.error / 3
    one = [r for r in of if r.seed < 2]
    assert (
        Evidence(study(one)).contrast([[r for r in s if r.seed < 2] for s in sides], (1, -1), by_seed=True)
        is None
    )


def test_pairing_by_image_takes_out_the_images_luck():
    found = gain(runs(lambda c: 30, image_sd=8.0))
    assert found.high - found.low < 3


def test_a_row_that_moves_with_its_seed_widens_its_differences():
    steady = runs(lambda c: 30 + 3 * (c.gamma == 2))
    shaken = [
        changed(r, metrics={"AP": r.AP + 5 * (r.seed - 1)}) if r.config.gamma == 2 else r for r in steady
    ]
    found = [gain(of) for of in (steady, shaken)]
    assert found[0].effect == pytest.approx(found[1].effect) == pytest.approx(3, abs=0.6)
    assert found[0].low > 0 > found[1].low


def test_rows_that_find_nothing_do_not_steady_the_others():
    dead = runs(lambda c: 0.5 * (c.gamma == 0) + (30 + c.seed) * (c.gamma > 0), seed_sd=0.0)
    assert Evidence(study(dead)).spread().variance == pytest.approx(1.0)


def test_differences_are_over_the_seeds_that_both_have():
    of = [r for r in runs(lambda c: 30) if not (r.config.gamma == 2 and r.seed == 0)]
    assert gain(of).seeds == 2
    assert gain([r for r in of if r.config.gamma != 2]) is None


def test_a_pair_is_of_like_machines():
    of = runs(lambda c: 30)
    mixed = [
        changed(r, hardware={"precision": "fp32"}) if (r.config.gamma, r.seed) == (2, 0) else r for r in of
    ]
    assert gain(of).seeds == 3 and gain(mixed).seeds == 2
    assert {r.seed for rows in Evidence(study(mixed)).rows("1b").values() for r in rows} == {1, 2}


def test_a_measure_without_replicates_takes_those_of_another():
    found = gain(
        runs(lambda c: 30, agnostic=lambda c, rng: {"AP": 50.0 + c.gamma}), measure=MEASURES["agnostic"]
    )
    assert found.effect == pytest.approx(2) and found.images_as == "AP" and found.error > 0
    assert gain(runs(lambda c: 30, tide=None), measure=MEASURES["background"]) is None, "found nothing"


def test_a_scaled_side():
    e = Evidence(study(runs(lambda c: 30.0 if c.gamma else 20.0, seed_sd=0.01), "smoke"))
    found = e.contrast((e.row("1b", gamma=2.0), e.row("1a", alpha=0.75)), (0.5, -1.0))
    assert found.effect == pytest.approx(-5, abs=0.1)


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.01, 0.02], family=4) == pytest.approx([0.04, 0.06]), "those that were not run count"


def test_intervals_cover_where_rows_spread_unlike():
    """Rows whose variances are drawn from an inverse χ² with four degrees of freedom, three seeds each."""
    rng = np.random.default_rng(1)
    sds = np.sqrt(4 / rng.chisquare(4, (100, 30)))
    covered, widths = 0, []
    for trial in sds:
        seeds = 30 + trial[:, None] * rng.standard_normal((30, 3))
        found = seed_spread.fit(seeds)
        variance, freedom = found.of(list(seeds[0]))
        half = stats.t.ppf(0.975, freedom) * np.sqrt(variance / 3)
        covered += abs(seeds[0].mean() - 30) < half
        widths.append(found.weight)
    assert covered >= 90 and 2 < np.median(widths) < 8


def test_rows_that_spread_alike_are_pooled():
    found = seed_spread.fit(30 + np.random.default_rng(2).standard_normal((200, 3)))
    assert found.weight > 20 and found.variance == pytest.approx(1.0, abs=0.15)


def test_merging_a_single_class_is_no_measure():
    one = record(RunConfig(seed=0), 30.0, per_class={"digit": 30.0}, agnostic={"AP": 30.0})
    two = record(RunConfig(seed=0), 30.0, per_class={"a": 20.0, "b": 40.0}, agnostic={"AP": 30.0})
    assert one.agnostic_AP is None and two.agnostic_AP == 30
