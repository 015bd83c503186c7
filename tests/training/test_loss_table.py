"""The focal loss of two-byte logits, which looks its terms up, against the plain definition in float64."""

import pytest
import torch

from focalrepro.losses import focal_terms
from focalrepro.training.focal_sum import detection_focal_loss


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_value_and_gradient(gamma: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(3, 700, 5, generator=generator) * 4 - 3).to(dtype)
    labels = torch.randint(-2, 5, (3, 700), generator=generator)
    x = logits.clone().requires_grad_()
    exact = logits.double().requires_grad_()
    value = detection_focal_loss(x, labels, 0.3, gamma)
    wanted = focal_terms(exact, labels, 0.3, gamma).sum()
    assert value.item() == pytest.approx(wanted.item(), rel=1e-5)
    value.backward()
    wanted.backward()
    # One rounding to the logits' type and no more.
    torch.testing.assert_close(x.grad, exact.grad.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-7)


@pytest.mark.parametrize("size", [200.0, 60000.0])
def test_it_stays_finite_far_out(size: float) -> None:
    x = torch.tensor([[size, -size]], dtype=torch.bfloat16, requires_grad=True)
    for label in (-1, 0, 1):
        detection_focal_loss(x, torch.tensor([label]), 0.25, 0.5).backward()
        assert torch.isfinite(x.grad).all()


def test_a_nan_is_not_hidden() -> None:
    x = torch.tensor([[float("nan"), 0.0]], dtype=torch.bfloat16)
    assert torch.isnan(detection_focal_loss(x, torch.tensor([-1]), 0.25, 2.0))
