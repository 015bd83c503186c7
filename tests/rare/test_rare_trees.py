"""Focal loss for boosted trees: its derivatives, LightGBM's own log loss at γ = 0, and that it learns."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from focalrepro.losses import sigmoid_focal_loss
from focalrepro.rare import data, models
from focalrepro.rare.metrics import metrics


@pytest.mark.parametrize("alpha", [-1.0, 0.25])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("label", [0, 1])
def test_derivatives_are_those_of_the_loss(label, gamma, alpha):
    """Against autograd in float64 of the plain definition (torch's softplus is linear beyond 20)."""
    x = torch.linspace(-30, 30, 241, dtype=torch.float64, requires_grad=True)
    y, sign, weight = torch.full_like(x, label), 2 * label - 1, abs(alpha - 1 + label) if alpha >= 0 else 1
    loss = -weight * (gamma * F.logsigmoid(-sign * x)).exp() * F.logsigmoid(sign * x)
    torch.testing.assert_close(loss, sigmoid_focal_loss(x, y, alpha, gamma), rtol=1e-7, atol=1e-12)
    (first,) = torch.autograd.grad(loss.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    gradient, hessian = models.focal_derivatives(x.detach().numpy(), y.numpy(), alpha, gamma)
    np.testing.assert_allclose(gradient, first.detach().numpy(), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(hessian, second.numpy(), rtol=1e-7, atol=1e-13)


def test_derivatives_are_finite_differences():
    x, step, y = np.linspace(-6, 6, 49), 1e-5, np.arange(49) % 2

    def loss(at):
        return sigmoid_focal_loss(torch.from_numpy(at), torch.from_numpy(y), 0.25, 2.0).numpy()

    gradient, hessian = models.focal_derivatives(x, y, 0.25, 2.0)
    np.testing.assert_allclose(gradient, (loss(x + step) - loss(x - step)) / (2 * step), atol=1e-9)
    slopes = [models.focal_derivatives(x + s, y, 0.25, 2.0)[0] for s in (step, -step)]
    np.testing.assert_allclose(hessian, (slopes[0] - slopes[1]) / (2 * step), atol=1e-9)
    assert (hessian[(y == 1) & (x < -3)] < 0).all(), "not convex where a row is missed by far"


def test_derivatives_are_finite_everywhere():
    x = np.array([-1e300, -800.0, 0.0, 800.0, 1e300])
    for y in (0, 1):
        for gamma in (0.0, 0.1, 2.0):
            assert all(np.isfinite(d).all() for d in models.focal_derivatives(x, np.full(5, y), 0.25, gamma))


def test_gamma_near_zero_is_lightgbms_own_log_loss(small):
    pytest.importorskip("lightgbm")
    s = data.split(small, 10, 0)
    own, ours = (models.tree_scores(s.train, (s.test.x,), -1.0, g, 20)[0] for g in (0.0, 1e-12))
    np.testing.assert_allclose(ours, own, rtol=1e-6)
    np.testing.assert_allclose(models.tree_scores(s.train, (s.test.x,), -1.0, 0.0, 20)[0], own, rtol=0)


@pytest.mark.parametrize("x", [np.zeros((15, 2), np.float32), np.eye(15, 2, dtype=np.float32)])
def test_boosting_starts_at_the_prior(x):
    """Too few rows for a leaf, or nothing that varies: no tree, only the share of positives."""
    pytest.importorskip("lightgbm")
    few = data.Part(x, np.repeat([0, 1], [12, 3]), np.ones(15))
    for gamma in (0.0, 2.0):
        (said,) = models.tree_scores(few, (few.x[:3],), 0.25, gamma, 2)
        assert said.tolist() == pytest.approx([0.2] * 3)


def test_it_learns_where_every_positive_starts_with_a_negative_hessian(small):
    """At 1:40 the first Newton step with the bare Hessian would go uphill; chance is an AP of .024."""
    pytest.importorskip("lightgbm")
    s = data.split(small, 40, 0)
    start = np.full(len(s.train.y), np.log((s.train.y == 1).mean() / (s.train.y == 0).mean()))
    assert models.focal_derivatives(start, s.train.y, -1.0, 2.0)[1].sum() < 0
    for alpha in (-1.0, 0.25):
        (score,) = models.tree_scores(s.train, (s.test.x,), alpha, 2.0, 100)
        assert metrics(s.test.y, score, s.test.weight)["ap"] > 0.2


def test_trees_stand_beside_networks_on_tables_only(small, fast):
    pytest.importorskip("lightgbm")
    images = data.RareData("images", small.x, small.y, table=False)
    methods = (*models.METHODS[:1], *models.TREES)
    frame = models.run_rare([small, images], (10,), 1, fast, methods)
    by = frame.groupby("dataset", sort=False)["method"].agg(list)
    assert by["generated"] == [models.CE.name, models.MOVED, *(m.name for m in models.TREES)]
    assert by["images"] == [models.CE.name, models.MOVED]
    alone = models.run_rare([small], (10,), 1, fast, models.TREES)
    both = frame[frame["method"].isin(alone["method"])]
    assert both[["ap", "f1"]].to_numpy().tolist() == alone[["ap", "f1"]].to_numpy().tolist()
