"""Losses, batched training, and the rows of the comparison."""

import numpy as np
import pandas as pd
import pytest
import torch

from focalrepro.rare import data, models
from focalrepro.rare.metrics import metrics
from focalrepro.rare.models import CE, METHODS, MOVED, RareSettings


def test_losses_are_what_they_are_called():
    logits, y = torch.tensor([[0.3, -1.2, 2.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    ratio = torch.tensor([[2.0]])
    p = torch.sigmoid(logits)
    ce = -(y * p.log() + (1 - y) * (1 - p).log())
    p_t = torch.where(y == 1, p, 1 - p)
    expected = (
        ce,
        ce * torch.where(y == 1, 2.0, 1.0),
        ce * (1 - p_t) ** 2 * torch.where(y == 1, 0.25, 0.75),
        ce * (1 - p_t) ** 2,
    )
    for method, loss in zip(METHODS, expected, strict=True):
        assert method.loss(logits, y, ratio).item() == pytest.approx(loss.mean().item(), rel=1e-5)


def test_starts_at_the_prior():
    ratio = torch.tensor([9.0])
    weights = models.first_weights(3, ratio, [0], METHODS, hidden=4)
    start = models.forward(weights, torch.zeros(1, 1, 3)).sigmoid()[0, :, 0]
    assert start.tolist() == pytest.approx([0.1, 0.5, 0.1, 0.1])
    assert torch.equal(weights[0][0, 0], weights[0][0, 3])  # otherwise all losses start alike


def test_batched_training_equals_single(small, fast):
    splits = [data.split(small, 30, seed) for seed in (0, 1)]
    together = models.train(splits, [0, 1], METHODS, fast, 5e-3)
    for i, j in ((0, 0), (1, 2)):
        alone = models.train([splits[i]], [i], METHODS[j : j + 1], fast, 5e-3)
        for many, one in zip(together, alone, strict=True):
            assert torch.allclose(many[i, j], one[0, 0], atol=2e-5)


def test_small_training_parts_are_taken_whole(small):
    whole = RareSettings(hidden=8, steps=150, batch=5000)
    s = [data.split(small, 10, 0)]
    found = models.scores(models.train(s, [0], METHODS[:1], whole, 5e-3), s[0].test.x[None])[0, 0]
    assert metrics(s[0].test.y, found, s[0].test.weight)["ap"] > 0.4  # chance is 1/11


def test_deterministic(small, frame, fast):
    again = models.run_rare([small], (10, 30), 2, fast)
    pd.testing.assert_frame_equal(frame, again)


def test_rows(frame):
    assert len(frame) == 2 * 2 * (len(METHODS) + 1)
    assert not frame.duplicated(["dataset", "rate", "method", "seed"]).any()
    assert frame[["ap", "recall_at_1fpr", "ece", "recall", "f1"]].stack().between(0, 1).all()
    assert set(frame["train_positives"]) == {75, 25}


def test_each_split_chooses_a_rate_for_each_loss_on_its_validation_part(small, fast, monkeypatch):
    """The scores are right at one rate, which is another for each seed and each loss, and NaN at the last."""
    best = {(seed, i): (5e-3, 1.25e-3)[(seed + i) % 2] for seed in (0, 1) for i in range(len(METHODS))}

    def train(splits, seeds, methods, settings, rate):
        return [[{True: s.validation, False: s.test}, rate] for s in splits]

    def scores(weights, x):
        _, rate = weights[0]
        parts = [next(p for p in parts.values() if len(p.x) == x.shape[1]) for parts, _ in weights]
        right = [
            [p.y if best[s, i] == rate else 1 - p.y for i in range(len(METHODS))] for s, p in enumerate(parts)
        ]
        return np.array(right, float) + (np.nan if rate == 2e-2 else 0)

    monkeypatch.setattr(models, "train", train)
    monkeypatch.setattr(models, "scores", scores)
    splits, validation, test, chosen = models.fitted_scores(small, 30, 2, fast)
    assert len(splits[0].validation.x) != len(splits[0].test.x)
    assert {at: chosen[at] for at in best} == best
    for (seed, i), _ in best.items():
        assert (validation[seed, i] == splits[seed].validation.y).all()
        assert (test[seed, i] == splits[seed].test.y).all()


def test_a_moved_threshold_changes_decisions_only(frame):
    by = frame.set_index(["rate", "seed"])
    ce, moved = by[by["method"] == CE.name], by[by["method"] == MOVED]
    for same in ("ap", "recall_at_1fpr", "ece", "log_loss"):
        assert (ce[same] == moved[same]).all()
    assert (ce["threshold"] == 0.5).all() and (moved["threshold"] != 0.5).all()
    assert (ce["recall"] != moved["recall"]).any()


def test_too_few_positives_are_said(small, fast):
    said = []
    found = models.run_rare([small], (1000,), 1, fast, progress=False, notice=said.append)
    assert found.empty
    assert said == ["generated at 1:1000 is not run: 1 positive to train on"]


@pytest.mark.parametrize(
    "rates, seeds", [((0.5,), 2), ((float("nan"),), 2), ((float("inf"),), 2), ((10,), 0)]
)
def test_wrong_rates_and_seeds(small, rates, seeds, fast):
    with pytest.raises(ValueError, match=r"--(rates|seeds).*1 or more"):
        models.run_rare([small], rates, seeds, fast)


def test_wrong_settings():
    for field, wrong in (("steps", 0), ("learning_rates", ()), ("tree_rates", (0.1, 0.0))):
        with pytest.raises(ValueError, match=field):
            RareSettings(**{field: wrong})
