"""The losses against torchvision, float64 finite differences,
hand-computed numbers, and at their extremes.
"""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision

from focalrepro.losses import BACKGROUND, IGNORED, FocalLoss, sigmoid_focal_loss, softmax_focal_loss
from focalrepro.training.focal_sum import detection_focal_loss

GAMMAS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def random_anchors(seed=0, shape=(2, 300), classes=5, dtype=torch.float32, scale=3.0):
    """Logits [*shape, K] and labels [*shape]: mostly background, some ignored, some of each class."""
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(*shape, classes, generator=generator)).to(dtype)
    share = torch.tensor([0.15, 0.65, *[0.2 / classes] * classes])
    labels = torch.multinomial(share, math.prod(shape), True, generator=generator)
    labels = labels.reshape(shape) + IGNORED
    assert {int(v) for v in labels.unique()} == {*range(classes), BACKGROUND, IGNORED}
    return logits, labels


def value_and_gradient(function, logits):
    leaf = logits.clone().requires_grad_()
    value = function(leaf)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


# ---- sigmoid_focal_loss


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("alpha", [0.25, 0.9, 0.0, 1.0, -1])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_equals_torchvision_where_that_is_finite(gamma, alpha, reduction):
    generator = torch.Generator().manual_seed(1)
    logits = 4 * torch.randn(40, 7, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 2, (40, 7), generator=generator).double()
    arguments = {"alpha": alpha, "gamma": gamma, "reduction": reduction}
    ours = value_and_gradient(lambda x: sigmoid_focal_loss(x, targets, **arguments), logits)
    theirs = value_and_gradient(lambda x: torchvision.ops.sigmoid_focal_loss(x, targets, **arguments), logits)
    # Theirs computes 1 - p_t, which at |x| = 14 has six of the sixteen digits left.
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
def test_each_dtype_is_the_rounded_double(dtype):
    logits = torch.linspace(-12, 12, 97).to(dtype)
    targets = (torch.arange(97) % 3 == 0).to(dtype)
    for gamma in GAMMAS:
        value, gradient = value_and_gradient(
            lambda x, g=gamma: sigmoid_focal_loss(x, targets, 0.25, g), logits
        )
        exact = value_and_gradient(
            lambda x, g=gamma: sigmoid_focal_loss(x, targets.double(), 0.25, g), logits.double()
        )
        assert value.dtype == gradient.dtype == dtype
        # One rounding to the dtype (eps / 2), plus fp32's own few ulps inside; fp16 has no numbers below
        # 6e-8.
        rtol = max(torch.finfo(dtype).eps, 1e-5)
        atol = 6e-8 if dtype == torch.float16 else 1e-12
        torch.testing.assert_close(value.double(), exact[0], rtol=rtol, atol=atol)
        torch.testing.assert_close(gradient.double(), exact[1], rtol=rtol, atol=atol)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("target", [0.0, 1.0, 0.3])
def test_finite_at_every_logit(target, dtype, gamma):
    logits = torch.cat([torch.linspace(-200, 200, 801), torch.tensor([16.75, 8.5, 6.25, -16.75, 1e-8])]).to(
        dtype
    )
    targets = torch.full_like(logits, target)
    value, gradient = value_and_gradient(lambda x: sigmoid_focal_loss(x, targets, 0.25, gamma), logits)
    assert value.isfinite().all() and gradient.isfinite().all()
    # At ±200 p is 0 or 1, so that 1 - p_t is t or 1 - t and the cross entropy that times 200.
    rounded = targets[0].item()
    weight = 0.25 * rounded + 0.75 * (1 - rounded)
    for at, miss in ((0, rounded), (800, 1 - rounded)):
        close = pytest.approx(weight * miss**gamma * miss * 200, rel=max(torch.finfo(dtype).eps, 1e-5))
        assert value[at].item() == close
    assert (value >= 0).all()
    if target == 1.0:  # an object's loss falls with the logit, the background's rises
        assert (gradient <= 0).all() and gradient[0].item() == pytest.approx(-0.25, rel=1e-3)
    if target == 0.0:
        assert (gradient >= 0).all() and gradient[800].item() == pytest.approx(0.75, rel=1e-3)


def test_torchvision_is_not_finite_there():
    """Why this one exists; when this fails, torchvision has been mended."""
    x = torch.tensor([20.0])
    _, gradient = value_and_gradient(
        lambda x: torchvision.ops.sigmoid_focal_loss(x, torch.ones(1), gamma=0.5), x
    )
    assert gradient.isnan().all()


@pytest.mark.parametrize("gamma", GAMMAS)
def test_gradient_is_that_of_the_value(gamma):
    generator = torch.Generator().manual_seed(2)
    logits = (3 * torch.randn(24, generator=generator, dtype=torch.float64)).requires_grad_()
    targets = torch.rand(24, generator=generator, dtype=torch.float64)
    targets[:8], targets[8:16] = 0, 1
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, targets, 0.3, gamma), (logits,))


@pytest.mark.parametrize("gamma", GAMMAS)
def test_soft_targets_follow_the_definition(gamma):
    logits = torch.linspace(-8, 8, 65, dtype=torch.float64)
    for target in (0.1, 0.3, 0.5, 0.9):
        p = 1 / (1 + torch.exp(-logits))
        p_t = p * target + (1 - p) * (1 - target)
        alpha_t = 0.25 * target + 0.75 * (1 - target)
        entropy = -(target * p.log() + (1 - target) * (1 - p).log())
        ours = sigmoid_focal_loss(logits, torch.full_like(logits, target), 0.25, gamma)
        torch.testing.assert_close(ours, alpha_t * (1 - p_t) ** gamma * entropy, rtol=1e-9, atol=0)


def test_gamma_zero_is_alpha_balanced_cross_entropy():
    generator = torch.Generator().manual_seed(3)
    logits = 5 * torch.randn(200, generator=generator)
    targets = torch.randint(0, 2, (200,), generator=generator).float()
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    balanced = torch.where(targets == 1, 0.75, 0.25) * entropy
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets, alpha=0.75, gamma=0.0), balanced)
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets, alpha=-1, gamma=0.0), entropy)


def test_alpha_weighs_the_object_class():
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    positive = sigmoid_focal_loss(zero, one, alpha=0.25, gamma=0.0).item()
    negative = sigmoid_focal_loss(zero, zero, alpha=0.25, gamma=0.0).item()
    assert positive == pytest.approx(0.25 * math.log(2), rel=1e-14)
    assert negative == pytest.approx(0.75 * math.log(2), rel=1e-14)
    # In a detector too: a label costs alpha, its absence 1 - alpha.
    labels = torch.tensor([0]), torch.tensor([BACKGROUND])
    costs = [detection_focal_loss(zero.view(1, 1), label, 0.25, 0.0).item() for label in labels]
    assert costs == pytest.approx([positive, negative], rel=1e-14)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_swapping_the_classes_swaps_alpha(gamma):
    logits = torch.linspace(-9, 9, 50, dtype=torch.float64)
    for alpha in (0.1, 0.25, 0.999):
        a = sigmoid_focal_loss(logits, torch.ones_like(logits), alpha, gamma)
        b = sigmoid_focal_loss(-logits, torch.zeros_like(logits), 1 - alpha, gamma)
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


def test_the_papers_own_examples():
    """Section 3.2: at γ = 2, p_t = .9 costs 100 times less than under CE,
    p_t ≈ .968 about 1000 times less.
    """
    p_t = torch.tensor([0.9, 0.968, 0.5], dtype=torch.float64)
    focal = sigmoid_focal_loss(p_t.logit(), torch.ones(3, dtype=torch.float64), alpha=-1, gamma=2.0)
    ratio = (-p_t.log() / focal).tolist()
    assert ratio[0] == pytest.approx(100, rel=1e-9)
    assert ratio[1] == pytest.approx(1000, rel=0.03), "the paper rounds 977"
    assert ratio[2] == pytest.approx(4, rel=1e-9), "at most 4 times for p_t <= .5"
    assert focal[0].item() == pytest.approx(0.01 * 0.10536051565782628, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reduction": "average"}, "'average'.*'none', 'mean' or 'sum'"),
        ({"gamma": -0.5}, "gamma is -0.5"),
        ({"gamma": math.nan}, "gamma is nan"),
        ({"gamma": math.inf}, "gamma is inf; it must be 0 .cross entropy. or more, and finite"),
        ({"alpha": 1.5}, "alpha is 1.5"),
    ],
)
def test_wrong_parameters_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sigmoid_focal_loss(torch.zeros(3), torch.zeros(3), **arguments)
    with pytest.raises(ValueError, match=message):
        FocalLoss(**arguments)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(4, 2\)"):
        sigmoid_focal_loss(torch.zeros(4, 2), torch.zeros(4, 3))


@pytest.mark.parametrize("dtype", FLOATS)
def test_sums_of_two_byte_types_are_finite(dtype):
    """200,000 anchors of 8 classes: some 208,000 at γ = 2, and fp16 ends at 65,504."""
    logits = torch.zeros(200_000, 8, dtype=dtype)
    value, gradient = value_and_gradient(
        lambda x: sigmoid_focal_loss(x, torch.zeros_like(x), reduction="sum"), logits
    )
    assert value.item() == pytest.approx(1.6e6 * 0.75 * 0.25 * math.log(2), rel=1e-5)
    assert value.dtype == torch.float32 and gradient.dtype == dtype and gradient.isfinite().all()
    assert sigmoid_focal_loss(logits, torch.zeros_like(logits)).dtype == dtype
    assert FocalLoss()(logits, torch.full((200_000,), BACKGROUND)).dtype == torch.float32


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0.0, -1.0, 1.0]), "from -1 to 1; .*[Ll]eave out"),
        (torch.tensor([0, 2, 1]), "from 0 to 2"),
        (
            torch.tensor([0, 255, 255], dtype=torch.uint8),
            "from 0 to 255; .*divide a mask of 0 and 255 by 255",
        ),
        (torch.tensor([0.0, math.nan, 1.0]), "from nan to nan"),
        (torch.tensor([0.0, 1.01, 1.0], dtype=torch.float16), r"from 0 to 1\.00977"),
    ],
)
def test_targets_outside_0_and_1_are_named(targets, message):
    with pytest.raises(ValueError, match=message):
        sigmoid_focal_loss(torch.zeros(3), targets)
    with pytest.raises(ValueError, match=message):
        FocalLoss()(torch.zeros(3), targets)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float64])
def test_targets_of_any_type_are_taken(dtype):
    logits, targets = torch.tensor([0.3, -2.0, 5.0]), torch.tensor([1, 0, 1])
    expected = sigmoid_focal_loss(logits, targets.float())
    assert torch.equal(sigmoid_focal_loss(logits, targets.to(dtype)), expected)
    assert sigmoid_focal_loss(logits[:0], targets[:0].to(dtype)).shape == (0,)


# ---- FocalLoss


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_class_indices_equal_their_one_hot(reduction):
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(4))
    classes = torch.tensor([0, 2, 1, BACKGROUND, 2, BACKGROUND])
    one_hot = torch.zeros(6, 3)
    one_hot[[0, 1, 2, 4], [0, 2, 1, 2]] = 1
    criterion = FocalLoss(gamma=1.5, alpha=0.25, reduction=reduction)
    torch.testing.assert_close(criterion(logits, classes), criterion(logits, one_hot), rtol=0, atol=0)
    reference = torchvision.ops.sigmoid_focal_loss(logits, one_hot, 0.25, 1.5, reduction)
    torch.testing.assert_close(criterion(logits, classes), reference, rtol=1e-5, atol=1e-7)


def test_ignored_rows_count_for_nothing():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(5))
    classes = torch.tensor([0, IGNORED, BACKGROUND, 2, IGNORED])
    kept = classes != IGNORED
    for reduction in ("mean", "sum"):
        criterion = FocalLoss(reduction=reduction)
        value, gradient = value_and_gradient(lambda x, c=criterion: c(x, classes), logits)
        assert value == criterion(logits[kept], classes[kept])
        assert (gradient[~kept] == 0).all() and (gradient[kept] != 0).all()
    each = FocalLoss(reduction="none")(logits, classes)
    assert each.shape == logits.shape and (each[~kept] == 0).all() and (each[kept] > 0).all()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_all_rows_ignored_is_a_zero_that_can_be_learnt_from(reduction):
    value, gradient = value_and_gradient(
        lambda x: FocalLoss(reduction=reduction)(x, torch.full((4,), IGNORED)), torch.randn(4, 3)
    )
    assert value.item() == 0 and (gradient == 0).all()


def test_criterion_defaults_and_images():
    logits = torch.randn(2, 8, 8, 4, generator=torch.Generator().manual_seed(6))
    classes = torch.randint(-2, 4, (2, 8, 8), generator=torch.Generator().manual_seed(7))
    criterion = FocalLoss()
    assert (criterion.gamma, criterion.alpha, criterion.reduction) == (1.5, 0.25, "mean")
    flat = criterion(logits.reshape(-1, 4), classes.reshape(-1))
    torch.testing.assert_close(criterion(logits, classes), flat)
    assert "gamma=1.5" in repr(criterion)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 3]), "from 0 to 3; with 3 logits"),
        (torch.tensor([-3, 0]), "from -3 to 0; with 3 logits"),
        (torch.tensor([0, 1, 2]), r"targets \(3,\).*logits \(2, 3\)"),
        (torch.tensor([0.0, 1.0]), r"float32 do not fit logits \(2, 3\)"),
        (torch.tensor([False, True]), r"bool do not fit logits \(2, 3\)"),
    ],
)
def test_criterion_refuses_targets_that_do_not_fit(targets, message):
    with pytest.raises(ValueError, match=message):
        FocalLoss()(torch.zeros(2, 3), targets)


# ---- what else a loss of torch's bears


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_second_derivatives_are_those_of_the_gradient(gamma):
    x = torch.linspace(-4, 4, 12, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.0, 1.0, 0.3], dtype=torch.float64).repeat(4)
    assert torch.autograd.gradgradcheck(lambda z: sigmoid_focal_loss(z, t, 0.25, gamma), x)


def test_learnt_targets_have_torchvisions_gradient():
    x = torch.tensor([1.0, 2.0, 0.3, -3.0])
    t = torch.tensor([0.0, 1.0, 0.5, 0.9], requires_grad=True)
    mine, theirs = (
        torch.autograd.grad(f(x, t, alpha=0.25, gamma=2.0).sum(), t)[0]
        for f in (sigmoid_focal_loss, torchvision.ops.sigmoid_focal_loss)
    )
    torch.testing.assert_close(mine, theirs)


def test_per_sample_gradients_by_vmap():
    x, t = torch.randn(4, 6), (torch.rand(4, 6) < 0.5).float()
    each = torch.func.vmap(torch.func.grad(lambda a, b: sigmoid_focal_loss(a, b).sum()))(x, t)
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(each, torch.autograd.grad(sigmoid_focal_loss(leaf, t).sum(), leaf)[0])


@pytest.mark.parametrize("logits", [torch.tensor([1, 2]), torch.tensor([1 + 1j, 2])])
def test_logits_must_be_floating_point(logits):
    with pytest.raises(ValueError, match="must be floating point"):
        sigmoid_focal_loss(logits, torch.tensor([1.0, 0.0]))


def test_one_logit_and_flat_targets_are_no_class_indices():
    logits = torch.randn(3, 1)
    with pytest.raises(ValueError, match=r"targets.unsqueeze\(-1\)"):
        FocalLoss()(logits, torch.tensor([0, 0, 0]))
    assert FocalLoss()(logits, torch.tensor([0, -1, -1])) > 0


def test_what_no_class_is_becomes_nan_where_it_cannot_be_looked_at():
    """Compiled, a wrong index must not teach nothing in silence, nor become background."""
    logits, wrong = torch.zeros(4, 3), torch.tensor([0, 2, 3, -100])
    with pytest.raises(ValueError, match="class indices reach from -100 to 3"):
        softmax_focal_loss(logits, wrong)
    compiled = torch.compile(softmax_focal_loss, backend="eager")
    assert compiled(logits, wrong).isnan().tolist() == [False, False, True, True]
    compiled = torch.compile(FocalLoss(reduction="none"), backend="eager")
    assert compiled(logits, wrong).isnan().any(-1).tolist() == [False, False, True, True]
    allowed = torch.tensor([0, 2, -1, -2])
    assert torch.equal(compiled(logits, allowed), FocalLoss(reduction="none")(logits, allowed))
