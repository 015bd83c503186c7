"""The place of the best α in resamples: the seeds' luck is Student's, and a verdict has two sides."""

import numpy as np
import pytest
from made_up import record, study

from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.statistics import best_alpha
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import PROFILES

SEEDS = 3


def table_1a(ahead, sd=1.0):
    """Table 1a, AP of all images alike, with the same luck of three seeds in each row: α = .75 leads by
    `ahead`, α = .25 is second, and the others are far behind."""
    profile, luck = PROFILES["coco-cpu"], sd * np.array([-1.0, 0.0, 1.0])
    level = {0.25: 30.0, 0.75: 30.0 + ahead}
    configs = get_ablation("1a").configs(profile.base, range(SEEDS), profile.rates).values()
    aps = [(c, level.get(c.alpha, 5.0) + luck[c.seed]) for c in configs]
    return Evidence(study([record(c, ap, [ap] * 200, tune={"AP": ap}) for c, ap in aps], "coco-cpu"))


@pytest.mark.parametrize("ahead", [0.5, 2.0])
def test_the_share_is_that_of_students_luck(ahead):
    e = table_1a(ahead)
    variance, freedom = e.spread().of([29.0, 30.0, 31.0])
    rng = np.random.default_rng(1)
    scale = (variance / SEEDS) ** 0.5
    lead = ahead + scale * (rng.standard_t(freedom, 200_000) - rng.standard_t(freedom, 200_000))
    assert best_alpha(e).value == pytest.approx((lead > 0).mean(), abs=0.015)


def test_a_verdict_wants_all_but_a_fortieth_of_the_resamples():
    words = {}
    for ahead in (1.2, 1.4, 1.6, 1.8, 2.0, 4.0):
        found = best_alpha(table_1a(ahead))
        words[found.value] = found.word
    assert any(0.95 < share < 0.975 for share in words), sorted(words)
    assert all(word == ("confirmed" if share >= 0.975 else "undecided") for share, word in words.items())
