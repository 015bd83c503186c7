"""The fast sum of the focal loss against its plain definition: value, gradient, every type and shape."""

import math

import pytest
import torch
import torch.nn.functional as F

from focalrepro.losses import BACKGROUND, IGNORED, focal_terms, sigmoid_focal_loss
from focalrepro.training import focal_sum
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


# ---- detection_focal_loss


@pytest.mark.parametrize("alpha", [0.25, 0.75, 0.999])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_detection_loss_is_the_sum_of_its_terms(gamma, alpha):
    logits, labels = random_anchors()
    value, gradient = value_and_gradient(lambda x: detection_focal_loss(x, labels, alpha, gamma), logits)
    exact = value_and_gradient(lambda x: focal_terms(x, labels, alpha, gamma).sum(), logits.double())
    plain = value_and_gradient(lambda x: focal_terms(x, labels, alpha, gamma).sum(), logits)
    assert value.dtype == gradient.dtype == torch.float32 and value.shape == ()
    torch.testing.assert_close(value, plain[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(value.double(), exact[0], rtol=1e-5, atol=0)
    # The smallest gradients here are some 1e-20; relative to each of them, not to the largest.
    torch.testing.assert_close(gradient.double(), exact[1], rtol=2e-5, atol=0)
    assert (gradient[labels == IGNORED] == 0).all()


@pytest.mark.parametrize("gamma", GAMMAS)
def test_terms_are_the_elementwise_loss(gamma):
    logits, labels = random_anchors(seed=8, dtype=torch.float64)
    one_hot = F.one_hot(labels.clamp(min=0), 5).double() * (labels >= 0).unsqueeze(-1)
    elementwise = sigmoid_focal_loss(logits, one_hot, 0.25, gamma)
    terms = focal_terms(logits, labels, 0.25, gamma)
    kept = labels != IGNORED
    torch.testing.assert_close(terms[kept], elementwise[kept], rtol=1e-10, atol=0)
    assert (terms[~kept] == 0).all()


@pytest.mark.parametrize("gamma", GAMMAS)
def test_detection_gradient_is_that_of_the_value(gamma):
    logits, labels = random_anchors(seed=9, shape=(2, 60), classes=3, dtype=torch.float64)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: detection_focal_loss(x, labels, 0.25, gamma), (logits,))
    assert torch.autograd.gradcheck(lambda x: focal_terms(x, labels, 0.25, gamma).sum(), (logits,))


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("label", [BACKGROUND, 0])
def test_detection_loss_is_finite_at_every_logit(label, dtype, gamma):
    logits = torch.linspace(-200, 200, 801).to(dtype).unsqueeze(1)
    labels = torch.full((801,), label)
    for function in (detection_focal_loss, lambda *a: focal_terms(*a).sum()):
        value, gradient = value_and_gradient(lambda x, f=function: f(x, labels, 0.25, gamma), logits)
        assert value.isfinite() and gradient.isfinite().all() and value > 400
        towards_target = gradient if label == BACKGROUND else -gradient
        assert (towards_target >= 0).all() and towards_target.max() > 0.2


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_bf16_logits_give_the_gradient_to_bf16s_precision(gamma):
    logits, labels = random_anchors(seed=10, dtype=torch.bfloat16)
    value, gradient = value_and_gradient(lambda x: detection_focal_loss(x, labels, 0.25, gamma), logits)
    exact = value_and_gradient(lambda x: focal_terms(x, labels, 0.25, gamma).sum(), logits.double())
    assert value.dtype == torch.float32 and gradient.dtype == torch.bfloat16
    torch.testing.assert_close(value.double(), exact[0], rtol=1e-5, atol=0)
    # Rounded to bf16's eight bits (2^-8 at most) twice: when stored, and when multiplied by 1 - alpha.
    torch.testing.assert_close(gradient.double(), exact[1], rtol=2**-7, atol=0)


@pytest.mark.parametrize(
    "count", [1, focal_sum.PIECE - 1, focal_sum.PIECE, focal_sum.PIECE + 1, 2 * focal_sum.PIECE + 17]
)
def test_pieces_meet_without_a_seam(count):
    logits, _ = random_anchors(seed=11, shape=(max(count, 300),))
    logits = logits.reshape(-1)[:count].unsqueeze(1)
    labels = torch.full((count,), BACKGROUND)
    labels[::7] = 0
    labels[3::11] = IGNORED
    value, gradient = value_and_gradient(lambda x: detection_focal_loss(x, labels, 0.25, 2.0), logits)
    exact = value_and_gradient(lambda x: focal_terms(x, labels, 0.25, 2.0).sum(), logits.double())
    torch.testing.assert_close(value.double(), exact[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), exact[1], rtol=2e-5, atol=0)


def test_logits_need_not_be_contiguous():
    logits, labels = random_anchors(seed=12)
    expected = value_and_gradient(lambda x: detection_focal_loss(x, labels, 0.25, 2.0), logits)
    strided = logits.transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous()
    leaf = strided.detach().requires_grad_()
    value = detection_focal_loss(leaf, labels, 0.25, 2.0)
    value.backward()
    torch.testing.assert_close((value.detach(), leaf.grad.contiguous()), expected)


@pytest.mark.parametrize("label", [BACKGROUND, IGNORED, 1])
def test_images_with_one_kind_of_anchor(label):
    logits, _ = random_anchors(seed=13)
    labels = torch.full(logits.shape[:-1], label)
    value, gradient = value_and_gradient(lambda x: detection_focal_loss(x, labels, 0.25, 2.0), logits)
    exact = value_and_gradient(lambda x: focal_terms(x, labels, 0.25, 2.0).sum(), logits.double())
    torch.testing.assert_close(value.double(), exact[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), exact[1], rtol=2e-5, atol=0)


def test_backward_scales_and_repeats():
    logits, labels = random_anchors(seed=14)
    before = logits.clone()
    logits.requires_grad_()
    value = detection_focal_loss(logits, labels, 0.25, 2.0)
    (first,) = torch.autograd.grad(value, logits, retain_graph=True)
    first = first.clone()
    (scaled,) = torch.autograd.grad(value, logits, torch.tensor(3.0), retain_graph=True)
    (again,) = torch.autograd.grad(value, logits)
    assert torch.equal(first, again) and torch.equal(scaled, 3 * first)
    assert torch.equal(logits.detach(), before), "the logits are the caller's"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_second_derivative_is_refused_not_wrong(dtype):
    """A gradient penalty on a weight below the loss:
    the plain definition has it, the hand-written one says so.
    """
    weight = torch.ones(5, dtype=dtype).requires_grad_()
    logits, labels = random_anchors(seed=15, dtype=dtype)
    value = detection_focal_loss(logits * weight, labels, 0.25, 2.0) / 7
    with pytest.raises(RuntimeError, match=r"create_graph=True .*focal_terms"):
        torch.autograd.grad(value, weight, create_graph=True)
    plain = focal_terms(logits * weight, labels, 0.25, 2.0).sum() / 7
    (first,) = torch.autograd.grad(plain, weight, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), weight)
    assert second.isfinite().all() and (second != 0).all()
