"""Focal loss over softmax: against its definition in float64, torch's cross entropy, and at its extremes."""

import math

import pytest
import torch
import torch.nn.functional as F

from focalrepro.losses import sigmoid_focal_loss, softmax_focal_loss

ALPHA = [0.5, 2.0, 0.0, 1.0]


def value_and_gradient(function, logits):
    leaf = logits.clone().requires_grad_()
    value = function(leaf)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(60, 4, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 4, (60,), generator=generator)


@pytest.mark.parametrize("alpha", [None, ALPHA, torch.tensor(ALPHA)])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 5.0])
def test_is_the_definition(rows, gamma, alpha):
    logits, targets = rows
    weight = torch.ones(4) if alpha is None else torch.as_tensor(alpha)

    def definition(x):
        p = x.softmax(-1)[torch.arange(60), targets]
        return -weight[targets] * (1 - p) ** gamma * p.log()

    ours = value_and_gradient(lambda x: softmax_focal_loss(x, targets, alpha, gamma), logits)
    for mine, theirs in zip(ours, value_and_gradient(definition, logits), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    single = softmax_focal_loss(logits.float(), targets, alpha, gamma)
    torch.testing.assert_close(single, ours[0].float(), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradient_is_that_of_the_value(gamma):
    logits = torch.tensor([[0.3, -1.0, 2.0], [12.0, 0.0, 1.0], [-9.0, 0.5, 0.0]], dtype=torch.float64)
    for target in range(3):
        labels = torch.full((3,), target)
        assert torch.autograd.gradcheck(
            lambda x, labels=labels: softmax_focal_loss(x, labels, [0.2, 1.0, 3.0], gamma),
            logits.clone().requires_grad_(),
        )


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_gamma_zero_is_torchs_cross_entropy(rows, reduction):
    logits, targets = rows
    weight = torch.tensor(ALPHA, dtype=torch.float64)
    theirs = F.cross_entropy(logits, targets, weight, reduction=reduction)
    torch.testing.assert_close(softmax_focal_loss(logits, targets, ALPHA, 0.0, reduction), theirs)
    mean = softmax_focal_loss(logits, targets, gamma=0.0, reduction="mean")
    torch.testing.assert_close(mean, F.cross_entropy(logits, targets))


def test_two_classes_are_a_sigmoid():
    x = torch.linspace(-20, 20, 81, dtype=torch.float64)
    both, targets = torch.stack([torch.zeros_like(x), x], -1), torch.arange(81) % 2
    ours = softmax_focal_loss(both, targets, [0.75, 0.25], 2.0)
    torch.testing.assert_close(ours, sigmoid_focal_loss(x, targets.double(), 0.25, 2.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.0, 0.1, 1.0, 2.0])
def test_finite_at_every_logit(dtype, gamma):
    most = torch.finfo(dtype).max
    rows = [[most, -most, 0], [0, 0, 0], [100, -100, 0], [88, 0, 0], [30, -30, 1e-3], [0, 5, -math.inf]]
    logits = torch.tensor(rows, dtype=torch.float64).to(dtype)
    for target in range(3):
        value, gradient = value_and_gradient(
            lambda x, t=target: softmax_focal_loss(x, torch.full((len(rows),), t), gamma=gamma), logits
        )
        assert value.isfinite().all() and gradient.isfinite().all() and gradient.dtype == dtype
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_a_row_missed_by_far_has_cross_entropys_gradient():
    _, gradient = value_and_gradient(
        lambda x: softmax_focal_loss(x, torch.tensor([0])), torch.tensor([[-1e6, 1.0, 0.0]])
    )
    expected = torch.tensor([[-1.0, 0.7310586, 0.2689414]])
    torch.testing.assert_close(gradient, expected)


def test_images_and_no_rows():
    logits, targets = torch.randn(2, 5, 4, 3), torch.randint(0, 5, (2, 4, 3))
    last = softmax_focal_loss(logits.movedim(1, -1), targets, gamma=0.0)
    torch.testing.assert_close(last, F.cross_entropy(logits, targets, reduction="none"))
    value, gradient = value_and_gradient(
        lambda x: softmax_focal_loss(x, torch.zeros(0, dtype=torch.long), reduction="mean"), torch.zeros(0, 3)
    )
    assert value == 0 and gradient.shape == (0, 3)


@pytest.mark.parametrize(
    ("logits", "targets", "options", "message"),
    [
        ((2, 3), [0, 3], {}, r"reach from 0 to 3.*0 … 2"),
        ((2, 3), [-1, 0], {}, "reach from -1 to 0"),
        ((2, 3), [0.0, 1.0], {}, "integer class indices"),
        ((2, 3), [0], {}, r"\(1,\).*\(2, 3\)"),
        ((1, 1), [0], {}, "2 classes or more"),
        ((), 0, {}, "2 classes or more"),
        ((2, 3), [0, 1], {"alpha": [1.0, 2.0]}, "one weight per class, 3 of them"),
        ((2, 3), [0, 1], {"alpha": 0.25}, "one weight per class"),
        ((2, 3), [0, 1], {"alpha": [1.0, -1.0, 0.0]}, "0 or more"),
        ((2, 3), [0, 1], {"alpha": [1.0, math.nan, 0.0]}, "0 or more"),
        ((2, 3), [0, 1], {"gamma": -1.0}, "gamma is -1"),
        ((2, 3), [0, 1], {"reduction": "average"}, "'average'"),
    ],
)
def test_errors(logits, targets, options, message):
    with pytest.raises(ValueError, match=message):
        softmax_focal_loss(torch.zeros(logits), torch.tensor(targets), **options)
