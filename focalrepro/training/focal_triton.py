"""The focal loss of a detector as two Triton kernels: one for the value, one for the gradient.

No gradient is kept from the forward pass: reading the bf16 logits again and writing their gradient once moves
less memory than scaling a kept gradient by the 1/N that the loss is divided by. α and γ are read from the
device, so a CUDA graph captured once serves every α and γ. The gradient has none of its own:
create_graph=True is refused.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from focalrepro.hardware import first_order
from focalrepro.losses import IGNORED
from focalrepro.training.focal_sum import INSTEAD

BLOCK = 1024  # elements of a program: with 2048 it takes so many registers that few programs run at once
BY_32_BITS = 2**31 - BLOCK  # elements; beyond, indices take 64 bits, and with them as many registers again


@triton.jit
def _places(BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """The indices of a program's elements."""
    first = tl.program_id(0).to(tl.int64) if WIDE else tl.program_id(0)
    return first * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def _terms(x, label, column, alpha, gamma, IGNORED: tl.constexpr):  # noqa: ANN001
    """Weight × (1 - p_t)^γ, cross entropy, p_t, 1 - p_t, and whether it is the labelled class."""
    is_object = label == column
    x_t = tl.where(is_object, x, -x)
    small = tl.exp(-tl.abs(x_t))
    one_more = 1.0 + small
    # log1p as Kahan has it: log(1 + e) alone loses e's last digits, and easy anchors are nothing but those.
    # 1e-30, as Triton takes what is no normal fp32 number, 1e-38 say, for fp64, and all that follows with it.
    log1p = tl.where(one_more == 1.0, small, tl.log(one_more) * (small / tl.maximum(one_more - 1.0, 1e-30)))
    cross_entropy = tl.maximum(-x_t, 0.0) + log1p
    p_t = tl.where(x_t >= 0, 1.0, small) / one_more
    # 1 - p_t, which a subtraction would leave without digits
    miss = tl.where(x_t >= 0, small, 1.0) / one_more
    modulating = tl.exp(-gamma * (tl.maximum(x_t, 0.0) + log1p))  # (1 - p_t)^γ
    weight = tl.where(label == IGNORED, 0.0, tl.where(is_object, alpha, 1.0 - alpha))
    return weight * modulating, cross_entropy, p_t, miss, is_object


@triton.jit
def _value(logits, labels, alpha, gamma, sums, total, classes, IGNORED: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr):  # noqa: ANN001, E501  # fmt: skip
    at = _places(BLOCK, WIDE)
    inside = at < total
    x = tl.load(logits + at, mask=inside, other=0.0).to(tl.float32)
    label = tl.load(labels + at // classes, mask=inside, other=IGNORED)
    weight, cross_entropy, _, _, _ = _terms(x, label, at % classes, tl.load(alpha), tl.load(gamma), IGNORED)
    tl.store(sums + tl.program_id(0), tl.sum(weight * cross_entropy, axis=0))


@triton.jit
def _slope(logits, labels, alpha, gamma, upstream, grad, total, classes, IGNORED: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr):  # noqa: ANN001, E501  # fmt: skip
    at = _places(BLOCK, WIDE)
    inside = at < total
    x = tl.load(logits + at, mask=inside, other=0.0).to(tl.float32)
    label = tl.load(labels + at // classes, mask=inside, other=IGNORED)
    g = tl.load(gamma)
    weight, cross_entropy, p_t, miss, is_object = _terms(x, label, at % classes, tl.load(alpha), g, IGNORED)
    # d/dx_t of (1 - p)^γ CE = -(1 - p)^γ (γ p CE + 1 - p)
    slope = -weight * (g * p_t * cross_entropy + miss) * tl.load(upstream)
    # To fp32 first: on a GPU it is fp32 already, but Triton's interpreter rounds to bf16 from nothing else.
    slope = tl.where(is_object, slope, -slope).to(tl.float32)
    tl.store(grad + at, slope.to(grad.dtype.element_ty), mask=inside)


class FocalSum(torch.autograd.Function):
    """Sum over all anchors and classes, for logits on a CUDA device."""

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor, alpha: Tensor, gamma: Tensor) -> Tensor:  # noqa: ANN001
        """As in `losses.focal_terms`; alpha and gamma fp32 scalars on the device."""
        x, labels = logits.detach().contiguous(), labels.contiguous()
        blocks = triton.cdiv(x.numel(), BLOCK)
        sums = torch.empty(blocks, dtype=torch.float32, device=x.device)
        wide = x.numel() > BY_32_BITS
        _value[(blocks,)](x, labels, alpha, gamma, sums, x.numel(), x.shape[-1], IGNORED, BLOCK, wide)
        ctx.save_for_backward(x, labels, alpha, gamma)
        return sums.sum()

    @staticmethod
    @first_order(INSTEAD)
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN001
        x, labels, alpha, gamma = ctx.saved_tensors
        grad = torch.empty_like(x)
        blocks = triton.cdiv(x.numel(), BLOCK)
        wide, scale = x.numel() > BY_32_BITS, upstream.float()
        _slope[(blocks,)](x, labels, alpha, gamma, scale, grad, x.numel(), x.shape[-1], IGNORED, BLOCK, wide)
        return grad, None, None, None


def focal_sum(logits: Tensor, labels: Tensor, alpha: float | Tensor, gamma: float | Tensor) -> Tensor:
    """The sum of the focal loss over all anchors and classes, a scalar in fp32."""
    # Numbers are put on the device by a fill: a copy from the host would make a CUDA graph wait.
    given = (
        v if isinstance(v, Tensor) else logits.new_full((), v, dtype=torch.float32) for v in (alpha, gamma)
    )
    return FocalSum.apply(logits, labels, *given)
