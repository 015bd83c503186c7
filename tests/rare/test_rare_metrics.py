"""The weighted metrics."""

import numpy as np
import pytest
from sklearn import metrics as sk

from focalrepro.rare.metrics import best_threshold, calibration_error, decisions, metrics, recall_at_fpr


def test_metrics_equal_sklearns():
    rng = np.random.default_rng(0)
    y, weight = (rng.random(400) < 0.2).astype(int), rng.random(400) * 3
    score = np.clip(0.3 * y + rng.random(400) * 0.7, 0, 1).round(2)  # with ties
    found = metrics(y, score, weight)
    assert found["ap"] == pytest.approx(sk.average_precision_score(y, score, sample_weight=weight))
    assert found["log_loss"] == pytest.approx(sk.log_loss(y, np.clip(score, 1e-12, 1), sample_weight=weight))
    flagged = score >= 0.5
    for name, theirs in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert found[name] == pytest.approx(theirs(y, flagged, sample_weight=weight))


def test_a_weight_is_that_many_rows():
    rng = np.random.default_rng(1)
    y, score, weight = rng.integers(0, 2, 60), rng.random(60), rng.integers(1, 4, 60)
    repeated = metrics(np.repeat(y, weight), np.repeat(score, weight), np.ones(weight.sum()))
    assert metrics(y, score, weight) == pytest.approx(repeated)


def test_recall_at_fpr():
    # 200 negatives: two may be flagged. Six of the ten positives score higher than the third negative.
    negatives = np.linspace(0, 0.8, 200)
    positives = np.concatenate([np.full(6, negatives[-3] + 1e-6), np.full(4, 0.1)])
    y = np.repeat([0, 1], [200, 10])
    score = np.concatenate([negatives, positives])
    assert recall_at_fpr(y, score, np.ones(210)) == pytest.approx(0.6)
    assert recall_at_fpr(y, score, np.where(y == 1, 0.01, 1.0)) == pytest.approx(0.6)
    assert recall_at_fpr(y, np.zeros(210), np.ones(210)) == 0


def test_calibration_error():
    score = np.repeat([0.1, 0.9], 100)
    y = np.concatenate([np.repeat([1, 0], [10, 90]), np.repeat([1, 0], [90, 10])])
    assert calibration_error(y, score, np.ones(200)) == pytest.approx(0, abs=1e-12)
    y[100:] = np.repeat([1, 0], [60, 40])  # 0.9 said, 0.6 true, on half of the rows
    assert calibration_error(y, score, np.ones(200)) == pytest.approx(0.15)
    weight = np.repeat([3.0, 1.0], 100)
    assert calibration_error(y, score, weight) == pytest.approx(0.075)
    assert calibration_error(np.ones(2), np.ones(2), np.ones(2)) == 0


def test_nothing_flagged_has_no_precision():
    found = decisions(np.array([0, 1]), np.array([False, False]), np.ones(2))
    assert np.isnan(found["precision"]) and found["recall"] == 0 and found["f1"] == 0


def test_best_threshold():
    y, score = np.array([0, 0, 1, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.3, 0.6, 0.8])
    rng = np.random.default_rng(2)
    for weight in (np.ones(6), rng.random(6) + 0.1):
        moved = best_threshold(y, score, weight)
        tried = [decisions(y, score >= t, weight)["f1"] for t in (*np.unique(score), 2)]
        assert decisions(y, score >= moved, weight)["f1"] == pytest.approx(max(tried))
    assert best_threshold(np.array([0, 1]), np.array([0.5, 0.5]), np.ones(2)) == 0.5
