"""Rates, splits and the built-in data."""

import dataclasses

import numpy as np
import pytest

from focalrepro.rare import data


@pytest.mark.parametrize("rate", [10, 37, 100])
def test_resampling_gives_the_rate(small, rate):
    s = data.split(small, rate, seed=3)
    positives, negatives = (s.train.y == 1).sum(), (s.train.y == 0).sum()
    assert positives == round(negatives / rate)
    assert negatives == 750
    assert (s.train.weight == 1).all()
    for part, share in ((s.validation, 0.2), (s.test, 0.3)):
        assert (part.y == 1).sum() == share * 300  # every real positive is used
        assert part.weight[part.y == 0].sum() / part.weight[part.y == 1].sum() == pytest.approx(rate)


def test_few_positives_take_fewer_negatives():
    y = np.repeat([0, 1], [1000, 20])
    assert data.training_counts(y, 10) == (20, 200)
    assert data.training_counts(y, 100) == (10, 1000)


def test_parts_are_disjoint_and_differ_by_seed(small):
    first, second = (data.split(small, 10, seed) for seed in (0, 1))
    for s in (first, second):
        rows = np.concatenate(s.rows)
        assert len(np.unique(rows)) == len(rows)
        assert np.array_equal(small.y[s.rows[2]], s.test.y)
    assert not np.array_equal(first.rows[2], second.rows[2])
    assert np.array_equal(first.rows[0], data.split(small, 10, 0).rows[0])


def test_standardised_and_filled_by_the_training_part(small):
    x = small.x.copy()
    x[::7, 2] = np.nan
    s = data.split(dataclasses.replace(small, x=x), 10, seed=0)
    assert np.allclose(s.train.x.mean(0), 0, atol=1e-4) and np.allclose(s.train.x.std(0), 1, atol=1e-4)
    raw = x[s.rows[0]]
    median = np.nanmedian(raw[:, 2])
    filled = np.where(np.isnan(raw[:, 2]), median, raw[:, 2])
    test_row = int(np.flatnonzero(np.isnan(x[s.rows[2], 2]))[0])
    assert s.test.x[test_row, 2] == pytest.approx((median - filled.mean()) / filled.std(), abs=1e-4)


def test_own_rate_is_left_alone(small):
    s = data.split(dataclasses.replace(small, own_rate=True), 1000, seed=0)
    assert (s.train.y == 1).sum() == 150 and (s.train.y == 0).sum() == 750
    assert (s.test.weight == 1).all()


def test_built_in_data():
    counts = {d.name: ((d.y == 1).sum(), (d.y == 0).sum()) for d in data.built_in()}
    assert counts == {"digits": (174, 1623), "breast cancer": (212, 357), "generated": (3600, 32000)}
