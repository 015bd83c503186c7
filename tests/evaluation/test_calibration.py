"""Calibration from histograms of scores, on cases whose answer is known."""

import numpy as np
import pytest
import torch

from focalrepro.evaluation import calibration
from focalrepro.evaluation.calibration import CENTRES, calibration_of, closed_form
from focalrepro.losses import focal_terms


def histogram(at, right, wrong):
    """Detections in the bins nearest to some logits."""
    found = {"right": [0] * len(CENTRES), "wrong": [0] * len(CENTRES)}
    for logit, r, w in zip(at, right, wrong, strict=True):
        i = int(np.argmin(np.abs(CENTRES - logit)))
        found["right"][i] += r
        found["wrong"][i] += w
    return found


def test_error_of_a_known_case():
    h = histogram([np.log(0.95 / 0.05), np.log(0.15 / 0.85)], [1, 0], [1, 2])
    got = calibration_of(h, calibration.raw(h))
    assert got.error == pytest.approx((0.45 + 0.15) / 2, abs=0.01)
    assert got.brier == pytest.approx((0.05**2 + 0.95**2 + 2 * 0.15**2) / 4, abs=0.01)


def test_no_detection_is_no_number():
    assert np.isnan(calibration_of(histogram([], [], []), calibration.raw({})).error)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.75, 0.0), (0.5, 5.0), (0.25, 0.5)])
def test_the_closed_form_inverts_the_losss_own_minimiser(alpha, gamma):
    """The score that minimises the expected loss at a true probability is mapped back to that probability."""
    x = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    for truth in (0.02, 0.3, 0.6):
        positive = focal_terms(x[:, None], torch.zeros(len(x), dtype=torch.long), alpha, gamma)[:, 0]
        negative = focal_terms(x[:, None], torch.full((len(x),), -1), alpha, gamma)[:, 0]
        best = float(x[(truth * positive + (1 - truth) * negative).argmin()])
        assert np.interp(best, CENTRES, closed_form(alpha, gamma)) == pytest.approx(truth, abs=0.005)


def test_maps_fitted_on_tune_mend_scores_that_are_too_sure():
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 2, 40_000)
    right = rng.random(40_000) < 1 / (1 + np.exp(-logits / 3))  # three times as sure as they should be
    at = np.clip(np.searchsorted(calibration.LOGITS, logits) - 1, 0, len(CENTRES) - 1)
    tune, test = (
        {
            "right": np.bincount(at[half & right], minlength=len(CENTRES)).tolist(),
            "wrong": np.bincount(at[half & ~right], minlength=len(CENTRES)).tolist(),
        }
        for half in (np.arange(40_000) % 2 == 0, np.arange(40_000) % 2 == 1)
    )
    before = calibration_of(test, calibration.raw(test))
    for mend in (calibration.tempered, calibration.isotonic):
        after = calibration_of(test, mend(tune))
        assert after.error < 0.02 < before.error and after.nll < before.nll


def test_the_best_scored_are_as_many_as_are_right_and_not_drowned_by_the_rest():
    h = histogram([2.0, 1.0, -6.0], [1, 1, 0], [2, 0, 1000])  # 2 are right: the best bin has 3 already
    best = calibration.best_scored(h)
    assert best == histogram([2.0], [1], [2])
    assert calibration_of(h, calibration.raw(h)).error < 0.01
    assert calibration_of(best, calibration.raw(best)).error == pytest.approx(0.88 - 1 / 3, abs=0.01)
    assert calibration.best_scored(histogram([], [], [])) == histogram([], [], [])
