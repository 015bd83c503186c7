"""GroupNorm and ReLU as one Triton kernel each way, on channels-last maps in their own type.

torch's autocast turns the map into fp32 in the other layout and back at every layer of a head: two thirds of
the bytes that such a layer moves. Here a program has one image's few groups of channels, walks its cells
twice (for the sums, then for the values), and the ReLU costs nothing.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from focalrepro.hardware import first_order

ELEMENTS = 4096  # of a map that a program reads at once
WIDTHS = 16, 64  # channels of a program at least (a sector of memory, in bf16) and at most
PROGRAMS = 128  # so many keep a large GPU busy


@triton.jit
def _by_group(x, GROUPS: tl.constexpr, EACH: tl.constexpr):  # noqa: ANN001
    """[channels] summed over each group, and the sum given back to each of its channels."""
    total = tl.sum(tl.reshape(x, (GROUPS, EACH)), axis=1)
    return tl.reshape(tl.broadcast_to(total[:, None], (GROUPS, EACH)), (GROUPS * EACH,))


@triton.jit
def _forward(x, y, weight, bias, mean, rstd, channels, eps, cells: tl.constexpr, GROUPS: tl.constexpr, EACH: tl.constexpr, CELLS: tl.constexpr):  # noqa: ANN001, E501  # fmt: skip
    width: tl.constexpr = GROUPS * EACH
    channel = tl.program_id(1) * width + tl.arange(0, width)
    start = tl.program_id(0).to(tl.int64) * cells * channels
    total, squares = tl.zeros((width,), tl.float32), tl.zeros((width,), tl.float32)
    for first in range(0, cells, CELLS):
        cell = first + tl.arange(0, CELLS)
        at = start + cell[:, None] * channels + channel[None, :]
        v = tl.load(x + at, mask=cell[:, None] < cells, other=0.0).to(tl.float32)
        total += tl.sum(v, axis=0)
        squares += tl.sum(v * v, axis=0)
    count = cells * EACH
    m = _by_group(total, GROUPS, EACH) / count
    variance = tl.maximum(_by_group(squares, GROUPS, EACH) / count - m * m, 0.0)
    r = 1.0 / tl.sqrt(variance + eps)
    row = tl.program_id(0) * channels + channel
    tl.store(mean + row, m)
    tl.store(rstd + row, r)
    scale = r * tl.load(weight + channel)
    shift = tl.load(bias + channel) - m * scale
    for first in range(0, cells, CELLS):
        cell = first + tl.arange(0, CELLS)
        at = start + cell[:, None] * channels + channel[None, :]
        inside = cell[:, None] < cells
        v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        v = tl.maximum(v * scale[None, :] + shift[None, :], 0.0)
        tl.store(y + at, v.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _normed(x, dy, start, first, channel, channels, m, r, w, b, cells: tl.constexpr, CELLS: tl.constexpr):  # noqa: ANN001
    """Some cells' places and which of them there are, (x - mean) / std, and the gradient past the ReLU."""
    cell = first + tl.arange(0, CELLS)
    at = start + cell[:, None] * channels + channel[None, :]
    inside = cell[:, None] < cells
    n = (tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - m[None, :]) * r[None, :]
    g = tl.load(dy + at, mask=inside, other=0.0).to(tl.float32)
    return at, inside, n, tl.where(n * w[None, :] + b[None, :] > 0, g, 0.0)


@triton.jit
def _backward(x, dy, dx, weight, bias, mean, rstd, along, total, channels, cells: tl.constexpr, GROUPS: tl.constexpr, EACH: tl.constexpr, CELLS: tl.constexpr):  # noqa: ANN001, E501  # fmt: skip
    width: tl.constexpr = GROUPS * EACH
    channel = tl.program_id(1) * width + tl.arange(0, width)
    start = tl.program_id(0).to(tl.int64) * cells * channels
    row = tl.program_id(0) * channels + channel
    m, r, w = tl.load(mean + row), tl.load(rstd + row), tl.load(weight + channel)
    b = tl.load(bias + channel)
    sum_dy, sum_dyn = tl.zeros((width,), tl.float32), tl.zeros((width,), tl.float32)
    for first in range(0, cells, CELLS):
        _, _, n, g = _normed(x, dy, start, first, channel, channels, m, r, w, b, cells, CELLS)
        sum_dy += tl.sum(g, axis=0)
        sum_dyn += tl.sum(g * n, axis=0)
    tl.store(total + row, sum_dy)
    tl.store(along + row, sum_dyn)
    count = cells * EACH
    mean_dy = _by_group(sum_dy * w, GROUPS, EACH) / count
    mean_dyn = _by_group(sum_dyn * w, GROUPS, EACH) / count
    for first in range(0, cells, CELLS):
        at, inside, n, g = _normed(x, dy, start, first, channel, channels, m, r, w, b, cells, CELLS)
        v = r[None, :] * (g * w[None, :] - mean_dy[None, :] - n * mean_dyn[None, :])
        tl.store(dx + at, v.to(tl.float32).to(dx.dtype.element_ty), mask=inside)


def tile(images: int, channels: int, each: int) -> tuple[int, int]:
    """Channels of a program and cells that it reads at once: narrow where there would be few programs.

    each: channels of a group, which stay together.
    """
    least, width = max(each, WIDTHS[0]), max(each, min(WIDTHS[1], channels))
    while width > least and images * channels // width < PROGRAMS:
        width //= 2
    return width, max(1, ELEMENTS // width)


def fits(channels: int, groups: int) -> bool:
    """Whether the kernels take a norm of that shape: channels, also those of a group, are a power of two."""
    each = channels // groups
    return each & (each - 1) == 0 and channels & (channels - 1) == 0


class GroupNormReLU(torch.autograd.Function):
    """relu((x - mean) / std · weight + bias) of x [B, C, H, W], channels last in memory."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:  # noqa: ANN001
        x = x.contiguous(memory_format=torch.channels_last)
        images, channels, height, across = x.shape
        each = channels // groups
        width, cells = tile(images, channels, each)
        grid, shape = (images, channels // width), (width // each, each, cells)
        y = torch.empty_like(x, memory_format=torch.channels_last)
        mean, rstd = torch.empty(2, images, channels, dtype=torch.float32, device=x.device)
        _forward[grid](x, y, weight, bias, mean, rstd, channels, eps, height * across, *shape)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.grid, ctx.shape = grid, shape
        return y

    @staticmethod
    @first_order("torch's own norm and ReLU")
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # noqa: ANN001
        x, weight, bias, mean, rstd = ctx.saved_tensors
        images, channels, height, across = x.shape
        upstream = upstream.contiguous(memory_format=torch.channels_last)
        grad = torch.empty_like(x, memory_format=torch.channels_last)
        along, total = torch.empty(2, images, channels, dtype=torch.float32, device=x.device)
        given = x, upstream, grad, weight, bias, mean, rstd, along, total
        _backward[ctx.grid](*given, channels, height * across, *ctx.shape)
        return grad, along.sum(0).to(weight.dtype), total.sum(0).to(bias.dtype), None, None


@triton.jit
def _scaled(x, out, upstream, scale, shift, total, channels, BLOCK: tl.constexpr, SLOPE: tl.constexpr):  # noqa: ANN001  # fmt: skip
    first = tl.program_id(0).to(tl.int64) * BLOCK
    at = first + tl.arange(0, BLOCK)
    inside = at < total
    channel = ((first % channels).to(tl.int32) + tl.arange(0, BLOCK)) % channels  # 64 bits are divided once
    a = tl.load(scale + channel)
    v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) * a
    v = v + tl.load(shift + channel)
    if SLOPE:
        v = tl.where(v > 0, tl.load(upstream + at, mask=inside, other=0.0).to(tl.float32) * a, 0.0)
    else:
        v = tl.maximum(v, 0.0)
    tl.store(out + at, v.to(tl.float32).to(out.dtype.element_ty), mask=inside)


BLOCK = 1024  # elements of a program


class ScaleShiftReLU(torch.autograd.Function):
    """relu(x · scale + shift) of x [B, C, H, W], channels last, scale and shift fp32 [C] and fixed."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:  # noqa: ANN001
        x = x.contiguous(memory_format=torch.channels_last)
        y = torch.empty_like(x, memory_format=torch.channels_last)
        blocks = (triton.cdiv(x.numel(), BLOCK),)
        _scaled[blocks](x, y, x, scale, shift, x.numel(), x.shape[1], BLOCK, False)
        ctx.save_for_backward(x, scale, shift)
        return y

    @staticmethod
    @first_order("torch's own norm and ReLU")
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN001
        x, scale, shift = ctx.saved_tensors
        upstream = upstream.contiguous(memory_format=torch.channels_last)
        grad = torch.empty_like(x, memory_format=torch.channels_last)
        blocks = (triton.cdiv(x.numel(), BLOCK),)
        _scaled[blocks](x, grad, upstream, scale, shift, x.numel(), x.shape[1], BLOCK, True)
        return grad, None, None
