"""GroupNorm on the CPU against torch's own kernels, values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from focalrepro.detector.group_norm import GroupNorm


def run(layer: torch.nn.GroupNorm, x: torch.Tensor, upstream: torch.Tensor, reference: bool) -> list:
    x = x.clone().requires_grad_()
    plain = (x, layer.num_groups, layer.weight, layer.bias, layer.eps)
    y = F.group_norm(*plain) if reference else layer(x)
    return [y, *torch.autograd.grad(y, (x, layer.weight, layer.bias), upstream)]


@pytest.mark.parametrize("shape, groups", [((3, 32, 8, 8), 8), ((2, 12, 5, 7), 4), ((1, 6, 1, 3), 1)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_it_equals_torch(shape: tuple, groups: int, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    layer = GroupNorm(groups, shape[1])
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    x, upstream = (torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last) for _ in "xy")
    x = x * 3 + 1
    for ours, theirs in zip(
        run(layer, x, upstream, False), run(layer, x.contiguous(), upstream, True), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, check_stride=False)


def test_its_output_is_channels_last_and_may_be_changed_in_place() -> None:
    x = torch.randn(2, 8, 4, 4, requires_grad=True)
    y = GroupNorm(2, 8)(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    F.relu(y, inplace=True).sum().backward()
    assert x.grad is not None


def test_a_constant_map_gives_the_bias() -> None:
    layer = GroupNorm(2, 4)
    torch.nn.init.constant_(layer.bias, 0.25)
    x = torch.full((1, 4, 3, 3), 4.0).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(x), torch.full_like(x, 0.25))
