"""GroupNorm with its ReLU against torch's own kernels, values and gradients:
on the CPU, and in Triton's kernels.
"""

import pytest
import torch
import torch.nn.functional as F

from focalrepro.detector.group_norm import GroupNormReLU

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # without a GPU conftest.py asks for the interpreter


def layer_of(groups: int, channels: int, device: str = "cpu") -> GroupNormReLU:
    torch.manual_seed(0)
    layer = GroupNormReLU(groups, channels)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    return layer.to(device)


def maps(shape: tuple, dtype: torch.dtype, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    x, upstream = (torch.randn(shape).to(device, dtype) for _ in "xy")
    return tuple(t.contiguous(memory_format=torch.channels_last) for t in (x * 3 + 1, upstream))


def run(layer, of, x, upstream):
    x = x.clone().requires_grad_()
    y = of(x, layer)
    return [y, *torch.autograd.grad(y, (x, layer.weight, layer.bias), upstream)]


def plain(x, layer):
    return F.relu(F.group_norm(x.contiguous(), layer.num_groups, layer.weight, layer.bias, layer.eps))


def agree(ours, theirs, tolerance):
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance, check_stride=False)


@pytest.mark.parametrize("shape, groups", [((3, 32, 8, 8), 8), ((2, 12, 5, 7), 4), ((1, 6, 1, 3), 1)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_it_equals_torch(shape: tuple, groups: int, dtype: torch.dtype, tolerance: float) -> None:
    layer = layer_of(groups, shape[1])
    x, upstream = maps(shape, dtype)
    agree(run(layer, lambda x, layer: layer(x), x, upstream), run(layer, plain, x, upstream), tolerance)


@pytest.mark.parametrize("shape, groups", [((3, 64, 9, 9), 16), ((2, 128, 5, 7), 32), ((2, 16, 1, 3), 4)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("programs", [1, 128], ids=["wide", "narrow"])
def test_the_kernels_equal_torch(shape, groups, dtype, tolerance, programs, monkeypatch) -> None:
    kernels = pytest.importorskip("focalrepro.detector.norm_triton", reason="no Triton for this system")
    monkeypatch.setattr(kernels, "PROGRAMS", programs)
    assert kernels.fits(shape[1], groups)
    layer = layer_of(groups, shape[1], DEVICE)
    x, upstream = maps(shape, dtype, DEVICE)

    def fused(x, layer):
        return kernels.GroupNormReLU.apply(x, layer.weight, layer.bias, layer.num_groups, layer.eps)

    got = run(layer, fused, x, upstream)
    assert got[0].dtype == dtype and got[0].is_contiguous(memory_format=torch.channels_last)
    agree(got, run(layer, plain, x, upstream), tolerance)


def test_shapes_that_the_kernels_leave_to_torch() -> None:
    kernels = pytest.importorskip("focalrepro.detector.norm_triton", reason="no Triton for this system")
    assert [kernels.fits(*s) for s in ((256, 32), (32, 8), (12, 4), (96, 24), (64, 1))] == [True] * 2 + [
        False
    ] * 2 + [True]


def test_a_second_derivative_is_refused() -> None:
    """A gradient penalty would be wrong without a word: the sums kept for the way back have no graph."""
    x = torch.randn(2, 8, 4, 4, requires_grad=True)
    y = GroupNormReLU(2, 8)(x.contiguous(memory_format=torch.channels_last)).square().sum()
    with pytest.raises(RuntimeError, match=r"group_norm .*create_graph=True .*functional.group_norm"):
        torch.autograd.grad(y, x, create_graph=True)


def test_its_output_is_channels_last() -> None:
    x = torch.randn(2, 8, 4, 4, requires_grad=True)
    y = GroupNormReLU(2, 8)(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last) and y.min() >= 0
    y.sum().backward()
    assert x.grad is not None


def test_a_constant_map_gives_the_bias() -> None:
    layer = GroupNormReLU(2, 4)
    torch.nn.init.constant_(layer.bias, 0.25)
    x = torch.full((1, 4, 3, 3), 4.0).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(x), torch.full_like(x, 0.25))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_a_frozen_norms_kernel_equals_torch(dtype: torch.dtype, tolerance: float) -> None:
    kernels = pytest.importorskip("focalrepro.detector.norm_triton", reason="no Triton for this system")
    torch.manual_seed(0)
    x, upstream = maps((2, 24, 5, 7), dtype, DEVICE)
    scale, shift = torch.randn(2, 24, device=DEVICE)
    got, wanted = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = kernels.ScaleShiftReLU.apply(got, scale, shift)
    plain = F.relu(wanted.float() * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(dtype)
    y.backward(upstream)
    plain.backward(upstream)
    agree((y, got.grad), (plain, wanted.grad), tolerance)


def test_a_small_batch_has_narrower_programs():
    """Of coco-cpu's head (8 images, 64 channels in 16 groups) and coco256's (64 images, 256 in 32)."""
    kernels = pytest.importorskip("focalrepro.detector.norm_triton", reason="no Triton for this system")
    assert kernels.tile(8, 64, 4) == (16, 256)
    assert kernels.tile(64, 256, 8) == (64, 64)
    assert kernels.tile(2, 256, 128) == (128, 32), "a group stays in one program"
    assert kernels.tile(1, 8, 2) == (8, 512)
