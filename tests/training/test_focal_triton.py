"""The Triton kernels against the plain definition:
on a GPU where there is one, else in Triton's interpreter.
"""

import pytest
import torch

from focalrepro.losses import focal_terms

pytest.importorskip("triton", reason="no Triton for this system")
from focalrepro.training.focal_triton import focal_sum

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # conftest.py asks for the interpreter


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [0.1, 0.75])
def test_value_and_gradient_in_fp32(alpha, gamma):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 700, 5, generator=generator) * 6 - 3
    labels = torch.randint(-2, 5, (2, 700), generator=generator).to(DEVICE)
    x = logits.clone().to(DEVICE).requires_grad_()
    exact = logits.double().to(DEVICE).requires_grad_()
    value = focal_sum(x, labels, alpha, gamma) / 7
    wanted = focal_terms(exact, labels, alpha, gamma).sum() / 7
    assert value.item() == pytest.approx(wanted.item(), rel=1e-5)
    value.backward()
    wanted.backward()
    torch.testing.assert_close(x.grad, exact.grad.float(), rtol=2e-5, atol=1e-8)


def test_bf16_is_rounded_once():
    generator = torch.Generator().manual_seed(1)
    logits = (torch.randn(3, 300, 4, generator=generator) * 4 - 4).bfloat16()
    labels = torch.randint(-2, 4, (3, 300), generator=generator).to(DEVICE)
    x = logits.clone().to(DEVICE).requires_grad_()
    exact = logits.double().to(DEVICE).requires_grad_()
    focal_sum(x, labels, 0.25, 2.0).backward()
    focal_terms(exact, labels, 0.25, 2.0).sum().backward()
    torch.testing.assert_close(x.grad, exact.grad.bfloat16(), rtol=8e-3, atol=1e-9)


def test_a_second_derivative_is_refused():
    x = torch.zeros(4, 2, device=DEVICE, requires_grad=True)
    value = focal_sum(x, torch.zeros(4, dtype=torch.long, device=DEVICE), 0.25, 2.0)
    with pytest.raises(RuntimeError, match="create_graph=True"):
        torch.autograd.grad(value, x, create_graph=True)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 2.0])
def test_it_stays_finite_at_200(gamma):
    x = torch.tensor([[200.0, -200.0]], device=DEVICE, requires_grad=True)
    for label in (-1, 0, 1):
        value = focal_sum(x, torch.tensor([label], device=DEVICE), 0.25, gamma)
        (grad,) = torch.autograd.grad(value, x)
        assert torch.isfinite(value) and torch.isfinite(grad).all()
